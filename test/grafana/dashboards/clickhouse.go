package dashboards

import "strings"

// Tag is on every dashboard: the links between them are made by it.
const Tag = "qunfa"

// ClickHouse is the data source of the dashboards that ask the views.
var clickHouse = DataSource{"grafana-clickhouse-datasource", "${datasource}"}

func links() []object {
	return []object{{
		"type": "dashboards", "tags": []string{Tag}, "title": "qunfa", "asDropdown": false,
		"includeVars": true, "keepTime": true, "icon": "external link", "targetBlank": false,
	}}
}

func builtIn() Annotation {
	return Annotation{
		Name: "Annotations & Alerts", Type: "dashboard", BuiltIn: 1, Enable: true, Hide: true,
		IconColor: "rgba(0, 211, 255, 1)", DataSource: DataSource{"grafana", "-- Grafana --"},
	}
}

// fromViews begins a dashboard over the ClickHouse views. It opens with whole
// days in the time zone that databases have unless they are told otherwise.
func fromViews(uid, title, description string, choices ...Variable) *Dashboard {
	source := Variable{
		Name: "datasource", Label: "Data source", Type: "datasource", Query: clickHouse.Type, Refresh: 1, Current: object{},
	}
	return &Dashboard{
		UID: uid, Title: title, Description: description, Tags: []string{Tag, "clickhouse"},
		SchemaVersion: SchemaVersion, Version: 1, GraphTooltip: 1,
		Time: TimeRange{"now-29d/d", "now/d"}, TimeZone: "Asia/Shanghai", WeekStart: "monday", Refresh: "1m",
		Links: links(), Annotations: list{[]Annotation{builtIn()}},
		Templating: variables{append([]Variable{source}, choices...)}, Panels: []*Panel{}, source: clickHouse,
	}
}

// choice is a variable whose values come from a query: one column, or value and label.
func choice(name, label, description, query string) Variable {
	return Variable{
		Name: name, Label: label, Description: description, Type: "query", DataSource: &clickHouse,
		Query: query, Definition: query, Refresh: 2, Multi: true, IncludeAll: true,
		Current: object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
	}
}

// fixed is a variable with values that are known.
func fixed(name, label, description string, of []outcome) Variable {
	v := Variable{
		Name: name, Label: label, Description: description, Type: "custom", Multi: true, IncludeAll: true,
		Current: object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
		Options: []object{{"selected": true, "text": "All", "value": "$__all"}},
	}
	var values []string
	for _, w := range of {
		values = append(values, w.title+" : "+w.value)
		v.Options = append(v.Options, object{"selected": false, "text": w.title, "value": w.value})
	}
	v.Query = strings.Join(values, ",")
	return v
}

// account chooses accounts. A platform has too many for a list: those with the
// most messages are in it, and any other can be named in the address of the page.
func account() Variable {
	return choice("app", "Account 账号", "Accounts, by name and appid. The list holds the 5,000 with the most messages; links lead to any other.",
		`SELECT appid, if(account = appid, appid, concat(account, ' · ', appid)) AS label
FROM (SELECT appid, account FROM accounts ORDER BY messages DESC, appid LIMIT 5000)
ORDER BY label`)
}

// Conditions on messages, for the variables of the dashboards.
const (
	ofAccounts  = "$__conditionalAll(m.appid IN (${app:singlequote}), $app)"
	ofAudiences = "$__conditionalAll(if(m.audience = '', 'not recorded', m.audience) IN (${audience:singlequote}), $audience)"
	ofCampaigns = "$__conditionalAll(m.campaign IN (${campaign:singlequote}), $campaign)"
)

// zone names the time zone of the database, in which days are days. Whoever uses
// inDays needs it.
const zone = "WITH assumeNotNull((SELECT value FROM settings WHERE name = 'time_zone')) AS tz\n"

// inDays limits a view, called m, to the days that the time range touches. The
// macros for dates would cut at midnight UTC.
const inDays = "m.day >= toDate($__fromTime, tz) AND m.day <= toDate($__toTime, tz)"

// where joins conditions.
func where(conditions ...string) string {
	return "WHERE " + strings.Join(conditions, "\n  AND ")
}

// from asks a view for columns.
func from(view, columns, rest string) string {
	return zone + "SELECT " + columns + "\nFROM " + view + " AS m\n" + rest
}

// byDay asks a view for columns by day, for a panel that draws them. Days of
// which nothing is known are left out.
func byDay(view, columns, condition string) string {
	return zone + "SELECT toDateTime(day, tz) AS time, * EXCEPT day\nFROM\n(\n    SELECT m.day AS day,\n        " + columns +
		"\n    FROM " + view + " AS m\n    " + indent(condition) + "\n    GROUP BY day\n)\nORDER BY time"
}

// byEveryDay is byDay with a row for each day: columns that are counts are 0 where
// there was nothing, those that can be NULL are NULL.
func byEveryDay(view, columns, condition string) string {
	return zone + "SELECT toDateTime(day, tz) AS time, * EXCEPT day\nFROM\n(\n    SELECT m.day AS day,\n        " + columns +
		"\n    FROM " + view + " AS m\n    " + indent(condition) + "\n    GROUP BY day" +
		"\n    ORDER BY day WITH FILL FROM toDate($__fromTime, tz) TO toDate($__toTime, tz) + 1 STEP 1\n)\nORDER BY time"
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n    ") }

// rejections marks the rejected messages of some accounts. The condition on the day
// only makes it fast: WeChat answers within the hour.
func rejections(condition string) Annotation {
	target := sql(FormatTable, zone+`SELECT m.received_at AS time,
    concat(m.account, if(m.label = '', '', concat(' · ', m.label)), ': err(', toString(m.err_code), ') ', m.reason_zh, ' / ', m.reason_en) AS text,
    concat('err(', toString(m.err_code), ')') AS tags
FROM audit_failures AS m
WHERE $__timeFilter(m.received_at) AND m.day >= toDate($__fromTime, tz) - 31 AND `+condition+`
ORDER BY time DESC
LIMIT 200`)
	target.RefID, target.DataSource = "Anno", clickHouse
	return Annotation{Name: "Audit failures 审核未通过", Enable: true, IconColor: red, DataSource: clickHouse, Target: &target}
}

func (d *Dashboard) annotate(a ...Annotation) { d.Annotations.List = append(d.Annotations.List, a...) }
