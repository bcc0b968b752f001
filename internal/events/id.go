package events

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strconv"
	"time"
)

// An event's id is the first half of the SHA-256 of its type and of a fixed
// list of its fields, each written as length, name, length, value; a field that
// is absent is not written, so absent is not 0.
//
// The lists below are for ever: a field added to one of them would give
// occurrences that are already stored a second id, and they would count twice.
// Golden tests hold them. Nothing that differs between two deliveries of the
// same push may be hashed, so never the bytes: WeChat encrypts each anew.

// Given says which of the fields that have a default the caller stated himself.
// Defaults are not hashed: recorded again tomorrow, "now" would be another time
// but is the same submission.
type Given struct {
	SubmittedAt bool
	Chase       bool
}

func (d *Submitted) id(given Given) ID {
	f := newFields(TypeSubmitted)
	f.text("appid", d.AppID)
	f.number("msg_id", d.MsgID)
	f.text("recorder", d.Recorder)
	if given.SubmittedAt {
		f.time("submitted_at", d.SubmittedAt)
	}
	if given.Chase {
		f.text("chase", strconv.FormatBool(d.Chase))
	}
	f.optional("msg_data_id", d.MsgDataID)
	f.nonEmpty("audience.kind", d.Audience.Kind)
	f.optional("audience.tag_id", d.Audience.TagID)
	f.optional("audience.size", d.Audience.Size)
	f.nonEmpty("msg_type", d.MsgType)
	f.nonEmpty("label", d.Label)
	f.nonEmpty("campaign", d.Campaign)
	f.nonEmpty("clientmsgid", d.ClientMsgID)
	return f.sum()
}

func (d *Finished) id() ID {
	f := newFields(TypeFinished)
	f.text("appid", d.AppID)
	f.number("msg_id", d.MsgID)
	f.number("create_time", d.CreateTime)
	f.text("status", d.Status)
	f.optional("total_count", d.TotalCount)
	f.optional("filter_count", d.FilterCount)
	f.optional("sent_count", d.SentCount)
	f.optional("error_count", d.ErrorCount)
	return f.sum()
}

func (d *Polled) id() ID {
	f := newFields(TypePolled)
	f.text("appid", d.AppID)
	f.number("msg_id", d.MsgID)
	f.time("polled_at", d.PolledAt)
	f.text("instance", d.Instance)
	return f.sum()
}

func (d *Deleted) id() ID {
	f := newFields(TypeDeleted)
	f.text("appid", d.AppID)
	f.number("msg_id", d.MsgID)
	f.number("article_idx", d.ArticleIdx)
	f.time("deleted_at", d.DeletedAt)
	return f.sum()
}

func (d *Abandoned) id() ID {
	f := newFields(TypeAbandoned)
	f.text("appid", d.AppID)
	f.number("msg_id", d.MsgID)
	f.time("abandoned_at", d.AbandonedAt)
	f.text("instance", d.Instance)
	return f.sum()
}

// fields hashes named values unambiguously.
type fields struct{ h hash.Hash }

func newFields(t Type) fields {
	f := fields{sha256.New()}
	f.text("type", string(t))
	return f
}

func (f fields) text(name, value string) {
	var b []byte
	for _, s := range []string{name, value} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	f.h.Write(b) // a hash never fails
}

func (f fields) number(name string, n int64) { f.text(name, strconv.FormatInt(n, 10)) }

// time has millisecond precision, which is what Kafka and ClickHouse keep.
func (f fields) time(name string, t time.Time) { f.number(name, t.UnixMilli()) }

func (f fields) optional(name string, n *int64) {
	if n != nil {
		f.number(name, *n)
	}
}

func (f fields) nonEmpty(name, value string) {
	if value != "" {
		f.text(name, value)
	}
}

func (f fields) sum() ID { return ID(f.h.Sum(nil)[:len(ID{})]) }
