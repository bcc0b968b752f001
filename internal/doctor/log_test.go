package doctor

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/events"
	ourkafka "qunfa/internal/kafka"
)

// fakeLog is a Kafka that is as it should be, until a test changes it.
type fakeLog struct {
	first, ends, committed map[int32]int64
	topics                 map[string]ourkafka.TopicState
	groups                 map[string]ourkafka.GroupState
	recordTime             time.Time

	down, topicErr, groupErr, writeErr error
}

const (
	topic     = "qunfa.events"
	deadTopic = "qunfa.events.dead"
)

func topicState(name string) ourkafka.TopicState {
	t := ourkafka.TopicState{Name: name, Settings: map[string]string{
		"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "1048588", "min.insync.replicas": "2",
		"message.timestamp.before.max.ms": "9223372036854775807", "unclean.leader.election.enable": "false",
	}}
	for p := range int32(12) {
		t.Partitions = append(t.Partitions, ourkafka.PartitionState{ID: p, Leader: "k1:9092", Replicas: 3, InSync: 3})
	}
	return t
}

func newFakeLog() *fakeLog {
	return &fakeLog{
		first: map[int32]int64{0: 0, 1: 5}, ends: map[int32]int64{0: 10, 1: 5}, committed: map[int32]int64{0: 10, 1: -1},
		topics: map[string]ourkafka.TopicState{topic: topicState(topic), deadTopic: topicState(deadTopic)},
		groups: map[string]ourkafka.GroupState{"qunfa-sink": {State: "Stable", Members: 2}, "qunfa-reconcile": {State: "Stable", Members: 1}},
	}
}

func (f *fakeLog) FirstOffsets(_ context.Context, name string) (map[int32]int64, error) {
	if name == deadTopic {
		return map[int32]int64{0: 0}, f.down
	}
	return maps.Clone(f.first), f.down
}

func (f *fakeLog) EndOffsets(_ context.Context, name string) (map[int32]int64, error) {
	if name == deadTopic {
		return map[int32]int64{0: 3}, f.down
	}
	return maps.Clone(f.ends), f.down
}

func (f *fakeLog) CommittedOffsets(context.Context, string, string) (map[int32]int64, error) {
	return maps.Clone(f.committed), f.down
}

func (f *fakeLog) ReadAt(_ context.Context, _ string, p int32, offset int64) (events.Message, bool, error) {
	found := offset >= f.first[p] && offset < f.ends[p]
	return events.Message{Record: events.Record{Time: f.recordTime}, Position: events.Position{Partition: p, Offset: offset}}, found, nil
}

func (f *fakeLog) InspectTopic(_ context.Context, name string) (ourkafka.TopicState, error) {
	if f.down != nil || f.topicErr != nil {
		return ourkafka.TopicState{}, errors.Join(f.down, f.topicErr)
	}
	t, ok := f.topics[name]
	if !ok {
		return t, ourkafka.ErrNoTopic
	}
	return t, nil
}

func (f *fakeLog) InspectGroup(_ context.Context, name string) (ourkafka.GroupState, error) {
	return f.groups[name], f.groupErr
}

func (f *fakeLog) CheckWrite(context.Context, string) error { return f.writeErr }

func (f *fakeLog) Diagnose(_ context.Context, err error) error {
	if errors.Is(err, kafka.SASLAuthenticationFailed) {
		return &ourkafka.Diagnosis{Advice: "check kafka.sasl", Err: err}
	}
	return err
}

func withLog(change func(*fakeLog)) func(*Config) {
	return func(c *Config) {
		f := newFakeLog()
		if change != nil {
			change(f)
		}
		c.Log = f
	}
}

// set changes a setting of the topic of events.
func set(name, value string) func(*fakeLog) {
	return func(f *fakeLog) { f.topics[topic].Settings[name] = value }
}

func TestKafkaAsItShouldBe(t *testing.T) {
	d := newDoctor(t, withLog(nil))
	for id, says := range map[string]string{
		"kafka.reach": "reached", "kafka.topic": "12 partitions, 3 replicas, kept for ever", "kafka.replicas": "all in sync", "kafka.write": "nothing was written",
		"kafka.group": "2 members", "kafka.lag": "nothing waits",
	} {
		want(t, look(t, d, id), OK, says)
	}
}

func TestKafkaFaults(t *testing.T) {
	denied := kafka.TopicAuthorizationFailed
	partition := func(n int, change func(*ourkafka.PartitionState)) func(*fakeLog) {
		return func(f *fakeLog) { change(&f.topics[topic].Partitions[n]) }
	}
	replicas := func(n int) func(*fakeLog) {
		return func(f *fakeLog) {
			for i := range f.topics[topic].Partitions {
				p := &f.topics[topic].Partitions[i]
				p.Replicas, p.InSync = n, n
			}
		}
	}
	for name, test := range map[string]struct {
		change func(*fakeLog)
		id     string
		s      Severity
		words  []string
	}{
		"down":              {func(f *fakeLog) { f.down = kafka.SASLAuthenticationFailed }, "kafka.reach", Failure, []string{"SASL", "check kafka.sasl"}},
		"down, otherwise":   {func(f *fakeLog) { f.down = errors.New("odd") }, "kafka.reach", Failure, []string{"odd", "kafka.brokers"}},
		"down, topic":       {func(f *fakeLog) { f.down = errors.New("odd") }, "kafka.topic", Unchecked, []string{"see kafka.reach"}},
		"down, replicas":    {func(f *fakeLog) { f.down = errors.New("odd") }, "kafka.replicas", Unchecked, []string{"see kafka.reach"}},
		"down, write":       {func(f *fakeLog) { f.down = errors.New("odd") }, "kafka.write", Unchecked, []string{"see kafka.reach"}},
		"down, group":       {func(f *fakeLog) { f.down = errors.New("odd") }, "kafka.group", Unchecked, []string{"see kafka.reach"}},
		"down, lag":         {func(f *fakeLog) { f.down = errors.New("odd") }, "kafka.lag", Unchecked, []string{"see kafka.reach"}},
		"no topic":          {func(f *fakeLog) { delete(f.topics, topic) }, "kafka.topic", Failure, []string{topic, "qunfa migrate"}},
		"no topic, reach":   {func(f *fakeLog) { delete(f.topics, topic) }, "kafka.reach", OK, nil},
		"no topic, write":   {func(f *fakeLog) { delete(f.topics, topic) }, "kafka.write", Unchecked, []string{"see kafka.topic"}},
		"no dead topic":     {func(f *fakeLog) { delete(f.topics, deadTopic) }, "kafka.topic", Failure, []string{deadTopic, "qunfa migrate"}},
		"settings hidden":   {func(f *fakeLog) { s := f.topics[topic]; s.SettingsErr, s.Settings = denied, nil; f.topics[topic] = s }, "kafka.topic", Unchecked, []string{"DescribeConfigs"}},
		"partitions":        {func(f *fakeLog) { s := f.topics[topic]; s.Partitions = s.Partitions[:5]; f.topics[topic] = s }, "kafka.topic", Warning, []string{"5 partitions", "12"}},
		"one replica":       {replicas(1), "kafka.topic", Warning, []string{"rests on one disk"}},
		"two replicas":      {replicas(2), "kafka.topic", Warning, []string{"2 replicas", "says 3"}},
		"compacted":         {set("cleanup.policy", "compact"), "kafka.topic", Failure, []string{"but the last", "cleanup.policy=delete"}},
		"kept for a day":    {set("retention.ms", "86400000"), "kafka.topic", Warning, []string{"24 hours", "lost"}},
		"kept by size":      {set("retention.bytes", "1073741824"), "kafka.topic", Warning, []string{"1.0 GiB"}},
		"small messages":    {set("max.message.bytes", "100000"), "kafka.topic", Warning, []string{"100000", "larger"}},
		"old refused":       {set("message.timestamp.before.max.ms", "3600000"), "kafka.topic", Warning, []string{"spool", "60 minutes"}},
		"unclean":           {set("unclean.leader.election.enable", "true"), "kafka.topic", Warning, []string{"vanish"}},
		"one in sync":       {set("min.insync.replicas", "1"), "kafka.topic", Warning, []string{"min.insync.replicas is 1"}},
		"all in sync":       {set("min.insync.replicas", "3"), "kafka.topic", Warning, []string{"3 of 3", "min.insync.replicas=2"}},
		"no leader":         {partition(3, func(p *ourkafka.PartitionState) { p.Leader = "" }), "kafka.replicas", Failure, []string{"partition 3 has no leader"}},
		"too few in sync":   {partition(4, func(p *ourkafka.PartitionState) { p.InSync = 1 }), "kafka.replicas", Failure, []string{"partition 4 has 1 of 3", "needs 2"}},
		"one behind":        {partition(5, func(p *ourkafka.PartitionState) { p.InSync = 2 }), "kafka.replicas", Warning, []string{"1 partition", "under-replicated"}},
		"may not write":     {func(f *fakeLog) { f.writeErr = denied }, "kafka.write", Failure, []string{"may not write", "kafka-acls --add --operation Write"}},
		"cannot write":      {func(f *fakeLog) { f.writeErr = kafka.KafkaStorageError }, "kafka.write", Failure, []string{"[56]"}},
		"no sink":           {func(f *fakeLog) { f.groups["qunfa-sink"] = ourkafka.GroupState{State: "Empty"} }, "kafka.group", Failure, []string{"qunfa-sink", "no sink takes part"}},
		"no reconcile":      {func(f *fakeLog) { f.groups["qunfa-reconcile"] = ourkafka.GroupState{State: "Dead"} }, "kafka.group", Warning, []string{"no reconcile takes part"}},
		"group denied":      {func(f *fakeLog) { f.groupErr = kafka.GroupAuthorizationFailed }, "kafka.group", Failure, []string{"may not use the group", "--operation Read --group"}},
		"group not told":    {func(f *fakeLog) { f.groupErr = errors.New("odd") }, "kafka.group", Failure, []string{"odd"}},
		"behind a moment":   {lags(time.Second), "kafka.lag", OK, []string{"4 records are not yet", "the oldest for"}},
		"behind minutes":    {lags(5 * time.Minute), "kafka.lag", Warning, []string{"5 minutes"}},
		"stands still":      {lags(time.Hour), "kafka.lag", Failure, []string{"60 minutes", "/readyz"}},
		"behind since when": {func(f *fakeLog) { f.committed[0] = 6; f.first[0] = 20; f.ends[0] = 21 }, "kafka.lag", Failure, []string{"1 record is not yet"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, look(t, newDoctor(t, withLog(test.change)), test.id), test.s, test.words...)
		})
	}
	want(t, look(t, newDoctor(t), "kafka.reach"), Failure, "names no Kafka", "kafka.brokers")
}

func lags(age time.Duration) func(*fakeLog) {
	return func(f *fakeLog) { f.committed[0], f.recordTime = 6, time.Now().Add(-age) }
}

// The embedded broker has one partition and one replica, by its nature.
func TestEmbeddedTopic(t *testing.T) {
	one := withLog(func(f *fakeLog) {
		for _, name := range []string{topic, deadTopic} {
			s := topicState(name)
			s.Partitions = []ourkafka.PartitionState{{Leader: "x:1", Replicas: 1, InSync: 1}}
			s.Settings["min.insync.replicas"] = "1"
			f.topics[name] = s
		}
	})
	want(t, look(t, newDoctor(t, one, func(c *Config) { c.Embedded = true }), "kafka.topic"), OK, "1 partition, 1 replica")
}
