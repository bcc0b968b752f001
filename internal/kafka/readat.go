package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/events"
)

// ReadAt returns the record at an offset. It returns false if the log has none
// there: it begins later, ends before, or has a gap.
func (c *Client) ReadAt(ctx context.Context, topic string, partition int32, offset int64) (m events.Message, found bool, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		m, found, err = c.readAt(ctx, topic, partition, offset)
		return err
	})
	return m, found, wrap(err, "read %s/%d at offset %d", topic, partition, offset)
}

func (c *Client) readAt(ctx context.Context, topic string, partition int32, offset int64) (events.Message, bool, error) {
	first, end, err := c.bounds(ctx, topic, partition)
	if err != nil || offset < first || offset >= end {
		return events.Message{}, false, err
	}
	conn, err := c.dialLeader(ctx, topic, partition)
	if err != nil {
		return events.Message{}, false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(fetchSlack)); err != nil {
		return events.Message{}, false, err
	}
	if _, err := conn.Seek(offset, kafka.SeekAbsolute|kafka.SeekDontCheck); err != nil {
		return events.Message{}, false, err
	}
	batch := conn.ReadBatchWith(kafka.ReadBatchConfig{MinBytes: 1, MaxBytes: 64 << 10, MaxWait: fetchSlack / 2})
	read, err := batch.ReadMessage()
	switch {
	case errors.Is(err, kafka.OffsetOutOfRange):
		return events.Message{}, false, nil // trimmed this instant
	case err != nil:
		return events.Message{}, false, fmt.Errorf("no record came: %w", err)
	}
	// Closing the batch reads the rest of the answer, which nobody needs.
	return convert(read, -1), read.Offset == offset, nil
}
