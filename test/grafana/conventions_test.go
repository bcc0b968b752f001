package grafana

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"qunfa/test/grafana/dashboards"
)

const (
	typeClickHouse = "grafana-clickhouse-datasource"
	typePrometheus = "prometheus"
)

// TestConventions checks what Grafana and its linter expect of every dashboard.
func TestConventions(t *testing.T) {
	uids, titles := map[string]bool{}, map[string]bool{}
	for _, d := range load(t) {
		t.Run(d.UID, func(t *testing.T) {
			if uids[d.UID] || titles[d.Title] {
				t.Error("uid or title is that of another dashboard: Grafana provisions one of them")
			}
			uids[d.UID], titles[d.Title] = true, true
			checkDashboard(t, d)
			checkVariables(t, d)
			checkAnnotations(t, d)
			checkIDs(t, d)
			checkGrid(t, d)
			for _, p := range d.Panels {
				if p.Type != "row" {
					checkPanel(t, d, p)
				}
			}
			checkLinks(t, d)
		})
	}
}

var (
	uidForm = regexp.MustCompile(`^qunfa-[a-z-]{2,34}$`)
	chinese = regexp.MustCompile(`\p{Han}`)
	latin   = regexp.MustCompile(`[A-Za-z]`)
)

func bothLanguages(s string) bool { return chinese.MatchString(s) && latin.MatchString(s) }

func checkDashboard(t *testing.T, d *dashboards.Dashboard) {
	t.Helper()
	if !uidForm.MatchString(d.UID) {
		t.Errorf("uid %q: want qunfa-…, 8 to 40 letters", d.UID)
	}
	if !bothLanguages(d.Title) || d.Description == "" {
		t.Errorf("title %q: want it in both languages, and a description", d.Title)
	}
	if d.SchemaVersion < 39 || d.SchemaVersion > 42 || d.Editable || d.Version < 1 {
		t.Errorf("schemaVersion %d, version %d, editable %t", d.SchemaVersion, d.Version, d.Editable)
	}
	if d.Time.From == "" || d.Time.To == "" || d.TimeZone == "" || d.Refresh != "1m" {
		t.Errorf("time %v, zone %q, refresh %q", d.Time, d.TimeZone, d.Refresh)
	}
	if !slices.Contains(d.Tags, "qunfa") || len(d.Links) != 1 {
		t.Fatalf("tags %v and %d links: want the tag and the links by it", d.Tags, len(d.Links))
	}
	link := d.Links[0]
	if link["type"] != "dashboards" || fmt.Sprint(link["tags"]) != "[qunfa]" || link["includeVars"] != true || link["keepTime"] != true {
		t.Errorf("link %v", link)
	}
}

// source returns the dashboard's one data source: two would need exclusions from the linter.
func source(t *testing.T, d *dashboards.Dashboard) dashboards.DataSource {
	t.Helper()
	var found []dashboards.DataSource
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			found = append(found, dashboards.DataSource{Type: v.Query, UID: "${" + v.Name + "}"})
			if v.Label != "Data source" {
				t.Errorf("the variable %s has the label %q", v.Name, v.Label)
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d data sources", len(found))
	}
	want := map[string]string{typeClickHouse: "${datasource}", typePrometheus: "${prometheus_datasource}"}[found[0].Type]
	if found[0].UID != want {
		t.Errorf("data source %v: want the variable %s", found[0], want)
	}
	return found[0]
}

func checkVariables(t *testing.T, d *dashboards.Dashboard) {
	t.Helper()
	names := map[string]bool{}
	for _, v := range d.Templating.List {
		if names[v.Name] || v.Label == "" {
			t.Errorf("variable %q: twice, or without a label", v.Name)
		}
		names[v.Name] = true
		if v.Type != "query" {
			continue
		}
		if v.Refresh != 2 || v.Query == "" || v.Query != v.Definition || v.DataSource == nil || *v.DataSource != source(t, d) {
			t.Errorf("variable %q: %+v", v.Name, v)
		}
	}
	for _, used := range variablesUsed(t, d) {
		if !names[used] {
			t.Errorf("the variable $%s is used but does not exist", used)
		}
	}
}

var (
	variableUse = regexp.MustCompile(`\$\{?([A-Za-z_]\w*)`)
	// Built into Grafana, or expanded by the plugin: see allowedMacros.
	builtinUse = regexp.MustCompile(`^__`)
)

func variablesUsed(t *testing.T, d *dashboards.Dashboard) []string {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, m := range variableUse.FindAllStringSubmatch(string(text), -1) {
		if !builtinUse.MatchString(m[1]) {
			used = append(used, m[1])
		}
	}
	slices.Sort(used)
	return slices.Compact(used)
}

func checkAnnotations(t *testing.T, d *dashboards.Dashboard) {
	t.Helper()
	var failures int
	for _, a := range d.Annotations.List {
		if a.BuiltIn == 1 {
			continue
		}
		if a.DataSource != source(t, d) || (a.Target == nil) == (a.Expr == "") {
			t.Errorf("annotation %q: %+v", a.Name, a)
		}
		if strings.Contains(a.Name, "Audit failures") {
			failures++
		}
		if a.Target != nil {
			checkTarget(t, d, "annotation "+a.Name, *a.Target)
		}
	}
	// The dashboard of one message has no axis of time to mark.
	if d.UID != "qunfa-message" && failures != 1 {
		t.Errorf("%d annotations of audit failures", failures)
	}
}

func checkIDs(t *testing.T, d *dashboards.Dashboard) {
	t.Helper()
	ids, titles := map[int]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		if p.ID < 1 || ids[p.ID] {
			t.Errorf("panel %q: id %d is not a number of its own", p.Title, p.ID)
		}
		ids[p.ID] = true
		if !bothLanguages(p.Title) {
			t.Errorf("panel %q: want a title in both languages", p.Title)
		}
		if key := p.Type + p.Title; titles[key] {
			t.Errorf("panel %q: another has the same title", p.Title)
		} else {
			titles[key] = true
		}
	}
}

// checkGrid makes sure that no panel covers another, and that each lies in the 24 columns.
func checkGrid(t *testing.T, d *dashboards.Dashboard) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		g := p.GridPos
		if g.H < 1 || g.W < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("panel %q lies at %+v", p.Title, g)
		}
		if p.Type != "row" && (g.W < 4 || g.H < 4) {
			t.Errorf("panel %q is too small: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("panels %q and %q overlap", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

func checkPanel(t *testing.T, d *dashboards.Dashboard, p *dashboards.Panel) {
	t.Helper()
	if p.Description == "" || p.FieldConfig == nil {
		t.Fatalf("panel %q: no description or no fieldConfig", p.Title)
	}
	for _, key := range []string{"unit", "noValue"} {
		text, ok := p.FieldConfig.Defaults[key].(string)
		if !ok || text == "" || text == "0" {
			t.Errorf("panel %q: %s is %v", p.Title, key, p.FieldConfig.Defaults[key])
		}
	}
	if p.DataSource == nil || *p.DataSource != source(t, d) {
		t.Errorf("panel %q: data source %v", p.Title, p.DataSource)
	}
	if len(p.Targets) == 0 {
		t.Errorf("panel %q asks nothing", p.Title)
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if target.RefID == "" || refs[target.RefID] {
			t.Errorf("panel %q: refId %q", p.Title, target.RefID)
		}
		refs[target.RefID] = true
		checkTarget(t, d, "panel "+p.Title, target)
	}
}

func checkTarget(t *testing.T, d *dashboards.Dashboard, where string, target dashboards.Target) {
	t.Helper()
	if target.DataSource != source(t, d) {
		t.Errorf("%s: data source %v", where, target.DataSource)
	}
	if target.DataSource.Type == typePrometheus {
		if target.Expr == "" || target.RawSQL != "" {
			t.Errorf("%s: no PromQL", where)
		}
		return
	}
	want := map[float64]string{dashboards.FormatTimeSeries: "timeseries", dashboards.FormatTable: "table", dashboards.FormatLogs: "logs"}
	format, _ := target.Format.(float64)
	if target.EditorType != "sql" || target.PluginVersion == "" || target.RawSQL == "" || target.QueryType != want[format] {
		t.Errorf("%s: editor %q, version %q, format %v, type %q", where, target.EditorType, target.PluginVersion, target.Format, target.QueryType)
	}
}

// dataLink is a link to one of the dashboards.
var dataLink = regexp.MustCompile(`/d/([a-z-]+)\?([^"]*)`)

// checkLinks follows the links between dashboards: the dashboard and the variables
// that they set exist, and the fields that they take them from are in the answer.
func checkLinks(t *testing.T, d *dashboards.Dashboard) {
	t.Helper()
	exists := map[string]*dashboards.Dashboard{}
	for _, other := range dashboards.All() {
		exists[other.UID] = other
	}
	for _, p := range d.Panels {
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range dataLink.FindAllStringSubmatch(string(text), -1) {
			to := exists[m[1]]
			if to == nil {
				t.Errorf("panel %q links to %s", p.Title, m[1])
				continue
			}
			for _, v := range regexp.MustCompile(`var-(\w+)=`).FindAllStringSubmatch(m[2], -1) {
				if !slices.ContainsFunc(to.Templating.List, func(x dashboards.Variable) bool { return x.Name == v[1] }) {
					t.Errorf("panel %q sets %s of %s, which does not exist", p.Title, v[1], m[1])
				}
			}
			for _, f := range regexp.MustCompile(`__data\.fields\.(\w+)`).FindAllStringSubmatch(m[2], -1) {
				if !strings.Contains(cmp.Or(p.Targets[0].RawSQL), "AS "+f[1]) {
					t.Errorf("panel %q links by the field %s, which its query does not name", p.Title, f[1])
				}
			}
			if !strings.Contains(m[2], "${__url_time_range}") {
				t.Errorf("panel %q: the link to %s loses the time range", p.Title, m[1])
			}
		}
	}
}
