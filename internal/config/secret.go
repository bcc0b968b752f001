package config

import (
	"fmt"
	"io"
	"log/slog"
)

const hidden = "<secret>"

// Secret is a value that must not be seen. However it is printed, marshalled or
// logged, it says <secret>; only [Secret.Reveal] tells.
//
// The value is behind a pointer so that not even %#v of a struct around it, or
// a debugger's idea of printing by reflection, walks into it by accident.
type Secret struct{ value *string }

// NewSecret hides s. The empty string is no secret: the zero value.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the value; the empty string if there is none.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether no secret was given.
func (s Secret) IsZero() bool { return s.value == nil }

// Equal compares two secrets, for tests and for reloading.
func (s Secret) Equal(t Secret) bool { return s.Reveal() == t.Reveal() }

// String hides the value.
func (s Secret) String() string { return hidden }

// GoString hides the value.
func (s Secret) GoString() string { return hidden }

// Format hides the value whatever the verb, %p and %x included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON hides the value.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalYAML hides the value.
func (s Secret) MarshalYAML() (any, error) { return hidden, nil }

// LogValue hides the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Reveal returns the values of several secrets, such as an account's tokens.
func Reveal(list []Secret) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.Reveal()
	}
	return out
}
