package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

// reader reads one partition ahead into the buffer, over a connection of its
// own to the partition's leader, as long as its generation lasts. It returns
// only when ctx has ended or when going on would skip records silently.
type reader struct {
	gen  *Generation
	part *partBuffer
	next int64 // offset to read next; negative: the first there is
	lost int   // how often in a row the log ended before next
	slip bool  // the last session ended in io.ErrNoProgress
}

// errRedial asks for a new connection without counting an error.
var errRedial = errors.New("connection is used up")

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.session(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrLogLost):
			r.gen.buffer.end(r.part, err)
			return
		case errors.Is(err, errRedial):
			continue
		case errors.Is(err, io.ErrNoProgress) && !r.slip:
			// A broker may answer with records above the high watermark that it
			// states, when this has just moved. kafka-go takes such an answer for
			// empty, leaves its bytes unread and fails at the next one. Nothing is
			// lost, so only a second time in a row is an error.
			r.slip = true
			continue
		}
		r.gen.group.fetchFailed(r.part.partition, err)
		r.gen.readFailed(r.part.partition, err)
		r.gen.group.client.nudge()
		if !sleep(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// session reads over one connection until it fails.
func (r *reader) session(ctx context.Context) error {
	if r.next < 0 {
		first, _, err := r.gen.group.client.bounds(ctx, r.gen.group.cfg.Topic, r.part.partition)
		if err != nil {
			return err
		}
		r.next = first
	}
	conn, err := r.gen.group.client.dialLeader(ctx, r.gen.group.cfg.Topic, r.part.partition)
	if err != nil {
		return err
	}
	// A read cannot be cancelled, but its connection can be closed.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	for {
		room := r.gen.buffer.waitRoom(ctx, r.part)
		if room == 0 {
			return ctx.Err()
		}
		err := r.fetch(conn, room)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			return r.outOfRange(ctx, err)
		}
		if err != nil {
			return err
		}
	}
}

// fetch makes one request and buffers its answer.
func (r *reader) fetch(conn *kafka.Conn, room int) error {
	cfg := r.gen.group.cfg
	a, err := fetch(conn, r.next, fetchLimits{bytes: min(cfg.FetchBytes, max(room, minFetch)), wait: cfg.MaxWait, unpacked: room})
	if len(a.items) > 0 || err == nil {
		r.lost = 0
	}
	if len(a.items) > 0 {
		r.slip = false
	}
	r.gen.group.fetched(a.items)
	r.gen.buffer.push(r.part, a.items, a.highWater)
	r.next = max(r.next, a.next)
	if err == nil || len(a.items) > 0 {
		r.gen.readAgain(r.part.partition)
	}
	return err
}

// outOfRange decides what an offset outside the log means. Below its first
// record: the beginning was trimmed away, say so and go on there. Beyond its
// end: the topic was created anew or has lost its log, and only a person can
// tell which offsets are worth what. A leader that has just taken over may be
// behind for a moment, so this is believed at the third look only.
func (r *reader) outOfRange(ctx context.Context, cause error) error {
	topic := r.gen.group.cfg.Topic
	first, end, err := r.gen.group.client.bounds(ctx, topic, r.part.partition)
	switch {
	case err != nil:
		return err
	case r.next < first:
		gone := &Range{Topic: topic, Partition: r.part.partition, From: r.next, To: first}
		r.gen.group.trimmed(*gone)
		r.gen.buffer.push(r.part, []item{{trimmed: gone}}, end)
		r.next = first
		return errRedial
	case r.next > end:
		if r.lost++; r.lost < 3 {
			sleep(ctx, 250*time.Millisecond)
			return cause
		}
		return fmt.Errorf("%w: %s/%d ends at %d, %d is next", ErrLogLost, topic, r.part.partition, end, r.next)
	}
	return cause
}

// dialLeader connects to the leader of a partition. Metadata comes from the
// shared transport (never older than its TTL, or than the last nudge), because
// kafka-go's own lookup may create the topic where brokers allow that.
func (c *Client) dialLeader(ctx context.Context, topic string, partition int32) (*kafka.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.DialTimeout)
	defer cancel()
	t, err := describe(ctx, c.kc, topic)
	if err != nil {
		return nil, fmt.Errorf("leader of %s/%d: %w", topic, partition, orDenied(ctx, c.kc, topic, err))
	}
	for _, p := range t.Partitions {
		if p.ID != int(partition) {
			continue
		}
		if p.Leader.Host == "" {
			break
		}
		conn, err := c.dialer(c.dial).DialPartition(ctx, "tcp", "", p)
		return conn, wrap(err, "leader of %s/%d", topic, partition)
	}
	return nil, fmt.Errorf("leader of %s/%d: %w", topic, partition, kafka.LeaderNotAvailable)
}
