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
