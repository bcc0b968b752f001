package ingest

import (
	"time"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// Headers of a dead letter that ingest writes, beside those of
// [events.DeadLetter]. With them its body can be read again, by a version that
// understands it and without keys.
const (
	HeaderCallbackMode   = "qunfa_callback_mode"   // plain, compatible or safe
	HeaderCallbackFormat = "qunfa_callback_format" // xml or json
)

// deadLetter keeps a push that cannot be understood: its key is the appid, its
// value the decrypted body byte for byte, its time that of receipt.
func deadLetter(source, appid string, p wechat.Push, reason error, received time.Time) events.Record {
	header := func(k, v string) events.Header { return events.Header{Key: k, Value: []byte(v)} }
	contentType := "text/xml"
	if p.Format == wechat.FormatJSON {
		contentType = "application/json"
	}
	return events.DeadLetter{
		Record: events.Record{
			Key:   []byte(appid),
			Value: p.Body,
			Headers: []events.Header{
				header(HeaderCallbackMode, p.Mode),
				header(HeaderCallbackFormat, p.Format),
				header(events.HeaderContentType, contentType),
			},
			Time: received.UTC().Truncate(time.Millisecond),
		},
		Reason: events.DeadUnparsable,
		Error:  reason.Error(),
		From:   source,
	}.Encode()
}
