package dashboards

import "strings"

// One colour has one meaning on every dashboard.
const (
	green  = "green"
	red    = "red"
	orange = "orange"
	yellow = "yellow"
	blue   = "blue"
	purple = "purple"
	gray   = "text"
)

// Texts where there is no value. None of them is a number: unknown is not zero.
const (
	unknown    = "unknown 未知"
	noMessages = "no messages 没有消息"
	notKnown   = "not known yet 尚未知道"
)

// outcome names an outcome of a message in both languages, with its colour.
type outcome struct{ value, title, color string }

var outcomes = []outcome{
	{"sent", "sent 已送达", green},
	{"failed", "failed 失败", orange},
	{"rejected", "rejected 审核未通过", red},
	{"pending", "pending 等待结果", blue},
	{"missing", "missing 结果未知", purple},
	{"deleted", "deleted 已删除", gray},
	{"unknown", "unknown 状态不明", yellow},
}

var categories = []outcome{
	{"review", "review 内容审核", red},
	{"originality", "originality 原创校验", orange},
	{"admin", "admin 管理员", purple},
	{"unknown", "unknown 未公开", yellow},
}

var recordings = []outcome{
	{"all", "all 全部登记", green},
	{"some", "some 部分登记", orange},
	{"none", "none 没有登记", red},
}

var states = []outcome{
	{"pending", "pending 等待结果", blue},
	{"found by poll", "found by poll 查询得知", green},
	{"missing", "missing 结果未知", purple},
	{"deleted", "deleted 已删除", gray},
	{"not chased", "not chased 未查询（导入的历史）", gray},
}

// mapping turns values into words of both languages, in their colours.
func mapping(words []outcome) []object {
	options := object{}
	for i, w := range words {
		options[w.value] = object{"text": w.title, "color": w.color, "index": i}
	}
	return []object{{"type": "value", "options": options}}
}

func fixedColor(color string) object { return object{"mode": "fixed", "fixedColor": color} }

// above colours a value red from a limit on: somebody has to act.
func above(limit float64) object {
	return object{"mode": "absolute", "steps": []object{{"color": green, "value": nil}, {"color": red, "value": limit}}}
}

// colored gives series their colours by name.
func colored(words []outcome) []Override {
	var overrides []Override
	for _, w := range words {
		overrides = append(overrides, Override{Matcher{"byName", w.title}, []Property{{"color", fixedColor(w.color)}}})
	}
	return overrides
}

// countIfs counts messages by a column's values, one result column for each.
func countIfs(column string, words []outcome) string {
	var columns []string
	for _, w := range words {
		columns = append(columns, "countIf("+column+" = '"+w.value+"') AS \""+w.title+"\"")
	}
	return strings.Join(columns, ",\n        ")
}

// A column of a table, by its name in the answer.
type column struct {
	name       string
	properties []Property
}

func col(name string, width int) column {
	c := column{name: name}
	if width > 0 {
		c.properties = append(c.properties, Property{"custom.width", width})
	}
	return c
}

// number shows numbers in a unit, and NULL as unknown.
func number(name, unit string, width int) column {
	c := col(name, width)
	c.properties = append(c.properties, Property{"unit", unit}, Property{"noValue", unknown}, Property{"custom.align", "right"})
	return c
}

func people(name string) column { return number(name, "locale", 120) }
func ratio(name string) column {
	c := number(name, "percentunit", 110)
	c.properties = append(c.properties, Property{"decimals", 1})
	return c
}

func words(name string, width int, of []outcome) column {
	c := col(name, width)
	c.properties = append(c.properties, Property{"mappings", mapping(of)}, Property{"custom.cellOptions", object{"type": "color-text"}})
	return c
}

// hidden keeps a column for links, out of sight.
func hidden(name string) column {
	return column{name, []Property{{"custom.hidden", true}}}
}

// linked makes the values of a column links.
func (c column) linked(title, url string) column {
	c.properties = append(c.properties, Property{"links", []object{{"title": title, "url": url}}})
	return c
}

// bar draws values as bars within the cell.
func (c column) bar(color string) column {
	c.properties = append(c.properties,
		Property{"custom.cellOptions", object{"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}},
		Property{"color", fixedColor(color)}, Property{"min", 0})
	return c
}

// Links to other dashboards keep the time range and the data source.
const (
	keep       = "&var-datasource=${datasource}&${__url_time_range}"
	toMessage  = "/d/qunfa-message?var-msg=${__data.fields.appid:percentencode}/${__data.fields.msg_id:percentencode}" + keep
	toDelivery = "/d/qunfa-delivery?var-app=${__data.fields.appid:percentencode}" + keep
	toAudit    = "/d/qunfa-audit-failures?var-app=${__data.fields.appid:percentencode}" + keep
	toMissing  = "/d/qunfa-missing-callbacks?var-app=${__data.fields.appid:percentencode}" + keep
)

func overrides(columns []column) []Override {
	o := []Override{}
	for _, c := range columns {
		o = append(o, Override{Matcher{"byName", c.name}, c.properties})
	}
	return o
}
