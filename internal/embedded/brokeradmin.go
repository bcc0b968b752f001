package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrLogTruncated is returned by StartBroker when a consumer group is ahead of
// the log.
var ErrLogTruncated = errors.New("the log lost its end")

// partitionID names a partition.
type partitionID struct {
	topic     string
	partition int32
}

// checkCommitted compares what groups have committed with where the log ends.
// A group that is ahead would skip that many new records without a word: they
// get the offsets that it believes to have read. It happens when an old copy
// of the directory was put back, or when a disk did not keep what it said.
func (b *Broker) checkCommitted(ctx context.Context) error {
	groups, err := b.groups(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the consumer groups of the embedded broker: %w", err)
	}
	for _, group := range groups {
		committed, err := b.committed(ctx, group)
		if err != nil {
			return fmt.Errorf("cannot read the offsets of group %s: %w", group, err)
		}
		for at, offset := range committed {
			end, err := b.offset(ctx, at, endOffset)
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				continue // of a topic that was deleted
			}
			if err != nil {
				return fmt.Errorf("cannot read the end of topic %s, partition %d: %w", at.topic, at.partition, err)
			}
			if offset > end {
				return fmt.Errorf("embedded broker in %s: %w: group %s has read topic %s, partition %d up to offset %d, but the log ends at %d; "+
					"new events would be skipped. Put back the newest copy of the directory, or configure a new topic (kafka.topic): events that ClickHouse has are kept",
					b.config.Dir, ErrLogTruncated, group, at.topic, at.partition, offset, end)
			}
		}
	}
	return nil
}

func (b *Broker) groups(ctx context.Context) ([]string, error) {
	resp, err := kmsg.NewPtrListGroupsRequest().RequestWith(ctx, b.client)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(resp.Groups))
	for _, g := range resp.Groups {
		names = append(names, g.Group)
	}
	return names, kerr.ErrorForCode(resp.ErrorCode)
}

// committed returns the next offset to read by partition.
func (b *Broker) committed(ctx context.Context, group string) (map[partitionID]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	asked := kmsg.NewOffsetFetchRequestGroup()
	asked.Group = group
	req.Groups = append(req.Groups, asked) // no topics: all of them
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return nil, err
	}
	offsets := make(map[partitionID]int64)
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				offsets[partitionID{t.Topic, p.Partition}] = p.Offset
			}
		}
	}
	return offsets, nil
}

// The two offsets of a partition that can be asked for by name.
const (
	endOffset   = -1
	firstOffset = -2
)

func (b *Broker) offset(ctx context.Context, at partitionID, which int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = at.topic
	partition := kmsg.NewListOffsetsRequestTopicPartition()
	partition.Partition = at.partition
	partition.Timestamp = which
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return 0, kerr.UnknownTopicOrPartition
}

// partitionBytes asks the broker for the size of all partitions.
func (b *Broker) partitionBytes(ctx context.Context) (int64, error) {
	resp, err := kmsg.NewPtrDescribeLogDirsRequest().RequestWith(ctx, b.client)
	if err != nil {
		return 0, fmt.Errorf("cannot ask the embedded broker for its size: %w", err)
	}
	var size int64
	for _, dir := range resp.Dirs {
		for _, t := range dir.Topics {
			for _, p := range t.Partitions {
				size += p.Size
			}
		}
	}
	return size, kerr.ErrorForCode(resp.ErrorCode)
}

// Trim deletes the records of a partition before an offset, and returns the
// first offset that is left. The last record always stays: an empty partition
// would begin again at offset 0 after a crash, and groups would skip records.
// Space comes back in whole segments of 8 MiB.
func (b *Broker) Trim(ctx context.Context, topic string, partition int32, before int64) (int64, error) {
	at := partitionID{topic, partition}
	first, err := b.offset(ctx, at, firstOffset)
	if err != nil {
		return 0, fmt.Errorf("cannot read the beginning of topic %s, partition %d: %w", topic, partition, err)
	}
	end, err := b.offset(ctx, at, endOffset)
	if err != nil {
		return 0, fmt.Errorf("cannot read the end of topic %s, partition %d: %w", topic, partition, err)
	}
	if before = min(before, end-1); before <= first {
		return first, nil
	}
	if err := b.deleteRecords(ctx, at, before); err != nil {
		return 0, fmt.Errorf("cannot trim topic %s, partition %d: %w", topic, partition, err)
	}
	return before, nil
}

func (b *Broker) deleteRecords(ctx context.Context, at partitionID, before int64) error {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = int32(10 * time.Second / time.Millisecond)
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = at.topic
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Partition, partition.Offset = at.partition, before
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return kerr.UnknownTopicOrPartition
}
