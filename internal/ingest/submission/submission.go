package submission

import (
	"errors"
	"fmt"
	"time"

	"qunfa/internal/events"
)

// Options are what a record does not say itself.
type Options struct {
	// Source is the CloudEvents source of the events, e.g. "qunfa/ingest".
	Source string
	// Recorder is used where a record names none.
	Recorder string
	// AppID is used where a record names no account. It may be empty.
	AppID string
	// NoChase makes "chase" default to false: everything is imported history.
	NoChase bool
	// Now is the default of submitted_at and the upper limit for it.
	Now time.Time
	// Location is the time zone of a submitted_at that has none. If it is nil,
	// such a time is refused.
	Location *time.Location
	// Known reports whether an account is ours; nil takes any. The error is
	// shown to the sender.
	Known func(appid string) error
}

// Item is one record of the input.
type Item struct {
	// Index counts the records of the input from 0.
	Index int
	// Line is the line where the record begins, from 1; 0 where lines do not count.
	Line int
	// Key is the message as far as it could be read, for messages about errors.
	Key events.Key
	// Event is valid if Err is nil.
	Event events.Event
	// Err says why the record cannot be used. It never ends the input.
	Err error
}

// futureLimit is how far ahead of our clock a submission may lie. Beyond it is
// a typing error, which would keep the message pending until that day.
const futureLimit = 24 * time.Hour

var errNoAppID = errors.New("appid is missing")

// build turns the fields of one record into an event.
func (o Options) build(f *fields) (events.Event, error) {
	d := f.data
	if err := o.complete(&d, f); err != nil {
		return events.Event{}, err
	}
	if o.Known != nil {
		if err := o.Known(d.AppID); err != nil {
			return events.Event{}, err
		}
	}
	given := events.Given{SubmittedAt: f.has("submitted_at"), Chase: f.has("chase")}
	e, err := events.NewSubmitted(o.Source, d, given)
	e.ReceivedAt = o.Now
	return e, err
}

// complete fills in the defaults and checks what spans more than one field.
func (o Options) complete(d *events.Submitted, f *fields) error {
	if d.AppID == "" {
		d.AppID = o.AppID
	}
	if d.AppID == "" {
		return errNoAppID
	}
	if !f.has("msg_id") {
		return errors.New("msg_id is missing: it is in WeChat's answer to the send")
	}
	if d.Recorder == "" {
		d.Recorder = o.Recorder
	}
	if !f.has("chase") {
		d.Chase = !o.NoChase
	}
	if !f.has("submitted_at") {
		d.SubmittedAt = o.Now.UTC()
	} else if err := o.parseTime(d, f.submittedAt); err != nil {
		return err
	}
	return completeAudience(&d.Audience)
}

func (o Options) parseTime(d *events.Submitted, text string) error {
	at, err := parseTime(text, o.Location)
	if err != nil {
		return fmt.Errorf("submitted_at %q: %w", clip(text), err)
	}
	if at.After(o.Now.Add(futureLimit)) {
		return fmt.Errorf("submitted_at %s: lies in the future", at.Format(time.RFC3339))
	}
	d.SubmittedAt = at
	return nil
}

// completeAudience infers the kind where the rest leaves no choice.
func completeAudience(a *events.Audience) error {
	if a.TagID == nil {
		return nil
	}
	switch a.Kind {
	case "":
		a.Kind = events.AudienceTag
	case events.AudienceTag:
	default:
		return fmt.Errorf("tag_id is given, but the audience is %q", a.Kind)
	}
	return nil
}

// key names the message of a record as far as it was read.
func (f *fields) key(o Options) events.Key {
	k := events.Key{AppID: f.data.AppID, MsgID: f.data.MsgID}
	if k.AppID == "" {
		k.AppID = o.AppID
	}
	if events.CheckAppID(k.AppID) != nil {
		k.AppID = ""
	}
	return k
}
