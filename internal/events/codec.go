package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrForeign marks records that were never meant for us: no CloudEvents, or of
// another application's type, as transaction markers and a shared topic bring.
var ErrForeign = errors.New("not an event of qunfa")

// ContentType is that of an event's data.
const ContentType = "application/json"

// Header names of the CloudEvents 1.0 Kafka protocol binding, binary content mode.
const (
	HeaderSpecVersion = "ce_specversion"
	HeaderID          = "ce_id"
	HeaderType        = "ce_type"
	HeaderSource      = "ce_source"
	HeaderSubject     = "ce_subject"
	HeaderTime        = "ce_time"
	HeaderContentType = "content-type"
)

const (
	specVersion = "1.0"
	typePrefix  = "qunfa."
)

// NewSubmitted makes an event of a submission that source (such as
// "qunfa/ingest") observed. Its id covers only the fields that the caller gave.
func NewSubmitted(source string, d Submitted, given Given) (Event, error) {
	d.SubmittedAt = precise(d.SubmittedAt)
	if err := d.validate(); err != nil {
		return Event{}, err
	}
	return newEvent(d.id(given), source, &d), nil
}

// New makes an event of data that source observed.
func New(source string, d Data) (Event, error) {
	if err := d.validate(); err != nil {
		return Event{}, err
	}
	d, id := identify(d)
	return newEvent(id, source, d), nil
}

// identify returns the data with the precision that lasts, and its id.
func identify(d Data) (Data, ID) {
	switch d := d.(type) {
	case *Submitted:
		c := *d
		c.SubmittedAt = precise(c.SubmittedAt)
		return &c, c.id(Given{SubmittedAt: true, Chase: true})
	case *Finished:
		return d, d.id()
	case *Polled:
		c := *d
		c.PolledAt = precise(c.PolledAt)
		return &c, c.id()
	case *Deleted:
		c := *d
		c.DeletedAt = precise(c.DeletedAt)
		return &c, c.id()
	case *Abandoned:
		c := *d
		c.AbandonedAt = precise(c.AbandonedAt)
		return &c, c.id()
	}
	panic(fmt.Sprintf("events: data of type %T: the interface is closed, since validate is not exported", d))
}

func newEvent(id ID, source string, d Data) Event {
	return Event{ID: id, Type: d.Type(), Source: source, Key: d.Message(), Time: precise(d.When()), Data: d}
}

// precise cuts a time to what every part of the way keeps.
func precise(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// Encode writes an event as a Kafka record. The record's time is
// e.ReceivedAt, the time of receipt, so that an event that waited somewhere
// does not look newer than it is.
func Encode(e Event) (Record, error) {
	value, err := marshal(e.Data)
	if err != nil {
		return Record{}, fmt.Errorf("encode %s %s: %w", e.Type, e.Key, err)
	}
	header := func(k, v string) Header { return Header{Key: k, Value: []byte(v)} }
	return Record{
		Key:   []byte(e.Key.AppID),
		Value: value,
		Headers: []Header{
			header(HeaderSpecVersion, specVersion),
			header(HeaderID, e.ID.String()),
			header(HeaderType, string(e.Type)),
			header(HeaderSource, e.Source),
			header(HeaderSubject, e.Key.String()),
			header(HeaderTime, e.Time.Format(time.RFC3339Nano)),
			header(HeaderContentType, ContentType),
		},
		Time: precise(e.ReceivedAt),
	}, nil
}

// Decode reads an event from the log. The error is [ErrForeign] for records of
// others; any other error means an event of ours that cannot be understood.
func Decode(m Message) (Event, error) {
	h := headers(m.Headers)
	version, ok := h.get(HeaderSpecVersion)
	t, typed := h.get(HeaderType)
	if !ok || !typed || len(t) < len(typePrefix) || t[:len(typePrefix)] != typePrefix {
		return Event{}, ErrForeign
	}
	if version != specVersion {
		return Event{}, fmt.Errorf("header %s is %q: want %q", HeaderSpecVersion, clip(version), specVersion)
	}
	idText, _ := h.get(HeaderID)
	id, err := ParseID(idText)
	if err != nil {
		return Event{}, fmt.Errorf("header %s: %w", HeaderID, err)
	}
	e, err := decode(id, Type(t), m.Value)
	if err != nil {
		return Event{}, err
	}
	if string(m.Key) != e.Key.AppID {
		return Event{}, fmt.Errorf("record key %q is not the appid %q of its data: it may be in the wrong partition", clip(string(m.Key)), e.Key.AppID)
	}
	if e.Body, err = withoutRaw(m.Value); err != nil {
		return Event{}, err
	}
	e.Source, _ = h.get(HeaderSource)
	e.ReceivedAt, e.Position = precise(m.Time), m.Position
	return e, nil
}

// Stored is an event as a database keeps it.
type Stored struct {
	ID         ID
	Type       Type
	ReceivedAt time.Time
	Position   Position
	Body       []byte // see [Event.Body]
	Revision   uint32 // see [Event.Revision]
}

// DecodeStored reads an event that was stored. The result has no Source and no raw callback.
func DecodeStored(s Stored) (Event, error) {
	e, err := decode(s.ID, s.Type, s.Body)
	if err != nil {
		return Event{}, fmt.Errorf("stored event %s: %w", s.ID, err)
	}
	e.ReceivedAt, e.Position, e.Body, e.Revision = precise(s.ReceivedAt), s.Position, s.Body, s.Revision
	return e, nil
}

func decode(id ID, t Type, value []byte) (Event, error) {
	d := newData(t)
	if d == nil {
		return Event{}, fmt.Errorf("event type %q is not known to this version", clip(string(t)))
	}
	if err := json.Unmarshal(value, d); err != nil {
		return Event{}, fmt.Errorf("data of %s: %w", t, err)
	}
	if err := d.validate(); err != nil {
		return Event{}, fmt.Errorf("data of %s: %w", t, err)
	}
	return newEvent(id, "", d), nil
}

func newData(t Type) Data {
	switch t {
	case TypeSubmitted:
		return new(Submitted)
	case TypeFinished:
		return new(Finished)
	case TypePolled:
		return new(Polled)
	case TypeDeleted:
		return new(Deleted)
	case TypeAbandoned:
		return new(Abandoned)
	}
	return nil
}

// withoutRaw drops the member "raw" from a JSON object and keeps all others,
// also those that this version does not know.
func withoutRaw(value []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if _, ok := members["raw"]; !ok {
		return value, nil
	}
	delete(members, "raw")
	return marshal(members)
}

// marshal is json.Marshal without the escapes for HTML, which would make six
// bytes of every angle bracket of a callback in XML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

type headers []Header

// get returns the first header of that name: CloudEvents forbids a second one.
func (h headers) get(name string) (string, bool) {
	for _, x := range h {
		if x.Key == name {
			return string(x.Value), true
		}
	}
	return "", false
}
