package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// documents lists every Markdown file of the project.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), "qunfa-")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var (
	anyFence = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	codeSpan = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^(#{1,6}) +(.+?) *$`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// prose is a document without its code.
func prose(text string) string {
	return codeSpan.ReplaceAllString(anyFence.ReplaceAllString(text, ""), "`")
}

// anchors are those that GitHub makes of the headings: letters, digits, dashes
// and underscores in lower case, and dashes for spaces; a repeated one is numbered.
func anchors(text string) map[string]bool {
	out, seen := map[string]bool{}, map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(anyFence.ReplaceAllString(text, ""), -1) {
		title := strings.ToLower(linkText.ReplaceAllString(m[2], "$1"))
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return r
			}
			return -1
		}, title)
		if n := seen[anchor]; n > 0 {
			out[anchor+"-"+string(rune('0'+n))] = true
		}
		seen[anchor]++
		out[anchor] = true
	}
	return out
}

// TestLinksLeadSomewhere checks links between files of the project, and to
// headings in them.
func TestLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(prose(read(t, file)), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			checked++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			info, err := os.Stat(target)
			switch {
			case err != nil:
				t.Errorf("%s: the link to %s leads nowhere", file, m[1])
			case anchor != "" && (info.IsDir() || !anchors(read(t, target))[anchor]):
				t.Errorf("%s: the link to %s leads to no heading", file, m[1])
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d links found", checked)
	}
}

func TestAnchors(t *testing.T) {
	got := anchors("# P1 Success, *really* [here](x.md)?\n## 数据新鲜度\n## A `b_c`\n```\n# no\n```\n## Same\n## Same\n")
	for _, want := range []string{"p1-success-really-here", "数据新鲜度", "a-b_c", "same", "same-1"} {
		if !got[want] {
			t.Errorf("no anchor %s in %v", want, got)
		}
	}
	if got["no"] {
		t.Error("a comment in code is taken for a heading")
	}
}

// TestEveryPageIsListed holds the list of pages in the README.
func TestEveryPageIsListed(t *testing.T) {
	for _, readme := range []string{"README.md", "README.zh.md"} {
		text := read(t, filepath.Join(root, readme))
		pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
		if err != nil || len(pages) < 10 {
			t.Fatalf("%d pages: %v", len(pages), err)
		}
		for _, page := range pages {
			if !strings.Contains(text, "](docs/"+filepath.Base(page)+")") {
				t.Errorf("%s does not name docs/%s", readme, filepath.Base(page))
			}
		}
	}
}
