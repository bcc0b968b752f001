package sink

import (
	"context"
	"errors"

	"qunfa/internal/events"
)

// ErrLost is returned by a [Session] whose partitions belong to somebody else
// now: what is in hand is dropped, its new owner does it again.
var ErrLost = errors.New("the partitions are no longer ours")

// Beginning, as an offset, is the first record that a partition still has.
const Beginning int64 = -1

// Session is the time during which a set of partitions is ours.
type Session interface {
	// Owned returns the committed offset of each partition that is ours, or
	// [Beginning] if nothing was committed: where to go on reading.
	Owned() map[int32]int64
	// Begin starts reading at these offsets.
	Begin(next map[int32]int64) error
	// Poll waits for at least one record and returns what is there, up to the limits.
	Poll(ctx context.Context, maxRecords, maxBytes int) (Batch, error)
	// Commit says that all records before these offsets are done. It may go
	// back, to where Begin began.
	Commit(ctx context.Context, next map[int32]int64) error
}

// Batch is what a poll brought.
type Batch struct {
	Messages []events.Message
	// Trimmed are ranges that were gone from the topic before they could be read.
	Trimmed []Range
}

// Range is a run of offsets of a partition: From up to but without To.
type Range struct {
	Partition int32
	From, To  int64
}

// Store is the database. Its errors are told apart by [Config.Classify]. Every
// method may be called again with the same arguments.
type Store interface {
	// Ends returns for each partition the offset after the last one stored.
	Ends(ctx context.Context, topic string) (map[int32]int64, error)
	InsertEvents(ctx context.Context, evs []events.Event) error
	InsertRecords(ctx context.Context, fates []events.Fate) error
	// History returns every event of these messages, copies included.
	History(ctx context.Context, keys []events.Key) ([]events.Event, error)
	InsertMessages(ctx context.Context, rows []events.Row, stones []events.Tombstone) error
}

// DeadLetters takes records that cannot be used. It returns when they are safe.
type DeadLetters interface {
	Publish(ctx context.Context, r ...events.Record) error
}
