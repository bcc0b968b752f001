package kafka

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// These tests run with the default times, in a bubble in which time passes as
// soon as everybody waits.

func TestAnIdleMemberStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeBrokers(t, 1)
		topic := c.topic(t, 2)
		client, _ := c.client(t)
		var all collector
		_, stop := runGroup(t, client, GroupConfig{GroupID: "g", Topic: topic}, nil, all.handle)
		<-time.After(time.Hour)
		c.fill(t, topic, sequence("wx1", 3))
		<-time.After(time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if all.gens != 1 || all.count() != 3 {
			t.Errorf("%d generations and %d records in an hour, want 1 and 3", all.gens, all.count())
		}
	})
}

// A member that vanishes is replaced after SessionTimeout, 6 s; one that says
// goodbye at the next heartbeat, a second later, or at the one after it if that was
// under way, plus the 10 ms between two looks.
func TestHowSoonPartitionsChangeHands(t *testing.T) {
	for _, test := range []struct {
		name        string
		vanish      bool
		least, most time.Duration
	}{
		{"vanishes", true, 4 * time.Second, 8 * time.Second},
		{"says goodbye", false, 0, 2*time.Second + 100*time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := fakeBrokers(t, 1)
				topic := c.topic(t, 2)
				clientA, gateA := c.client(t)
				clientB, _ := c.client(t)
				var a, b collector
				cfg := GroupConfig{GroupID: "g", Topic: topic}
				_, stopA := runGroup(t, clientA, cfg, nil, a.handle)
				_, _ = runGroup(t, clientB, cfg, nil, b.handle)
				<-time.After(10 * time.Second)
				if len(a.ownedNow()) != 1 || len(b.ownedNow()) != 1 {
					t.Fatalf("A owns %v, B %v", a.ownedNow(), b.ownedNow())
				}
				start := time.Now()
				if test.vanish {
					gateA.Refuse()
				} else if err := stopA(); err != nil {
					t.Error(err)
				}
				for len(b.ownedNow()) < 2 && time.Since(start) < time.Minute {
					<-time.After(10 * time.Millisecond)
				}
				if took := time.Since(start); took < test.least || took > test.most {
					t.Errorf("B took over after %s, want %s to %s", took, test.least, test.most)
				}
			})
		})
	}
}

// Whatever the broker does, a caller has its answer at its own deadline, and
// the first record after the outage does not wait long.
func TestDeadlinesThroughAnOutage(t *testing.T) {
	for _, how := range []string{"refused", "frozen"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := fakeBrokers(t, 1)
				topic := c.topic(t, 3)
				client, gate := c.client(t)
				p := producer(t, client, ProducerConfig{Topic: topic}, nil)
				if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
					t.Fatal(err)
				}
				if how == "refused" {
					gate.Refuse()
				} else {
					gate.Freeze()
				}
				start := time.Now()
				_, err := p.Produce(timeout(t, 2*time.Second), record("wx1", 1))
				if took := time.Since(start); took != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("answered after %s with %v", took, err)
				}
				if !p.Down() {
					t.Errorf("not down after 2 s without an answer: %v", p.Healthy())
				}
				<-time.After(20 * time.Second)
				if !p.Down() {
					t.Error("not down any more, but Kafka is")
				}
				gate.Open()
				start = time.Now()
				if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 2)); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("the first record after the outage took %s", took)
				}
				if p.Down() {
					t.Error("down after an acknowledgement")
				}
			})
		})
	}
}

// Down turns false without any traffic, so that callers who skip Kafka while it
// is down come back.
func TestDownEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeBrokers(t, 1)
		topic := c.topic(t, 3)
		client, gate := c.client(t)
		p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 3}, nil)
		gate.Refuse()
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} { // several lanes
			p.Produce(timeout(t, 200*time.Millisecond), record(key, 0))
		}
		if p.Healthy() == nil {
			t.Error("healthy without a broker")
		}
		<-time.After(30 * time.Second)
		if !p.Down() {
			t.Error("forgiven while the broker is down")
		}
		gate.Open()
		<-time.After(3 * time.Second)
		if p.Down() || p.Healthy() != nil {
			t.Errorf("not forgiven 3 s after the broker came back: %v", p.Healthy())
		}
		if n := testutil.ToFloat64(p.metrics.down); n != 0 {
			t.Errorf("%v lanes are said to fail", n)
		}
	})
}

// A broker that is down is asked at a rate that it and we can live with.
func TestAnOutageIsNotAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeBrokers(t, 1)
		topic := c.topic(t, 3)
		client, gate := c.client(t)
		var log syncBuffer
		p, err := NewProducer(client, ProducerConfig{Topic: topic, Partitions: 3}, slog.New(slog.NewTextHandler(&log, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(t.Context())
		var all collector
		g, err := NewGroup(client, GroupConfig{GroupID: "g", Topic: topic}, slog.New(slog.NewTextHandler(&log, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { g.Run(ctx, all.handle) })
		<-time.After(10 * time.Second)
		gate.Refuse()
		before := gate.dials.Load()
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			wg.Go(func() { p.Produce(ctx, record(key, 0)) })
		}
		<-time.After(time.Minute)
		if dials := gate.dials.Load() - before; dials < 60 || dials > 60*100 {
			t.Errorf("%d connections were tried in a minute", dials)
		}
		if lines := strings.Count(log.String(), "\n"); lines > 60 {
			t.Errorf("%d lines were logged in a minute", lines)
		}
		if !strings.Contains(log.String(), "similar_dropped") {
			t.Error("the log does not say how much it leaves out")
		}
		cancel()
		wg.Wait()
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A leader that has moved is found by the nudge, not when the metadata expires.
func TestAMovedLeaderIsFoundSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeBrokers(t, 3)
		topic := c.topic(t, 1)
		client, _ := c.client(t, func(cfg *Config) { cfg.MetadataTTL = time.Hour })
		p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1}, nil)
		if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
			t.Fatal(err)
		}
		for node := range int32(3) {
			if err := c.fake.MoveTopicPartition(topic, 0, node); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 1)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("found after %s", took)
			}
			<-time.After(time.Second)
		}
	})
}

// While a slow handler finishes, nobody else gets its partitions.
func TestOthersWaitForABusyHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeBrokers(t, 1)
		topic := c.topic(t, 1)
		clientA, _ := c.client(t)
		clientB, _ := c.client(t)
		cfg := GroupConfig{GroupID: "g", Topic: topic}
		var busy atomic.Bool
		handle := func(ctx context.Context, g *Generation) error {
			if len(g.Owned()) == 0 {
				<-ctx.Done()
				return nil
			}
			if busy.Swap(true) {
				t.Error("two members work on the partition")
			}
			<-ctx.Done()
			<-time.After(3 * time.Second) // the insert in hand
			busy.Store(false)
			return nil
		}
		_, stopA := runGroup(t, clientA, cfg, nil, handle)
		_, stopB := runGroup(t, clientB, cfg, nil, handle)
		<-time.After(30 * time.Second)
		stopA()
		<-time.After(30 * time.Second)
		if !busy.Load() {
			t.Error("nobody works on the partition")
		}
		stopB()
	})
}
