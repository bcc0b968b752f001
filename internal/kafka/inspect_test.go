package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestInspectTopic(t *testing.T) {
	c := fakeBrokers(t, 3)
	client, _ := c.client(t)
	ctx := timeout(t, 20*time.Second)
	name := unique(t)
	if _, err := client.InspectTopic(ctx, name); !errors.Is(err, ErrNoTopic) {
		t.Errorf("a topic that does not exist: %v", err)
	}
	if _, err := client.EnsureTopic(ctx, TopicConfig{Name: name, Partitions: 2, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.WaitForTopic(ctx, name); err != nil {
		t.Fatal(err)
	}
	s, err := client.InspectTopic(ctx, name)
	if err != nil || s.SettingsErr != nil {
		t.Fatal(err, s.SettingsErr)
	}
	for i := range s.Partitions {
		if s.Partitions[i].Leader == "" {
			t.Errorf("partition %d has no leader", i)
		}
		s.Partitions[i].Leader = ""
	}
	want := []PartitionState{{ID: 0, Replicas: 3, InSync: 3}, {ID: 1, Replicas: 3, InSync: 3}}
	if d := cmp.Diff(want, s.Partitions); d != "" {
		t.Errorf("partitions (-want, +got):\n%s", d)
	}
	if s.Settings["min.insync.replicas"] != "2" || s.Settings["cleanup.policy"] != "delete" {
		t.Errorf("settings %v", s.Settings)
	}
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if s, err = client.InspectTopic(ctx, name); err != nil || ClassOf(s.SettingsErr) != ClassDenied || s.Settings != nil {
		t.Errorf("settings that may not be read: %v, %v, %v", err, s.SettingsErr, s.Settings)
	}
}

func TestInspectGroup(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, _ := c.client(t)
	ctx := timeout(t, 20*time.Second)
	cfg := c.groupConfig(t, topic)
	s, err := client.InspectGroup(ctx, cfg.GroupID)
	if err != nil || s.Members != 0 {
		t.Errorf("a group that does not exist: %+v, %v", s, err)
	}
	joined := make(chan struct{}, 8)
	_, stop := runGroup(t, client, cfg, nil, func(ctx context.Context, _ *Generation) error {
		joined <- struct{}{}
		<-ctx.Done()
		return nil
	})
	<-joined
	if s, err = client.InspectGroup(ctx, cfg.GroupID); err != nil || s != (GroupState{"Stable", 1}) {
		t.Errorf("a group with a member: %+v, %v", s, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if s, err = client.InspectGroup(ctx, cfg.GroupID); err != nil || s.Members != 0 {
		t.Errorf("a group that was left: %+v, %v", s, err)
	}
}

// What the check sends must be refused after the right to write was looked at,
// and must leave the log as it is.
func TestCheckWrite(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, _ := c.client(t)
	ctx := timeout(t, 20*time.Second)
	if err := client.CheckWrite(ctx, topic); err != nil {
		t.Errorf("a topic that may be written: %v", err)
	}
	if ends, err := client.EndOffsets(ctx, topic); err != nil || ends[0] != 0 {
		t.Errorf("the check wrote: ends %v, %v", ends, err)
	}
	if c.real() {
		return
	}
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if err := client.CheckWrite(ctx, topic); !errors.Is(err, kafka.TopicAuthorizationFailed) {
		t.Errorf("a topic that may not be written: %v", err)
	}
}
