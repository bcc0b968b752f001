package events

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headers that a dead letter carries in addition to its own.
const (
	deadPrefix          = "qunfa_dead_"
	HeaderDeadReason    = deadPrefix + "reason"    // one of the Dead constants
	HeaderDeadError     = deadPrefix + "error"     // in words
	HeaderDeadFrom      = deadPrefix + "from"      // which service set it aside
	HeaderDeadTopic     = deadPrefix + "topic"     // where it was found; absent if it never was in the log
	HeaderDeadPartition = deadPrefix + "partition" //
	HeaderDeadOffset    = deadPrefix + "offset"    //
)

// Reasons for dead letters, a closed set.
const (
	DeadUndecodable  = "undecodable"  // a record of ours that is no event
	DeadUninsertable = "uninsertable" // an event that the database refuses
	DeadUnparsable   = "unparsable"   // a genuine callback that cannot be read
)

// DeadReasons lists every reason.
func DeadReasons() []string { return []string{DeadUndecodable, DeadUninsertable, DeadUnparsable} }

// DeadLetter is a record that could not be used, and why.
type DeadLetter struct {
	Record          // as it was, without the headers above
	Reason   string // one of the Dead constants
	Error    string // in words
	From     string // which service set it aside, as an event's source
	Origin   *Position
	Position Position // in the dead-letter topic, once it is there
}

// Encode writes a dead letter as a record: key, value and headers stay as they
// were, so that nothing is lost and a replay can send the very same record.
func (d DeadLetter) Encode() Record {
	r := d.Record
	r.Headers = slices.Clone(r.Headers)
	add := func(k, v string) { r.Headers = append(r.Headers, Header{Key: k, Value: []byte(v)}) }
	add(HeaderDeadReason, d.Reason)
	add(HeaderDeadError, d.Error)
	add(HeaderDeadFrom, d.From)
	if d.Origin != nil {
		add(HeaderDeadTopic, d.Origin.Topic)
		add(HeaderDeadPartition, strconv.FormatInt(int64(d.Origin.Partition), 10))
		add(HeaderDeadOffset, strconv.FormatInt(d.Origin.Offset, 10))
	}
	return r
}

// DecodeDeadLetter reads a record of the dead-letter topic. A record that died
// twice tells of its last death.
func DecodeDeadLetter(m Message) (DeadLetter, error) {
	d := DeadLetter{Record: m.Record, Position: m.Position}
	d.Headers = nil
	found := map[string]string{}
	for _, h := range m.Headers {
		if strings.HasPrefix(h.Key, deadPrefix) {
			found[h.Key] = string(h.Value)
			continue
		}
		d.Headers = append(d.Headers, h)
	}
	d.Reason, d.Error, d.From = found[HeaderDeadReason], found[HeaderDeadError], found[HeaderDeadFrom]
	if d.Reason == "" {
		return DeadLetter{}, fmt.Errorf("record %s: no header %s: %w", m.Position, HeaderDeadReason, ErrForeign)
	}
	if topic, ok := found[HeaderDeadTopic]; ok {
		p, err1 := strconv.ParseInt(found[HeaderDeadPartition], 10, 32)
		o, err2 := strconv.ParseInt(found[HeaderDeadOffset], 10, 64)
		if err1 == nil && err2 == nil {
			d.Origin = &Position{Topic: topic, Partition: int32(p), Offset: o}
		}
	}
	if d.Time.IsZero() {
		d.Time = time.Unix(0, 0)
	}
	return d, nil
}
