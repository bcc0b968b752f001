package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every finding names where more is written: that must be there.
func TestDocumentsExist(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	anchored := regexp.MustCompile(`(runbook|operations) ?\+ ?"([a-z-]+)"`)
	whole := regexp.MustCompile(`"(docs/[a-z.]+\.md[#a-z0-9-]*)"`)
	callbacks := regexp.MustCompile(`"(qunfa[a-z]+)", (true|false)\}`) // the table of judgeCallbacks
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range anchored.FindAllStringSubmatch(string(b), -1) {
			named["docs/"+m[1]+".md#"+m[2]] = true
		}
		for _, m := range whole.FindAllStringSubmatch(string(b), -1) {
			named[m[1]] = true
		}
		for _, m := range callbacks.FindAllStringSubmatch(string(b), -1) {
			named["docs/runbook.md#"+m[1]] = true
		}
	}
	if len(named) < 20 {
		t.Errorf("found only %d documents: do the expressions still fit?", len(named))
	}
	for doc := range named {
		name, anchor, _ := strings.Cut(doc, "#")
		if !anchors(t, name)[anchor] {
			t.Errorf("%s does not exist", doc)
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchors are those of the headings of a document, and the empty one.
func anchors(t *testing.T, name string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Error(err)
		return nil
	}
	found := map[string]bool{"": true}
	for _, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, "#") {
			heading := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
			found[strings.ReplaceAll(notInAnchor.ReplaceAllString(heading, ""), " ", "-")] = true
		}
	}
	return found
}
