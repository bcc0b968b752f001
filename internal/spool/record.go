package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"qunfa/internal/events"
)

// A record in the file:
//
//	magic     4  "QSR1"
//	checksum  4  CRC-32C of all that follows
//	length    4  of all that follows
//	seq       8
//	time     12  seconds since 1970, nanoseconds
//	key, value   each: 4 length + 1, or 0 for none; bytes
//	headers   4  how many; each: name and value as above
//
// Numbers are big-endian. Magic, checksum, length and sequence number allow
// records to be found in a file whose structure is lost. Lengths have one
// form only, so that equal records have equal bytes.
const (
	magic      = "QSR1"
	headBytes  = len(magic) + 4 + 4
	leastBytes = headBytes + 8 + 12 + 4 + 4 + 4
	mostBytes  = 64 << 20 // no record is larger: a length beyond is damage
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that bytes are no whole record.
var errDamaged = errors.New("not a whole record")

// encodeRecord writes a record with its sequence number.
func encodeRecord(seq uint64, r events.Record) []byte {
	b := make([]byte, headBytes, encodedSize(r))
	copy(b, magic)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.Time.Nanosecond()))
	b = appendBytes(b, r.Key)
	b = appendBytes(b, r.Value)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	for _, h := range r.Headers {
		b = appendBytes(b, []byte(h.Key))
		b = appendBytes(b, h.Value)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-headBytes))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

func encodedSize(r events.Record) int {
	n := leastBytes + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 8 + len(h.Key) + len(h.Value)
	}
	return n
}

// appendBytes keeps nil apart from empty: to Kafka a record without a value is
// another thing than one with an empty value.
func appendBytes(b, s []byte) []byte {
	if s == nil {
		return binary.BigEndian.AppendUint32(b, 0)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))+1), s...)
}

// decodeRecord reads what encodeRecord wrote, and nothing else. The record does
// not share memory with b.
func decodeRecord(b []byte) (seq uint64, r events.Record, err error) {
	n, ok := wholeRecord(b)
	if !ok || n != len(b) {
		return 0, events.Record{}, errDamaged
	}
	return decodeBody(bytes.Clone(b[headBytes:]))
}

// wholeRecord tells whether b begins with a record, by its checksum, and how long it is.
func wholeRecord(b []byte) (n int, ok bool) {
	n, ok = claimedSize(b)
	if !ok || n > len(b) {
		return 0, false
	}
	return n, crc32.Checksum(b[8:n], castagnoli) == checksum(b)
}

// claimedSize is how long the record is that b seems to begin with; b may be its head alone.
func claimedSize(b []byte) (n int, ok bool) {
	if len(b) < headBytes || string(b[:len(magic)]) != magic {
		return 0, false
	}
	length := binary.BigEndian.Uint32(b[8:])
	n = headBytes + int(length)
	return n, n >= leastBytes && length <= mostBytes
}

// checksum is what stands in a record's head.
func checksum(b []byte) uint32 { return binary.BigEndian.Uint32(b[4:]) }

func decodeBody(b []byte) (seq uint64, r events.Record, err error) {
	d := reader{rest: b}
	seq = d.uint64()
	sec, nsec := int64(d.uint64()), d.uint32()
	r.Time = time.Unix(sec, int64(nsec)).UTC()
	r.Key, r.Value = d.bytes(), d.bytes()
	count := d.uint32()
	for i := uint32(0); i < count && !d.bad; i++ {
		key := d.bytes()
		if key == nil {
			d.bad = true // a name is never absent
		}
		r.Headers = append(r.Headers, events.Header{Key: string(key), Value: d.bytes()})
	}
	if d.bad || len(d.rest) > 0 || nsec >= 1e9 {
		return 0, events.Record{}, errDamaged
	}
	return seq, r, nil
}

// reader takes numbers and bytes off a slice, until something is missing.
type reader struct {
	rest []byte
	bad  bool
}

func (d *reader) take(n int) []byte {
	if d.bad || n > len(d.rest) {
		d.bad = true
		return make([]byte, min(n, 8))
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *reader) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *reader) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }

func (d *reader) bytes() []byte {
	n := d.uint32()
	if n == 0 || d.bad {
		return nil
	}
	return d.take(int(n) - 1)
}
