package pipeline

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"qunfa/internal/events"
	"qunfa/internal/wechat/wechattest"
)

// TestSpool cuts ingest off from Kafka, as [TestKafkaAway] does, but with a
// directory for its spool. Every callback is answered with success at its first
// try, sends can be recorded, and a restart in the midst of it changes nothing.
// When Kafka is back all is in the database, once, and with its time of receipt.
func TestSpool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{
		Seed: 45, Scale: 3600, Accounts: accounts("")[:4],
		Plans: func(wechattest.Call) wechattest.Plan { return wechattest.Success().Ending(time.Second) },
	})
	w.cfg.Ingest.SpoolDir = t.TempDir()
	w.migrate()
	in, sink := w.startIngest(), w.start("sink")
	w.awaitReady(in, sink)
	w.sendEach(in, 1)
	w.drain()

	w.kafka.Cut()
	w.sendEach(in, 3)
	w.drain()
	w.degraded(in, "Kafka is down, ")
	in.stop()
	in = w.startIngest()
	w.sendEach(in, 3)
	w.drain()
	spoilt := w.post(in, 2, 998, `<xml><ToUserName>GH</ToUserName><FromUserName>o</FromUserName><CreateTime>TIME</CreateTime><MsgType>event</MsgType>`+
		`<Event>MASSSENDJOBFINISH</Event><MsgID>ID</MsgID><Status>send success</Status><TotalCount>dozens</TotalCount></xml>`)
	w.degraded(in, "Kafka is down, 48 events in the spool since ") // of 24 sends a submission and a result
	for _, e := range w.sim.Ledger().Entries {
		if !e.Taken || e.Attempts != 1 {
			t.Errorf("%d of %s: %d attempts, taken: %t", e.MsgID, e.AppID, e.Attempts, e.Taken)
		}
	}
	if n := w.answers.of(http.StatusOK); n != 28 {
		t.Errorf("%d callbacks were answered with success, want 28; %+v", n, w.sim.Stats())
	}

	mended := time.Now()
	w.kafka.Mend()
	w.settle()
	w.until("ingest has nothing more to say", func() string {
		if status, body := in.get("/readyz"); status != http.StatusOK || strings.Contains(body, "degraded") {
			return body
		}
		return ""
	})
	w.complete()
	if late := w.query("SELECT toInt64(countIf(received_at >= ?)) FROM events", mended)[0][0]; late != int64(0) {
		t.Errorf("%v events look as if they had come when they left the spool", late)
	}
	w.checkLetter(w.deadLetters(1)[0], events.DeadUnparsable, spoilt, false)

	// And the spool is out of the way again.
	before := w.spoolWritten(in)
	w.sendEach(in, 1)
	w.settle()
	if n := w.spoolWritten(in) - before; n != 0 {
		t.Errorf("%v events took the way through the spool while Kafka was there", n)
	}
}

// sendEach sends n messages of every account, and records them.
func (w *world) sendEach(in *service, n int) {
	w.t.Helper()
	for range n {
		for _, a := range w.sim.Accounts() {
			w.send(in, a.AppID, wechattest.All())
		}
	}
}

// degraded waits until ingest says that it works all the same, and why that is not all.
func (w *world) degraded(in *service, reason string) {
	w.t.Helper()
	w.until("ingest says that it is degraded", func() string {
		status, body := in.get("/readyz")
		if status == http.StatusOK && strings.Contains(body, "ingest.kafka: degraded: "+reason) {
			return ""
		}
		return fmt.Sprint(status, " ", body)
	})
}

func (w *world) spoolWritten(in *service) (n float64) {
	w.t.Helper()
	_, body := in.get("/metrics")
	for _, v := range series(w, body, "qunfa_spool_written_total") {
		n += v
	}
	return n
}
