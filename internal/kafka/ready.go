package kafka

import (
	"context"
	"fmt"
	"strconv"

	"github.com/segmentio/kafka-go"
)

// Ready tells whether the topic can be written and read right now: every
// partition has a leader that answers and enough replicas in sync. It asks the
// cluster each time. A follower that hangs but is not yet out of the in-sync set
// is not seen here, only by writing: combine it with [Producer.Healthy].
func (c *Client) Ready(ctx context.Context, topic string) error {
	kc, done := c.live()
	defer done()
	t, err := describe(ctx, kc, topic)
	if err != nil {
		return fmt.Errorf("topic %s is not ready: %w", topic, err)
	}
	if err := checkLeaders(t); err != nil {
		return fmt.Errorf("topic %s is not ready: %w", topic, err)
	}
	if err := checkReplicas(t, c.minInSync(ctx, kc, t)); err != nil {
		return fmt.Errorf("topic %s is not ready: %w", topic, err)
	}
	if _, err := askOffsets(ctx, kc, topic, ids(t), kafka.LastOffset); err != nil {
		return fmt.Errorf("topic %s is not ready: %w", topic, err)
	}
	return nil
}

func checkReplicas(t kafka.Topic, want int) error {
	for _, p := range t.Partitions {
		if len(p.Isr) < want {
			return fmt.Errorf("partition %d: %d of %d replicas are in sync, writing needs %d: %w", p.ID, len(p.Isr), len(p.Replicas), want, kafka.NotEnoughReplicas)
		}
	}
	return nil
}

// minInSync returns the topic's min.insync.replicas. It is asked once; where we
// may not ask, the usual setting is assumed.
func (c *Client) minInSync(ctx context.Context, kc *kafka.Client, t kafka.Topic) int {
	c.mu.Lock()
	n, known := c.minISR[t.Name]
	c.mu.Unlock()
	if known {
		return n
	}
	n = assumedMinISR(replicas(t))
	settings, err := topicSettings(ctx, kc, t.Name)
	if err != nil && ClassOf(err) != ClassDenied {
		return n
	}
	if set, err := strconv.Atoi(settings["min.insync.replicas"]); err == nil {
		n = set
	}
	c.mu.Lock()
	c.minISR[t.Name] = n
	c.mu.Unlock()
	return n
}
