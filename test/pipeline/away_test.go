package pipeline

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"qunfa/internal/wechat/wechattest"
	"qunfa/test/wire"
)

// TestKafkaAway cuts the services off from Kafka while callbacks come. Nobody
// is told success for what is not safe, so WeChat repeats it, and all is there.
func TestKafkaAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{
		Seed: 41, Scale: 60, Accounts: accounts("")[:4],
		// Real seconds: the outage must end between two attempts.
		RetrySpacing: []time.Duration{time.Minute, 4 * time.Minute, 4 * time.Minute, 4 * time.Minute},
		Plans:        func(c wechattest.Call) wechattest.Plan { return wechattest.Success().Ending(time.Second) },
	})
	w.migrate()
	in, sink, ask := w.startIngest(), w.start("sink"), w.start("reconcile")
	w.awaitReady(in, sink, ask)

	w.kafka.Cut()
	const each = 5
	sends := 0
	for _, a := range w.sim.Accounts() {
		// Recording has to wait: the record API cannot take anything either.
		if err := w.sim.Arrange(a.AppID, plansOf(each, wechattest.Success().Ending(time.Second).Told(wechattest.Unrecorded))...); err != nil {
			t.Fatal(err)
		}
		for range each {
			w.send(in, a.AppID, wechattest.All())
			sends++
		}
	}
	w.until("every callback was refused", func() string {
		if n := w.answers.of(http.StatusServiceUnavailable); n < sends {
			return fmt.Sprintf("%d of %d; answers: %v", n, sends, w.sim.Stats())
		}
		return ""
	})
	if n := w.answers.of(http.StatusOK); n != 0 {
		t.Errorf("%d callbacks were acknowledged that Kafka cannot have", n)
	}
	w.notReady(in, "ingest.kafka: not ready: ")
	w.notReady(sink, "sink.kafka: not ready: ")
	w.notReady(ask, "reconcile.kafka: not ready: ")

	w.kafka.Mend()
	w.settle()
	w.awaitReady(in, sink, ask)
	for _, e := range w.sim.Ledger().Entries {
		if !e.Taken || e.Attempts < 2 {
			t.Errorf("%d of %s: %d attempts, taken: %t", e.MsgID, e.AppID, e.Attempts, e.Taken)
		}
	}
	w.complete()
}

func plansOf(n int, p wechattest.Plan) []wechattest.Plan {
	plans := make([]wechattest.Plan, n)
	for i := range plans {
		plans[i] = p
	}
	return plans
}

// notReady waits until a service says why it cannot do its work: how the line begins.
func (w *world) notReady(s *service, why string) {
	w.t.Helper()
	w.until(s.name+" says "+why, func() string {
		status, body := s.get("/readyz")
		if status == http.StatusServiceUnavailable && strings.Contains(body, "\n"+why) {
			return ""
		}
		return fmt.Sprint(status, " ", body)
	})
}

// TestClickHouseAway cuts the services off from ClickHouse. Callbacks are taken
// all the same, the sink says why it stands still, and goes on by itself.
func TestClickHouseAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 42, Scale: 3600, Accounts: accounts("")[:4]})
	w.migrate()
	in, sink, ask := w.startIngest(), w.start("sink"), w.start("reconcile")
	w.awaitReady(in, sink, ask)
	w.send(in, w.sim.Accounts()[0].AppID, wechattest.All())
	w.settle()

	w.clickhouse.Cut()
	for range 5 {
		for _, a := range w.sim.Accounts() {
			w.send(in, a.AppID, wechattest.All())
		}
	}
	w.drain()
	if n := w.answers.of(http.StatusOK); n != 21 {
		t.Errorf("%d callbacks were acknowledged, want all 21: ingest does not need ClickHouse", n)
	}
	w.notReady(sink, "sink: not ready: cannot write, trying again: ")
	w.notReady(ask, "reconcile: not ready: the last round failed: ")
	w.awaitReady(in)
	if n := w.query("SELECT toInt64(count()) FROM messages")[0][0]; n != int64(1) {
		t.Errorf("%v messages are in a database that was cut off, want the 1 from before", n)
	}

	w.clickhouse.Mend()
	w.settle()
	w.awaitReady(sink, ask)
	w.complete()
}

// TestSinkCutOff cuts one of two sinks off from Kafka in the middle of its work,
// as a partition of the network does. It cannot commit what it has written, and
// does not know that the other has taken over and writes the same again; when it
// comes back it shares the work as before.
func TestSinkCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 45, Scale: 3600, Accounts: accounts("")[:4]})
	w.migrate()
	way := wire.New(w.kafka.Dial)
	in, sink := w.startIngest(), w.startVia(way, "sink")
	w.awaitReady(in, sink)
	other := w.start("sink")
	w.awaitReady(other)
	send := func(n int) {
		for range n {
			for _, a := range w.sim.Accounts() {
				w.send(in, a.AppID, wechattest.All())
			}
		}
	}
	send(10)
	way.Cut()
	send(10)
	w.notReady(sink, "sink.kafka: not ready: ")
	send(10)
	w.settle() // the other has taken over, as soon as the first one's session is over
	w.complete()

	way.Mend()
	w.awaitReady(sink, other)
	send(5)
	w.settle()
	w.complete()
}
