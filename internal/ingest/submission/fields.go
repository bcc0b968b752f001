package submission

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"qunfa/internal/events"
)

// Limits of text fields in bytes. They keep a record far below the size of a
// Kafka message, and are well above what WeChat itself allows.
const (
	maxName = 64  // msg_type, recorder, clientmsgid
	maxText = 512 // label, campaign
)

// fields collects one record.
type fields struct {
	data        events.Submitted
	submittedAt string // read last: it needs the options
	given       []string
}

// setters holds every field by name. A setter gets the value as text, whatever
// it was written in; empty never reaches it.
var setters = map[string]func(*fields, string) error{
	"appid":         func(f *fields, s string) error { f.data.AppID = s; return events.CheckAppID(s) },
	"msg_id":        func(f *fields, s string) error { return setID(&f.data.MsgID, s) },
	"msg_data_id":   func(f *fields, s string) error { return setCount(&f.data.MsgDataID, s) },
	"submitted_at":  func(f *fields, s string) error { f.submittedAt = s; return nil }, //nolint:unparam // one of many
	"audience":      func(f *fields, s string) error { return setKind(&f.data.Audience.Kind, s) },
	"tag_id":        func(f *fields, s string) error { return setCount(&f.data.Audience.TagID, s) },
	"audience_size": func(f *fields, s string) error { return setCount(&f.data.Audience.Size, s) },
	"msg_type":      func(f *fields, s string) error { return setText(&f.data.MsgType, s, maxName) },
	"label":         func(f *fields, s string) error { return setText(&f.data.Label, s, maxText) },
	"campaign":      func(f *fields, s string) error { return setText(&f.data.Campaign, s, maxText) },
	"clientmsgid":   func(f *fields, s string) error { return setText(&f.data.ClientMsgID, s, maxName) },
	"recorder":      func(f *fields, s string) error { return setText(&f.data.Recorder, s, maxName) },
	"chase":         func(f *fields, s string) error { return setBool(&f.data.Chase, s) },
}

// audienceSetters are the members of an audience that is a JSON object.
var audienceSetters = map[string]string{"kind": "audience", "tag_id": "tag_id", "size": "audience_size"}

// Fields lists the names a record may have, sorted.
func Fields() []string { return sortedKeys(setters) }

func (f *fields) has(name string) bool { return slices.Contains(f.given, name) }

// set stores one value under a name of setters; path is what to call it in an error.
func (f *fields) set(name, path, text string) error {
	if f.has(name) {
		return fmt.Errorf("%s is given twice", path)
	}
	if text == "" {
		return nil
	}
	f.given = append(f.given, name)
	if err := setters[name](f, text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func unknownField(name string, known []string) error {
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("unknown field %q: did you mean %q?", clip(name), near)
	}
	return fmt.Errorf("unknown field %q: known are %s", clip(name), strings.Join(known, ", "))
}

func setID(p *int64, s string) error {
	n, err := parseInt(s)
	if err == nil && n <= 0 {
		err = fmt.Errorf("%d: want a positive number", n)
	}
	*p = n
	return err
}

func setCount(p **int64, s string) error {
	n, err := parseInt(s)
	if err == nil && n < 0 {
		err = fmt.Errorf("%d: want 0 or more", n)
	}
	*p = &n
	return err
}

// parseInt reads a whole number exactly. Anything that went through a floating
// point number, such as 3.14748E+09 from a spreadsheet, has lost digits.
func parseInt(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%q is out of range", clip(s))
	}
	if f, ferr := strconv.ParseFloat(s, 64); ferr == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a whole number; a spreadsheet may have rounded it, store it as text", clip(s))
	}
	return 0, fmt.Errorf("%q is not a number", clip(s))
}

func setKind(p *string, s string) error {
	kinds := []string{events.AudienceAll, events.AudienceTag, events.AudienceOpenIDs}
	if !slices.Contains(kinds, s) {
		return fmt.Errorf("%q: want %s", clip(s), strings.Join(kinds, ", "))
	}
	*p = s
	return nil
}

func setText(p *string, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%d bytes long, at most %d are kept", len(s), most)
	}
	if !utf8.ValidString(s) {
		return errors.New("not valid UTF-8")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("holds a line break or another control character")
	}
	*p = s
	return nil
}

func setBool(p *bool, s string) error {
	switch strings.ToLower(s) {
	case "true", "1":
		*p = true
	case "false", "0":
		*p = false
	default:
		return fmt.Errorf("%q: want true or false", clip(s))
	}
	return nil
}

// parseTime reads RFC 3339, Unix seconds, or a date and time without a zone
// that loc supplies.
func parseTime(s string, loc *time.Location) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return unixSeconds(n)
	}
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return at.UTC(), nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006/1/2 15:04:05", "2006/1/2 15:04"} {
		at, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		if loc == nil {
			return time.Time{}, errors.New("has no time zone: write it like 2006-01-02T15:04:05+08:00")
		}
		return time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), loc).UTC(), nil
	}
	return time.Time{}, errors.New("want a time like 2006-01-02T15:04:05+08:00, or Unix seconds")
}

func unixSeconds(n int64) (time.Time, error) {
	if n >= events.MaxTime.Unix() && n/1000 < events.MaxTime.Unix() && n/1000 >= events.MinTime.Unix() {
		return time.Time{}, errors.New("looks like milliseconds: want seconds")
	}
	if n < events.MinTime.Unix() || n >= events.MaxTime.Unix() {
		return time.Time{}, fmt.Errorf("want Unix seconds between %d and %d", events.MinTime.Unix(), events.MaxTime.Unix())
	}
	return time.Unix(n, 0).UTC(), nil
}

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
