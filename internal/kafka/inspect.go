package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// TopicState is a topic as the cluster describes it.
type TopicState struct {
	Name       string
	Partitions []PartitionState // by number
	// Settings is the configuration of the topic, defaults of the broker
	// included; nil if SettingsErr says why it could not be read.
	Settings    map[string]string
	SettingsErr error
}

// PartitionState is a partition as the cluster describes it.
type PartitionState struct {
	ID       int32
	Leader   string // host:port; empty: none at the moment
	Replicas int
	InSync   int // of these, in sync
}

// InspectTopic describes a topic, or returns [ErrNoTopic]. It asks the cluster
// anew, changes nothing, and is for people rather than for services.
func (c *Client) InspectTopic(ctx context.Context, topic string) (TopicState, error) {
	kc, done := c.live()
	defer done()
	t, err := describe(ctx, kc, topic)
	if err != nil {
		return TopicState{}, wrap(err, "look at topic %s", topic)
	}
	s := TopicState{Name: topic}
	for _, p := range t.Partitions {
		state := PartitionState{ID: int32(p.ID), Replicas: len(p.Replicas), InSync: len(p.Isr)}
		if p.Leader.Host != "" {
			state.Leader = net.JoinHostPort(p.Leader.Host, strconv.Itoa(p.Leader.Port))
		}
		s.Partitions = append(s.Partitions, state)
	}
	slices.SortFunc(s.Partitions, func(a, b PartitionState) int { return int(a.ID - b.ID) })
	s.Settings, s.SettingsErr = topicSettings(ctx, kc, topic)
	return s, nil
}

// GroupState is a consumer group as its coordinator describes it.
type GroupState struct {
	State   string // Kafka's word, such as Stable, Empty or Dead (which is also what does not exist)
	Members int
}

// InspectGroup describes a consumer group. A group that does not exist is no
// error: brokers call it Dead, or say that there is none.
func (c *Client) InspectGroup(ctx context.Context, group string) (GroupState, error) {
	var s GroupState
	err := c.retry(ctx, func(ctx context.Context) error {
		res, err := c.kc.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
		switch {
		case err != nil:
			return err
		case len(res.Groups) == 0:
			return fmt.Errorf("no answer about the group: %w", kafka.GroupCoordinatorNotAvailable)
		}
		g := res.Groups[0]
		if errors.Is(g.Error, kafka.GroupIdNotFound) {
			s = GroupState{State: "Dead"}
			return nil
		}
		s = GroupState{State: g.GroupState, Members: len(g.Members)}
		return g.Error
	})
	return s, wrap(err, "look at group %s", group)
}

// noRecords is a set of records with none in it: its size, 0.
var noRecords = []byte{0, 0, 0, 0}

// CheckWrite tells whether this user may write to the topic, without writing to
// it. It sends a produce request with no records. A broker first looks whether
// the user may write, then refuses what is no batch of records, before the log
// is touched; so the second refusal is the good answer.
func (c *Client) CheckWrite(ctx context.Context, topic string) error {
	err := c.retry(ctx, func(ctx context.Context) error {
		kc, done := c.live()
		defer done()
		res, err := kc.RawProduce(ctx, &kafka.RawProduceRequest{
			Topic: topic, RequiredAcks: kafka.RequireAll,
			RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(noRecords)},
		})
		if err != nil {
			return err
		}
		return emptyBatchRefused(res.Error)
	})
	return wrap(err, "ask whether topic %s may be written", topic)
}

// emptyBatchRefused turns what brokers say about an empty batch into nil.
func emptyBatchRefused(err error) error {
	for _, good := range []error{kafka.InvalidRecord, kafka.InvalidMessage, kafka.InvalidMessageSize} {
		if errors.Is(err, good) {
			return nil
		}
	}
	return err
}
