package config

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder fills Go values from one parsed file. It is our own, rather than the
// library's, because it must report everything at once, know every value's
// place afterwards, take secrets in three forms and never quote one.
type decoder struct {
	src     *source
	dir     string // relative paths count from here
	lookup  func(string) (string, bool)
	origin  *origin
	anchors map[string]ast.Node
	problems
	warnings []Warning
	secrets  []stamp // of the secret files that were read
}

var quoted = regexp.MustCompile(`"[^"]*"`)

// parse returns the content of the file's only document; nil if it is empty.
func (d *decoder) parse(data []byte) ast.Node {
	// YAML reads all three ends of a line as one; the parser counts a CRLF inside
	// quotes as two lines.
	if bytes.IndexByte(data, '\r') >= 0 {
		data = []byte(lineEnds.Replace(string(data)))
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxProblem(err)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case doc.Body.Type() == ast.DirectiveType:
		case body != nil:
			d.problem(ErrSyntax, "", d.src.hiddenMark(doc.Start), "a second document; want one")
			return nil
		default:
			body = doc.Body
		}
	}
	if body != nil {
		ast.Walk(anchorVisitor(d.anchors), body)
	}
	return body
}

func (d *decoder) syntaxProblem(err error) {
	// Only the message: the library's own rendering shows the lines around,
	// secrets and all, and some messages quote.
	m, message := mark{src: d.src}, "cannot be read as YAML"
	if se, ok := errors.AsType[*yaml.SyntaxError](err); ok {
		m, message = d.src.hiddenMark(se.Token), strings.ReplaceAll(quoted.ReplaceAllString(se.Message, "…"), "character '\t'", "a tab")
		message += d.syntaxHint(m.line)
	}
	d.problem(ErrSyntax, "", m, "not valid YAML: %s", printable(message))
}

// syntaxHint explains the two mistakes that people make.
func (d *decoder) syntaxHint(line int) string {
	if line < 1 || line > len(d.src.lines) {
		return ""
	}
	text := d.src.lines[line-1]
	switch indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]; {
	case strings.Contains(indent, "\t"):
		return "; indent with spaces"
	case strings.Contains(text, "${"):
		return "; ${NAME} needs quotes inside of [ ] and { }"
	}
	return ""
}

type anchorVisitor map[string]ast.Node

func (v anchorVisitor) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok && a.Name != nil {
		v[a.Name.GetToken().Value] = a.Value
	}
	return v
}

func (d *decoder) problem(kind error, path string, m mark, format string, args ...any) {
	d.add(&Problem{Kind: kind, Path: path, Message: fmt.Errorf(format, args...).Error(), Place: m.place()})
}

// resolve follows anchors and aliases. A nil or null node has no value.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for range 16 { // an alias may lead to an alias, or in a circle
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			n = d.anchors[v.Value.GetToken().Value]
		case *ast.NullNode:
			return nil
		default:
			return n
		}
	}
	return nil
}

// decode stores node in v. What has no value keeps its default.
func (d *decoder) decode(path string, node ast.Node, v reflect.Value) {
	n := d.resolve(node)
	if n == nil {
		return
	}
	if _, ok := d.origin.marks[path]; !ok {
		d.origin.marks[path] = d.valueMark(n, v)
	}
	switch {
	case v.Type() == reflect.TypeFor[Secret]():
		d.secret(path, n, v.Addr().Interface().(*Secret))
	case v.Kind() == reflect.Struct && !isText(v):
		d.structure(path, n, v)
	case v.Kind() == reflect.Slice:
		d.list(path, n, v)
	default:
		d.scalar(path, n, v)
	}
}

// valueMark shows a value if it is a scalar that is not secret.
func (d *decoder) valueMark(n ast.Node, v reflect.Value) mark {
	tk := n.GetToken()
	if _, ok := scalarText(n); !ok || v.Type() == reflect.TypeFor[Secret]() || v.Type() == reflect.TypeFor[URL]() {
		return d.src.hiddenMark(tk)
	}
	return d.src.mark(tk, tk.Value)
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(textValue)
	return ok
}

// scalarText is the text of a scalar as it was written: a password of digits
// keeps its leading zeros.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// entry is one key of a mapping.
type entry struct {
	key   string
	token *token.Token
	value ast.Node
}

// entries lists the keys of a mapping, those merged with << last and only where
// the mapping does not have them itself.
func (d *decoder) entries(path string, n ast.Node) ([]entry, bool) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		single, ok := n.(*ast.MappingValueNode) // a mapping of one key
		if !ok {
			return nil, false
		}
		m = &ast.MappingNode{Values: []*ast.MappingValueNode{single}}
	}
	var own []entry
	var merged []ast.Node
	for _, value := range m.Values {
		if value.Key.IsMergeKey() {
			merged = append(merged, value.Value)
			continue
		}
		tk := value.Key.GetToken()
		if has(own, tk.Value) {
			d.problem(ErrDuplicateKey, path, d.src.keyMark(tk), "the key %s is given twice", clipKey(tk.Value))
			continue
		}
		own = append(own, entry{tk.Value, tk, value.Value})
	}
	for _, n := range merged {
		own = d.merge(path, own, n)
	}
	return own, true
}

func (d *decoder) merge(path string, own []entry, n ast.Node) []entry {
	m, ok := d.resolve(n).(*ast.MappingNode)
	if !ok {
		d.problem(ErrType, path, d.src.hiddenMark(n.GetToken()), "<<: wants an alias of a mapping, such as *defaults")
		return own
	}
	for _, value := range m.Values {
		if tk := value.Key.GetToken(); !has(own, tk.Value) && !value.Key.IsMergeKey() {
			own = append(own, entry{tk.Value, tk, value.Value})
		}
	}
	return own
}

func has(list []entry, key string) bool {
	return slices.ContainsFunc(list, func(e entry) bool { return e.key == key })
}

func (d *decoder) structure(path string, n ast.Node, v reflect.Value) {
	list, ok := d.entries(path, n)
	if !ok {
		d.problem(ErrType, path, d.src.hiddenMark(n.GetToken()), "want keys below it, such as %s: …", keysOf(v.Type())[0])
		return
	}
	for _, e := range list {
		d.field(path, e, v)
	}
}

// field stores one key of a structure: a field, or NAME_file for a secret NAME.
func (d *decoder) field(parent string, e entry, v reflect.Value) {
	if f, ok := fieldOf(v, e.key); ok {
		path := join(parent, e.key)
		if f.Type() == reflect.TypeFor[Secret]() && d.givenTwice(path, e) {
			return
		}
		d.decode(path, e.value, f)
		d.markKey(path, e)
		return
	}
	name, isFile := strings.CutSuffix(e.key, "_file")
	f, ok := fieldOf(v, name)
	if !isFile || !ok || f.Type() != reflect.TypeFor[Secret]() {
		d.unknownKey(parent, e, keysOf(v.Type()))
		return
	}
	path := join(parent, name)
	if n := d.resolve(e.value); n != nil && !d.givenTwice(path, e) {
		d.origin.marks[path] = d.src.keyMark(e.token)
		d.secretFile(path, n, f.Addr().Interface().(*Secret))
	}
}

// markKey makes errors about a whole section, a list or a secret point at the
// key; those about a scalar point at the value.
func (d *decoder) markKey(path string, e entry) {
	m, ok := d.origin.marks[path]
	if ok && m.text == "" {
		d.origin.marks[path] = d.src.keyMark(e.token)
	}
}

func (d *decoder) givenTwice(path string, e entry) bool {
	if d.resolve(e.value) == nil {
		return false
	}
	_, given := d.origin.marks[path]
	if given {
		d.problem(ErrSecret, path, d.src.keyMark(e.token), "given both as a value and as a file; want one of them")
	}
	return given
}

func (d *decoder) unknownKey(parent string, e entry, known []string) {
	hint := "; known keys: " + strings.Join(known, ", ")
	if k := nearest(e.key, known); k != "" {
		hint = fmt.Sprintf("; did you mean %s?", k)
	} else if paths := pathsOf(e.key); len(paths) > 0 {
		hint = fmt.Sprintf("; there is %s", strings.Join(paths, " and "))
	}
	d.problem(ErrUnknownKey, parent, d.src.keyMark(e.token), "unknown key %s%s", clipKey(e.key), hint)
}

// pathsOf lists where a key that stands in the wrong section belongs.
func pathsOf(key string) []string {
	var paths []string
	for _, p := range allPaths("", reflect.TypeFor[Config]()) {
		if p == key || strings.HasSuffix(p, "."+key) {
			paths = append(paths, p)
		}
	}
	return paths
}

// clipKey bounds what a broken file can put into a log line.
func clipKey(s string) string {
	s = printable(s)
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func (d *decoder) list(path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(ErrType, path, d.src.hiddenMark(n.GetToken()), "want a list: [one, two], or one per line after a dash")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		element := out.Index(i)
		if s, ok := element.Addr().Interface().(interface{ setDefaults() }); ok {
			s.setDefaults()
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		if a, ok := element.Addr().Interface().(*Account); ok {
			a.path = at
		}
		if d.resolve(item) == nil {
			d.problem(ErrMissing, at, d.src.hiddenMark(seq.GetToken()), "an empty element of a list")
			continue
		}
		d.decode(at, item, element)
	}
	v.Set(out)
}

func (d *decoder) scalar(path string, n ast.Node, v reflect.Value) {
	m := d.origin.marks[path]
	text, ok := scalarText(n)
	if !ok {
		d.problem(ErrType, path, d.src.hiddenMark(n.GetToken()), "want %s", kindName(v))
		return
	}
	text, err := expandEnv(text, d.lookup)
	if err != nil {
		d.problem(ErrEnv, path, m, "%w", err)
		return
	}
	if err := setScalar(v, text); err != nil {
		d.problem(ErrType, path, m, "%w", err)
	}
}

func setScalar(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case textValue:
		if text == "" {
			return nil // "" is how a file says "none"
		}
		return p.setText(text)
	case *time.Duration:
		dur, err := parseDuration(text)
		*p = dur
		return err
	case *string:
		*p = text
	case *bool:
		if text != "true" && text != "false" {
			return errors.New("want true or false")
		}
		*p = text == "true"
	case *int:
		n, err := parseInt(text, 32)
		*p = int(n)
		return err
	default:
		panic(fmt.Sprintf("config: a field of type %s", v.Type())) // a mistake in Config, found by the first test
	}
	return nil
}

func kindName(v reflect.Value) string {
	switch v.Addr().Interface().(type) {
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *time.Duration:
		return "a duration such as 45m or 24h"
	case *Size:
		return "a size such as 64KiB"
	}
	return "a text"
}

// keysOf lists the YAML keys of a structure, in its order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if k := f.Tag.Get("yaml"); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for f := range v.Type().Fields() {
		if key != "" && f.Tag.Get("yaml") == key {
			return v.FieldByIndex(f.Index), true
		}
	}
	return reflect.Value{}, false
}

func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

func (d *decoder) abs(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.dir, path)
}
