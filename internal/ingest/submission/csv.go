package submission

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"
)

// ParseCSV reads comma-separated values in UTF-8 with a header row of field
// names, with or without a byte order mark. The error of the sequence is not
// nil at most once, at its end.
func ParseCSV(r io.Reader, o Options) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		table, err := openTable(r)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for index := 0; ; index++ {
			it, err := table.next(index, o)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

type table struct {
	csv   *csv.Reader
	limit *recordLimit
	names []string
}

func openTable(r io.Reader) (*table, error) {
	limit := &recordLimit{r: skipBOM(r)}
	t := &table{csv: csv.NewReader(limit), limit: limit}
	names, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("no header row")
	}
	if err != nil {
		return nil, fmt.Errorf("header row: %w", err)
	}
	for _, name := range names {
		name = strings.TrimSpace(name)
		if err := checkColumn(name, t.names); err != nil {
			return nil, fmt.Errorf("header row: %w", err)
		}
		t.names = append(t.names, name)
	}
	return t, nil
}

func checkColumn(name string, before []string) error {
	if !utf8.ValidString(name) {
		return errors.New("not valid UTF-8: save the file as CSV UTF-8")
	}
	if _, ok := setters[name]; !ok {
		return unknownField(name, Fields())
	}
	for _, b := range before {
		if b == name {
			return fmt.Errorf("column %q stands there twice", name)
		}
	}
	return nil
}

// next reads one record. Its error means that the rest cannot be read.
func (t *table) next(index int, o Options) (Item, error) {
	t.limit.used = 0
	row, err := t.csv.Read()
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad): // the reader goes on after it
		return Item{Index: index, Line: bad.StartLine, Err: bad.Err}, nil
	case err != nil:
		return Item{}, err
	}
	line, _ := t.csv.FieldPos(0)
	it := Item{Index: index, Line: line}
	f, err := t.fields(row)
	if err == nil {
		it.Event, err = o.build(f)
	}
	it.Key, it.Err = f.key(o), err
	return it, nil
}

func (t *table) fields(row []string) (*fields, error) {
	f := &fields{}
	var first error
	for i, cell := range row {
		if err := f.set(t.names[i], t.names[i], strings.TrimSpace(cell)); err != nil && first == nil {
			first = err
		}
	}
	return f, first
}

// recordLimit fails when one record reads on and on: a quote that is never
// closed would otherwise take the whole file into memory.
type recordLimit struct {
	r    io.Reader
	used int
}

func (l *recordLimit) Read(p []byte) (int, error) {
	if l.used > maxRecord {
		return 0, fmt.Errorf("a record is longer than %d bytes: is a quote not closed?", maxRecord)
	}
	n, err := l.r.Read(p)
	l.used += n
	return n, err
}
