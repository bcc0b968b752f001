package grafana

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
	"qunfa/internal/spool"
)

var (
	documented = regexp.MustCompile("(?m)^\\| `(qunfa_\\w+)` \\| (\\w+) \\| (.*?) \\|")
	backquoted = regexp.MustCompile("`(\\w+)`")
	metricUse  = regexp.MustCompile(`\b((?:qunfa|process)_\w+|up)(\{[^}]*\})?`)
	labelUse   = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"`)
	grouping   = regexp.MustCompile(`\bby \(([\w, ]+)\)`)
	nameRegexp = regexp.MustCompile(`__name__=~"([^"]*)"`)
	legendUse  = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// metric is what docs/metrics.md says of one.
type metric struct {
	kind   string
	labels []string
}

// known reads docs/metrics.md, which a test compares with what services show. The
// names are those of the series: a histogram has three.
func known(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile(root + "/docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics := map[string]metric{
		"up":                         {kind: "gauge"},
		"process_start_time_seconds": {kind: "gauge"},
	}
	for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
		one := metric{kind: m[2], labels: []string{"service"}}
		for _, l := range backquoted.FindAllStringSubmatch(m[3], -1) {
			one.labels = append(one.labels, l[1])
		}
		if m[2] != "histogram" {
			metrics[m[1]] = one
			continue
		}
		metrics[m[1]+"_sum"], metrics[m[1]+"_count"] = one, one
		metrics[m[1]+"_bucket"] = metric{"histogram", append(slices.Clone(one.labels), "le")}
	}
	addSpool(t, metrics)
	if len(metrics) < 60 {
		t.Fatalf("only %d metrics in docs/metrics.md", len(metrics))
	}
	return metrics
}

// nowhere is a log that takes nothing.
type nowhere struct{}

func (nowhere) Publish(context.Context, events.Record) error { return errors.New("nowhere") }
func (nowhere) Down() bool                                   { return true }

// addSpool asks a spool for its metrics: a service without one shows none.
func addSpool(t *testing.T, metrics map[string]metric) {
	t.Helper()
	registry := prometheus.NewRegistry()
	s, err := spool.Open(spool.Config{Dir: t.TempDir(), Registerer: registry}, nowhere{})
	if err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err := errors.Join(err, s.Close()); err != nil || len(families) < 5 {
		t.Fatalf("%d metrics of the spool, %v", len(families), err)
	}
	for _, f := range families {
		one := metric{kind: strings.ToLower(f.GetType().String()), labels: []string{"service", "topic"}}
		for _, l := range f.GetMetric()[0].GetLabel() {
			one.labels = append(one.labels, l.GetName())
		}
		metrics[f.GetName()] = one
	}
}

// TestMetricsExist checks the names of metrics and labels of every PromQL query:
// PromQL itself never complains, it just finds nothing.
func TestMetricsExist(t *testing.T) {
	metrics, used := known(t), map[string]bool{}
	check := func(where, expr, legend string) {
		labels := []string{"job", "instance"}
		for _, m := range metricUse.FindAllStringSubmatch(expr, -1) {
			one, ok := metrics[m[1]]
			if !ok {
				t.Errorf("%s: there is no metric %s", where, m[1])
				continue
			}
			used[m[1]] = true
			labels = append(labels, one.labels...)
			checkSelector(t, where, m[1], m[2], one)
			if counted := regexp.MustCompile(`(?:rate|increase)\(` + m[1] + `\b`).MatchString(expr); counted != (one.kind != "gauge") {
				t.Errorf("%s: %s is a %s: want rate or increase of what only grows, and of nothing else", where, m[1], one.kind)
			}
		}
		for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
			for l := range strings.SplitSeq(m[1], ", ") {
				if !slices.Contains(labels, l) {
					t.Errorf("%s: no metric of the query has the label %s", where, l)
				}
			}
		}
		for _, m := range legendUse.FindAllStringSubmatch(legend, -1) {
			if !slices.Contains(labels, m[1]) {
				t.Errorf("%s: the legend names the label %s", where, m[1])
			}
		}
	}
	for _, d := range load(t) {
		if source(t, d).Type != typePrometheus {
			continue
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				check("panel "+p.Title, target.Expr, target.LegendFormat)
			}
		}
		for _, a := range d.Annotations.List {
			if a.Expr != "" {
				check("annotation "+a.Name, a.Expr, a.TitleFormat)
			}
		}
		for _, v := range d.Templating.List {
			for _, m := range nameRegexp.FindAllStringSubmatch(v.Query, -1) {
				for name := range strings.SplitSeq(m[1], "|") {
					if _, ok := metrics[name]; !ok {
						t.Errorf("variable %s: there is no metric %s", v.Name, name)
					}
				}
			}
		}
	}
	if len(used) < 50 {
		t.Errorf("only %d metrics are on a dashboard: %v", len(used), used)
	}
}

// checkSelector wants the choice of job and instance in every selector.
func checkSelector(t *testing.T, where, name, selector string, one metric) {
	t.Helper()
	if !strings.HasPrefix(selector, `{job=~"$job",instance=~"$instance"`) {
		t.Errorf("%s: %s%s does not choose job and instance", where, name, selector)
	}
	for _, m := range labelUse.FindAllStringSubmatch(selector, -1) {
		if !slices.Contains(append([]string{"job", "instance"}, one.labels...), m[1]) {
			t.Errorf("%s: %s has no label %s", where, name, m[1])
		}
	}
}
