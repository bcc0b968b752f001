package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"qunfa/internal/clickhouse"
)

// Formats of output.
const (
	formatAuto     = "auto"
	formatTable    = "table"
	formatVertical = "vertical"
	formatJSON     = "json"
	formatCSV      = "csv"
)

// format decides what auto means: piped is what is to be used where the output
// goes into another program.
func (g *globals) format(piped string) string {
	switch {
	case g.Format != formatAuto && g.Format != "":
		return g.Format
	case isTerminal(g.Stdout):
		return formatTable
	}
	return piped
}

// width is how many columns the terminal has, 0 if there is none.
func (g *globals) width() int {
	f, ok := g.Stdout.(*os.File)
	if !ok {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// printRows writes an answer in the format that is wanted. On a terminal, rows
// that are wider than it are written as one line per value: a wrapped table
// cannot be read.
func (g *globals) printRows(r *clickhouse.Result) error {
	switch g.format(formatCSV) {
	case formatJSON:
		return writeJSONRows(g.Stdout, r)
	case formatCSV:
		return writeCSV(g.Stdout, r, g.BOM)
	case formatVertical:
		return writeVertical(g.Stdout, r)
	}
	rendered := renderTable(r, 0)
	if w := g.width(); w > 0 && text.LongestLineLen(rendered) > w {
		return writeVertical(g.Stdout, r)
	}
	_, err := io.WriteString(g.Stdout, rendered)
	return err
}

// printJSON writes a value for programs.
func (g *globals) printJSON(v any) error {
	enc := json.NewEncoder(g.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func newTable() table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	return t
}

// null is how tables show a value that is not known. It must never look like 0.
const null = "NULL"

// columnWidth bounds columns of words in tables that are ours.
const columnWidth = 48

func writeTable(w io.Writer, r *clickhouse.Result) error {
	_, err := io.WriteString(w, renderTable(r, columnWidth))
	return err
}

// renderTable draws a table. Text that is wider than widest is broken into
// lines; 0 leaves it as it is.
func renderTable(r *clickhouse.Result, widest int) string {
	if len(r.Columns) == 0 {
		return ""
	}
	t := newTable()
	header := table.Row{}
	var columns []table.ColumnConfig
	for i, c := range r.Columns {
		header = append(header, c.Name)
		column := table.ColumnConfig{Number: i + 1, WidthMax: widest, WidthMaxEnforcer: text.WrapSoft}
		if isNumber(c.Type) {
			column.Align, column.AlignHeader, column.WidthMax = text.AlignRight, text.AlignRight, 0
		}
		columns = append(columns, column)
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(columns)
	for _, row := range r.Rows {
		cells := table.Row{}
		for i, v := range row {
			cells = append(cells, cell(v, r.Columns[i].Type))
		}
		t.AppendRow(cells)
	}
	return t.Render() + "\n"
}

func writeVertical(w io.Writer, r *clickhouse.Result) error {
	var b strings.Builder
	longest := 0
	for _, c := range r.Columns {
		longest = max(longest, text.StringWidthWithoutEscSequences(c.Name))
	}
	for n, row := range r.Rows {
		fmt.Fprintf(&b, "── row %d\n", n+1)
		for i, v := range row {
			fmt.Fprintf(&b, "%s  %s\n", text.Pad(r.Columns[i].Name, longest, ' '), cell(v, r.Columns[i].Type))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeCSV(w io.Writer, r *clickhouse.Result, bom bool) error {
	if bom {
		if _, err := io.WriteString(w, "\ufeff"); err != nil {
			return err
		}
	}
	if len(r.Columns) == 0 {
		return nil
	}
	c := csv.NewWriter(w)
	record := make([]string, len(r.Columns))
	for i, column := range r.Columns {
		record[i] = column.Name
	}
	if err := c.Write(record); err != nil {
		return err
	}
	for _, row := range r.Rows {
		for i, v := range row {
			record[i] = ""
			if v != nil {
				record[i] = plainText(v, r.Columns[i].Type)
			}
		}
		if err := writeRecord(w, c, record); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// writeRecord keeps a record that is one empty field from being an empty line,
// which readers pass over.
func writeRecord(w io.Writer, c *csv.Writer, record []string) error {
	if len(record) > 1 || record[0] != "" {
		return c.Write(record)
	}
	if c.Flush(); c.Error() != nil {
		return c.Error()
	}
	_, err := io.WriteString(w, "\"\"\n")
	return err
}

// writeJSONRows writes an array of objects, one row per line.
func writeJSONRows(w io.Writer, r *clickhouse.Result) error {
	var b bytes.Buffer
	b.WriteByte('[')
	for n, row := range r.Rows {
		if n > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		if err := encodeInto(&b, object(r.Columns, row)); err != nil {
			return err
		}
	}
	b.WriteString("\n]\n")
	_, err := w.Write(b.Bytes())
	return err
}

// ordered is a JSON object that keeps the order of its members.
type ordered []member

type member struct {
	name  string
	value any
}

// MarshalJSON implements [json.Marshaler].
func (o ordered) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := encodeInto(&b, m.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := encodeInto(&b, m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func encodeInto(b *bytes.Buffer, v any) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the line break
	return nil
}

func object(columns []clickhouse.Column, row []any) ordered {
	o := make(ordered, len(row))
	for i, v := range row {
		o[i] = member{columns[i].Name, jsonValue(v, columns[i].Type)}
	}
	return o
}

// jsonValue turns a value of ClickHouse into one that JSON can hold: times with
// their zone, and null for numbers that are none.
func jsonValue(v any, typ string) any {
	switch x := v.(type) {
	case nil:
		return nil
	case time.Time:
		if isDate(typ) {
			return x.Format(time.DateOnly)
		}
		return x.Format(time.RFC3339Nano)
	case float64:
		return finite(x)
	case float32:
		return finite(float64(x))
	case []byte: // also what Array(UInt8) comes in
		if !strings.HasPrefix(inner(typ), "Array") {
			return string(x)
		}
	case json.Marshaler:
		return x
	case fmt.Stringer:
		return x.String()
	}
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Pointer:
		if rv.IsNil() {
			return nil
		}
		return jsonValue(rv.Elem().Interface(), typ)
	case reflect.Slice, reflect.Array:
		list := make([]any, rv.Len())
		for i := range list {
			list[i] = jsonValue(rv.Index(i).Interface(), typ)
		}
		return list
	case reflect.Map:
		m := make(map[string]any, rv.Len())
		for it := rv.MapRange(); it.Next(); {
			m[fmt.Sprint(it.Key().Interface())] = jsonValue(it.Value().Interface(), typ)
		}
		return m
	}
	return v
}

func finite(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return x
}

// cell is a value in a table: what would move the cursor or change colours is escaped.
func cell(v any, typ string) string {
	if v == nil {
		return null
	}
	return printable(plainText(v, typ))
}

// plainText is a value as text, of times in their own zone.
func plainText(v any, typ string) string {
	switch x := v.(type) {
	case string:
		return x
	case []byte:
		if !strings.HasPrefix(inner(typ), "Array") {
			return string(x)
		}
	case time.Time:
		switch {
		case isDate(typ):
			return x.Format(time.DateOnly)
		case strings.Contains(typ, "DateTime64"):
			return x.Format("2006-01-02 15:04:05.000")
		}
		return x.Format(time.DateTime)
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(x), 'g', -1, 32)
	case fmt.Stringer:
		return x.String()
	}
	switch reflect.ValueOf(v).Kind() {
	case reflect.Slice, reflect.Array, reflect.Map, reflect.Pointer, reflect.Struct:
		var b bytes.Buffer
		if err := encodeInto(&b, jsonValue(v, typ)); err == nil {
			return b.String()
		}
	}
	return fmt.Sprint(v)
}

// printable keeps what others have written, such as labels and callbacks, from
// being commands to the terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, notShown) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if notShown(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// notShown is true of control characters and of those that turn the direction of text.
func notShown(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// inner strips what a type is wrapped in: what Nullable(LowCardinality(T)) holds is T.
func inner(typ string) string {
	for _, wrapper := range []string{"LowCardinality(", "Nullable("} {
		if rest, ok := strings.CutPrefix(typ, wrapper); ok {
			return inner(strings.TrimSuffix(rest, ")"))
		}
	}
	return typ
}

func isDate(typ string) bool {
	t := inner(typ)
	return t == "Date" || t == "Date32"
}

func isNumber(typ string) bool {
	t := inner(typ)
	for _, prefix := range []string{"Int", "UInt", "Float", "Decimal", "BFloat"} {
		if strings.HasPrefix(t, prefix) && !strings.HasPrefix(t, "Interval") {
			return true
		}
	}
	return false
}
