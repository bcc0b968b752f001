package config

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// textValue is a field that reads itself. Its errors say what is wanted and
// never quote what was there.
type textValue interface{ setText(string) error }

// Size is a number of bytes, written as "1048576", "64KiB" or "16MiB".
type Size int64

var sizeUnits = []struct {
	suffix string
	shift  uint
}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}}

var errSize = errors.New("want a size such as 64KiB or 16MiB")

func (s *Size) setText(text string) error {
	shift := uint(0)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, shift = strings.TrimSpace(rest), u.shift
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return errSize
	}
	*s = Size(n << shift)
	return nil
}

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(s>>u.shift), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// URL is an http or https URL. Its password and the values of its query may be
// secret: it prints without them, and [URL.Raw] is the URL to use.
type URL struct{ raw string }

var (
	errURL     = errors.New("want an absolute URL that begins with http:// or https://")
	errURLPart = errors.New("a URL must not contain a fragment (#…) or spaces")
)

func (u *URL) setText(text string) error {
	p, err := url.Parse(text)
	switch {
	case err != nil, p.Scheme != "http" && p.Scheme != "https", p.Hostname() == "", p.Opaque != "":
		return errURL
	case strings.Contains(text, "#"), strings.ContainsAny(text, " \t\r\n"):
		return errURLPart
	}
	u.raw = text
	return nil
}

// ParseURL checks s. The error does not quote it.
func ParseURL(s string) (URL, error) {
	var u URL
	err := u.setText(s)
	return u, err
}

// MustURL is [ParseURL] of a constant.
func MustURL(s string) URL {
	u, err := ParseURL(s)
	if err != nil {
		panic("config: bad constant URL: " + err.Error())
	}
	return u
}

// Raw is the whole URL.
func (u URL) Raw() string { return u.raw }

// IsZero reports whether no URL was given.
func (u URL) IsZero() bool { return u.raw == "" }

// Equal compares two URLs as they are written.
func (u URL) Equal(v URL) bool { return u == v }

// String is the URL without its password and without the values of its query.
func (u URL) String() string {
	p, err := url.Parse(u.raw)
	if err != nil || u.raw == "" {
		return ""
	}
	if p.User != nil {
		p.User = url.User("…")
	}
	if p.RawQuery == "" {
		return unescapeDots(p.String())
	}
	p.RawQuery = ""
	return unescapeDots(p.String()) + "?…"
}

// unescapeDots undoes the escaping of our own mark in a user name.
func unescapeDots(s string) string { return strings.Replace(s, "%E2%80%A6@", "…@", 1) }

// GoString hides what String hides.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// MarshalText hides what String hides.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// ParseDuration is time.ParseDuration, whose errors quote their input, with an
// error that says what is wanted instead; and it takes days, of 24 hours each.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("want a duration such as 500ms, 45m, 24h or 400d")
	}
	return d, nil
}

// formatDuration writes 45m rather than 45m0s.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 10*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parseInt(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 10, bits)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("want a whole number of at most %d bits", bits)
	}
	if err != nil {
		return 0, errors.New("want a whole number")
	}
	return n, nil
}
