package ingest

import (
	"errors"
	"fmt"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// Reread makes the event out of a callback that was set aside as unparsable, if
// this version can read it. The event is the one that ingest would have written
// then: its id, and the time of its receipt, are the same. The callback was
// authenticated and decrypted before it was set aside, so no keys are needed.
func Reread(d events.DeadLetter) (events.Record, error) {
	if d.Reason != events.DeadUnparsable {
		return events.Record{}, fmt.Errorf("a dead letter of reason %s is no callback", d.Reason)
	}
	p := wechat.Push{Body: d.Value}
	for _, h := range d.Headers {
		switch h.Key {
		case HeaderCallbackMode:
			p.Mode = string(h.Value)
		case HeaderCallbackFormat:
			p.Format = string(h.Value)
		}
	}
	if p.Format != wechat.FormatXML && p.Format != wechat.FormatJSON {
		return events.Record{}, fmt.Errorf("header %s is %q: want %s or %s", HeaderCallbackFormat, p.Format, wechat.FormatXML, wechat.FormatJSON)
	}
	head, err := wechat.ParsePush(p.Format, p.Body)
	if err == nil && !head.IsMassSendJobFinish() {
		return events.Record{}, errors.New("the callback is not about the end of a mass send")
	}
	m, err := wechat.ParseMassSendJobFinish(p.Format, p.Body)
	if err != nil {
		return events.Record{}, err
	}
	e, err := events.New(d.From, finished(string(d.Key), p, m))
	if err != nil {
		return events.Record{}, err
	}
	e.ReceivedAt = d.Time
	return events.Encode(e)
}
