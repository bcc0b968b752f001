package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/events"
)

// Read calls fn for the records of a topic: those of each partition in until,
// one partition after the other, from the offset in from (0 where none is given)
// and before the one in until. Records that the log does not have any more are
// passed over. It is a member of no consumer group, and leaves nothing behind at
// the brokers.
//
// It gives up when no record has come for four attempts in a row, and returns
// why. An error of fn, or the end of ctx, ends it as well and is returned.
func (c *Client) Read(ctx context.Context, topic string, from, until map[int32]int64, fn func(events.Message) error) error {
	ctx, cancel := context.WithCancel(ctx)
	ahead := make(chan []item, 1) // one answer, while fn is at work
	var err error
	go func() {
		defer close(ahead)
		for _, p := range sortedKeys(until) {
			s := span{client: c, topic: topic, partition: p, next: from[p], end: until[p], out: ahead}
			if err = s.read(ctx); err != nil {
				return
			}
		}
	}()
	defer func() { // whatever ended it, the goroutine does not outlive it
		cancel()
		for range ahead {
		}
	}()
	for items := range ahead {
		for _, it := range items {
			if err := fn(it.msg); err != nil {
				return err
			}
		}
	}
	return err
}

// span is a part of a partition that is to be read.
type span struct {
	client    *Client
	topic     string
	partition int32
	next, end int64
	out       chan<- []item
}

// Limits of one request of [Client.Read].
const (
	readBytes    = 4 << 20
	readUnpacked = 16 << 20
	readWait     = 500 * time.Millisecond
)

// errNothingCame says that a broker has nothing where the log must have records.
var errNothingCame = errors.New("the broker sends nothing, although the log goes on")

// read goes on through errors as long as records come in between.
func (s *span) read(ctx context.Context) error {
	for s.next < s.end {
		err := s.client.retry(ctx, func(ctx context.Context) error {
			before := s.next
			err := s.session(ctx)
			if s.next > before && ctx.Err() == nil && !errors.Is(err, ErrLogLost) {
				return nil
			}
			return err
		})
		if cause := ctx.Err(); cause != nil {
			return cause // else it would be a closed connection that is reported
		}
		if err != nil {
			return fmt.Errorf("read %s/%d at offset %d: %w", s.topic, s.partition, s.next, err)
		}
	}
	return nil
}

// session reads over one connection until all is read or it fails.
func (s *span) session(ctx context.Context) error {
	conn, err := s.client.dialLeader(ctx, s.topic, s.partition)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // a read cannot be cancelled
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	for s.next < s.end {
		f, err := fetch(conn, s.next, fetchLimits{bytes: readBytes, wait: readWait, unpacked: readUnpacked})
		if errors.Is(err, kafka.OffsetOutOfRange) {
			return s.trimmed(ctx)
		}
		if sent := s.send(ctx, f.items); sent != nil {
			return sent
		}
		if err == nil && f.next == s.next {
			err = fmt.Errorf("%w: %w", errNothingCame, kafka.RequestTimedOut)
		}
		s.next = f.next
		if err != nil {
			return err
		}
	}
	return nil
}

// send hands on what lies before the end.
func (s *span) send(ctx context.Context, items []item) error {
	for len(items) > 0 && items[len(items)-1].msg.Offset >= s.end {
		items = items[:len(items)-1]
	}
	if len(items) == 0 {
		return nil
	}
	select {
	case s.out <- items:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// trimmed goes on at the first record that is left.
func (s *span) trimmed(ctx context.Context) error {
	first, end, err := s.client.bounds(ctx, s.topic, s.partition)
	switch {
	case err != nil:
		return err
	case s.next < first:
		s.next = first
		return nil
	}
	return fmt.Errorf("%w: it ends at %d", ErrLogLost, end)
}
