package submission

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"
)

// maxRecord is the most bytes that one JSON line, or one CSV record, may have.
const maxRecord = 64 << 10

var bom = []byte("\xef\xbb\xbf")

// ParseJSON reads a stream of JSON values: objects, arrays of objects, or
// {"submissions": [...]}, in any number. The error of the sequence is not nil
// at most once, at its end: what follows cannot be read.
//
// Memory holds one top-level value: an array is read whole, so that half an
// array never becomes events.
func ParseJSON(r io.Reader, o Options) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		dec := json.NewDecoder(skipBOM(r))
		for next := 0; ; {
			var value json.RawMessage
			err := dec.Decode(&value)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Item{}, fmt.Errorf("record %d: not JSON: %w", next, err))
				return
			}
			records, err := unwrap(value)
			if err != nil {
				yield(Item{}, fmt.Errorf("record %d: %w", next, err))
				return
			}
			for _, raw := range records {
				if !yield(o.jsonItem(next, 0, raw), nil) {
					return
				}
				next++
			}
		}
	}
}

// ParseLines reads JSON lines. A line that is not JSON costs only itself. The
// error of the sequence is not nil at most once, at its end.
func ParseLines(r io.Reader, o Options) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		lines := bufio.NewScanner(skipBOM(r))
		lines.Buffer(make([]byte, 0, 4096), maxRecord)
		next, line := 0, 0
		for lines.Scan() {
			line++
			raw := bytes.TrimSpace(lines.Bytes())
			if len(raw) == 0 {
				continue
			}
			if !yield(o.jsonItem(next, line, raw), nil) {
				return
			}
			next++
		}
		if err := lines.Err(); err != nil {
			yield(Item{}, fmt.Errorf("line %d: %w", line+1, err))
		}
	}
}

func skipBOM(r io.Reader) io.Reader {
	br := bufio.NewReader(r)
	if head, err := br.Peek(len(bom)); err == nil && bytes.Equal(head, bom) {
		_, _ = br.Discard(len(bom))
	}
	return br
}

// unwrap splits a top-level value into records.
func unwrap(value json.RawMessage) ([]json.RawMessage, error) {
	switch value[0] {
	case '[':
		return array(value)
	case '{':
		var list json.RawMessage
		members := 0
		err := eachMember(value, func(name string, v json.RawMessage) error {
			members++
			if name == "submissions" {
				list = v
			}
			return nil
		})
		switch {
		case err != nil || list == nil:
			return []json.RawMessage{value}, nil
		case members > 1:
			return nil, errors.New(`"submissions" must be the only member of its object`)
		case list[0] != '[':
			return nil, errors.New(`"submissions" must be an array`)
		}
		return array(list)
	}
	return nil, errors.New("want an object or an array of objects")
}

func array(value json.RawMessage) ([]json.RawMessage, error) {
	var records []json.RawMessage
	err := json.Unmarshal(value, &records)
	return records, err
}

func (o Options) jsonItem(index, line int, raw []byte) Item {
	f, err := parseObject(raw)
	it := Item{Index: index, Line: line}
	if err == nil {
		it.Event, err = o.build(f)
	}
	it.Key, it.Err = f.key(o), err
	return it
}

func parseObject(raw []byte) (*fields, error) {
	f := &fields{}
	if !utf8.Valid(raw) {
		return f, errors.New("not valid UTF-8")
	}
	var first error
	err := eachMember(raw, func(name string, v json.RawMessage) error {
		// The rest is read all the same, so that the error can name the message.
		if err := f.setJSON(name, v); err != nil && first == nil {
			first = err
		}
		return nil
	})
	return f, errors.Join(err, first)
}

func (f *fields) setJSON(name string, v json.RawMessage) error {
	if _, ok := setters[name]; !ok {
		return unknownField(name, Fields())
	}
	if name == "audience" && v[0] == '{' {
		return f.setAudience(v)
	}
	text, err := scalar(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.set(name, name, text)
}

func (f *fields) setAudience(v json.RawMessage) error {
	return eachMember(v, func(member string, v json.RawMessage) error {
		path := "audience." + member
		name, ok := audienceSetters[member]
		if !ok {
			return fmt.Errorf("audience: %w", unknownField(member, sortedKeys(audienceSetters)))
		}
		text, err := scalar(v)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return f.set(name, path, text)
	})
}

// eachMember calls fn for the members of a JSON object in their order. Unlike a
// map it shows a name that is given twice.
func eachMember(raw []byte, fn func(name string, v json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	start, err := dec.Token()
	if err != nil {
		return notJSON(err)
	}
	if start != json.Delim('{') {
		return errors.New("want an object")
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return notJSON(err)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return notJSON(err)
		}
		if err := fn(name.(string), v); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return notJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows the object")
	}
	return nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not JSON: %w", err)
}

// scalar returns a string, number or boolean as text, and null as "".
func scalar(v json.RawMessage) (string, error) {
	switch v[0] {
	case '{', '[':
		return "", errors.New("want a single value")
	case '"':
		var s string
		err := json.Unmarshal(v, &s)
		return s, err
	case 'n':
		return "", nil
	}
	return string(v), nil
}
