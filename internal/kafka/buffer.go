package kafka

import (
	"context"
	"sync"
	"time"

	"qunfa/internal/events"
)

// Range is a stretch of a partition: From is in it, To is not.
type Range struct {
	Topic     string
	Partition int32
	From, To  int64
}

// buffer holds what the readers of a generation have read ahead. Each partition
// has its own share of the room, so that a full one does not hold up the others
// and a handler that is busy stops all reading.
type buffer struct {
	arrived chan struct{} // holds one: something is there to take

	mu    sync.Mutex
	parts []*partBuffer
	turn  int // whose turn it is to be taken from first
}

// partBuffer is one partition's share.
type partBuffer struct {
	partition int32
	limit     int           // bytes after which reading stops
	room      chan struct{} // holds one: bytes were taken

	// Guarded by the buffer's mutex.
	items     []item
	bytes     int
	highWater int64 // offset after the partition's last record, -1 unknown
	err       error // why nothing follows
}

// item is either a message or a stretch of the log that is gone.
type item struct {
	msg     events.Message
	size    int
	trimmed *Range
}

func newBuffer(partitions []int32, limit int) *buffer {
	b := &buffer{arrived: make(chan struct{}, 1)}
	share := limit
	if n := len(partitions); n > 0 {
		share = max(limit/n, 1)
	}
	for _, p := range partitions {
		b.parts = append(b.parts, &partBuffer{partition: p, limit: share, room: make(chan struct{}, 1), highWater: -1})
	}
	return b
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// waitRoom returns how many bytes the partition may read, 0 when ctx has ended.
func (b *buffer) waitRoom(ctx context.Context, p *partBuffer) int {
	for ctx.Err() == nil {
		b.mu.Lock()
		room := p.limit - p.bytes
		b.mu.Unlock()
		if room > 0 {
			return room
		}
		select {
		case <-p.room:
		case <-ctx.Done():
		}
	}
	return 0
}

// push adds what was read, in order, and the high watermark seen with it.
func (b *buffer) push(p *partBuffer, items []item, highWater int64) {
	b.mu.Lock()
	for _, it := range items {
		p.bytes += it.size
	}
	p.items = append(p.items, items...)
	if highWater >= 0 {
		p.highWater = highWater
	}
	b.mu.Unlock()
	if len(items) > 0 {
		signal(b.arrived)
	}
}

// end says that nothing follows in a partition, and why.
func (b *buffer) end(p *partBuffer, err error) {
	b.mu.Lock()
	p.err = err
	b.mu.Unlock()
	signal(b.arrived)
}

// taken is what one call of take hands out.
type taken struct {
	messages []events.Message
	trimmed  []Range
	bytes    int
	err      error // set only if there is nothing else
}

// take hands out what is there, up to the limits but at least one message. It
// starts with another partition each time, so that none starves.
func (b *buffer) take(maxRecords, maxBytes int) taken {
	b.mu.Lock()
	defer b.mu.Unlock()
	var t taken
	for i := range b.parts {
		b.parts[(b.turn+i)%len(b.parts)].take(&t, maxRecords, maxBytes)
	}
	if len(b.parts) > 0 {
		b.turn = (b.turn + 1) % len(b.parts)
	}
	if len(t.messages) == 0 && len(t.trimmed) == 0 {
		t.err = b.firstError()
	}
	return t
}

// firstError returns why a partition ended, once everything before has been taken.
func (b *buffer) firstError() error {
	for _, p := range b.parts {
		if p.err != nil && len(p.items) == 0 {
			return p.err
		}
	}
	return nil
}

func (p *partBuffer) take(t *taken, maxRecords, maxBytes int) {
	n := 0
	for _, it := range p.items {
		if it.trimmed != nil {
			t.trimmed = append(t.trimmed, *it.trimmed)
			n++
			continue
		}
		if len(t.messages) >= maxRecords || len(t.messages) > 0 && t.bytes+it.size > maxBytes {
			break
		}
		t.messages = append(t.messages, it.msg)
		t.bytes += it.size
		p.bytes -= it.size
		n++
	}
	if n == 0 {
		return
	}
	clear(p.items[:n]) // let go of the messages before the slice is
	if p.items = p.items[n:]; len(p.items) == 0 {
		p.items = nil
	}
	signal(p.room)
}

// oldest returns the time of the partition's first message that nobody has taken.
func (p *partBuffer) oldest() (time.Time, bool) {
	for _, it := range p.items {
		if it.trimmed == nil {
			return it.msg.Time, true
		}
	}
	return time.Time{}, false
}

// messageOverhead is what a message costs in memory beside its bytes.
const messageOverhead = 160

func messageSize(m events.Message) int {
	n := messageOverhead + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 48 + len(h.Key) + len(h.Value)
	}
	return n
}
