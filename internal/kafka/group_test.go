package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qunfa/internal/events"
)

// groupConfig is quick on kfake; real brokers allow no session below 6 s.
func (c testCluster) groupConfig(t testing.TB, topic string) GroupConfig {
	cfg := GroupConfig{
		GroupID: "g-" + unique(t), Topic: topic,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 100 * time.Millisecond,
		JoinBackoff: 50 * time.Millisecond, WatchInterval: 100 * time.Millisecond,
		MaxWait: 50 * time.Millisecond, RebalanceTimeout: 6 * time.Second,
		RequestTimeout: time.Second, LeaveTimeout: time.Second,
	}
	if c.real() {
		cfg.RequestTimeout = 5 * time.Second
	} else {
		cfg.SessionTimeout, cfg.RebalanceTimeout = 2*time.Second, 2*time.Second
	}
	return cfg
}

// runGroup runs a member until the test ends or stop is called; stop returns
// what Run returned.
func runGroup(t testing.TB, client *Client, cfg GroupConfig, reg prometheus.Registerer, handle Handler) (g *Group, stop func() error) {
	t.Helper()
	g, err := NewGroup(client, cfg, quiet(), reg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	var result error
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, handle) }()
	stop = func() error {
		once.Do(func() {
			cancel()
			result = <-done
		})
		return result
	}
	t.Cleanup(func() { stop() })
	return g, stop
}

// collector is a handler that keeps what it reads and commits it.
type collector struct {
	mu       sync.Mutex
	messages []events.Message
	trimmed  []Range
	owned    map[int32]int64 // of the current generation
	gens     int
}

func (c *collector) handle(ctx context.Context, g *Generation) error {
	c.mu.Lock()
	c.owned = g.Owned()
	c.gens++
	c.mu.Unlock()
	if err := g.Begin(nil); err != nil {
		return err
	}
	for {
		msgs, err := g.Poll(ctx, 1000, 1<<20)
		if err != nil {
			return err
		}
		next := map[int32]int64{}
		for _, r := range g.Trimmed() {
			c.mu.Lock()
			c.trimmed = append(c.trimmed, r)
			c.mu.Unlock()
			next[r.Partition] = r.To
		}
		c.mu.Lock()
		c.messages = append(c.messages, msgs...)
		c.mu.Unlock()
		for _, m := range msgs {
			next[m.Partition] = m.Offset + 1
		}
		commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err = g.Commit(commit, next)
		cancel()
		if err != nil {
			return err
		}
	}
}

func (c *collector) values() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, m := range c.messages {
		out = append(out, string(m.Value))
	}
	return out
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.messages)
}

func (c *collector) ownedNow() map[int32]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.owned)
}

func TestAGroupReadsEverythingOnceAndGoesOn(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 3)
	cfg := c.groupConfig(t, topic)
	var want []string
	var recs []events.Record
	for i := range 300 {
		rec := record(fmt.Sprintf("wx%d", i%7), i)
		recs = append(recs, rec)
		want = append(want, string(rec.Value))
	}
	c.fill(t, topic, recs)
	client, _ := c.client(t)
	var first collector
	_, stop := runGroup(t, client, cfg, nil, first.handle)
	eventually(t, 20*time.Second, "all read", func() bool { return first.count() >= len(want) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(first.values()))); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	last := map[int32]int64{}
	for _, m := range first.messages {
		if before, any := last[m.Partition]; any && m.Offset != before+1 {
			t.Errorf("partition %d: %d comes after %d", m.Partition, m.Offset, before)
		}
		last[m.Partition] = m.Offset
		if m.Topic != topic || m.HighWater <= m.Offset || m.Time.IsZero() || len(m.Headers) != 1 {
			t.Errorf("message %+v", m)
		}
	}
	committed, err := client.CommittedOffsets(timeout(t, 10*time.Second), cfg.GroupID, topic)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := client.EndOffsets(timeout(t, 10*time.Second), topic)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ends, committed, cmp.Comparer(func(a, b int64) bool { return max(a, 0) == max(b, 0) })); diff != "" {
		t.Errorf("committed offsets (-ends +committed):\n%s", diff)
	}

	c.fill(t, topic, []events.Record{record("new", 1)})
	var second collector
	_, stop = runGroup(t, client, cfg, nil, second.handle)
	eventually(t, 20*time.Second, "the new record", func() bool { return second.count() > 0 })
	stop()
	if diff := cmp.Diff([]string{"new-1"}, second.values()); diff != "" {
		t.Errorf("the next member reads (-want +got):\n%s", diff)
	}
}

func TestTwoMembersShareThePartitions(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 4)
	cfg := c.groupConfig(t, topic)
	clientA, _ := c.client(t)
	clientB, _ := c.client(t)
	var a, b collector
	reg := prometheus.NewPedanticRegistry()
	_, stopA := runGroup(t, clientA, cfg, reg, a.handle)
	eventually(t, 20*time.Second, "A owns all", func() bool { return len(a.ownedNow()) == 4 })
	_, stopB := runGroup(t, clientB, cfg, reg, b.handle)
	eventually(t, 20*time.Second, "two and two", func() bool { return len(a.ownedNow()) == 2 && len(b.ownedNow()) == 2 })
	for p := range a.ownedNow() {
		if _, both := b.ownedNow()[p]; both {
			t.Errorf("both own partition %d", p)
		}
	}
	var recs []events.Record
	for i := range 100 {
		recs = append(recs, record(fmt.Sprintf("wx%d", i), i))
	}
	c.fill(t, topic, recs)
	eventually(t, 20*time.Second, "all read", func() bool { return a.count()+b.count() >= 100 })
	if a.count()+b.count() != 100 || a.count() == 0 || b.count() == 0 {
		t.Errorf("A read %d and B %d of 100", a.count(), b.count())
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	if err := stopB(); err != nil {
		t.Error(err)
	}
	eventually(t, 20*time.Second, "A owns all again", func() bool { return len(a.ownedNow()) == 4 })
	c.fill(t, topic, recs)
	eventually(t, 20*time.Second, "all read by A", func() bool { return a.count()+b.count() >= 200 })
	if err := stopA(); err != nil {
		t.Error(err)
	}
}

// A handler that is busy for longer than the session timeout keeps its partitions.
func TestHeartbeatsGoOnWhileTheHandlerIsBusy(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	cfg := c.groupConfig(t, topic)
	client, _ := c.client(t)
	busy := make(chan struct{})
	result := make(chan error, 1)
	_, _ = runGroup(t, client, cfg, nil, func(ctx context.Context, g *Generation) error {
		close(busy)
		select {
		case <-time.After(cfg.SessionTimeout * 3 / 2):
			result <- g.Commit(timeout(t, 5*time.Second), nil)
		case <-ctx.Done():
			result <- context.Cause(ctx)
		}
		<-ctx.Done()
		return nil
	})
	<-busy
	if err := <-result; err != nil {
		t.Errorf("the busy handler lost its generation: %v", err)
	}
}

func TestCommitIsRefusedUnlessItIsOurs(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 2)
	c.fill(t, topic, sequence("wx1", 10))
	mine := PartitionFor([]byte("wx1"), 2)
	cfg := c.groupConfig(t, topic)
	client, _ := c.client(t)
	checked := make(chan struct{})
	_, stop := runGroup(t, client, cfg, nil, func(ctx context.Context, g *Generation) error {
		defer func() { <-ctx.Done() }()
		defer close(checked)
		if _, err := g.Poll(ctx, 1, 1); err == nil {
			t.Error("Poll before Begin")
		}
		if err := g.Begin(map[int32]int64{7: 0}); !errors.Is(err, ErrNotOwned) {
			t.Errorf("Begin of a foreign partition: %v", err)
		}
		if err := g.Begin(map[int32]int64{mine: 4}); err != nil {
			t.Error(err)
		}
		if err := g.Begin(nil); err == nil {
			t.Error("Begin twice")
		}
		msgs, err := g.Poll(ctx, 3, 1<<20)
		if err != nil || len(msgs) == 0 || len(msgs) > 3 || msgs[0].Offset != 4 {
			t.Errorf("Poll: %v, %v", msgs, err)
			return nil
		}
		next := msgs[len(msgs)-1].Offset + 1
		for name, bad := range map[string]map[int32]int64{
			"foreign": {mine: next, 7: 1}, "beyond what was handed out": {mine: next + 1}, "behind the start": {mine: 3},
		} {
			if err := g.Commit(ctx, bad); err == nil {
				t.Errorf("accepted a commit that is %s", name)
			}
		}
		if err := g.Commit(ctx, map[int32]int64{mine: next}); err != nil {
			t.Error(err)
		}
		if err := g.Commit(ctx, map[int32]int64{mine: next}); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if err := g.Commit(ctx, map[int32]int64{mine: next - 1}); err == nil {
			t.Error("accepted an offset that goes back")
		}
		if got := g.Owned()[mine]; got != next {
			t.Errorf("Owned says %d after the commit of %d", got, next)
		}
		return nil
	})
	<-checked
	stop()
	committed, err := client.CommittedOffsets(timeout(t, 10*time.Second), cfg.GroupID, topic)
	if err != nil {
		t.Fatal(err)
	}
	if committed[mine] < 5 || committed[mine] > 7 || committed[1-mine] != -1 {
		t.Errorf("committed: %v", committed)
	}
}

// The handler of a member that was replaced must not move the offsets, even if
// it has not noticed yet.
func TestALateCommitIsFenced(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	c.fill(t, topic, sequence("wx1", 10))
	cfg := c.groupConfig(t, topic)
	clientA, gateA := c.client(t)
	clientB, _ := c.client(t)
	polled, replaced := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	var once sync.Once
	runGroup(t, clientA, cfg, nil, func(ctx context.Context, g *Generation) error {
		once.Do(func() {
			if err := g.Begin(nil); err != nil {
				t.Error(err)
			}
			msgs, err := g.Poll(ctx, 5, 1<<20)
			if err != nil {
				t.Error(err)
			}
			close(polled)
			<-replaced
			result <- g.Commit(timeout(t, 10*time.Second), map[int32]int64{0: msgs[len(msgs)-1].Offset + 1})
		})
		<-ctx.Done()
		return nil
	})
	<-polled
	gateA.Refuse() // heartbeats stop, as if the machine were frozen
	var b collector
	runGroup(t, clientB, cfg, nil, b.handle)
	eventually(t, 30*time.Second, "B has read all", func() bool { return b.count() >= 10 })
	gateA.Open()
	close(replaced)
	if err := <-result; !errors.Is(err, ErrGenerationEnded) {
		t.Errorf("the late commit: %v, want ErrGenerationEnded", err)
	}
	committed, err := clientB.CommittedOffsets(timeout(t, 10*time.Second), cfg.GroupID, topic)
	if err != nil || committed[0] != 10 {
		t.Errorf("committed: %v, %v, want what B committed, 10", committed, err)
	}
}

func TestTheHandlerEndsBeforeTheNextGeneration(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 2)
	cfg := c.groupConfig(t, topic)
	clientA, _ := c.client(t)
	clientB, _ := c.client(t)
	var running, generations atomic.Int64
	runGroup(t, clientA, cfg, nil, func(ctx context.Context, g *Generation) error {
		if running.Add(1) != 1 {
			t.Error("two handlers at once")
		}
		defer running.Add(-1)
		generations.Add(1)
		if err := g.Begin(nil); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, ErrGenerationEnded) && !errors.Is(cause, context.Canceled) {
			t.Errorf("cause %v", cause)
		}
		if _, err := g.Poll(context.Background(), 1, 1); err == nil {
			t.Error("Poll of a generation that has ended")
		}
		return nil
	})
	eventually(t, 20*time.Second, "joined", func() bool { return generations.Load() == 1 })
	for range 3 {
		before := generations.Load()
		var b collector
		_, stopB := runGroup(t, clientB, cfg, nil, b.handle)
		eventually(t, 20*time.Second, "B in, A again", func() bool { return len(b.ownedNow()) == 1 && generations.Load() > before })
		stopB()
	}
}

func TestTrimmedRecordsAreReported(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	c.fill(t, topic, sequence("wx1", 20))
	c.trim(t, topic, 0, 12)
	cfg := c.groupConfig(t, topic)
	client, _ := c.client(t)

	t.Run("behind a known offset", func(t *testing.T) {
		got := make(chan []Range, 1)
		_, stop := runGroup(t, client, cfg, nil, func(ctx context.Context, g *Generation) error {
			if err := g.Begin(map[int32]int64{0: 5}); err != nil {
				t.Error(err)
			}
			var ranges []Range
			var offsets []int64
			for len(offsets) < 8 {
				msgs, err := g.Poll(ctx, 100, 1<<20)
				if err != nil {
					t.Error(err)
					break
				}
				ranges = append(ranges, g.Trimmed()...)
				for _, m := range msgs {
					offsets = append(offsets, m.Offset)
				}
			}
			if len(offsets) == 0 || offsets[0] != 12 {
				t.Errorf("offsets %v", offsets)
			}
			if again := g.Trimmed(); again != nil {
				t.Errorf("reported twice: %v", again)
			}
			if err := g.Commit(ctx, map[int32]int64{0: 12}); err != nil {
				t.Errorf("commit behind the trimmed range: %v", err)
			}
			got <- ranges
			<-ctx.Done()
			return nil
		})
		if diff := cmp.Diff([]Range{{Topic: topic, Partition: 0, From: 5, To: 12}}, <-got); diff != "" {
			t.Errorf("trimmed (-want +got):\n%s", diff)
		}
		stop()
	})
	t.Run("everything", func(t *testing.T) {
		// kfake, unlike Kafka, starts an emptied partition at 0 again only when it restarts.
		c.trim(t, topic, 0, 20)
		var all collector
		_, _ = runGroup(t, client, cfg, nil, all.handle)
		eventually(t, 20*time.Second, "reported although no record follows", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return len(all.trimmed) == 1 && all.trimmed[0].From == 12 && all.trimmed[0].To == 20
		})
	})
	t.Run("nothing was ever committed", func(t *testing.T) {
		c.fill(t, topic, []events.Record{record("wx1", 99)})
		cfg := c.groupConfig(t, topic)
		var all collector
		_, _ = runGroup(t, client, cfg, nil, all.handle)
		eventually(t, 20*time.Second, "read from the first record", func() bool { return all.count() == 1 })
		if len(all.trimmed) != 0 {
			t.Errorf("who starts at the first record has missed nothing: %v", all.trimmed)
		}
	})
}

// A committed offset beyond the end means that the topic is not the one that
// was read: going on would skip records silently.
func TestALostLogStopsThePartitionAndSaysSo(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 2)
	c.fill(t, topic, append(sequence("wx1", 5), sequence("wx0", 5)...))
	cfg := c.groupConfig(t, topic)
	client, _ := c.client(t)
	res, err := client.kc.OffsetCommit(timeout(t, 10*time.Second), &kafka.OffsetCommitRequest{
		GroupID: cfg.GroupID, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 1, Offset: 1000}}},
	})
	if err != nil || res.Topics[topic][0].Error != nil {
		t.Fatal(err, res)
	}
	ends, err := client.EndOffsets(timeout(t, 10*time.Second), topic)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	_, stop := runGroup(t, client, cfg, nil, func(ctx context.Context, g *Generation) error {
		if err := g.Begin(nil); err != nil {
			t.Error(err)
		}
		seen := int64(0)
		for {
			msgs, err := g.Poll(ctx, 100, 1<<20)
			for _, m := range msgs {
				if m.Partition != 0 {
					t.Errorf("read %s", m.Position)
				}
				seen++
			}
			if err != nil {
				if seen != ends[0] {
					t.Errorf("%d records of the other partition came first, want %d", seen, ends[0])
				}
				result <- err
				return err
			}
		}
	})
	err = <-result
	if !errors.Is(err, ErrLogLost) || !strings.Contains(err.Error(), "1000 is next") {
		t.Errorf("got %v, want ErrLogLost", err)
	}
	if err := stop(); !errors.Is(err, ErrLogLost) {
		t.Errorf("Run returned %v, want the handler's error", err)
	}
}

func TestPollKeepsToItsLimits(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	recs := sequence("wx1", 30)
	for i := range recs {
		recs[i].Value = bytes.Repeat([]byte{'a' + byte(i)}, 1000)
	}
	c.fill(t, topic, recs)
	client, _ := c.client(t)
	done := make(chan struct{})
	runGroup(t, client, c.groupConfig(t, topic), nil, func(ctx context.Context, g *Generation) error {
		defer func() { <-ctx.Done() }()
		defer close(done)
		if err := g.Begin(nil); err != nil {
			t.Error(err)
		}
		eventually(t, 10*time.Second, "prefetched", func() bool { return g.buffer.size() > 30_000 })
		for _, limit := range []struct{ records, bytes, want int }{{7, 1 << 20, 7}, {100, 3000, 2}, {0, 0, 1}, {100, 10, 1}, {1000, 1 << 20, 19}} {
			msgs, err := g.Poll(ctx, limit.records, limit.bytes)
			if err != nil || len(msgs) != limit.want {
				t.Errorf("Poll(%d, %d) returned %d messages, %v; want %d", limit.records, limit.bytes, len(msgs), err, limit.want)
			}
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if msgs, err := g.Poll(short, 1, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing there: %v, %v", msgs, err)
		}
		return nil
	})
	<-done
}

// A handler that takes nothing must not make the member read the whole topic into memory.
func TestPrefetchIsBounded(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 2)
	var recs []events.Record
	for i := range 4000 {
		rec := record(fmt.Sprintf("wx%d", i), i)
		rec.Value = make([]byte, 1000)
		recs = append(recs, rec)
	}
	c.fill(t, topic, recs)
	client, _ := c.client(t)
	cfg := c.groupConfig(t, topic)
	cfg.PrefetchBytes = 200_000
	const slack = 2 * 1500 // one message per partition
	var taken atomic.Int64
	reg := prometheus.NewRegistry()
	g, stop := runGroup(t, client, cfg, reg, func(ctx context.Context, g *Generation) error {
		if err := g.Begin(nil); err != nil {
			t.Error(err)
		}
		full := func() bool { return g.buffer.size() >= cfg.PrefetchBytes }
		eventually(t, 20*time.Second, "as much as is allowed", full)
		fetched := testutil.ToFloat64(g.group.metrics.records)
		for range 20 { // several fetches' time
			<-time.After(10 * time.Millisecond)
			if n := g.buffer.size(); n > cfg.PrefetchBytes+slack {
				t.Errorf("%d bytes are read ahead, %d are allowed", n, cfg.PrefetchBytes)
			}
		}
		if now := testutil.ToFloat64(g.group.metrics.records); now != fetched {
			t.Errorf("reading went on from %v to %v records", fetched, now)
		}
		for taken.Load() < 4000 {
			msgs, err := g.Poll(ctx, 100, 1<<20)
			if err != nil {
				return err
			}
			taken.Add(int64(len(msgs)))
			if n := g.buffer.size(); n > cfg.PrefetchBytes+slack {
				t.Errorf("%d bytes are read ahead, %d are allowed", n, cfg.PrefetchBytes)
			}
		}
		<-ctx.Done()
		return nil
	})
	eventually(t, 30*time.Second, "all taken", func() bool { return taken.Load() == 4000 })
	stop()
	if n := testutil.ToFloat64(g.metrics.prefetched); n != 0 {
		t.Errorf("%v bytes are said to be read ahead after the end", n)
	}
}

func TestReadingSurvivesAnOutage(t *testing.T) {
	for _, how := range []string{"refused", "frozen"} {
		t.Run(how, func(t *testing.T) {
			c := brokers(t)
			topic := c.topic(t, 2)
			c.fill(t, topic, sequence("wx1", 10))
			client, gate := c.client(t)
			cfg := c.groupConfig(t, topic)
			var all collector
			g, _ := runGroup(t, client, cfg, nil, all.handle)
			eventually(t, 20*time.Second, "the first ten", func() bool { return all.count() == 10 })
			if how == "refused" {
				gate.Refuse()
			} else {
				gate.Freeze()
			}
			eventually(t, 20*time.Second, "noticed", func() bool { return g.Healthy() != nil })
			c.fill(t, topic, sequence("wx2", 10))
			gate.Open()
			eventually(t, 30*time.Second, "the second ten", func() bool { return all.count() >= 20 && g.Healthy() == nil })
			seen := map[string]bool{}
			for _, v := range all.values() {
				seen[v] = true
			}
			if len(seen) != 20 {
				t.Errorf("%d different records, want 20", len(seen))
			}
		})
	}
}

// Fetch errors of every kind only cost time.
func TestAReaderRedialsAfterErrors(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	c.fill(t, topic, sequence("wx1", 5))
	client, _ := c.client(t)
	h := c.fake.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: 2},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: kerr.UnknownServerError},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: kerr.OffsetOutOfRange, Count: 2}, // a lie: the offset is there
	)
	var all collector
	g, _ := runGroup(t, client, c.groupConfig(t, topic), nil, all.handle)
	eventually(t, 20*time.Second, "all read", func() bool { return all.count() == 5 })
	if h.Hits() != 5 {
		t.Errorf("%d answers were errors, want 5", h.Hits())
	}
	for class, want := range map[Class]float64{ClassLeader: 2, ClassOther: 1, ClassRange: 2} {
		if n := testutil.ToFloat64(g.metrics.fetchErrors.WithLabelValues(string(class))); n != want {
			t.Errorf("%v fetch errors of class %s, want %v", n, class, want)
		}
	}
}

// A broker may state a high watermark below the records in the same answer.
func TestAnAnswerAboveItsHighWaterMarkIsNoError(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	batch := make(chan []byte, 1)
	c.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		batch <- bytes.Clone(req.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records)
		c.fake.DropControl()
		return nil, nil, false
	})
	c.fill(t, topic, sequence("wx1", 3))
	c.fake.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		res := req.ResponseKind().(*kmsg.FetchResponse)
		part := kmsg.NewFetchResponseTopicPartition()
		part.HighWatermark, part.LastStableOffset, part.LogStartOffset = 0, 0, 0
		part.RecordBatches = <-batch
		top := kmsg.NewFetchResponseTopic()
		top.Topic, top.Partitions = topic, append(top.Partitions, part)
		res.Topics = append(res.Topics, top)
		return res, nil, true
	})
	client, _ := c.client(t)
	var all collector
	reg := prometheus.NewRegistry()
	g, _ := runGroup(t, client, c.groupConfig(t, topic), reg, all.handle)
	eventually(t, 20*time.Second, "read", func() bool { return all.count() == 3 })
	if len(batch) != 0 {
		t.Error("the odd answer was not given")
	}
	for _, class := range Classes() {
		if n := testutil.ToFloat64(g.metrics.fetchErrors.WithLabelValues(string(class))); n != 0 {
			t.Errorf("%v fetch errors of class %s", n, class)
		}
	}
}

func TestCommitErrors(t *testing.T) {
	c := fakeBrokers(t, 1)
	for _, test := range []struct {
		err  *kerr.Error
		want error // nil: tried again until it works
	}{
		{kerr.CoordinatorNotAvailable, nil},
		{kerr.CoordinatorLoadInProgress, nil},
		{kerr.NotCoordinator, nil},
		{kerr.RequestTimedOut, nil},
		{kerr.IllegalGeneration, ErrGenerationEnded},
		{kerr.UnknownMemberID, ErrGenerationEnded},
		{kerr.RebalanceInProgress, ErrGenerationEnded},
		{kerr.GroupAuthorizationFailed, kafka.GroupAuthorizationFailed},
		{kerr.OffsetMetadataTooLarge, kafka.OffsetMetadataTooLarge},
	} {
		t.Run(test.err.Message, func(t *testing.T) {
			topic := c.topic(t, 1)
			c.fill(t, topic, sequence("wx1", 3))
			client, _ := c.client(t)
			cfg := c.groupConfig(t, topic)
			result := make(chan error, 1)
			var once sync.Once
			runGroup(t, client, cfg, nil, func(ctx context.Context, g *Generation) error {
				if err := g.Begin(nil); err != nil {
					return err
				}
				if _, err := g.Poll(ctx, 1, 1); err != nil {
					return err
				}
				c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: cfg.GroupID, Err: test.err})
				err := g.Commit(ctx, map[int32]int64{0: 1})
				once.Do(func() { result <- err })
				if test.want == ErrGenerationEnded && ctx.Err() == nil {
					t.Error("the handler's context does not say that the generation has ended")
				}
				<-ctx.Done()
				return nil
			})
			if err := <-result; !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// kafka-go always asks the first broker that accepts a connection.
func TestAFrozenFirstBrokerIsPassedOver(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	c.fill(t, topic, sequence("wx1", 3))
	const frozen = "frozen.invalid:9092"
	client, _ := c.client(t, func(cfg *Config) {
		cfg.Brokers = append([]string{frozen}, cfg.Brokers...)
		cfg.DialTimeout = 200 * time.Millisecond
		dial := cfg.Dial
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != frozen {
				return dial(ctx, network, address)
			}
			ours, theirs := net.Pipe()
			go func() { // swallows all and says nothing
				buf := make([]byte, 1024)
				for {
					if _, err := theirs.Read(buf); err != nil {
						theirs.Close()
						return
					}
				}
			}()
			return ours, nil
		}
	})
	cfg := c.groupConfig(t, topic)
	cfg.RequestTimeout = 300 * time.Millisecond
	var all collector
	_, _ = runGroup(t, client, cfg, nil, all.handle)
	eventually(t, 20*time.Second, "read", func() bool { return all.count() == 3 })
}

func TestRunEndsInTimeWhenKafkaIsFrozen(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	cfg := c.groupConfig(t, topic)
	cfg.RequestTimeout = 30 * time.Second
	cfg.LeaveTimeout = 200 * time.Millisecond
	var all collector
	g, stop := runGroup(t, client, cfg, nil, all.handle)
	eventually(t, 20*time.Second, "joined", func() bool { return g.Healthy() == nil })
	gate.Freeze()
	start := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Run took %s to end", took)
	}
}

func TestAGroupWaitsForItsTopic(t *testing.T) {
	c := brokers(t)
	client, _ := c.client(t)
	name := unique(t)
	cfg := c.groupConfig(t, name)
	var all collector
	g, _ := runGroup(t, client, cfg, nil, all.handle)
	eventually(t, 20*time.Second, "the missing topic noticed", func() bool { return errors.Is(g.Healthy(), ErrNoTopic) })
	if _, err := client.EnsureTopic(timeout(t, 10*time.Second), TopicConfig{Name: name, Partitions: 1, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	c.fill(t, name, sequence("wx1", 3))
	eventually(t, 20*time.Second, "read", func() bool { return all.count() == 3 })
}

func TestRunReturnsTheHandlersError(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, _ := c.client(t)
	broken := errors.New("broken")
	calls := 0
	g, err := NewGroup(client, c.groupConfig(t, topic), quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = g.Run(timeout(t, 20*time.Second), func(context.Context, *Generation) error {
		if calls++; calls == 1 {
			return nil // asks for the next generation
		}
		return broken
	})
	if !errors.Is(err, broken) || calls != 2 {
		t.Errorf("Run returned %v after %d calls", err, calls)
	}
	if g.Healthy() == nil {
		t.Error("healthy although it does not run")
	}
}

func TestLagMetrics(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 2)
	client, _ := c.client(t)
	cfg := c.groupConfig(t, topic)
	reg := prometheus.NewPedanticRegistry()
	at := time.Now().Add(-time.Hour)
	var recs []events.Record
	for i := range 10 {
		rec := record("wx1", i)
		rec.Time = at.Add(time.Duration(i) * time.Minute)
		recs = append(recs, rec)
	}
	c.fill(t, topic, recs)
	mine := PartitionFor([]byte("wx1"), 2)
	step := make(chan struct{})
	g, stop := runGroup(t, client, cfg, reg, func(ctx context.Context, g *Generation) error {
		if err := g.Begin(nil); err != nil {
			return err
		}
		for n := 0; n < 10; {
			select {
			case <-step:
			case <-ctx.Done():
				return nil
			}
			msgs, err := g.Poll(ctx, 5, 1<<20)
			if err != nil {
				return err
			}
			n += len(msgs)
			if err := g.Commit(ctx, map[int32]int64{mine: msgs[len(msgs)-1].Offset + 1}); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return nil
	})
	near := func(d, want time.Duration) bool { return d > want-30*time.Second && d < want+30*time.Second }
	lag := func(records int64, age time.Duration) func() bool {
		return func() bool {
			l, known := g.Lag()[mine]
			return known && l.Records == records && near(l.Age, age)
		}
	}
	eventually(t, 20*time.Second, "ten behind, by an hour", lag(10, time.Hour))
	step <- struct{}{}
	eventually(t, 20*time.Second, "five behind, by 55 minutes", lag(5, 55*time.Minute))
	step <- struct{}{}
	eventually(t, 20*time.Second, "nothing behind", lag(0, 0))
	eventually(t, 20*time.Second, "both partitions known", func() bool { return len(g.Lag()) == 2 })
	if n, err := testutil.GatherAndCount(reg, "qunfa_kafka_lag_records", "qunfa_kafka_lag_seconds"); err != nil || n != 4 {
		t.Errorf("%d series of lag, %v; want 4", n, err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	stop()
	if n, err := testutil.GatherAndCount(reg, "qunfa_kafka_lag_records", "qunfa_kafka_lag_seconds"); err != nil || n != 0 {
		t.Errorf("%d series of lag of partitions that are no longer ours, %v", n, err)
	}
}
