package kafka

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qunfa/internal/events"
)

func TestEnsureTopic(t *testing.T) {
	c := brokers(t)
	client, _ := c.client(t)
	ctx := timeout(t, 30*time.Second)
	cfg := TopicConfig{Name: unique(t), Partitions: 3, ReplicationFactor: 1, MaxMessageBytes: 2 << 20, SegmentBytes: 16 << 20}
	if warnings, err := client.EnsureTopic(ctx, cfg); err != nil || warnings != nil {
		t.Fatal(warnings, err)
	}
	if n, err := client.WaitForTopic(ctx, cfg.Name); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	settings, err := topicSettings(ctx, client.kc, cfg.Name)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1",
		"max.message.bytes": "2097152", "segment.bytes": "16777216", "min.insync.replicas": "1"}
	for name, value := range want {
		if settings[name] != value {
			t.Errorf("%s is %q, want %q", name, settings[name], value)
		}
	}
	if warnings, err := client.EnsureTopic(ctx, cfg); err != nil || warnings != nil {
		t.Errorf("the same again: %v, %v", warnings, err)
	}
	cfg.Partitions, cfg.Retention, cfg.MaxMessageBytes = 4, time.Hour, 0
	warnings, err := client.EnsureTopic(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(warnings, "\n")
	for _, says := range []string{"partitions is 3, want 4", "retention.ms is -1, want 3600000", "max.message.bytes is 2097152, want 1048588"} {
		if !strings.Contains(all, says) {
			t.Errorf("no warning says %q:\n%s", says, all)
		}
	}
	if len(warnings) != 3 {
		t.Errorf("%d warnings, want 3:\n%s", len(warnings), all)
	}
	if n, err := client.Partitions(ctx, cfg.Name); err != nil || n != 3 {
		t.Errorf("an existing topic was changed: %d partitions, %v", n, err)
	}
}

// Kafka 4 refuses times that are more than an hour ahead, unless the topic takes any.
func TestTopicsTakeAnyTime(t *testing.T) {
	c := brokers(t)
	client, _ := c.client(t)
	ctx := timeout(t, 30*time.Second)
	ours := c.topic(t, 1)
	settings, err := topicSettings(ctx, client.kc, ours)
	if err != nil {
		t.Fatal(err)
	}
	if v, known := settings[timestampAhead]; known && v != anyTime {
		t.Errorf("%s is %s", timestampAhead, v)
	}
	theirs := TopicConfig{Name: unique(t), Partitions: 1, ReplicationFactor: 1}
	given := theirs.settings()
	given[timestampAhead] = "3600000"
	if err := client.createWith(ctx, theirs, given); err != nil {
		t.Fatal(err)
	}
	if _, err := client.WaitForTopic(ctx, theirs.Name); err != nil {
		t.Fatal(err)
	}
	warnings, err := client.EnsureTopic(ctx, theirs)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], timestampAhead+" is 3600000, want "+anyTime) {
		t.Errorf("a topic that somebody made: %q, %v", warnings, err)
	}
	c.fill(t, ours, []events.Record{future("ours")})
	c.fill(t, theirs.Name, []events.Record{future("theirs")})
	if m := c.readAll(t, ours)[0]; !m[0].Time.Equal(future("").Time) {
		t.Errorf("our topic has changed a time: %s", m[0].Time)
	}
	if m := c.readAll(t, theirs.Name)[0]; c.real() && m[0].Time.After(time.Now().Add(61*time.Minute)) {
		t.Errorf("a topic that limits times has %s", m[0].Time)
	}
}

// future returns a record of a machine whose clock is far ahead.
func future(value string) events.Record {
	return events.Record{Key: []byte("wx1"), Value: []byte(value), Time: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// Brokers before 3.6 do not know the setting, and have no such limit.
func TestEnsureTopicOnAnOldBroker(t *testing.T) {
	c := fakeBrokers(t, 1)
	client, _ := c.client(t)
	h := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.InvalidConfig, Count: 1})
	ctx := timeout(t, 20*time.Second)
	if warnings, err := client.EnsureTopic(ctx, TopicConfig{Name: "old", Partitions: 1, ReplicationFactor: 1}); err != nil || warnings != nil || h.Hits() != 1 {
		t.Error(warnings, err, h.Hits())
	}
	settings, err := topicSettings(ctx, client.kc, "old")
	if v := settings[timestampAhead]; err != nil || v == anyTime {
		t.Errorf("the setting was sent again: %s, %v", v, err)
	}
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.InvalidConfig, Count: 2})
	if _, err := client.EnsureTopic(ctx, TopicConfig{Name: "bad", Partitions: 1, ReplicationFactor: 1}); !errors.Is(err, kafka.InvalidConfiguration) {
		t.Errorf("another setting that it does not know: %v", err)
	}
}

func TestEnsureTopicWithoutTheRight(t *testing.T) {
	c := fakeBrokers(t, 1)
	client, _ := c.client(t)
	ctx := timeout(t, 30*time.Second)
	denied := func() {
		c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.TopicAuthorizationFailed})
	}
	denied()
	if _, err := client.EnsureTopic(ctx, TopicConfig{Name: "missing", Partitions: 1}); !errors.Is(err, kafka.TopicAuthorizationFailed) {
		t.Errorf("a topic that nobody created: %v", err)
	}
	name := c.topic(t, 2)
	denied()
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Resource: name})
	warnings, err := client.EnsureTopic(ctx, TopicConfig{Name: name, Partitions: 1})
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[1], "could not be read") {
		t.Errorf("a topic that somebody created: %q, %v", warnings, err)
	}
}

// A cluster that has just started answers [7] or [41] for a while.
func TestEnsureTopicWaitsForTheController(t *testing.T) {
	c := fakeBrokers(t, 1)
	client, _ := c.client(t)
	h := c.fake.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.NotController},
		kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.RequestTimedOut},
	)
	// The second answer is a timeout after the work was done: then the topic exists.
	if warnings, err := client.EnsureTopic(timeout(t, 20*time.Second), TopicConfig{Name: "new", Partitions: 1, ReplicationFactor: 1}); err != nil || warnings != nil {
		t.Error(warnings, err)
	}
	if h.Hits() != 2 {
		t.Errorf("%d errors were answered, want 2", h.Hits())
	}
}

func TestTopicConfigValidate(t *testing.T) {
	good := TopicConfig{Name: "t", Partitions: 12, ReplicationFactor: 3, SegmentBytes: 1 << 20}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if got := good.settings()["min.insync.replicas"]; got != "2" {
		t.Errorf("three replicas want %s in sync", got)
	}
	for name, change := range map[string]func(*TopicConfig){
		"no name":            func(c *TopicConfig) { c.Name = "" },
		"partitions":         func(c *TopicConfig) { c.Partitions = -1 },
		"replication":        func(c *TopicConfig) { c.ReplicationFactor = -1 },
		"min isr too high":   func(c *TopicConfig) { c.MinInSyncReplicas = 4 },
		"segments too small": func(c *TopicConfig) { c.SegmentBytes = 102400 },
		"retention":          func(c *TopicConfig) { c.Retention = -time.Second },
	} {
		bad := good
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWaitForTopic(t *testing.T) {
	c := brokers(t)
	client, _ := c.client(t)
	name := unique(t)
	if _, err := client.Partitions(timeout(t, 10*time.Second), name); !errors.Is(err, ErrNoTopic) {
		t.Errorf("Partitions of a missing topic: %v", err)
	}
	if _, err := client.WaitForTopic(timeout(t, 2*time.Second), name); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoTopic) {
		t.Errorf("a missing topic: %v, want the deadline and what was missing", err)
	}
	found := make(chan error, 1)
	ctx := timeout(t, 20*time.Second)
	go func() {
		n, err := client.WaitForTopic(ctx, name)
		if n != 2 && err == nil {
			err = errors.New("wrong number of partitions")
		}
		found <- err
	}()
	other, _ := c.client(t)
	if _, err := other.EnsureTopic(ctx, TopicConfig{Name: name, Partitions: 2, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	if err := <-found; err != nil {
		t.Error(err)
	}
}

func TestOffsets(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 3)
	client, _ := c.client(t)
	ctx := timeout(t, 20*time.Second)
	check := func(what string, got map[int32]int64, err error, want map[int32]int64) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	empty := map[int32]int64{0: 0, 1: 0, 2: 0}
	ends, err := client.EndOffsets(ctx, topic)
	check("ends of an empty topic", ends, err, empty)
	none := map[int32]int64{0: -1, 1: -1, 2: -1}
	committed, err := client.CommittedOffsets(ctx, "nobody-"+topic, topic)
	check("a group that never was", committed, err, none)

	p := PartitionFor([]byte("wx1"), 3)
	c.fill(t, topic, sequence("wx1", 10))
	c.trim(t, topic, p, 4)
	want := map[int32]int64{0: 0, 1: 0, 2: 0}
	want[p] = 10
	ends, err = client.EndOffsets(ctx, topic)
	check("ends", ends, err, want)
	want[p] = 4
	firsts, err := client.FirstOffsets(ctx, topic)
	check("firsts", firsts, err, want)

	if _, err := client.EndOffsets(ctx, "no-"+topic); !errors.Is(err, ErrNoTopic) {
		t.Errorf("ends of a missing topic: %v", err)
	}
	if _, err := client.CommittedOffsets(ctx, "g", "no-"+topic); !errors.Is(err, ErrNoTopic) {
		t.Errorf("offsets for a missing topic: %v", err)
	}
}

func TestOffsetsWhileLeadersMove(t *testing.T) {
	c := fakeBrokers(t, 3)
	topic := c.topic(t, 6)
	client, _ := c.client(t)
	ctx := timeout(t, 20*time.Second)
	c.fill(t, topic, []events.Record{record("a", 1)})
	for range 5 {
		c.fake.ShufflePartitionLeaders()
		if ends, err := client.EndOffsets(ctx, topic); err != nil || len(ends) != 6 {
			t.Errorf("%v, %v", ends, err)
		}
	}
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: topic, Partitions: []int32{2}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if _, err := client.EndOffsets(ctx, topic); !errors.Is(err, kafka.TopicAuthorizationFailed) || !strings.Contains(err.Error(), "partition 2") {
		t.Errorf("an error of one partition: %v", err)
	}
}

func TestReady(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 3)
	client, gate := c.client(t)
	// The leaders of a new topic take some 100 ms on Apache Kafka, and say so with [6].
	eventually(t, 10*time.Second, "all is well", func() bool { return client.Ready(timeout(t, 10*time.Second), topic) == nil })
	if err := client.Ready(timeout(t, 10*time.Second), "no-"+topic); !errors.Is(err, ErrNoTopic) {
		t.Errorf("a missing topic: %v", err)
	}
	gate.Refuse()
	if err := client.Ready(timeout(t, 10*time.Second), topic); ClassOf(err) != ClassUnreachable {
		t.Errorf("broker down: %v", err)
	}
	gate.Open()
	gate.Freeze()
	start := time.Now()
	if err := client.Ready(timeout(t, 500*time.Millisecond), topic); ClassOf(err) != ClassTimeout {
		t.Errorf("broker frozen: %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("a frozen broker took %s", took)
	}
	gate.Open()
	if err := client.Ready(timeout(t, 10*time.Second), topic); err != nil {
		t.Errorf("all is well again: %v", err)
	}
}

func TestReadyNeedsReplicasInSync(t *testing.T) {
	part := func(isr int) kafka.Partition {
		p := kafka.Partition{ID: 4, Replicas: make([]kafka.Broker, 3), Isr: make([]kafka.Broker, isr)}
		return p
	}
	if err := checkReplicas(kafka.Topic{Partitions: []kafka.Partition{part(3), part(2)}}, 2); err != nil {
		t.Error(err)
	}
	err := checkReplicas(kafka.Topic{Partitions: []kafka.Partition{part(3), part(1)}}, 2)
	if !errors.Is(err, kafka.NotEnoughReplicas) || !strings.Contains(err.Error(), "1 of 3 replicas are in sync, writing needs 2") {
		t.Errorf("got %v", err)
	}
}
