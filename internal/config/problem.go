package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What can be wrong, for errors.Is.
var (
	ErrSyntax       = errors.New("not valid YAML")
	ErrUnknownKey   = errors.New("unknown key")
	ErrDuplicateKey = errors.New("key given twice")
	ErrType         = errors.New("value of the wrong kind")
	ErrSecret       = errors.New("secret that cannot be read")
	ErrEnv          = errors.New("environment variable that cannot be read")
	ErrMissing      = errors.New("value missing")
	ErrInvalid      = errors.New("value not usable")
	ErrDuplicate    = errors.New("appid given twice")
	ErrFile         = errors.New("file that cannot be read")
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Kind    error  // one of the Err values of this package
	Path    string // accounts[2].aes_keys[0]
	Message string // what is wrong and what is wanted; never the value
	Place   Place
}

// Place is where in a file something stands. The zero value means that it
// stands in none.
type Place struct {
	File         string
	Line, Column int    // from 1; 0 if not known
	Excerpt      string // the line without anything secret, and a mark below it
}

func (p Place) String() string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is the problem on one line, followed by the excerpt if there is one.
func (p *Problem) Error() string {
	s := joinNonEmpty(": ", p.Place.String(), p.Path, p.Message)
	if p.Place.Excerpt != "" {
		s += "\n" + p.Place.Excerpt
	}
	return s
}

// Unwrap makes errors.Is find the kind.
func (p *Problem) Unwrap() error { return p.Kind }

// Warning is something that works but should be looked at.
type Warning struct {
	Path, Message string
	Place         Place
}

func (w Warning) String() string {
	return joinNonEmpty(": ", w.Place.String(), w.Path, w.Message)
}

func joinNonEmpty(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}

// problems collects everything that is wrong.
type problems struct{ list []*Problem }

func (ps *problems) add(p *Problem) { ps.list = append(ps.list, p) }

// err joins the problems in the order of their places.
func (ps *problems) err() error {
	slices.SortStableFunc(ps.list, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line))
	})
	var errs []error
	for _, p := range ps.list {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}
