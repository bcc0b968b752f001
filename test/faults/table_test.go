package faults

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const operations = "../../docs/operations.md"

// The columns of the table.
const (
	columnFault = iota
	columnLog
	columnReady
	columnMetric
	columnLost
	columnRepair
	columnTest
	columns
)

// row is a row of the table: what it quotes, by column.
type row struct {
	fault  string
	quotes [columns][]string
}

var quoted = regexp.MustCompile("`([^`]+)`")

// table reads the table, by the test that each row names.
func table(t *testing.T) map[string]row {
	t.Helper()
	b, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]row{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != columns {
			continue
		}
		r := row{fault: strings.TrimSpace(cells[columnFault])}
		for i, c := range cells {
			for _, m := range quoted.FindAllStringSubmatch(c, -1) {
				r.quotes[i] = append(r.quotes[i], m[1])
			}
		}
		names := r.quotes[columnTest]
		if len(names) != 1 {
			continue // the head of the table
		}
		if _, twice := rows[names[0]]; twice {
			t.Errorf("%s stands for two faults", names[0])
		}
		rows[names[0]] = r
	}
	return rows
}

// TestEveryRowHasItsTest keeps rows and tests together, both ways.
func TestEveryRowHasItsTest(t *testing.T) {
	rows := table(t)
	var tests []string
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\) \{\n\tt\.Parallel\(\)`).FindAllStringSubmatch(string(b), -1) {
			tests = append(tests, m[1])
		}
	}
	for name, r := range rows {
		if !slices.Contains(tests, name) {
			t.Errorf("%s: there is no test %s", r.fault, name)
		}
		if len(r.quotes[columnLog])+len(r.quotes[columnReady]) == 0 || len(r.quotes[columnMetric]) == 0 {
			t.Errorf("%s: nothing is quoted, so nothing is tested", r.fault)
		}
	}
	for _, name := range tests {
		if _, ok := rows[name]; !ok && name != "TestRollingRestart" { // which is no fault
			t.Errorf("%s has no row in %s", name, operations)
		}
	}
	if len(rows) < 12 {
		t.Errorf("the table has %d rows; was it read right?", len(rows))
	}
}

// missing says what of a row was not observed yet: log lines, pages of /readyz, and metrics.
func (r row) missing(log, ready, metrics string) string {
	var missing []string
	for _, q := range r.quotes[columnLog] {
		if !strings.Contains(log, q) {
			missing = append(missing, "log: "+q)
		}
	}
	for _, q := range r.quotes[columnReady] {
		if !strings.Contains(ready, q) {
			missing = append(missing, "/readyz: "+q)
		}
	}
	for _, q := range r.quotes[columnMetric] {
		if why := unmet(metrics, q); why != "" {
			missing = append(missing, "metric: "+why)
		}
	}
	return strings.Join(missing, "\n")
}

var claim = regexp.MustCompile(`^(\w+)(?:\{(.*)\})?(?: (=|>) (\d+))?$`)

// unmet says why a claim such as `name{label="value"} > 0` does not hold. More
// labels than named are allowed. Without a comparison it means: the counter has grown.
func unmet(metrics, what string) string {
	m := claim.FindStringSubmatch(what)
	if m == nil {
		return what + ": not understood"
	}
	want := 0.0
	if m[4] != "" {
		want, _ = strconv.ParseFloat(m[4], 64)
	}
	var have []string
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		base, labels, _ := strings.Cut(name, "{")
		if base != m[1] || !hasLabels(labels, m[2]) {
			continue
		}
		have = append(have, strings.TrimSpace(line))
		v, err := strconv.ParseFloat(value, 64)
		if err == nil && (m[3] == "=" && v == want || m[3] != "=" && v > want) {
			return ""
		}
	}
	return fmt.Sprintf("%s, have %q", what, have)
}

func hasLabels(labels, want string) bool {
	for l := range strings.SplitSeq(want, ",") {
		if !strings.Contains(labels, l) {
			return false
		}
	}
	return true
}
