package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qunfa/internal/events"
)

// read returns the values of what Read hands out, by partition.
func read(ctx context.Context, client *Client, topic string, from, until map[int32]int64) (map[int32][]string, error) {
	got := map[int32][]string{}
	err := client.Read(ctx, topic, from, until, func(m events.Message) error {
		got[m.Partition] = append(got[m.Partition], fmt.Sprintf("%d:%s", m.Offset, m.Value))
		return nil
	})
	return got, err
}

func TestRead(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 2)
	client, _ := c.client(t)
	p := PartitionFor([]byte("wx1"), 2)
	c.fill(t, topic, sequence("wx1", 8))
	c.trim(t, topic, p, 2)
	ctx := timeout(t, 20*time.Second)
	for name, test := range map[string]struct {
		from, until map[int32]int64
		want        []string
	}{
		"a part":              {map[int32]int64{p: 3}, map[int32]int64{p: 5}, []string{"3:wx1-3", "4:wx1-4"}},
		"what was trimmed":    {nil, map[int32]int64{p: 4}, []string{"2:wx1-2", "3:wx1-3"}},
		"nothing":             {map[int32]int64{p: 5}, map[int32]int64{p: 5}, nil},
		"an empty partition":  {nil, map[int32]int64{1 - p: 0}, nil},
		"to the end, exactly": {map[int32]int64{p: 6, 1 - p: 0}, map[int32]int64{p: 8, 1 - p: 0}, []string{"6:wx1-6", "7:wx1-7"}},
	} {
		got, err := read(ctx, client, topic, test.from, test.until)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(test.want, got[p]); d != "" || len(got[1-p]) > 0 {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if _, err := read(ctx, client, topic, map[int32]int64{p: 9}, map[int32]int64{p: 12}); !errors.Is(err, ErrLogLost) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := read(ctx, client, "no-"+topic, nil, map[int32]int64{0: 1}); !errors.Is(err, ErrNoTopic) {
		t.Errorf("a missing topic: %v", err)
	}
}

func TestReadEndsWithItsCaller(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	c.fill(t, topic, sequence("wx1", 5))
	odd, calls := errors.New("odd"), 0
	err := client.Read(timeout(t, 20*time.Second), topic, nil, map[int32]int64{0: 5}, func(events.Message) error {
		calls++
		return odd
	})
	if !errors.Is(err, odd) || calls != 1 {
		t.Errorf("got %v after %d calls, want the caller's error after one", err, calls)
	}
	gate.Freeze()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := read(ctx, client, topic, nil, map[int32]int64{0: 5}); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
		t.Errorf("after %s: %v, want the caller's deadline", time.Since(start), err)
	}
	gate.Open()
	gate.Refuse()
	if _, err := read(timeout(t, 30*time.Second), client, topic, nil, map[int32]int64{0: 5}); ClassOf(err) != ClassUnreachable {
		t.Errorf("Kafka is away: %v", err)
	}
}

// An error now and again, with records in between, is none.
func TestReadGoesOnThroughErrors(t *testing.T) {
	c := fakeBrokers(t, 2)
	topic := c.topic(t, 1)
	client, _ := c.client(t)
	c.fill(t, topic, sequence("wx1", 100))
	h := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: 3})
	got, err := read(timeout(t, 30*time.Second), client, topic, nil, map[int32]int64{0: 100})
	if err != nil || len(got[0]) != 100 || h.Hits() != 3 {
		t.Errorf("%d records after %d errors: %v", len(got[0]), h.Hits(), err)
	}
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if _, err := read(timeout(t, 30*time.Second), client, topic, nil, map[int32]int64{0: 100}); !errors.Is(err, kafka.TopicAuthorizationFailed) {
		t.Errorf("a right is missing: %v", err)
	}
}
