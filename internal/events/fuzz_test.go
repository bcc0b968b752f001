package events_test

import (
	"bytes"
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	. "qunfa/internal/events"
)

// headersOf makes headers of lines "key=value": any number of them, the same
// key twice, none, or bytes that are no text.
func headersOf(lines []byte) []Header {
	var hs []Header
	for l := range bytes.Lines(lines) {
		k, v, _ := bytes.Cut(bytes.TrimSuffix(l, []byte("\n")), []byte("="))
		hs = append(hs, Header{Key: string(k), Value: v})
	}
	return hs
}

// linesOf is the inverse, for seeds.
func linesOf(hs []Header) []byte {
	var b bytes.Buffer
	for _, h := range hs {
		b.WriteString(h.Key + "=" + string(h.Value) + "\n")
	}
	return b.Bytes()
}

// FuzzHeaders: whatever headers a record of Kafka has, it is an event, foreign
// or an error; as a dead letter it keeps its bytes, and comes back as it was.
func FuzzHeaders(f *testing.F) {
	for _, e := range samples(f) {
		r, err := Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(linesOf(r.Headers), r.Key, r.Value)
		d := DeadLetter{Record: r, Reason: DeadUndecodable, Error: "why", From: "qunfa/sink", Origin: &Position{Topic: "t", Partition: 3, Offset: 9}}
		f.Add(linesOf(d.Encode().Headers), r.Key, r.Value)
	}
	f.Add([]byte("ce_type=\nce_type=qunfa.mass.finished.v1\n=\nce_id=\xff\nqunfa_dead_offset=-1\nqunfa_dead_topic="), []byte(nil), []byte("{}"))
	f.Fuzz(func(t *testing.T, lines, key, value []byte) {
		m := Message{Record: Record{Key: key, Value: value, Headers: headersOf(lines), Time: time.Unix(1, 0)}}
		if e, err := Decode(m); err == nil && (e.Key.AppID == "" || e.Data == nil) {
			t.Errorf("decoded to nothing: %+v", e)
		} else if err != nil && !utf8.ValidString(err.Error()) {
			t.Errorf("the error is no text: %q", err)
		}
		d, err := DecodeDeadLetter(m)
		if err != nil {
			if !errors.Is(err, ErrForeign) {
				t.Errorf("a record that is no dead letter is %v", err)
			}
			return
		}
		again, err := DecodeDeadLetter(Message{Record: d.Encode()})
		if err != nil {
			t.Fatal(err)
		}
		if !sameRecord(again.Record, d.Record) || again.Reason != d.Reason || again.Error != d.Error || again.From != d.From ||
			(again.Origin == nil) != (d.Origin == nil) || d.Origin != nil && *again.Origin != *d.Origin {
			t.Errorf("came back as %+v, was %+v", again, d)
		}
	})
}

func sameRecord(a, b Record) bool {
	if !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Value, b.Value) || len(a.Headers) != len(b.Headers) {
		return false
	}
	for i := range a.Headers {
		if a.Headers[i].Key != b.Headers[i].Key || !bytes.Equal(a.Headers[i].Value, b.Headers[i].Value) {
			return false
		}
	}
	return true
}
