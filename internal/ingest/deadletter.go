package ingest

import (
	"time"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// Headers of a dead letter that ingest writes. Its key is the appid, its value
// the decrypted body, byte for byte, and its time that of receipt: with them
// the push can be read again by a version that understands it, without keys.
const (
	HeaderDeadReason = "qunfa_reason"      // in words
	HeaderDeadSource = "qunfa_source"      // the service that gave up, e.g. qunfa/ingest
	HeaderDeadAppID  = "qunfa_appid"       // whose callback URL it came to
	HeaderDeadMode   = "qunfa_mode"        // plain, compatible or safe
	HeaderDeadFormat = "qunfa_format"      // xml or json
	HeaderDeadTime   = "qunfa_received_at" // RFC 3339
)

func deadLetter(source, appid string, p wechat.Push, reason error, received time.Time) events.Record {
	header := func(k, v string) events.Header { return events.Header{Key: k, Value: []byte(v)} }
	contentType := "text/xml"
	if p.Format == wechat.FormatJSON {
		contentType = "application/json"
	}
	return events.Record{
		Key:   []byte(appid),
		Value: p.Body,
		Headers: []events.Header{
			header(HeaderDeadReason, reason.Error()),
			header(HeaderDeadSource, source),
			header(HeaderDeadAppID, appid),
			header(HeaderDeadMode, p.Mode),
			header(HeaderDeadFormat, p.Format),
			header(HeaderDeadTime, received.UTC().Format(time.RFC3339Nano)),
			header(events.HeaderContentType, contentType),
		},
		Time: received.UTC().Truncate(time.Millisecond),
	}
}
