package kafka

import (
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/events"
)

const (
	// fetchSlack is what an answer may take beyond the broker's MaxWait.
	fetchSlack = 3 * time.Second
	// minFetch keeps requests from degenerating while the buffer is nearly full.
	minFetch = 64 << 10
)

// fetchLimits bound one request.
type fetchLimits struct {
	bytes    int           // of the answer
	wait     time.Duration // for the first record
	unpacked int           // bytes of records; those beyond are asked for again
}

// fetched is the answer to one request. It may hold records although there was
// an error as well.
type fetched struct {
	items     []item
	next      int64 // offset to read next
	highWater int64 // -1: not told
}

// fetch reads from an offset. It is no error if there is nothing new. After an
// error the connection is of no more use.
func fetch(conn *kafka.Conn, at int64, limits fetchLimits) (fetched, error) {
	f := fetched{next: at, highWater: -1}
	// Without SeekDontCheck Seek asks the broker for its bounds, and fails.
	if _, err := conn.Seek(at, kafka.SeekAbsolute|kafka.SeekDontCheck); err != nil {
		return f, err
	}
	if err := conn.SetDeadline(time.Now().Add(limits.wait + fetchSlack)); err != nil {
		return f, err
	}
	batch := conn.ReadBatchWith(kafka.ReadBatchConfig{
		MinBytes:       1,
		MaxBytes:       limits.bytes,
		MaxWait:        limits.wait,
		IsolationLevel: kafka.ReadUncommitted, // the other level still delivers aborted records, and hangs on open transactions
	})
	if batch.Err() == nil { // else there was no answer to read it from
		f.highWater = batch.HighWaterMark()
		f.items = collect(batch, limits.unpacked)
	}
	f.next = max(at, batch.Offset())
	err := batch.Close()
	if errors.Is(err, kafka.RequestTimedOut) {
		err = nil // nothing new in this time
	}
	return f, err
}

// collect reads the answer into memory at once: the connection's deadline runs,
// however busy the handler is. It stops when the room is used up, since an
// answer may be much larger unpacked; the rest is asked for again.
func collect(batch *kafka.Batch, room int) []item {
	var items []item
	for used := 0; used < room; {
		m, err := batch.ReadMessage()
		if err != nil {
			return items // the end of the answer, or an error that Close returns
		}
		it := item{msg: convert(m, batch.HighWaterMark())}
		it.size = messageSize(it.msg)
		used += it.size
		items = append(items, it)
	}
	return items
}

func convert(m kafka.Message, highWater int64) events.Message {
	out := events.Message{
		Record:    events.Record{Key: m.Key, Value: m.Value, Time: m.Time.UTC()},
		Position:  events.Position{Topic: m.Topic, Partition: int32(m.Partition), Offset: m.Offset},
		HighWater: highWater,
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, events.Header{Key: h.Key, Value: h.Value})
	}
	return out
}
