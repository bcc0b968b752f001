package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// TopicConfig says what a topic must be like. Only Name is required; every
// setting is sent, so that a broker's defaults cannot drop or compact events.
type TopicConfig struct {
	Name string
	// Partitions, 0: the broker's default. It cannot be changed later without a new topic.
	Partitions int
	// ReplicationFactor, 0: the broker's default.
	ReplicationFactor int
	// Retention, 0: records are kept for ever.
	Retention time.Duration
	// MinInSyncReplicas, 0: 2 from three replicas on, 1 for fewer, the broker's
	// default where ReplicationFactor is the broker's, too.
	MinInSyncReplicas int
	// MaxMessageBytes, 0: 1048588.
	MaxMessageBytes int
	// SegmentBytes, 0: the broker's default; else at least 1 MiB, since Kafka 4 refuses less.
	SegmentBytes int
}

// Validate says what is wrong with the configuration.
func (t TopicConfig) Validate() error {
	switch {
	case t.Name == "":
		return errors.New("topic: want a name")
	case t.Partitions < 0 || t.Partitions > maxPartitions:
		return fmt.Errorf("topic %s: %d partitions: want 1 to %d", t.Name, t.Partitions, maxPartitions)
	case t.ReplicationFactor < 0:
		return fmt.Errorf("topic %s: replication factor %d: want 1 or more", t.Name, t.ReplicationFactor)
	case t.ReplicationFactor > 0 && t.MinInSyncReplicas > t.ReplicationFactor:
		return fmt.Errorf("topic %s: %d in-sync replicas of %d: nothing could be written", t.Name, t.MinInSyncReplicas, t.ReplicationFactor)
	case t.SegmentBytes != 0 && t.SegmentBytes < 1<<20:
		return fmt.Errorf("topic %s: segments of %d bytes: want at least 1 MiB", t.Name, t.SegmentBytes)
	case t.Retention < 0:
		return fmt.Errorf("topic %s: retention %s: want 0 to keep records for ever, or a duration", t.Name, t.Retention)
	}
	return nil
}

// settings returns the topic-level configuration, name to value.
func (t TopicConfig) settings() map[string]string {
	s := map[string]string{
		"cleanup.policy":    "delete",
		"retention.ms":      "-1",
		"retention.bytes":   "-1",
		"max.message.bytes": strconv.Itoa(defaultMaxMessageBytes),
		timestampAhead:      anyTime,
	}
	if t.Retention > 0 {
		s["retention.ms"] = strconv.FormatInt(t.Retention.Milliseconds(), 10)
	}
	if t.MaxMessageBytes > 0 {
		s["max.message.bytes"] = strconv.Itoa(t.MaxMessageBytes)
	}
	if t.SegmentBytes > 0 {
		s["segment.bytes"] = strconv.Itoa(t.SegmentBytes)
	}
	switch {
	case t.MinInSyncReplicas > 0:
		s["min.insync.replicas"] = strconv.Itoa(t.MinInSyncReplicas)
	case t.ReplicationFactor > 0:
		s["min.insync.replicas"] = strconv.Itoa(assumedMinISR(t.ReplicationFactor))
	}
	return s
}

// Kafka 4 refuses records whose time is more than an hour ahead of its clock,
// and knows the setting since 3.6. What has come must be kept, however wrong the
// clock of the machine is to which it came.
const (
	timestampAhead = "message.timestamp.after.max.ms"
	anyTime        = "9223372036854775807"
)

// assumedMinISR is what a topic of so many replicas ought to ask for: one
// broker may be away without stopping writes, and no write rests on one disk.
func assumedMinISR(replicas int) int {
	if replicas >= 3 {
		return 2
	}
	return 1
}

// EnsureTopic creates the topic, or compares an existing one and returns each
// difference as a warning in words; it never changes an existing topic. A
// cluster that has just started refuses at first: that is retried until ctx ends.
func (c *Client) EnsureTopic(ctx context.Context, t TopicConfig) (warnings []string, err error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	err = c.createTopic(ctx, t)
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, kafka.TopicAlreadyExists):
		return c.compareTopic(ctx, t)
	case ClassOf(err) == ClassDenied:
		// An operator who allows no creation has usually created it already.
		if _, missing := c.Partitions(ctx, t.Name); missing == nil {
			return c.compareTopic(ctx, t)
		}
	}
	return nil, fmt.Errorf("create topic %s: %w", t.Name, err)
}

func (c *Client) createTopic(ctx context.Context, t TopicConfig) error {
	settings := t.settings()
	err := c.createWith(ctx, t, settings)
	if errors.Is(err, kafka.InvalidConfiguration) {
		// Before 3.6 the setting was unknown, and so was the limit.
		delete(settings, timestampAhead)
		err = c.createWith(ctx, t, settings)
	}
	return err
}

func (c *Client) createWith(ctx context.Context, t TopicConfig, settings map[string]string) error {
	req := &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic:             t.Name,
		NumPartitions:     orDefault(t.Partitions),
		ReplicationFactor: orDefault(t.ReplicationFactor),
	}}}
	for name, value := range settings {
		req.Topics[0].ConfigEntries = append(req.Topics[0].ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	for {
		res, err := c.kc.CreateTopics(ctx, req)
		if err == nil {
			err = res.Errors[t.Name]
		}
		// [8] is what kafka-go says while it has no connection to the controller.
		if err == nil || !transient(err) {
			return err
		}
		c.nudge()
		if !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// orDefault turns our "not given" into Kafka's.
func orDefault(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

func (c *Client) compareTopic(ctx context.Context, want TopicConfig) ([]string, error) {
	kc, done := c.live()
	defer done()
	have, err := describe(ctx, kc, want.Name)
	if err != nil {
		return nil, fmt.Errorf("look at topic %s: %w", want.Name, err)
	}
	var warnings []string
	warn := func(what, have, want, so string) {
		warnings = append(warnings, fmt.Sprintf("%s is %s, want %s: %s", what, have, want, so))
	}
	if n := len(have.Partitions); want.Partitions > 0 && n != want.Partitions {
		warn("the number of partitions", strconv.Itoa(n), strconv.Itoa(want.Partitions),
			"it cannot be changed without moving accounts between partitions; set the configuration to what it is, or use a new topic and replay")
	}
	if n := replicas(have); want.ReplicationFactor > 0 && n != want.ReplicationFactor {
		warn("the replication factor", strconv.Itoa(n), strconv.Itoa(want.ReplicationFactor), "use kafka-reassign-partitions to change it")
	}
	settings, err := topicSettings(ctx, kc, want.Name)
	if err != nil {
		return append(warnings, fmt.Sprintf("the settings could not be read (allow DescribeConfigs on the topic, to have them compared): %v", err)), nil
	}
	for _, name := range sortedKeys(want.settings()) {
		h, known := settings[name]
		if w := want.settings()[name]; h != w && (known || name != timestampAhead) {
			warn(name, h, w, "use kafka-configs --alter to change it"+why[name])
		}
	}
	return warnings, nil
}

// why says what a wrong setting means, where its name does not.
var why = map[string]string{
	timestampAhead: "; as it is, records are stored with another time than that of their receipt if the clock of ingest is further ahead",
}

// replicas returns the least number of replicas of any partition.
func replicas(t kafka.Topic) int {
	n := 0
	for i, p := range t.Partitions {
		if i == 0 || len(p.Replicas) < n {
			n = len(p.Replicas)
		}
	}
	return n
}

func topicSettings(ctx context.Context, kc *kafka.Client, topic string) (map[string]string, error) {
	res, err := kc.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}},
	})
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, r := range res.Resources {
		if r.Error != nil {
			return nil, r.Error
		}
		for _, e := range r.ConfigEntries {
			settings[e.ConfigName] = e.ConfigValue
		}
	}
	return settings, nil
}

// Partitions returns the number of partitions of a topic, or [ErrNoTopic].
func (c *Client) Partitions(ctx context.Context, topic string) (int, error) {
	var n int
	err := c.retry(ctx, func(ctx context.Context) error {
		t, err := describe(ctx, c.kc, topic)
		n = len(t.Partitions)
		return orDenied(ctx, c.kc, topic, err)
	})
	return n, wrap(err, "partitions of topic %s", topic)
}

// describe returns what the client knows about a topic.
func describe(ctx context.Context, kc *kafka.Client, topic string) (kafka.Topic, error) {
	res, err := kc.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return kafka.Topic{}, err
	}
	if len(res.Topics) == 0 {
		return kafka.Topic{}, ErrNoTopic
	}
	t := res.Topics[0]
	switch {
	case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
		return t, fmt.Errorf("%w: %w", ErrNoTopic, t.Error)
	case t.Error != nil:
		return t, t.Error
	case len(t.Partitions) == 0:
		return t, kafka.LeaderNotAvailable
	}
	return t, nil
}

// whyNoTopic returns the true cause of an error that says that the topic does
// not exist: kafka-go says so, too, as long as it has no connection, and brokers
// to whom may not see it.
func (c *Client) whyNoTopic(ctx context.Context, topic string, err error) error {
	if _, cause := describe(ctx, c.kc, topic); cause != nil {
		return orDenied(ctx, c.kc, topic, cause)
	}
	return err // the topic has just appeared
}

// orDenied returns err, or that we may not use the topic, if that is why it does
// not seem to exist: ListOffsets tells one from the other, Metadata does not.
func orDenied(ctx context.Context, kc *kafka.Client, topic string, err error) error {
	if !errors.Is(err, ErrNoTopic) {
		return err
	}
	if _, denied := askOffsets(ctx, kc, topic, []int{0}, kafka.LastOffset); ClassOf(denied) == ClassDenied {
		return fmt.Errorf("topic %s: %w", topic, denied)
	}
	return err
}

// WaitForTopic returns the number of partitions as soon as the topic exists and
// every partition has a leader. It gives up when we may not use the topic, or when
// ctx ends, and then says what was missing.
func (c *Client) WaitForTopic(ctx context.Context, topic string) (int, error) {
	var missing error
	for {
		n, err := c.lookForTopic(ctx, topic)
		if err == nil {
			return n, nil
		}
		if missing == nil || ctx.Err() == nil { // the last look may have been cut short
			missing = err
		}
		if ClassOf(err) == ClassDenied {
			return 0, fmt.Errorf("wait for topic %s: %w", topic, err)
		}
		if !sleep(ctx, 250*time.Millisecond) {
			return 0, fmt.Errorf("wait for topic %s: %w: %w", topic, ctx.Err(), missing)
		}
	}
}

func (c *Client) lookForTopic(ctx context.Context, topic string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.DialTimeout)
	defer cancel()
	kc, done := c.live()
	defer done()
	t, err := describe(ctx, kc, topic)
	if err != nil {
		return 0, orDenied(ctx, kc, topic, err)
	}
	return len(t.Partitions), checkLeaders(t)
}

func checkLeaders(t kafka.Topic) error {
	for _, p := range t.Partitions {
		if p.Leader.Host == "" {
			return fmt.Errorf("partition %d has no leader: %w", p.ID, kafka.LeaderNotAvailable)
		}
	}
	return nil
}
