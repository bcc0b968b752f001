package grafana

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/test/grafana/dashboards"
)

// query is one of a dashboard, with what Grafana makes of its answer.
type query struct {
	dashboard, name string
	kind            string // the type of the panel, or variable, or annotation
	format          int
	sql             string
	overrides       []dashboards.Override
}

func (q query) String() string { return q.dashboard + ": " + q.kind + " " + q.name }

// queries lists every query of the ClickHouse dashboards.
func queries(t *testing.T) []query {
	t.Helper()
	var all []query
	for _, d := range load(t) {
		if source(t, d).Type != typeClickHouse {
			continue
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				all = append(all, query{d.UID, v.Name, "variable", dashboards.FormatTable, v.Query, nil})
			}
		}
		for _, a := range d.Annotations.List {
			if a.Target != nil {
				all = append(all, query{d.UID, a.Name, "annotation", int(a.Target.Format.(float64)), a.Target.RawSQL, nil})
			}
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				all = append(all, query{d.UID, p.Title, p.Type, int(target.Format.(float64)), target.RawSQL, p.FieldConfig.Overrides})
			}
		}
	}
	if len(all) < 60 {
		t.Fatalf("only %d queries", len(all))
	}
	return all
}

func (w *world) ask(t *testing.T, q query, chosen choices, r timeRange) *clickhouse.Result {
	t.Helper()
	sql, err := expand(q.sql, chosen, r)
	if err != nil {
		t.Errorf("%s: %v", q, err)
		return &clickhouse.Result{}
	}
	answer, err := w.reader.Query(t.Context(), sql)
	if err != nil {
		t.Errorf("%s: %v\n%s", q, err, sql)
		return &clickhouse.Result{}
	}
	return answer
}

// TestQueries runs every query of every panel, variable and annotation, as the reader.
func TestQueries(t *testing.T) {
	w := newWorld(t)
	all := queries(t)
	t.Run("all", func(t *testing.T) {
		for _, q := range all {
			answer := w.ask(t, q, choices{"msg": {rich}}, w.month())
			checkShape(t, q, answer)
			if !says(answer) {
				t.Errorf("%s: found nothing\n%v", q, answer.Rows)
			}
		}
	})
	t.Run("one value", func(t *testing.T) {
		for _, q := range all {
			chosen := choices{
				"msg": {rich}, "app": {daily}, "audience": {"tag"}, "campaign": {"被拒"}, "code": {"10001"}, "category": {"review"}, "state": {"missing"}, "q": {"晨光"},
			}
			checkShape(t, q, w.ask(t, q, chosen, w.month()))
		}
	})
	t.Run("several values", func(t *testing.T) {
		for _, q := range all {
			chosen := choices{
				"msg": {rich}, "app": {daily, coffee}, "audience": {"all", "not recorded"}, "campaign": {"秋季'活动", "会员日"}, "code": {"10001", "99999"},
				"category": {"review", "unknown"}, "state": {"missing", "not chased"}, "q": {"gh_"},
			}
			checkShape(t, q, w.ask(t, q, chosen, w.month()))
		}
	})
	t.Run("quotes", func(t *testing.T) {
		strange := choices{}
		for _, name := range []string{"msg", "app", "audience", "campaign", "code", "category", "state", "q"} {
			strange[name] = []string{"it's ') OR (1=1", `"?`}
		}
		strange["msg"], strange["q"] = strange["msg"][:1], strange["q"][:1]
		for _, q := range all {
			checkShape(t, q, w.ask(t, q, strange, w.month()))
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		for _, q := range all {
			checkShape(t, q, w.ask(t, q, choices{}, timeRange{w.ago(900, 0), w.ago(890, 0), time.Hour}))
		}
	})
	t.Run("an hour", func(t *testing.T) { // the day that it lies in is shown
		for _, q := range all {
			checkShape(t, q, w.ask(t, q, choices{"msg": {rich}}, timeRange{w.now.Add(-time.Hour), w.now, time.Second}))
		}
	})
	t.Run("every message", func(t *testing.T) { testEveryMessage(t, w, all) })
	t.Run("unknown is not zero", func(t *testing.T) { testUnknown(t, w, all) })
	t.Run("figures", func(t *testing.T) { testFigures(t, w, all) })
}

// says reports whether an answer holds anything beside times, labels, NULLs and zeros.
func says(answer *clickhouse.Result) bool {
	for _, row := range answer.Rows {
		for i, v := range row {
			if i == 0 && len(row) > 1 {
				continue
			}
			if s := fmt.Sprint(v); v != nil && s != "0" && s != "" && s != "NaN" && s != "[]" {
				return true
			}
		}
	}
	return false
}

// base takes the wrappers off the name of a type.
func base(name string) string {
	for _, wrapper := range []string{"Nullable(", "LowCardinality("} {
		if inner, ok := strings.CutPrefix(name, wrapper); ok {
			return base(strings.TrimSuffix(inner, ")"))
		}
	}
	name, _, _ = strings.Cut(name, "(")
	return name
}

func isTime(c clickhouse.Column) bool { return strings.HasPrefix(base(c.Type), "DateTime") }
func isText(c clickhouse.Column) bool { return base(c.Type) == "String" }
func isNumber(c clickhouse.Column) bool {
	b := base(c.Type)
	return strings.HasPrefix(b, "Int") || strings.HasPrefix(b, "UInt") || strings.HasPrefix(b, "Float")
}

// checkShape checks what Grafana needs of an answer.
func checkShape(t *testing.T, q query, a *clickhouse.Result) {
	t.Helper()
	if len(a.Columns) == 0 {
		return // the query failed, and that was said
	}
	names := map[string]bool{}
	for _, c := range a.Columns {
		if names[c.Name] || !isTime(c) && !isText(c) && !isNumber(c) {
			t.Errorf("%s: column %s %s: twice, or of a type that the plugin shows badly", q, c.Name, c.Type)
		}
		if (strings.Contains(c.Name, "msg_id") || c.Name == "value") && !isText(c) {
			t.Errorf("%s: column %s %s: JavaScript cannot hold a msg_id as a number", q, c.Name, c.Type)
		}
		names[c.Name] = true
	}
	long := q.format == dashboards.FormatTimeSeries && slices.ContainsFunc(a.Columns, isText)
	for _, o := range q.overrides {
		if !names[o.Matcher.Options] && !long {
			t.Errorf("%s: an override is for %q, which is not in the answer", q, o.Matcher.Options)
		}
	}
	switch {
	case q.kind == "variable":
		checkOptions(t, q, a)
	case q.kind == "annotation":
		if a.Columns[0].Name != "time" || !isTime(a.Columns[0]) || !names["text"] || len(a.Rows) > 200 {
			t.Errorf("%s: want time, text and at most 200 rows: %v", q, a.Columns)
		}
	case q.kind == "stat":
		if len(a.Columns) != 1 || len(a.Rows) > 1 {
			t.Errorf("%s: %d columns, %d rows: a tile shows one value", q, len(a.Columns), len(a.Rows))
		}
	case q.format == dashboards.FormatTimeSeries:
		checkSeries(t, q, a)
	case q.format == dashboards.FormatLogs:
		if len(a.Columns) < 2 || a.Columns[0].Name != "timestamp" || !isTime(a.Columns[0]) || a.Columns[1].Name != "body" {
			t.Errorf("%s: %v: want timestamp and body", q, a.Columns)
		}
	}
}

func checkOptions(t *testing.T, q query, a *clickhouse.Result) {
	t.Helper()
	if len(a.Columns) > 2 || slices.ContainsFunc(a.Columns, func(c clickhouse.Column) bool { return !isText(c) }) {
		t.Errorf("%s: %v: want texts, a value and perhaps a label", q, a.Columns)
	}
	seen := map[any]bool{}
	for _, row := range a.Rows {
		if seen[row[0]] || row[0] == "" {
			t.Errorf("%s: the value %q is there twice, or stands for All", q, row[0])
		}
		seen[row[0]] = true
	}
}

// checkSeries checks a time series: time first and ascending, then numbers, or
// labels and one number, and no moment twice for one series.
func checkSeries(t *testing.T, q query, a *clickhouse.Result) {
	t.Helper()
	if a.Columns[0].Name != "time" || !isTime(a.Columns[0]) || strings.HasPrefix(a.Columns[0].Type, "Nullable") {
		t.Errorf("%s: the first column is %v", q, a.Columns[0])
		return
	}
	numbers, labels := 0, []int{}
	for i, c := range a.Columns[1:] {
		switch {
		case isNumber(c):
			numbers++
		case isText(c):
			labels = append(labels, i+1)
		default:
			t.Errorf("%s: column %v is neither a number nor a label", q, c)
		}
	}
	if numbers == 0 || len(labels) > 0 && numbers > 1 {
		t.Errorf("%s: %d numbers, %d labels", q, numbers, len(labels))
	}
	seen, last := map[string]bool{}, time.Time{}
	for _, row := range a.Rows {
		at := row[0].(time.Time)
		if at.Before(last) {
			t.Errorf("%s: %v comes after %v", q, at, last)
		}
		last = at
		key := at.String()
		for _, i := range labels {
			key += "\x00" + fmt.Sprint(row[i])
		}
		if seen[key] {
			t.Errorf("%s: two values for %q", q, key)
		}
		seen[key] = true
	}
}

// testEveryMessage looks at each message that the list offers.
func testEveryMessage(t *testing.T, w *world, all []query) {
	var options [][]any
	for _, q := range all {
		if q.dashboard == "qunfa-message" && q.name == "msg" {
			options = w.ask(t, q, choices{}, w.month()).Rows
		}
	}
	// One of each kind that the world has.
	for _, want := range []string{rich, daily + "/1202", daily + "/2000", daily + "/2001", daily + "/2002", daily + "/2003", daily + "/2004", coffee + "/3000", silent + "/1000", nameless + "/1"} {
		if !slices.ContainsFunc(options, func(row []any) bool { return row[0] == want }) {
			t.Errorf("the list does not offer %s", want)
		}
		for _, q := range all {
			if q.dashboard == "qunfa-message" && q.kind != "variable" {
				answer := w.ask(t, q, choices{"msg": {want}}, w.month())
				checkShape(t, q, answer)
				if q.kind == "stat" && len(answer.Rows) != 1 {
					t.Errorf("%s: %d messages are %s", q, len(answer.Rows), want)
				}
			}
		}
	}
}

// value is what a tile shows.
func (w *world) value(t *testing.T, all []query, dashboard, title string, chosen choices, r timeRange) any {
	t.Helper()
	for _, q := range all {
		if q.dashboard == dashboard && strings.HasPrefix(q.name, title+" ") && q.kind == "stat" {
			if answer := w.ask(t, q, chosen, r); len(answer.Rows) == 1 {
				return answer.Rows[0][0]
			}
			return nil
		}
	}
	t.Fatalf("%s has no tile %q", dashboard, title)
	return nil
}

// testUnknown checks that what nobody knows is NULL, which Grafana shows as the
// text for it, and never 0.
func testUnknown(t *testing.T, w *world, all []query) {
	for _, c := range []struct {
		dashboard, title string
		chosen           choices
	}{
		// Nobody records the sends of this account, so nobody can miss a callback.
		{"qunfa-missing-callbacks", "Missing callbacks", choices{"app": {silent}}},
		{"qunfa-missing-callbacks", "Nobody knows yet", choices{"app": {silent}}},
		{"qunfa-missing-callbacks", "Found by asking", choices{"app": {silent}}},
		{"qunfa-missing-callbacks", "Nobody could find out", choices{"app": {silent}}},
		// Nothing at all is known of this one.
		{"qunfa-missing-callbacks", "Missing callbacks", choices{"app": {never}}},
		{"qunfa-missing-callbacks", "Callbacks of unrecorded sends", choices{"app": {never}}},
		{"qunfa-missing-callbacks", "Accounts not fully recorded", choices{"app": {never}}},
		{"qunfa-delivery", "Messages", choices{"app": {never}}},
		{"qunfa-delivery", "People reached", choices{"app": {never}}},
		{"qunfa-delivery", "Reach rate", choices{"app": {never}}},
		{"qunfa-delivery", "Rejected", choices{"app": {never}}},
		{"qunfa-audit-failures", "Share of messages", choices{"app": {never}}},
		{"qunfa-accounts", "Reach rate", choices{"q": {never}}},
		{"qunfa-accounts", "Messages", choices{"q": {never}}},
		// WeChat has not said how many this message reached: pending, and found by asking.
		{"qunfa-message", "Reached", choices{"msg": {daily + "/2000"}}},
		{"qunfa-message", "Addressed", choices{"msg": {daily + "/2000"}}},
		{"qunfa-message", "Reached", choices{"msg": {daily + "/2001"}}},
		{"qunfa-message", "Reach rate", choices{"msg": {daily + "/2001"}}},
		// Of a rejected message it never says how many were addressed.
		{"qunfa-message", "Addressed", choices{"msg": {daily + "/1202"}}},
		{"qunfa-message", "Reach rate", choices{"msg": {daily + "/1202"}}},
		{"qunfa-message", "Took", choices{"msg": {silent + "/1000"}}},
	} {
		if got := w.value(t, all, c.dashboard, c.title, c.chosen, w.month()); got != nil {
			t.Errorf("%s, %s of %v: %v, want NULL", c.dashboard, c.title, c.chosen, got)
		}
	}
	for _, q := range all {
		if q.name != "Which accounts record their sends 各账号的登记情况" {
			continue
		}
		answer := w.ask(t, q, choices{"app": {silent}}, w.month())
		missing := slices.IndexFunc(answer.Columns, func(c clickhouse.Column) bool { return strings.HasPrefix(c.Name, "Missing") })
		if len(answer.Rows) != 1 || answer.Rows[0][missing] != nil || answer.Rows[0][2] != "none" {
			t.Errorf("the account without a recorded send: %v", answer.Rows)
		}
	}
}

// testFigures compares some tiles with what was played.
func testFigures(t *testing.T, w *world, all []query) {
	for _, c := range []struct {
		dashboard, title string
		chosen           choices
		want             string
	}{
		{"qunfa-delivery", "Messages", choices{"app": {daily}}, "36"}, // 25 sent, 6 rejected, 5 without a callback
		{"qunfa-delivery", "Messages", choices{"app": {daily}, "campaign": {"会员日"}}, "5"},
		{"qunfa-delivery", "Messages", choices{"campaign": {"秋季'活动"}}, "25"},
		{"qunfa-delivery", "Messages", choices{"audience": {"not recorded"}}, "20"}, // 9 of coffee, 9 of silent, one imported, one of the nameless
		{"qunfa-delivery", "People reached", choices{"app": {silent}}, "720"},
		{"qunfa-delivery", "Reach rate", choices{"app": {silent}}, "0.8"},
		{"qunfa-delivery", "Rejected", choices{}, "6"},
		{"qunfa-audit-failures", "Undocumented codes", choices{}, "2"},
		{"qunfa-audit-failures", "Rejected messages", choices{"category": {"originality"}}, "1"},
		{"qunfa-missing-callbacks", "Missing callbacks", choices{}, "5"},
		{"qunfa-missing-callbacks", "Found by asking", choices{"app": {daily}}, "1"},
		{"qunfa-missing-callbacks", "Missing callbacks", choices{"app": {coffee}}, "0"}, // imported history is not missing
		{"qunfa-accounts", "Accounts", choices{}, "5"},
		{"qunfa-accounts", "Never heard of", choices{}, "1"},
		{"qunfa-accounts", "Messages", choices{"q": {"o'neil"}}, "23"},
		{"qunfa-message", "Reached", choices{"msg": {rich}}, "940"}, // the correction decides
		{"qunfa-message", "Reached", choices{"msg": {daily + "/1202"}}, "0"},
	} {
		if got := fmt.Sprint(w.value(t, all, c.dashboard, c.title, c.chosen, w.month())); got != c.want {
			t.Errorf("%s, %s of %v: %s, want %s", c.dashboard, c.title, c.chosen, got, c.want)
		}
	}
}
