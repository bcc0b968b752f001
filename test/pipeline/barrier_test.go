package pipeline

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"qunfa/internal/wechat/wechattest"
)

// TestBarrier stops the sink for longer than messages are looked for. Reconcile
// must neither poll nor give up what it cannot know the state of, and must find
// out everything once the sink is back. A callback that comes at last still wins.
func TestBarrier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 43, Scale: 3600, Accounts: accounts("")[:4]})
	w.cfg.Reconcile.BarrierTimeout = 300 * time.Millisecond
	w.cfg.Reconcile.FirstPoll, w.cfg.Reconcile.Schedule, w.cfg.Reconcile.GiveUpAfter = 500*time.Millisecond, []time.Duration{500 * time.Millisecond}, 6*time.Second
	w.migrate()
	in, ask := w.startIngest(), w.start("reconcile")
	w.awaitReady(in)

	// No sink has ever run. One message's callback has come, one's never will,
	// one's is held back.
	plans := []wechattest.Plan{wechattest.Success(), wechattest.Success().Never(), wechattest.Partial().Held(), wechattest.Rejected(20001).Held()}
	var held []wechattest.Receipt
	for i, a := range w.sim.Accounts() {
		if err := w.sim.Arrange(a.AppID, plans[i]); err != nil {
			t.Fatal(err)
		}
		if r := w.send(in, a.AppID, wechattest.All()); i >= 2 {
			held = append(held, r)
		}
	}
	w.drain()
	recorded := w.records()
	over := time.Now().Add(w.cfg.Reconcile.GiveUpAfter * 3 / 2) // with its grace
	w.until("reconcile has skipped rounds for longer than messages are looked for", func() string {
		skipped := ask.rounds("sink_behind")
		if time.Now().After(over) && skipped >= 3 {
			return ""
		}
		return fmt.Sprintf("%v rounds", skipped)
	})
	if n := ask.rounds("ok"); n != 0 {
		t.Errorf("%v rounds were made without a sink", n)
	}
	if n := w.sim.Stats().Polls; n != 0 {
		t.Errorf("WeChat was asked %d times although nobody knew what had come", n)
	}
	if n := w.records(); n != recorded {
		t.Errorf("%d events were written without knowing what had come", n-recorded)
	}
	if status, body := ask.get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "the sink did not reach the end of the log") {
		t.Errorf("reconcile does not say why it skips rounds: %d\n%s", status, body)
	}

	sink := w.start("sink")
	w.settle()
	w.awaitReady(sink, ask)
	if n := w.query("SELECT toInt64(countIf(outcome = 'missing')) FROM messages")[0][0]; n != int64(0) {
		t.Errorf("%v messages were given up", n)
	}
	if polled := w.query("SELECT toInt64(count()) FROM messages WHERE decided_by = 'poll' AND total IS NULL AND sent IS NULL")[0][0]; polled != int64(3) {
		t.Errorf("%v messages were found by polling, without counts; want 3", polled)
	}
	for _, r := range held {
		if !w.sim.Release(r.AppID, r.MsgID) {
			t.Errorf("nothing was held back of %s", key(r.AppID, r.MsgID))
		}
	}
	w.settle()
	if late := w.query("SELECT toInt64(count()) FROM messages WHERE decided_by = 'callback' AND polls > 0")[0][0]; late != int64(2) {
		t.Errorf("%v late callbacks won over polls, want 2", late)
	}
	w.complete()
}

// rounds returns how many rounds of reconcile ended so.
func (s *service) rounds(result string) float64 {
	s.w.t.Helper()
	_, body := s.get("/metrics")
	for name, n := range series(s.w, body, "qunfa_reconcile_rounds_total") {
		if strings.Contains(name, fmt.Sprintf("result=%q", result)) {
			return n
		}
	}
	return 0 // not created before the first attempt
}
