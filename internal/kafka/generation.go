package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/events"
)

// Generation is the time during which a set of partitions is this member's.
// Its methods are for the handler that [Group.Run] calls; Poll and Commit may
// be called from different goroutines, but not one of them from two.
type Generation struct {
	ID       int32
	MemberID string

	group  *Group
	ctx    context.Context // ends with the generation or with Run
	end    context.CancelCauseFunc
	buffer *buffer
	wg     sync.WaitGroup

	mu      sync.Mutex
	parts   map[int32]*progress
	begun   bool
	closed  bool
	trimmed []Range
	failing map[int32]failure // partitions that cannot be read at the moment
}

// progress is how far the handler is with a partition.
type progress struct {
	committed int64 // by the broker; -1 nothing
	floor     int64 // no commit below this; -1 none
	delivered int64 // offset after what Poll has handed out; -1 nothing
	taken     []chunk
	lastTime  time.Time // of the last record that was committed
}

// chunk is what one Poll handed out of a partition.
type chunk struct {
	first, last int64
	time        time.Time // of its first record
}

func newGeneration(ctx context.Context, g *Group, kg *kafka.Generation, end context.CancelCauseFunc) *Generation {
	gen := &Generation{ID: kg.ID, MemberID: kg.MemberID, group: g, ctx: ctx, end: end, parts: map[int32]*progress{}, failing: map[int32]failure{}}
	for _, a := range kg.Assignments[g.cfg.Topic] {
		offset := max(a.Offset, -1) // kafka-go says -2 where nothing is committed
		gen.parts[int32(a.ID)] = &progress{committed: offset, floor: offset, delivered: offset}
	}
	gen.buffer = newBuffer(sortedKeys(gen.parts), g.cfg.PrefetchBytes)
	return gen
}

// Owned returns the partitions of this generation with the offset to read next
// by what the group has committed, -1 where it never committed anything.
func (g *Generation) Owned() map[int32]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	owned := make(map[int32]int64, len(g.parts))
	for p, at := range g.parts {
		owned[p] = at.committed
	}
	return owned
}

// Begin starts reading. start overrides the offset to read next of some
// partitions, and may go back; the others are read from where Owned says, and
// from their first record where nothing was ever committed or start is negative.
// It may be called once.
func (g *Generation) Begin(start map[int32]int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun || g.closed {
		return errors.New("kafka: Begin was called before, or too late")
	}
	for p := range start {
		if g.parts[p] == nil {
			return fmt.Errorf("%w: %s/%d", ErrNotOwned, g.group.cfg.Topic, p)
		}
	}
	g.begun = true
	for _, part := range g.buffer.parts {
		at := g.parts[part.partition]
		if offset, given := start[part.partition]; given {
			at.floor, at.delivered = max(offset, -1), max(offset, -1)
		}
		r := &reader{gen: g, part: part, next: at.delivered}
		g.wg.Go(func() { r.run(g.ctx) })
	}
	return nil
}

// Poll waits for records and returns what is there, from all partitions, at
// most maxRecords and maxBytes but at least one. Records of a partition come in
// order, with gaps where the log has them; transaction markers and records of
// others are among them. It returns no records and no error when all there is to
// tell is a trimmed range: call [Generation.Trimmed] after every Poll.
//
// Errors: [ErrGenerationEnded], [ErrLogLost] once everything before the loss was
// handed out, or the error of ctx.
func (g *Generation) Poll(ctx context.Context, maxRecords, maxBytes int) ([]events.Message, error) {
	if !g.hasBegun() {
		return nil, errors.New("kafka: Poll before Begin")
	}
	for {
		if err := g.over(ctx); err != nil {
			return nil, err
		}
		t := g.buffer.take(max(maxRecords, 1), maxBytes)
		if len(t.messages) > 0 || len(t.trimmed) > 0 {
			g.deliver(t)
			return t.messages, nil
		}
		if t.err != nil {
			return nil, t.err
		}
		select {
		case <-g.buffer.arrived:
		case <-ctx.Done():
		case <-g.ctx.Done():
		}
	}
}

func (g *Generation) hasBegun() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.begun
}

// over returns why there is nothing more to poll.
func (g *Generation) over(ctx context.Context) error {
	if g.ctx.Err() != nil {
		return context.Cause(g.ctx)
	}
	return ctx.Err()
}

// deliver notes what Poll hands out.
func (g *Generation) deliver(t taken) {
	g.group.metrics.prefetched.Sub(float64(t.bytes))
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range t.trimmed {
		at := g.parts[r.Partition]
		at.delivered = max(at.delivered, r.To)
	}
	g.trimmed = append(g.trimmed, t.trimmed...)
	for i, m := range t.messages {
		at := g.parts[m.Partition]
		at.delivered = max(at.delivered, m.Offset+1)
		if i == 0 || t.messages[i-1].Partition != m.Partition {
			at.taken = append(at.taken, chunk{first: m.Offset, time: m.Time})
		}
		at.taken[len(at.taken)-1].last = m.Offset
	}
}

// Trimmed returns, once, the stretches of the log that were deleted before they
// were read, as far as Poll has come. They count as handed out: the handler may
// commit past them.
func (g *Generation) Trimmed() []Range {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.trimmed
	g.trimmed = nil
	return t
}

// Commit tells the broker which offset to read next, per partition. It accepts
// only partitions of this generation, no offset below an earlier one and none
// beyond what Poll has handed out: the broker would accept all of these.
//
// It tries again through leader changes, for CommitTimeout at most, and has a
// connection of its own, so that a slow commit does not end the generation.
// [ErrGenerationEnded] means that the partitions are another member's now; drop
// all state. A last commit between the end of the generation and the handler's
// return is accepted by the broker as long as nobody else has taken over.
func (g *Generation) Commit(ctx context.Context, next map[int32]int64) error {
	todo, err := g.admit(next)
	if err != nil || len(todo) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.group.cfg.CommitTimeout)
	defer cancel()
	for {
		err := g.group.commit(ctx, g.ID, g.MemberID, todo)
		if err == nil {
			g.noteCommit(todo)
			return nil
		}
		g.group.metrics.commitErrs.WithLabelValues(string(ClassOf(err))).Inc()
		if ClassOf(err) == ClassGeneration {
			g.end(ErrGenerationEnded)
			return fmt.Errorf("commit: %w: %w", ErrGenerationEnded, err)
		}
		if cause := context.Cause(g.ctx); errors.Is(cause, ErrGenerationEnded) {
			return fmt.Errorf("commit: %w: %w", cause, err)
		}
		if !transient(err) {
			return fmt.Errorf("commit: %w", err)
		}
		g.group.client.nudge()
		if !sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("commit: %w: %w", ctx.Err(), err)
		}
	}
}

// admit checks the offsets and leaves out those that change nothing.
func (g *Generation) admit(next map[int32]int64) (map[int32]int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("commit after the handler returned: %w", ErrGenerationEnded)
	}
	todo := map[int32]int64{}
	for p, offset := range next {
		at := g.parts[p]
		switch {
		case at == nil:
			return nil, fmt.Errorf("commit %s/%d: %w", g.group.cfg.Topic, p, ErrNotOwned)
		case offset < at.floor:
			return nil, fmt.Errorf("commit %s/%d: offset %d goes back behind %d", g.group.cfg.Topic, p, offset, at.floor)
		case offset > at.delivered:
			return nil, fmt.Errorf("commit %s/%d: offset %d is beyond %d, up to where records were handed out", g.group.cfg.Topic, p, offset, at.delivered)
		case offset != at.committed && offset >= 0:
			todo[p] = offset
		}
	}
	return todo, nil
}

func (g *Generation) noteCommit(done map[int32]int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, offset := range done {
		at := g.parts[p]
		at.committed, at.floor = offset, offset
		for len(at.taken) > 0 && at.taken[0].last < offset {
			at.lastTime = at.taken[0].time
			at.taken = at.taken[1:]
		}
	}
	g.group.metrics.commits.Inc()
}

// unreadableAfter is how long a partition may fail before the member counts as
// unhealthy: while a leader is replaced every partition fails for a moment.
const unreadableAfter = 5 * time.Second

// readFailed notes that a partition cannot be read, readAgain that it can.
func (g *Generation) readFailed(partition int32, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	since := time.Now()
	if f, failing := g.failing[partition]; failing {
		since = f.since
	}
	g.failing[partition] = failure{since: since, err: err}
}

func (g *Generation) readAgain(partition int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.failing, partition)
}

// unreadable returns why a partition cannot be read, if that lasts.
func (g *Generation) unreadable(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range sortedKeys(g.failing) {
		if f := g.failing[p]; now.Sub(f.since) >= unreadableAfter {
			return fmt.Errorf("partition %d could not be read for %s: %w", p, now.Sub(f.since).Round(time.Second), f.err)
		}
	}
	return nil
}

// Lag is how far a group is behind in a partition.
type Lag struct {
	Records int64         // records that are not committed
	Age     time.Duration // of the oldest of them
}

// lag says how far the group is behind, as far as fetches have told.
func (g *Generation) lag(now time.Time) map[int32]Lag {
	high, oldest := g.buffer.state()
	g.mu.Lock()
	defer g.mu.Unlock()
	lags := map[int32]Lag{}
	for p, at := range g.parts {
		if high[p] < 0 {
			continue // nothing fetched yet: unknown is not zero
		}
		l := Lag{Records: max(high[p]-max(at.committed, 0), 0)}
		if l.Records > 0 {
			l.Age = max(now.Sub(at.oldest(oldest[p])), 0)
		}
		lags[p] = l
	}
	return lags
}

// oldest is the time of the first record that is not committed: handed out,
// else buffered, else not before the last one that was committed.
func (at *progress) oldest(buffered time.Time) time.Time {
	switch {
	case len(at.taken) > 0:
		return at.taken[0].time
	case !buffered.IsZero():
		return buffered
	case !at.lastTime.IsZero():
		return at.lastTime
	}
	return time.Now()
}

// state returns, per partition, the high watermark and the time of the first
// buffered message.
func (b *buffer) state() (high map[int32]int64, oldest map[int32]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	high, oldest = map[int32]int64{}, map[int32]time.Time{}
	for _, p := range b.parts {
		high[p.partition] = p.highWater
		if t, any := p.oldest(); any {
			oldest[p.partition] = t
		}
	}
	return high, oldest
}

// close ends reading and refuses further commits.
func (g *Generation) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.end(ErrGenerationEnded)
	g.wg.Wait()
	g.group.metrics.prefetched.Sub(float64(g.buffer.size()))
}

func (b *buffer) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, p := range b.parts {
		n += p.bytes
	}
	return n
}

// partitions is for log lines.
func (g *Generation) partitions() []int32 {
	return sortedKeys(maps.Clone(g.parts))
}
