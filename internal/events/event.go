package events

import (
	"encoding/hex"
	"fmt"
	"time"
)

// Type names a kind of event and the version of its data. It is the CloudEvents
// attribute "type"; every type has a JSON Schema in schemas/events.
type Type string

// The event types. Their data is, in this order, [Submitted], [Finished],
// [Polled], [Deleted] and [Abandoned].
const (
	TypeSubmitted Type = "qunfa.mass.submitted.v1"
	TypeFinished  Type = "qunfa.mass.finished.v1"
	TypePolled    Type = "qunfa.mass.polled.v1"
	TypeDeleted   Type = "qunfa.mass.deleted.v1"
	TypeAbandoned Type = "qunfa.mass.abandoned.v1"
)

// Types lists every event type.
func Types() []Type {
	return []Type{TypeSubmitted, TypeFinished, TypePolled, TypeDeleted, TypeAbandoned}
}

// Key identifies a message. WeChat counts msg_id per account, so it means
// nothing without the appid.
type Key struct {
	AppID string
	MsgID int64
}

func (k Key) String() string { return fmt.Sprintf("%s/%d", k.AppID, k.MsgID) }

// ID identifies an occurrence: the same occurrence always has the same ID,
// however often and by whatever road it reaches us. See id.go for what is hashed.
type ID [16]byte

// String returns 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what [ID.String] wrote.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("event id %q: want 32 hexadecimal digits, have %d characters", clip(s), len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("event id %q: %w", clip(s), err)
	}
	return id, nil
}

// Header is a header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

// Record is an event as it travels through Kafka.
type Record struct {
	Key     []byte // the appid: all events of an account share a partition, in order
	Value   []byte // the event's data as JSON
	Headers []Header
	Time    time.Time // time of receipt, millisecond precision
}

// Position is a place in the log.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

func (p Position) String() string { return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset) }

// Message is a Kafka record together with its place in the log.
type Message struct {
	Record
	Position
	// HighWater is the offset after the partition's last record when this one
	// was fetched: HighWater-Offset-1 records were still to come.
	HighWater int64
}

// Event is something that happened to a message.
type Event struct {
	ID     ID
	Type   Type
	Source string // CloudEvents "source": which service observed it, e.g. "qunfa/ingest"
	Key    Key
	// Time is when it happened by the clock of whoever it happened to: WeChat's
	// CreateTime for a callback, the submission or the poll otherwise. UTC.
	Time time.Time
	Data Data

	// The rest is known only of events that were read from a log.

	// ReceivedAt is the time of the Kafka record: when we learned of it. UTC.
	ReceivedAt time.Time
	Position   Position
	// Body is the data as JSON as it was read, without the member "raw" and
	// with members that this version does not know.
	Body []byte
	// Revision is how often a later version has read the raw callback anew and
	// replaced the data; see [Revise]. 0: it is as it was when the event came.
	Revision uint32
}

// Data is the payload of an event: *[Submitted], *[Finished], *[Polled],
// *[Deleted] or *[Abandoned].
type Data interface {
	Type() Type
	// Message returns the key of the message that it happened to.
	Message() Key
	// When returns when it happened; see [Event.Time].
	When() time.Time
	// validate reports what makes the data meaningless, not what is merely unknown.
	validate() error
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
