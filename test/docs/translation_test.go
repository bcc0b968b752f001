package docs

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// translated are the documents that exist in both languages.
var translated = map[string]string{
	"README.md":       "README.zh.md",
	"docs/sql.md":     "docs/sql.zh.md",
	"docs/runbook.md": "docs/runbook.zh.md",
}

var (
	fenced  = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	comment = regexp.MustCompile(`(?m)[ \t]*(^|[ \t])# .*$`)
)

// outline is the levels of the headings and, for those that are names, the text.
func outline(text string) []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(anyFence.ReplaceAllString(text, ""), -1) {
		title := m[2]
		if strings.ContainsFunc(title, unicode.IsSpace) || strings.ContainsFunc(title, isHan) || !strings.HasPrefix(title, "Qunfa") {
			title = "…"
		}
		out = append(out, m[1]+" "+title)
	}
	return out
}

func isHan(r rune) bool { return unicode.Is(unicode.Han, r) }

// blocksOf lists the blocks of code, without comments, which are translated, as drawings are.
func blocksOf(text string) []string {
	var out []string
	for _, m := range fenced.FindAllStringSubmatch(text, -1) {
		code := m[2]
		if strings.Contains(code, "▶") {
			code = "a drawing"
		} else if m[1] != "text" {
			code = comment.ReplaceAllString(code, "")
		}
		out = append(out, m[1]+"\n"+code)
	}
	return out
}

// spansOf is the set of code spans: names, commands, values. Placeholders are translated.
func spansOf(text string) map[string]bool {
	out := map[string]bool{}
	for _, span := range codeSpan.FindAllString(anyFence.ReplaceAllString(text, ""), -1) {
		if !strings.ContainsFunc(span, isHan) && !placeholder.MatchString(span) {
			out[span] = true
		}
	}
	return out
}

var placeholder = regexp.MustCompile(`\bNAME\b|PARTITION/OFFSET`)

// TestTranslationsKeepStep holds each Chinese document against the English one:
// the same headings in the same order, the same code, the same names.
func TestTranslationsKeepStep(t *testing.T) {
	for english, chinese := range translated {
		t.Run(chinese, func(t *testing.T) {
			en, zh := read(t, filepath.Join(root, english)), read(t, filepath.Join(root, chinese))
			if d := cmp.Diff(outline(en), outline(zh)); d != "" {
				t.Errorf("headings (-%s +%s)\n%s", english, chinese, d)
			}
			if d := cmp.Diff(blocksOf(en), blocksOf(zh)); d != "" {
				t.Errorf("code (-%s +%s)\n%s", english, chinese, d)
			}
			if d := cmp.Diff(slices.Sorted(maps.Keys(spansOf(en))), slices.Sorted(maps.Keys(spansOf(zh)))); d != "" {
				t.Errorf("names in code spans (-%s +%s)\n%s", english, chinese, d)
			}
			for _, pair := range [][2]string{{en, filepath.Base(chinese)}, {zh, filepath.Base(english)}} {
				if !strings.Contains(pair[0], "]("+pair[1]+")") {
					t.Errorf("no link to %s", pair[1])
				}
			}
		})
	}
}
