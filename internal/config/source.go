package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/token"
)

// source is a file, kept for its lines.
type source struct {
	name  string
	lines []string
}

func newSource(name string, data []byte) *source {
	return &source{name: name, lines: strings.Split(lineEnds.Replace(string(data)), "\n")}
}

// lineEnds makes one of the three ends of a line that YAML knows.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// mark is a stretch of a source that may be shown in an error.
type mark struct {
	src       *source
	line, col int
	text      string // what may be shown; empty for a secret
}

// origin remembers where each path stands.
type origin struct{ marks map[string]mark }

// forgetAccounts gives back the memory that the places of 100,000 accounts
// take, once nothing more is to be said about them.
func (o *origin) forgetAccounts() {
	marks := map[string]mark{}
	for path, m := range o.marks {
		if !strings.HasPrefix(path, "accounts[") && !strings.HasPrefix(path, "accounts_dir/") {
			marks[path] = m
		}
	}
	o.marks = marks
}

// place finds a path or, if it was not given, the nearest thing around it.
func (o *origin) place(path string) Place {
	if o == nil {
		return Place{}
	}
	for path != "" {
		if m, ok := o.marks[path]; ok {
			return m.place()
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return Place{}
}

// keyMark shows a key and hides its value.
func (s *source) keyMark(tk *token.Token) mark { return s.mark(tk, tk.Value) }

// hiddenMark shows where a token stands and hides it.
func (s *source) hiddenMark(tk *token.Token) mark { return s.mark(tk, "") }

func (s *source) mark(tk *token.Token, text string) mark {
	if tk == nil || tk.Position == nil {
		return mark{src: s}
	}
	return mark{src: s, line: tk.Position.Line, col: tk.Position.Column, text: text}
}

func (m mark) place() Place {
	if m.src == nil {
		return Place{}
	}
	return Place{File: m.src.name, Line: m.line, Column: m.col, Excerpt: m.excerpt()}
}

// harmless is what may be shown at the beginning of a line: dashes and one of
// our own keys. In flow style, and in texts of several lines, anything else may
// be part of a secret.
var harmless = regexp.MustCompile(`^\s*(- +)*((` + strings.Join(allKeys(), "|") + `): *)?["']?`)

// allPaths lists the path of every key, without list indices:
// accounts.tokens.
func allPaths(parent string, t reflect.Type) []string {
	for t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var paths []string
	for f := range t.Fields() {
		if key := f.Tag.Get("yaml"); key != "" {
			paths = append(paths, join(parent, key))
			paths = append(paths, allPaths(join(parent, key), f.Type)...)
		}
	}
	return paths
}

// allKeys lists every key that may stand in a file.
func allKeys() []string {
	var keys []string
	for _, p := range allPaths("", reflect.TypeFor[Config]()) {
		key := p[strings.LastIndexByte(p, '.')+1:]
		keys = append(keys, key, key+"_file")
	}
	return keys
}

// excerpt is the line with everything hidden that is not known to be harmless,
// and a caret under the marked place.
func (m mark) excerpt() string {
	if m.line < 1 || m.line > len(m.src.lines) || m.col < 1 {
		return ""
	}
	line := []rune(m.src.lines[m.line-1])
	start := min(m.col-1, len(line))
	before, rest := string(line[:start]), string(line[start:])
	caret := start
	if prefix := harmless.FindString(string(line)); len(prefix) < len(before) {
		before = strings.TrimRight(prefix, " ") + " … "
		caret = len([]rune(before))
	} else if m.text == "" {
		before, rest = prefix, strings.TrimPrefix(string(line), prefix)
	}
	shown := ""
	if strings.HasPrefix(rest, m.text) {
		shown = m.text
	}
	gutter := fmt.Sprintf("%5d | ", m.line)
	return gutter + printable(before+shown+ellipsis(rest[len(shown):])) + "\n" + strings.Repeat(" ", len(gutter)+caret) + "^"
}

// ellipsis stands for the rest of a line.
func ellipsis(rest string) string {
	switch {
	case strings.Trim(rest, " ]},\"'") == "":
		return rest
	case strings.HasPrefix(rest, ":"):
		return ": …"
	}
	return "…"
}

// printable keeps control characters of a broken file off the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
