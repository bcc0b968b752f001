package main

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
)

// sample has a value of every kind that is written in its own way.
func sample() *clickhouse.Result {
	zone := time.FixedZone("CST", 8*3600)
	at := time.Date(2026, 3, 1, 8, 0, 0, 123_000_000, zone)
	n := int64(12)
	return &clickhouse.Result{
		Columns: []clickhouse.Column{
			{Name: "day", Type: "Date"}, {Name: "account", Type: "LowCardinality(String)"}, {Name: "sent", Type: "Nullable(Int64)"},
			{Name: "share", Type: "Nullable(Float64)"}, {Name: "at", Type: "Nullable(DateTime64(3, 'Asia/Shanghai'))"}, {Name: "received", Type: "Bool"},
			{Name: "articles", Type: "Array(Tuple(article_idx Int64, url String))"}, {Name: "bytes", Type: "Array(UInt8)"}, {Name: "wide", Type: "Int128"},
		},
		Rows: [][]any{
			{at, "示例账号", int64(1000), 0.25, at, true, []map[string]any{{"article_idx": int64(1), "url": "http://mp.weixin.qq.com/s/a?b&c"}}, []byte{1, 2}, big.NewInt(7)},
			{at, "quote \" comma , <b>", nil, math.NaN(), nil, false, []map[string]any{}, []byte{}, big.NewInt(0)},
			{at, "line\nbreak \x1b[31mred \u202eturned", &n, nil, at, false, nil, nil, nil},
		},
	}
}

func TestPrintRows(t *testing.T) {
	for _, format := range []string{formatTable, formatVertical, formatJSON, formatCSV} {
		g, out := testGlobals(t, format)
		if err := g.printRows(sample()); err != nil {
			t.Fatal(err)
		}
		golden(t, "rows."+format, out.String())
		if strings.Contains(out.String(), "\x1b") && format != formatCSV {
			t.Errorf("%s lets a command to the terminal through", format)
		}
	}
}

// Auto is CSV where there is no terminal: other programs read it.
func TestAutoFormat(t *testing.T) {
	g, out := testGlobals(t, formatAuto)
	g.BOM = true
	if err := g.printRows(&clickhouse.Result{Columns: []clickhouse.Column{{Name: "n", Type: "Int8"}}, Rows: [][]any{{int8(1)}, {nil}}}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\ufeffn\n1\n\"\"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSONRowsAreJSON(t *testing.T) {
	for name, r := range map[string]*clickhouse.Result{"sample": sample(), "no rows": {Columns: sample().Columns}, "nothing": {}} {
		g, out := testGlobals(t, formatJSON)
		if err := g.printRows(r); err != nil {
			t.Fatal(err)
		}
		var rows []map[string]any
		if err := json.Unmarshal(out.Bytes(), &rows); err != nil || len(rows) != len(r.Rows) {
			t.Errorf("%s: %d rows, %v in\n%s", name, len(rows), err, out)
		}
	}
}

func TestNumbersAreRightAligned(t *testing.T) {
	for typ, want := range map[string]bool{
		"Int64": true, "Nullable(UInt8)": true, "LowCardinality(Nullable(Float64))": true, "Decimal(9, 2)": true,
		"String": false, "DateTime('UTC')": false, "IntervalDay": false, "Array(Int64)": false, "": false,
	} {
		if got := isNumber(typ); got != want {
			t.Errorf("isNumber(%q) = %v, want %v", typ, got, want)
		}
	}
}
