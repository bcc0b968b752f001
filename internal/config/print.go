package config

import (
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/goccy/go-yaml"
)

// Print writes the whole effective configuration as YAML, defaults included.
// Secrets print as <secret>, or "" where none is given.
func (c *Config) Print(w io.Writer) error {
	out, err := yaml.MarshalWithOptions(tree(reflect.ValueOf(c).Elem()), yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	_, err = w.Write(out)
	return err
}

// tree turns a value into what the YAML library writes in our order and forms.
func tree(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case Secret:
		if x.IsZero() {
			return ""
		}
		return hidden
	case Size:
		if x == 0 {
			return 0 // not "0", which would need quotes
		}
		return x.String()
	case time.Duration:
		return formatDuration(x)
	case fmt.Stringer:
		return x.String()
	}
	switch v.Kind() {
	case reflect.Struct:
		return structTree(v)
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = tree(v.Index(i))
		}
		return list
	default:
		return v.Interface()
	}
}

func structTree(v reflect.Value) yaml.MapSlice {
	var m yaml.MapSlice
	for f := range v.Type().Fields() {
		if key := f.Tag.Get("yaml"); key != "" {
			m = append(m, yaml.MapItem{Key: key, Value: tree(v.FieldByIndex(f.Index))})
		}
	}
	return m
}
