package pipeline

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/events"
	"qunfa/internal/wechat/wechattest"
)

// accounts receive pushes in every way there is.
func accounts(component string) []wechattest.Account {
	return []wechattest.Account{
		{Name: "plain, XML", Mode: wechattest.Plain, Format: wechattest.XML, Fans: 40_311},
		{Name: "compatible, JSON", Mode: wechattest.Compatible, Format: wechattest.JSON, Fans: 902_774},
		{Name: "safe, XML", Mode: wechattest.Safe, Format: wechattest.XML, Fans: 7_120},
		{Name: "safe, JSON", Mode: wechattest.Safe, Format: wechattest.JSON, Fans: 15_003_226},
		{Name: "of a platform", Component: component, Mode: wechattest.Safe, Format: wechattest.XML, Fans: 611},
	}
}

const component = "wx00c0ffee00c0ffee"

// TestPipeline sends a few hundred messages of which everything becomes that
// can, while services join and leave, and compares every figure with the ledger;
// then it drops the database and does so again.
func TestPipeline(t *testing.T) {
	t.Parallel()
	const seed = 20261118 // its accounts lie in every partition
	weights := wechattest.DefaultWeights()
	weights.Late, weights.Redelivered, weights.Twice = 0.05, 0.15, 0.1
	w := newWorld(t, wechattest.Config{
		Seed: seed, Scale: 3600, // an hour lasts a second
		Accounts: accounts(component), Components: []wechattest.Component{{AppID: component}},
		Plans: wechattest.Mix{Seed: seed, Weights: weights}.Plan,
	})
	w.cfg.Reconcile.FirstPoll, w.cfg.Reconcile.Schedule, w.cfg.Reconcile.GiveUpAfter = 3*time.Second, []time.Duration{time.Second}, 20*time.Second
	w.migrate()
	in, sink, ask := w.startIngest(), w.start("sink"), w.start("reconcile")
	w.awaitReady(in, sink, ask)
	for _, a := range w.sim.Accounts() {
		if err := w.sim.VerifyURL(t.Context(), a.AppID); err != nil {
			t.Errorf("the console would not accept the URL of %s: %v", a.Name, err)
		}
	}

	arrange(t, w)
	w.sendAll(in, 20)
	sink2 := w.start("sink")
	ask2 := w.start("reconcile", func(c *config.Config) { c.Reconcile.Instance = "second" })
	w.sendAll(in, 20)
	w.awaitReady(sink2, ask2)
	sink.stop()
	ask.stop()
	w.sendAll(in, 20)
	w.settle()

	for p, end := range w.ends() {
		if end == 0 {
			t.Errorf("partition %d was not used", p)
		}
	}
	kinds := w.complete()
	sum := w.sim.Ledger().Summarize(nil)
	if distinct := w.query("SELECT toInt64(count()) FROM events")[0][0].(int64); sum.Redelivered == 0 || kinds[events.FateEvent] <= distinct {
		t.Errorf("nothing came twice, so nothing was proved: %d records of %d events, %+v", kinds[events.FateEvent], distinct, sum)
	}
	for _, outcome := range []string{wechattest.OutcomeSent, wechattest.OutcomeFailed, wechattest.OutcomeRejected, wechattest.OutcomeUnknown, wechattest.OutcomeMissing} {
		if sum.Outcomes[outcome] == 0 {
			t.Errorf("no message ended as %s: %v", outcome, sum.Outcomes)
		}
	}
	if sum.ByPoll == 0 {
		t.Error("no message was found by polling")
	}
	if d := cmp.Diff(w.trueDelivery(), sink2.delivery()); d != "" {
		t.Errorf("the delivery figures differ from the ledger (-ledger +metrics):\n%s", d)
	}
	w.rebuild(sink2)
}

// arrange makes sure of what chance might leave out.
func arrange(t *testing.T, w *world) {
	a := w.sim.Accounts()
	for i, plans := range [][]wechattest.Plan{
		{wechattest.Success().Lost(wechattest.PollSending), wechattest.Success().Redelivered(2), wechattest.Rejected(20431)},
		{wechattest.Odd("send partially"), wechattest.Success().HungUp(1), wechattest.Rejected(31337).Twice()},
		{wechattest.Success().Lost("40059"), wechattest.Refused(45065), wechattest.Success().Late(4 * time.Hour)},
		{wechattest.Success().Told(wechattest.Unrecorded), wechattest.Success().Never().Told(wechattest.Unrecorded), wechattest.Fail()},
		{wechattest.Rejected(20002).Redelivered(2), wechattest.Success().Never(), wechattest.Admin(40002)},
	} {
		if err := w.sim.Arrange(a[i].AppID, plans...); err != nil {
			t.Fatal(err)
		}
	}
}

// sendAll sends n messages of every account, and pushes that are no mass send.
func (w *world) sendAll(in *service, n int) {
	w.t.Helper()
	for i := range n {
		for _, a := range w.sim.Accounts() {
			to := wechattest.All()
			if i%3 == 0 {
				to = wechattest.OpenIDs(int64(100 + i))
			}
			w.send(in, a.AppID, to)
		}
	}
	for _, a := range w.sim.Accounts() {
		if err := w.sim.PushText(a.AppID, "不是群发"); err != nil {
			w.t.Error(err)
		}
		if err := w.sim.PushTemplateResult(a.AppID, "success"); err != nil {
			w.t.Error(err)
		}
	}
}

// rebuild drops the database under a running reconcile. The log has everything.
func (w *world) rebuild(sink *service) {
	w.t.Helper()
	want, records := w.stored(), w.records()
	sink.stop()
	w.query("DROP DATABASE " + w.cfg.ClickHouse.Database + " SYNC")
	w.migrate()
	// Small batches, so that there is a time in which half is there.
	slowly := func(c *config.Config) { c.Sink.MaxEvents, c.Sink.Interval = 150, 300*time.Millisecond }
	for _, s := range []*service{w.start("sink", slowly), w.start("sink", slowly)} {
		refusals := map[string]bool{}
		var page string
		w.until("the delivery figures are shown again", func() string {
			status, body := s.get("/metrics/delivery")
			if status == http.StatusOK {
				page = body
				return ""
			}
			if status != http.StatusServiceUnavailable {
				w.t.Errorf("while the projection is rebuilt: %d %s", status, body)
			}
			refusals[strings.TrimSpace(body)] = true
			return body
		})
		if d := cmp.Diff(w.trueDelivery(), series(w, page, deliveryFamilies...)); d != "" {
			w.t.Errorf("the first figures after a rebuild differ from the ledger; before, they were refused: %v (-ledger +metrics):\n%s", refusals, d)
		}
	}
	if d := cmp.Diff(want, w.stored()); d != "" {
		w.t.Errorf("once the figures are shown, the rebuilt database differs (-before +after):\n%s", d)
	}
	w.complete()
	if n := w.records(); n != records {
		w.t.Errorf("the rebuild has added %d records to the log: reconcile took a half-built database for the truth", n-records)
	}
}

// TestBeforeMigrate starts the services before there is anything for them.
// They say what is missing, and begin when it is there.
func TestBeforeMigrate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 3, Scale: 3600, Accounts: accounts("")[2:3]})
	in, sink, ask := w.startIngest(), w.start("sink"), w.start("reconcile")
	for s, want := range map[*service]string{in: "qunfa migrate", sink: "qunfa migrate", ask: "qunfa migrate"} {
		w.until(s.name+" says that nothing was migrated", func() string {
			status, body := s.get("/readyz")
			if status == http.StatusServiceUnavailable && strings.HasPrefix(body, "not ready\n") && strings.Contains(body, want) {
				return ""
			}
			return fmt.Sprint(status, " ", body)
		})
		if status, _ := s.get("/healthz"); status != http.StatusOK {
			t.Errorf("%s is not alive: restarting it would not help", s.name)
		}
	}
	if status, body := sink.get("/metrics/delivery"); status != http.StatusServiceUnavailable {
		t.Errorf("delivery figures without a database: %d %s", status, body)
	}
	w.migrate()
	w.awaitReady(in, sink, ask)
	w.send(in, w.sim.Accounts()[0].AppID, wechattest.All())
	w.settle()
	if err := app.Migrate(t.Context(), w.cfg, app.Options{KafkaDial: w.kafka.Dial}, nil); err != nil {
		t.Errorf("migrate beside running services: %v", err)
	}
}
