package clickhouse

import (
	"context"
	"io"
	"reflect"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Column is a column of an answer: its name, and its type as ClickHouse writes it.
type Column struct {
	Name string
	Type string
}

// Result is the answer to a query.
type Result struct {
	Columns []Column
	Rows    [][]any // a value per column, of the Go type that fits; nil is NULL
}

// Query runs any statement, with positional arguments ("?"), and returns all
// of the answer. It is for people and tools; a service uses the other methods.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (*Result, error) {
	start := db.cfg.Clock()
	r, err := query(ctx, db.conn, sql, args)
	if err = db.done(opQuery, start, err); err != nil {
		return nil, err
	}
	return r, nil
}

func query(ctx context.Context, conn driver.Conn, sql string, args []any) (*Result, error) {
	r := &Result{}
	rows, err := conn.Query(ctx, sql, args...)
	if err == io.EOF { //nolint:errorlint // bare: the statement has no answer; a lost connection's is wrapped
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types := rows.ColumnTypes()
	for _, t := range types {
		r.Columns = append(r.Columns, Column{t.Name(), t.DatabaseTypeName()})
	}
	for rows.Next() {
		row, err := scanAny(rows, types)
		if err != nil {
			return nil, err
		}
		r.Rows = append(r.Rows, row)
	}
	return r, rows.Err()
}

func scanAny(rows driver.Rows, types []driver.ColumnType) ([]any, error) {
	targets := make([]any, len(types))
	for i, t := range types {
		targets[i] = reflect.New(t.ScanType()).Interface()
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	row := make([]any, len(targets))
	for i, p := range targets {
		row[i] = plain(reflect.ValueOf(p).Elem())
	}
	return row, nil
}

// plain takes a value out of the pointer in which a Nullable column comes.
func plain(v reflect.Value) any {
	for v.Kind() == reflect.Pointer && !isBig(v) {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	return v.Interface()
}

// isBig tells pointers that are values by themselves (*big.Int of the wide
// integers) from those that stand for Nullable.
func isBig(v reflect.Value) bool {
	return !v.IsNil() && v.Type().Elem().PkgPath() == "math/big"
}
