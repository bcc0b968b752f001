package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	makeTarget = regexp.MustCompile("(?m)(?:^|`|&& )make ([a-z-]+)")
	makeRule   = regexp.MustCompile(`(?m)^([a-z-]+):`)
	namedPath  = regexp.MustCompile("`(?:\\./)?((?:internal|cmd|schemas|test|docs|deploy|prometheus|grafana|alertmanager)/[A-Za-z0-9_./-]+)`")
	testedPath = regexp.MustCompile(`go test [^\n` + "`" + `]*?\./([a-z/]+)`)
)

// TestNamedTargetsExist holds every `make TARGET` of the documents against the Makefile.
func TestNamedTargetsExist(t *testing.T) {
	rules := map[string]bool{}
	for _, m := range makeRule.FindAllStringSubmatch(read(t, filepath.Join(root, "Makefile")), -1) {
		rules[m[1]] = true
	}
	found := 0
	for _, file := range documents(t) {
		for _, m := range makeTarget.FindAllStringSubmatch(read(t, file), -1) {
			found++
			if !rules[m[1]] {
				t.Errorf("%s: there is no make %s", file, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d targets found", found)
	}
}

// TestNamedFilesExist holds the files and directories that the documents name.
func TestNamedFilesExist(t *testing.T) {
	found := 0
	for _, file := range documents(t) {
		text := read(t, file)
		for _, m := range append(namedPath.FindAllStringSubmatch(text, -1), testedPath.FindAllStringSubmatch(text, -1)...) {
			found++
			path := strings.TrimSuffix(m[1], "/...")
			if _, err := os.Stat(filepath.Join(root, path)); err != nil && !madeByOperator(path) {
				t.Errorf("%s: there is no %s", file, m[1])
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d names found", found)
	}
}

// madeByOperator says whether a file is one that those who deploy put there.
func madeByOperator(path string) bool {
	return strings.HasPrefix(path, "alertmanager/secrets") || strings.HasPrefix(path, "deploy/compose/accounts/")
}

// what begins like a metric and is none: users, a header, volumes of the compose deployment.
var noMetric = regexp.MustCompile(`^qunfa_(reader|writer|owner|admin|mark|callback_(mode|format)|kafka|clickhouse|secrets)$`)

// metricName is not what a recording rule makes of a metric, which has colons.
var metricName = regexp.MustCompile(`(?:^|[^\w:])(qunfa_[a-z_]*[a-z])\b(:?)`)

// TestNamedMetricsExist holds the metrics that the documents name against the generated list.
func TestNamedMetricsExist(t *testing.T) {
	known := map[string]bool{}
	for _, m := range metricName.FindAllStringSubmatch(read(t, filepath.Join(root, "docs/metrics.md")), -1) {
		known[m[1]] = true
	}
	found := 0
	for _, file := range documents(t) {
		for _, m := range metricName.FindAllStringSubmatch(read(t, file), -1) {
			found++
			if name := m[1]; m[2] == "" && !known[name] && !known[strings.TrimSuffix(name, "_bucket")] && !noMetric.MatchString(name) {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
	if found < 200 {
		t.Errorf("only %d metrics found", found)
	}
}

var logLine = regexp.MustCompile(`(?m)^- (?:Log|日志).*$`)

// TestLogWordsExist: what the runbooks say to search for is what the programs
// write; the words of others are Alertmanager's and Prometheus's.
func TestLogWordsExist(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"internal/*/*.go", "internal/*/*/*.go", "cmd/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				sources.WriteString(read(t, f))
			}
		}
	}
	for _, file := range []string{"docs/runbook.md", "docs/runbook.zh.md"} {
		found := 0
		for _, line := range logLine.FindAllString(read(t, filepath.Join(root, file)), -1) {
			if strings.Contains(line, "Alertmanager") || strings.Contains(line, "Prometheus") {
				continue
			}
			for _, span := range codeSpan.FindAllString(line, -1) {
				words := strings.Trim(span, "`")
				if !strings.Contains(words, " ") || strings.HasPrefix(words, "curl ") || strings.HasPrefix(words, "df ") {
					continue
				}
				found++
				if !strings.Contains(sources.String(), words) {
					t.Errorf("%s: no program logs %q", file, words)
				}
			}
		}
		if found < 30 {
			t.Errorf("only %d words found in %s", found, file)
		}
	}
}

// TestArchitectureIsComplete holds the lists of packages and decisions.
func TestArchitectureIsComplete(t *testing.T) {
	text := read(t, filepath.Join(root, "docs/architecture.md"))
	for _, pattern := range []string{"cmd/*", "internal/*", "test/*", "docs/adr/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: nothing found: %v", pattern, err)
		}
		for _, path := range found {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			name, want := filepath.Base(path), ""
			switch {
			case strings.HasSuffix(name, ".md"):
				want = "](adr/" + name + ")"
			case info.IsDir():
				want = "`" + strings.TrimSuffix(pattern, "*") + name + "`"
			}
			if !strings.Contains(text, want) {
				t.Errorf("docs/architecture.md does not name %s", want)
			}
		}
	}
}
