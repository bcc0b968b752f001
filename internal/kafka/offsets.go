package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// EndOffsets returns, for every partition, the offset after the last record.
func (c *Client) EndOffsets(ctx context.Context, topic string) (map[int32]int64, error) {
	return c.listOffsets(ctx, c.kc, topic, kafka.LastOffset)
}

// FirstOffsets returns, for every partition, the offset of the oldest record
// that is still there, or the end offset where there is none.
func (c *Client) FirstOffsets(ctx context.Context, topic string) (map[int32]int64, error) {
	return c.listOffsets(ctx, c.kc, topic, kafka.FirstOffset)
}

func (c *Client) listOffsets(ctx context.Context, kc *kafka.Client, topic string, at int64) (map[int32]int64, error) {
	var found map[int32]int64
	err := c.retry(ctx, func(ctx context.Context) error {
		t, err := describe(ctx, kc, topic)
		if err != nil {
			return orDenied(ctx, kc, topic, err)
		}
		found, err = askOffsets(ctx, kc, topic, ids(t), at)
		return err
	})
	return found, wrap(err, "offsets of topic %s", topic)
}

func ids(t kafka.Topic) []int {
	out := make([]int, len(t.Partitions))
	for i, p := range t.Partitions {
		out[i] = p.ID
	}
	return out
}

// askOffsets asks the leaders of the partitions, at once, for one kind of offset.
func askOffsets(ctx context.Context, kc *kafka.Client, topic string, partitions []int, at int64) (map[int32]int64, error) {
	requests := make([]kafka.OffsetRequest, len(partitions))
	for i, p := range partitions {
		requests[i] = kafka.OffsetRequest{Partition: p, Timestamp: at}
	}
	res, err := kc.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: requests}})
	if err != nil {
		return nil, err
	}
	found := make(map[int32]int64, len(partitions))
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, partitionError(p.Partition, p.Error)
		}
		found[int32(p.Partition)] = p.FirstOffset
		if at == kafka.LastOffset {
			found[int32(p.Partition)] = p.LastOffset
		}
	}
	if len(found) != len(partitions) {
		return nil, fmt.Errorf("asked for %d partitions, told about %d: %w", len(partitions), len(found), kafka.LeaderNotAvailable)
	}
	return found, nil
}

// partitionError adds the partition. kafka-go says -1 where one of several
// leaders could not be reached, and drops the cause.
func partitionError(partition int, err error) error {
	if errors.Is(err, kafka.Unknown) {
		err = fmt.Errorf("its leader did not answer: %w", errUnreachable)
	}
	return fmt.Errorf("partition %d: %w", partition, err)
}

// bounds returns the first and the end offset of one partition.
func (c *Client) bounds(ctx context.Context, topic string, partition int32) (first, end int64, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		firsts, err := askOffsets(ctx, c.kc, topic, []int{int(partition)}, kafka.FirstOffset)
		if err != nil {
			return err
		}
		ends, err := askOffsets(ctx, c.kc, topic, []int{int(partition)}, kafka.LastOffset)
		first, end = firsts[partition], ends[partition]
		return err
	})
	return first, end, wrap(err, "bounds of %s/%d", topic, partition)
}

// CommittedOffsets returns, for every partition of the topic, the offset that
// the group reads next, or -1 where it never committed one. A group that does
// not exist has committed nothing.
func (c *Client) CommittedOffsets(ctx context.Context, group, topic string) (map[int32]int64, error) {
	var found map[int32]int64
	err := c.retry(ctx, func(ctx context.Context) error {
		t, err := describe(ctx, c.kc, topic)
		if err != nil {
			return orDenied(ctx, c.kc, topic, err)
		}
		found, err = c.askCommitted(ctx, group, topic, ids(t))
		return err
	})
	return found, wrap(err, "offsets committed by group %s for topic %s", group, topic)
}

func (c *Client) askCommitted(ctx context.Context, group, topic string, partitions []int) (map[int32]int64, error) {
	res, err := c.kc.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: partitions}})
	if err == nil {
		err = res.Error
	}
	found := make(map[int32]int64, len(partitions))
	for _, p := range partitions {
		found[int32(p)] = -1
	}
	if errors.Is(err, kafka.GroupIdNotFound) { // some brokers say so, others answer -1
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, partitionError(p.Partition, p.Error)
		}
		found[int32(p.Partition)] = max(p.CommittedOffset, -1)
	}
	return found, nil
}
