package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

func TestMetricsFollowPrometheusNaming(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg, 10)
	if err != nil {
		t.Fatal(err)
	}
	m.quota.set(appA, 1)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if _, err := newMetrics(reg, 10); err == nil {
		t.Error("two reconcilers share the series of one registry")
	}
}

// Everything that can be counted is there at 0 before it first happens, and a
// whole life moves the counters that it should and no others.
func TestMetricsOfALife(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.noSecret[appB] = true
		w.answer = func(k events.Key, n int) (string, error) {
			switch {
			case k.MsgID == 1 && n == 3:
				return events.PollFail, nil
			case k.MsgID == 2 && n == 1:
				return "", apiError(40059)
			case k.MsgID == 2 && n == 2:
				return events.PollDelete, nil
			}
			return events.PollSending, nil
		}
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(time.Second)
		if err := testutil.GatherAndCompare(rep.reg, strings.NewReader(bornPolls+bornAbandoned), "qunfa_polls_total", "qunfa_abandoned_total"); err != nil {
			t.Error(err)
		}
		w.submit(appA, 1)
		w.submit(appA, 2)
		w.submit(appB, 3)
		w.append(&events.Submitted{AppID: appA, MsgID: 4, SubmittedAt: time.Now(), Recorder: "import"})
		<-time.After(73 * time.Hour)
		polls := strings.NewReplacer(`{result="sending"} 0`, `{result="sending"} 2`, `{result="failed"} 0`, `{result="failed"} 1`,
			`{result="not_found"} 0`, `{result="not_found"} 1`, `{result="deleted"} 0`, `{result="deleted"} 1`).Replace(bornPolls)
		abandoned := strings.NewReplacer(`{reason="no_credentials"} 0`, `{reason="no_credentials"} 1`,
			`{reason="not_chased"} 0`, `{reason="not_chased"} 1`).Replace(bornAbandoned)
		if err := testutil.GatherAndCompare(rep.reg, strings.NewReader(polls+abandoned), "qunfa_polls_total", "qunfa_abandoned_total"); err != nil {
			t.Error(err)
		}
	})
}

const bornPolls = `
# HELP qunfa_polls_total Polls of mass/get by what came back; unreachable: no usable answer.
# TYPE qunfa_polls_total counter
qunfa_polls_total{result="account"} 0
qunfa_polls_total{result="busy"} 0
qunfa_polls_total{result="config"} 0
qunfa_polls_total{result="confirm"} 0
qunfa_polls_total{result="deleted"} 0
qunfa_polls_total{result="failed"} 0
qunfa_polls_total{result="not_found"} 0
qunfa_polls_total{result="quota"} 0
qunfa_polls_total{result="rate_limit"} 0
qunfa_polls_total{result="sending"} 0
qunfa_polls_total{result="sent"} 0
qunfa_polls_total{result="token"} 0
qunfa_polls_total{result="unknown_error"} 0
qunfa_polls_total{result="unknown_status"} 0
qunfa_polls_total{result="unreachable"} 0
`

const bornAbandoned = `
# HELP qunfa_abandoned_total Messages given up without an answer, by reason.
# TYPE qunfa_abandoned_total counter
qunfa_abandoned_total{reason="never_polled"} 0
qunfa_abandoned_total{reason="no_answer"} 0
qunfa_abandoned_total{reason="no_credentials"} 0
qunfa_abandoned_total{reason="not_chased"} 0
`

// Between two tries nobody holds the account back, yet it is still broken.
func TestWhatPeopleMustMendStaysShown(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry(), 2)
	if err != nil {
		t.Fatal(err)
	}
	as := &accounts{all: map[string]*account{
		"a": {breaker: breaker{hold: holdConfig, until: epoch}},
		"b": {breaker: breaker{hold: holdBusy, until: epoch}},
		"c": {breaker: breaker{hold: holdBusy, until: epoch.Add(time.Hour)}},
		"d": {},
	}}
	m.show(as, nil, epoch.Add(time.Minute))
	for h, want := range map[hold]float64{holdConfig: 1, holdBusy: 1, holdAccount: 0} {
		if got := testutil.ToFloat64(m.blocked.WithLabelValues(string(h))); got != want {
			t.Errorf("%s: %v accounts, want %v", h, got, want)
		}
	}
}

func TestQuotaSeriesAreBounded(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry(), 2)
	if err != nil {
		t.Fatal(err)
	}
	m.quota.set("a", 1)
	m.quota.set("b", 2)
	m.quota.set("c", 3) // one too many
	m.quota.set("a", 4)
	m.quota.drop("b")
	m.quota.set("d", 5)
	want := map[string]float64{"a": 4, "d": 5}
	got := map[string]float64{}
	for appid := range m.quota.has {
		got[appid] = testutil.ToFloat64(m.quota.vec.WithLabelValues(appid))
	}
	if diff := cmp.Diff(want, got); diff != "" || testutil.CollectAndCount(m.quota.vec) != 2 {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Every class that the API client knows has a result of its own, and one that it
// learns later falls into the one for the unknown.
func TestEveryClassHasAResult(t *testing.T) {
	known := map[string]bool{}
	for _, r := range pollResults() {
		known[r] = true
	}
	seen := map[string]wechat.Class{}
	for _, c := range wechat.Classes() {
		r := resultOf(c)
		if !known[r] {
			t.Errorf("class %s: result %q is not born at 0", c, r)
		}
		if other, ok := seen[r]; ok {
			t.Errorf("classes %s and %s share the result %q", c, other, r)
		}
		seen[r] = c
		if (holdOf(c) == holdNone) != aboutMessage(c) {
			t.Errorf("class %s: holds the account back with %q, but concerns the message: %t", c, holdOf(c), aboutMessage(c))
		}
	}
	if r := resultOf("invented"); r != resultUnknownError {
		t.Errorf("an unknown class gives %q", r)
	}
}
