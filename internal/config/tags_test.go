package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// field is one key that is a single value of the whole configuration.
type field struct {
	path  string
	tag   reflect.StructTag
	index []int
}

// fields lists the single values below t, without those of lists.
func fields(parent string, index []int, t reflect.Type) []field {
	var out []field
	for f := range t.Fields() {
		key := f.Tag.Get("yaml")
		if key == "" {
			continue
		}
		path, at := join(parent, key), append(slices.Clone(index), f.Index...)
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[Secret]() && f.Type != reflect.TypeFor[URL]() {
			out = append(out, fields(path, at, f.Type)...)
			continue
		}
		out = append(out, field{path, f.Tag, at})
	}
	return out
}

// complains says whether the value is refused, and in the name of its key.
func complains(t *testing.T, f field, set func(reflect.Value)) bool {
	t.Helper()
	c := Default()
	set(reflect.ValueOf(c).Elem().FieldByIndex(f.index))
	err := c.Validate()
	for _, p := range problemsOf(err) {
		if p.Path == f.path {
			return true
		}
	}
	return false
}

func problemsOf(err error) []*Problem {
	if p, ok := errors.AsType[*Problem](err); ok && !isJoined(err) {
		return []*Problem{p}
	}
	var list []*Problem
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			list = append(list, problemsOf(e)...)
		}
	}
	return list
}

func isJoined(err error) bool { _, ok := err.(interface{ Unwrap() []error }); return ok }

// number reads an end of a range in the form of the field.
func number(t *testing.T, v reflect.Value, text string) int64 {
	t.Helper()
	var err error
	switch v.Interface().(type) {
	case time.Duration:
		var d time.Duration
		d, err = time.ParseDuration(text)
		v.SetInt(int64(d))
	default:
		err = setScalar(v, text)
	}
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v.Int()
}

// What the documentation says is allowed is what Validate allows.
func TestRangesAreTrue(t *testing.T) {
	tried := 0
	for _, f := range fields("", nil, reflect.TypeFor[Config]()) {
		span, ok := f.tag.Lookup("range")
		if !ok {
			continue
		}
		tried++
		low, high, ok := strings.Cut(span, "..")
		if !ok {
			t.Fatalf("%s: range %q has no ..", f.path, span)
		}
		lowest, open := strings.CutPrefix(low, ">")
		try := func(end string, step int64, refused bool) {
			t.Helper()
			shown := ""
			got := complains(t, f, func(v reflect.Value) {
				v.SetInt(number(t, v, end) + step)
				shown = fmt.Sprint(v.Interface())
			})
			if got != refused {
				t.Errorf("%s: range %s, but %s is refused: %t", f.path, span, shown, got)
			}
		}
		if open {
			try(lowest, 0, true)
			try(lowest, 1, false)
		} else {
			try(lowest, 0, false)
			try(lowest, -1, true)
		}
		if high != "" {
			try(high, 0, false)
			try(high, 1, true)
		}
	}
	if tried < 20 {
		t.Errorf("only %d ranges found", tried)
	}
}

func TestValuesAreTrue(t *testing.T) {
	tried := 0
	for _, f := range fields("", nil, reflect.TypeFor[Config]()) {
		list, ok := f.tag.Lookup("values")
		if !ok {
			continue
		}
		tried++
		for _, value := range strings.Split(list, "|") {
			if complains(t, f, func(v reflect.Value) { v.SetString(value) }) {
				t.Errorf("%s: %s is refused", f.path, value)
			}
		}
		if !complains(t, f, func(v reflect.Value) { v.SetString("other") }) {
			t.Errorf("%s: another value than %s is accepted", f.path, list)
		}
	}
	if tried < 3 {
		t.Errorf("only %d lists of values found", tried)
	}
}
