package pipeline

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qunfa/internal/wechat/wechattest"
)

// clock is that of all services of a world. WeChat's and ClickHouse's are right.
type clock struct{ skew atomic.Int64 }

func (c *clock) jump(by time.Duration) { c.skew.Store(int64(by)) }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }

// TestClockJumps lets the clock of the services jump by hours and days, ahead
// and back, once while Kafka is away as well. Callbacks go through all the time,
// nobody is asked in vain, nothing is given up, no figure for Prometheus lies; and
// once the clock is right everything is found out that was left.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{
		Seed: 47, Scale: 3600, Accounts: accounts("")[1:4], // a plain account refuses pushes of another time: that is for another test
		Plans: func(c wechattest.Call) wechattest.Plan {
			if c.Ordinal%4 == 3 {
				return wechattest.Success().Never()
			}
			return wechattest.Success().Ending(time.Second)
		},
	})
	c := new(clock)
	w.clock = c.now
	w.cfg.Ingest.SpoolDir = t.TempDir()
	r := &w.cfg.Reconcile
	r.FirstPoll, r.Schedule, r.GiveUpAfter = 2*time.Second, []time.Duration{time.Second}, 5*time.Minute
	w.migrate()
	in, sink, ask := w.startIngest(), w.start("sink"), w.start("reconcile")
	w.awaitReady(in, sink, ask)
	w.sendEach(in, 4)
	w.settle()

	polls := w.sim.Stats().Polls
	for i, jump := range []time.Duration{3 * time.Hour, 5 * 24 * time.Hour, -20 * time.Hour, 26 * time.Hour} {
		c.jump(jump)
		if i == 1 {
			w.kafka.Cut()
		}
		w.sendEach(in, 4)
		w.drain()
		w.kafka.Mend()
		w.until("the sink stores what came with a wrong clock", w.finalsMissing)
		before := ask.rounds("clock_wrong")
		w.until("reconcile holds still", func() string {
			if n := ask.rounds("clock_wrong") - before; n < 2 {
				return fmt.Sprint(n, " rounds")
			}
			return ""
		})
		if status, body := sink.get("/metrics/delivery"); status != http.StatusServiceUnavailable || !strings.Contains(body, "set the clock that is wrong") {
			t.Errorf("the delivery figures with a wrong clock: %d %s", status, body)
		}
	}
	if _, body := ask.get("/readyz"); !strings.Contains(body, "set the clock that is wrong; nothing is polled or given up before") {
		t.Errorf("reconcile does not say what is wrong:\n%s", body)
	}
	if n := w.sim.Stats().Polls - polls; n != 0 {
		t.Errorf("WeChat was asked %d times by a wrong clock", n)
	}
	if n := w.query("SELECT toInt64(countIf(outcome = 'missing')) FROM messages")[0][0]; n != int64(0) {
		t.Errorf("%v messages were given up", n)
	}

	c.jump(0)
	w.settle()
	w.awaitReady(in, sink, ask)
	w.complete()
	if n := w.query("SELECT toInt64(countIf(outcome = 'missing')) FROM messages")[0][0]; n != int64(0) {
		t.Errorf("%v messages were given up once the clock was right", n)
	}
	if n, most := w.sim.Stats().Polls-polls, int64(5*3*3); n > most {
		t.Errorf("WeChat was asked %d times about 12 messages: a storm", n)
	}
	if status, body := sink.get("/metrics/delivery"); status != http.StatusOK {
		t.Errorf("the delivery figures: %d %s", status, body)
	}
}

// finalsMissing says how many results that ingest took are not stored yet.
func (w *world) finalsMissing() string {
	want := int64(0)
	for _, e := range w.sim.Ledger().Entries {
		if e.Taken {
			want++
		}
	}
	if have := w.query("SELECT toInt64(countIf(callbacks = 1)) FROM messages")[0][0]; have != want {
		return fmt.Sprintf("%v of %d", have, want)
	}
	return ""
}
