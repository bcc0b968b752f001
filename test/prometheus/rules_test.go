// Package prometheus tests the alerts: the rules in prometheus/, the
// configuration of Alertmanager, and the runbook. What needs no other program
// is tested by `go test`. With the build tag prom, promtool and amtool check the
// files, and a real Prometheus and Alertmanager watch a running pipeline.
package prometheus

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/goccy/go-yaml"
)

const root = "../.." // of the project

// rule is a recording rule or an alert.
type rule struct {
	file          string
	Record        string            `yaml:"record"`
	Alert         string            `yaml:"alert"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for"`
	KeepFiringFor string            `yaml:"keep_firing_for"`
	Labels        map[string]string `yaml:"labels"`
	Annotations   map[string]string `yaml:"annotations"`
}

func (r rule) name() string { return r.Record + r.Alert }

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no files %s", pattern)
	}
	return found
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(b, into, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func rules(t *testing.T) []rule {
	t.Helper()
	var all []rule
	for _, file := range files(t, "prometheus/rules/*.yml") {
		var f struct {
			Groups []struct {
				Name  string `yaml:"name"`
				Rules []rule `yaml:"rules"`
			} `yaml:"groups"`
		}
		decode(t, file, &f)
		for _, g := range f.Groups {
			for _, r := range g.Rules {
				r.file = filepath.Base(file)
				all = append(all, r)
			}
		}
	}
	return all
}

func alerts(t *testing.T) []rule {
	t.Helper()
	all := slices.DeleteFunc(rules(t), func(r rule) bool { return r.Alert == "" })
	if len(all) < 20 {
		t.Fatalf("only %d alerts found", len(all))
	}
	return all
}

func names(rules []rule) []string {
	var list []string
	for _, r := range rules {
		list = append(list, r.name())
	}
	return list
}

var (
	quoted     = regexp.MustCompile(`"[^"]*"`)
	identifier = regexp.MustCompile(`[a-zA-Z_:][\w:]*`)
	documented = regexp.MustCompile("(?m)^\\| `(qunfa_\\w+)` \\|")
	declared   = regexp.MustCompile(`"(qunfa_\w+)"`)
)

// foreign are the metrics of others.
var foreign = []string{"up", "alertmanager_notifications_failed_total"}

// sometimes are metrics that not every stack shows (it may have no accounts_dir,
// no spool, or a broker of its own), so that docs/metrics.md may lack them. They
// must be in the code.
var sometimes = regexp.MustCompile(`^qunfa_(spool_|embedded_|accounts_reload_failing$)`)

// TestMetricsExist: a rule over a metric that nobody shows never fires, and nothing says so.
func TestMetricsExist(t *testing.T) {
	known := map[string]bool{}
	for _, m := range documented.FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		known[m[1]] = true
	}
	if len(known) < 50 {
		t.Fatalf("docs/metrics.md lists only %d metrics", len(known))
	}
	for _, name := range foreign {
		known[name] = true
	}
	for _, file := range files(t, "internal/*/metrics.go") {
		for _, m := range declared.FindAllStringSubmatch(read(t, strings.TrimPrefix(file, root)), -1) {
			if sometimes.MatchString(m[1]) {
				known[m[1]] = true
			}
		}
	}
	all := rules(t)
	for _, r := range all {
		known[r.Record] = true
	}
	used := map[string]bool{}
	for _, r := range all {
		for _, name := range identifier.FindAllString(quoted.ReplaceAllString(r.Expr, ""), -1) {
			if !strings.Contains(name, "qunfa") && !strings.Contains(name, "alertmanager_") && name != "up" {
				continue
			}
			base := strings.TrimSuffix(name, "_bucket")
			used[name] = true
			if !known[name] && !known[base] {
				t.Errorf("%s: %s: nobody shows %s", r.file, r.name(), name)
			}
		}
	}
	for _, r := range all {
		if r.Record != "" && !used[r.Record] {
			t.Errorf("%s: %s is recorded and no rule uses it", r.file, r.Record)
		}
	}
}

var matcher = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)

// own are the labels that Prometheus gives, not the code.
var own = []string{"job"}

// TestLabelValuesExist: a value that is misspelt selects nothing.
func TestLabelValuesExist(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		code.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, r := range rules(t) {
		for _, m := range matcher.FindAllStringSubmatch(r.Expr, -1) {
			if slices.Contains(own, m[1]) {
				continue
			}
			for value := range strings.SplitSeq(m[3], "|") {
				checked++
				literal := `"` + value + `"`
				if prefix, ok := strings.CutSuffix(value, ".*"); ok {
					literal = `"` + prefix
				}
				if !strings.Contains(code.String(), literal) {
					t.Errorf("%s: %s: no %s is %q", r.file, r.name(), m[1], value)
				}
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d values found", checked)
	}
}

// TestAlertsAreComplete: whoever is woken finds words and a link.
func TestAlertsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range alerts(t) {
		if seen[r.Alert] {
			t.Errorf("%s: there are two", r.Alert)
		}
		seen[r.Alert] = true
		for _, p := range problems(r) {
			t.Errorf("%s: %s: %s", r.file, r.Alert, p)
		}
	}
}

func problems(r rule) []string {
	var list []string
	want := func(ok bool, format string, args ...any) {
		if !ok {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	a := r.Annotations
	want(strings.HasPrefix(r.Alert, "Qunfa"), "the name does not begin with Qunfa")
	want(slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]), "severity is %q", r.Labels["severity"])
	want(len(r.Labels) == 1, "labels besides severity come from the expression")
	want(sentence(a["summary"], "."), "summary is no sentence without values: %q", a["summary"])
	want(sentence(a["summary_zh"], "。"), "summary_zh is no sentence without values: %q", a["summary_zh"])
	want(strings.ContainsFunc(a["summary_zh"], func(c rune) bool { return unicode.Is(unicode.Han, c) }), "summary_zh is not Chinese")
	want(strings.HasSuffix(a["description"], ".") || strings.HasSuffix(a["description"], "{{ end }}"), "description is no sentence: %q", a["description"])
	link := "{{ with $externalLabels.runbook }}{{ . }}{{ else }}docs/runbook.md{{ end }}#" + strings.ToLower(r.Alert)
	want(a["runbook_url"] == link, "runbook_url is %q, want %q", a["runbook_url"], link)
	return list
}

func sentence(s, end string) bool {
	return strings.HasSuffix(s, end) && !strings.Contains(s, "{{") && len(s) > 10
}

// TestReasons: the words of every code stand in the alerts about rejections.
func TestReasons(t *testing.T) {
	rows, err := csv.NewReader(strings.NewReader(read(t, "schemas/clickhouse/data/error_codes.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, r := range alerts(t) {
		if !strings.HasPrefix(r.Alert, "QunfaAuditFailed") {
			continue
		}
		for _, row := range rows[1:] {
			checked++
			zh := fmt.Sprintf("if eq . %q }}%s", row[0], row[1])
			en := fmt.Sprintf("if eq . %q }}%s", row[0], row[2])
			if !strings.Contains(r.Annotations["reason_zh"], zh) || !strings.Contains(r.Annotations["reason"], en) {
				t.Errorf("%s does not know that %s is %s, %s", r.Alert, row[0], row[1], row[2])
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d reasons checked", checked)
	}
}

var firing = regexp.MustCompile(`^ALERTS\{alertname="(\w+)",alertstate="firing"\}$|^count\(ALERTS\{alertname="(\w+)",alertstate="firing"\}\)$`)

var silent = regexp.MustCompile(`^ALERTS\{alertname="(\w+)"(?:,alertstate="firing")?\}$`)

// TestEveryAlertHasUnitTests: one in which it fires, and one in which it does
// not. promtool runs them; see tools_test.go.
func TestEveryAlertHasUnitTests(t *testing.T) {
	fires, keeps := unitTests(t)
	for _, r := range alerts(t) {
		if !fires[r.Alert] {
			t.Errorf("no unit test makes %s fire", r.Alert)
		}
		if !keeps[r.Alert] && r.Alert != "QunfaWatchdog" { // which must never be silent
			t.Errorf("no unit test keeps %s silent", r.Alert)
		}
	}
}

func unitTests(t *testing.T) (fires, keeps map[string]bool) {
	t.Helper()
	fires, keeps = map[string]bool{}, map[string]bool{}
	for _, file := range files(t, "prometheus/tests/*_test.yml") {
		var f struct {
			Tests []struct {
				Checks []struct {
					Expr    string `yaml:"expr"`
					Samples []any  `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			} `yaml:"tests"`
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(b, &f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range f.Tests {
			for _, c := range test.Checks {
				if m := firing.FindStringSubmatch(c.Expr); m != nil && len(c.Samples) > 0 {
					fires[m[1]+m[2]] = true
				}
				if m := silent.FindStringSubmatch(c.Expr); m != nil && len(c.Samples) == 0 {
					keeps[m[1]] = true
				}
			}
		}
	}
	return fires, keeps
}

var heading = regexp.MustCompile(`(?m)^### (Qunfa\w+)$`)

// TestRunbooks: an entry for every alert in both languages, complete, and none too many.
func TestRunbooks(t *testing.T) {
	want := names(alerts(t))
	slices.Sort(want)
	for file, parts := range map[string][]string{
		"docs/runbook.md":    {"**Means**", "**If nothing is done**", "**Check**", "**Do**"},
		"docs/runbook.zh.md": {"**含义**", "**不处理的后果**", "**检查**", "**处理**"},
	} {
		text := read(t, file)
		at := heading.FindAllStringSubmatchIndex(text, -1)
		var have []string
		for i, m := range at {
			name, end := text[m[2]:m[3]], len(text)
			have = append(have, name)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			for _, part := range parts {
				if !strings.Contains(text[m[1]:end], part) {
					t.Errorf("%s: %s lacks %s", file, name, part)
				}
			}
		}
		for _, m := range anchor.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(slugs(text), m[1]) {
				t.Errorf("%s: there is no heading for #%s", file, m[1])
			}
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("%s has entries for\n%v\nand the alerts are\n%v", file, have, want)
		}
	}
}

var (
	anchor     = regexp.MustCompile(`\]\(#([^)]+)\)`)
	anyHeading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// slugs are the anchors that forges give to headings.
func slugs(text string) []string {
	var list []string
	for _, m := range anyHeading.FindAllStringSubmatch(text, -1) {
		list = append(list, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))
	}
	return list
}

// TestRunbooksNameMetricsThatExist: a check that somebody makes at night must work.
func TestRunbooksNameMetricsThatExist(t *testing.T) {
	known := read(t, "docs/metrics.md")
	for _, file := range files(t, "internal/*/metrics.go") {
		known += read(t, strings.TrimPrefix(file, root))
	}
	for _, r := range rules(t) {
		known += "\n" + r.Record
	}
	for _, file := range []string{"docs/runbook.md", "docs/runbook.zh.md"} {
		found := named.FindAllString(read(t, file), -1)
		if len(found) < 20 {
			t.Errorf("%s names only %d metrics", file, len(found))
		}
		for _, m := range found {
			if !strings.Contains(known, m) && !strings.Contains(known, strings.TrimSuffix(m, "_bucket")) {
				t.Errorf("%s: nobody shows %s", file, m)
			}
		}
	}
}

// named is what is read as a metric, or as a recorded one.
var named = regexp.MustCompile(`\b(?:[a-z_]+:)?qunfa_[a-z_]*[a-z](?::[a-z0-9_]+)?\b|\bqunfa:[a-z0-9_]+:[a-z0-9_]+\b`)

var (
	matchers = regexp.MustCompile(`alertname=(~?)"([^"]+)"`)
	dots     = regexp.MustCompile(`template "([\w.]+)"`)
)

// TestAlertmanagerNamesAlertsThatExist: a route or an inhibition over a name
// that is misspelt does nothing.
func TestAlertmanagerNamesAlertsThatExist(t *testing.T) {
	config, templates := read(t, "alertmanager/alertmanager.yml"), read(t, "alertmanager/templates/wecom.tmpl")
	all := names(alerts(t))
	found := matchers.FindAllStringSubmatch(config, -1)
	if len(found) < 10 {
		t.Errorf("only %d matchers found", len(found))
	}
	for _, m := range found {
		for name := range strings.SplitSeq(m[2], "|") {
			re := regexp.MustCompile("^(?:" + name + ")$")
			if !slices.ContainsFunc(all, re.MatchString) {
				t.Errorf("alertmanager.yml: there is no alert %s", name)
			}
		}
	}
	for _, m := range dots.FindAllStringSubmatch(config, -1) {
		if !strings.Contains(templates, `define "`+m[1]+`"`) {
			t.Errorf("alertmanager.yml: there is no template %s", m[1])
		}
	}
}
