package spool

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qunfa/internal/events"
)

// anyRecord draws records with everything that Kafka can tell apart: nil and
// empty, names twice, times far away.
func anyRecord() *rapid.Generator[events.Record] {
	some := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 300))
	return rapid.Custom(func(t *rapid.T) events.Record {
		r := events.Record{Key: some.Draw(t, "key"), Value: some.Draw(t, "value")}
		if !rapid.Bool().Draw(t, "no time") {
			r.Time = time.Unix(rapid.Int64Range(-1<<33, 1<<33).Draw(t, "sec"), rapid.Int64Range(0, 1e9-1).Draw(t, "nsec")).UTC()
		}
		for range rapid.IntRange(0, 4).Draw(t, "headers") {
			r.Headers = append(r.Headers, events.Header{Key: rapid.StringN(0, 10, -1).Draw(t, "name"), Value: some.Draw(t, "header")})
		}
		return r
	})
}

func TestRecordComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, seq := anyRecord().Draw(t, "record"), rapid.Uint64().Draw(t, "seq")
		b := encodeRecord(seq, r)
		if len(b) != encodedSize(r) {
			t.Fatalf("%d bytes, counted as %d", len(b), encodedSize(r))
		}
		gotSeq, got, err := decodeRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got); d != "" || gotSeq != seq {
			t.Fatalf("record %d, want %d (-want +got):\n%s", gotSeq, seq, d)
		}
	})
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	b := encodeRecord(7, record("wx1", "the value"))
	for i := range b {
		for bit := range 8 {
			spoilt := bytes.Clone(b)
			spoilt[i] ^= 1 << bit
			if _, _, err := decodeRecord(spoilt); err == nil {
				t.Errorf("bit %d of byte %d was flipped, and nobody noticed", bit, i)
			}
		}
	}
	for n := range b {
		if _, _, err := decodeRecord(b[:n]); err == nil {
			t.Errorf("%d of %d bytes are a record", n, len(b))
		}
	}
}

// FuzzDecodeRecord: whatever the bytes are, decoding does not panic, takes no
// more memory than they do, and what it accepts encodes to the same bytes. The
// part behind the checksum is tried by itself, since no fuzzer finds a checksum.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(encodeRecord(1, record("wx1", "value")))
	f.Add(encodeRecord(1<<63, events.Record{}))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if seq, r, err := decodeRecord(b); err == nil && !bytes.Equal(encodeRecord(seq, r), b) {
			t.Errorf("%x decodes to %+v, which encodes to %x", b, r, encodeRecord(seq, r))
		}
		body := b[min(len(b), headBytes):]
		seq, r, err := decodeBody(bytes.Clone(body))
		if err != nil {
			return
		}
		if again := encodeRecord(seq, r); !bytes.Equal(again[headBytes:], body) {
			t.Errorf("%x decodes to %+v, which encodes to %x", body, r, again[headBytes:])
		}
	})
}
