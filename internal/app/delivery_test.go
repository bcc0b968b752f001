package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

type fakeStore struct {
	figures *clickhouse.Delivery
	err     error
	asked   int
	about   []string
}

func (f *fakeStore) Delivery(_ context.Context, _ time.Time, accounts []string) (*clickhouse.Delivery, error) {
	f.asked++
	f.about = accounts
	return f.figures, f.err
}

func figures() *clickhouse.Delivery {
	d := &clickhouse.Delivery{
		All:      clickhouse.DeliveryCounts{Sent: 90, Errors: 3, Filtered: 7, AuditFailures: map[int64]int64{10001: 2, 4711: 1, 20431: 1}},
		Accounts: map[string]clickhouse.DeliveryCounts{"wx1": {Sent: 90, Errors: 3, Filtered: 7, AuditFailures: map[int64]int64{10001: 2}}, "wx2": {}},
		Outcomes: map[events.Outcome]int64{events.OutcomeSent: 4, events.OutcomeRejected: 4},
		Pending:  1, OldestPending: time.Unix(1772366405, 0),
	}
	return d
}

func TestFiguresNameWhatHappenedAndWhatDidNot(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(figuresOf{figures()})
	want := `
# HELP qunfa_messages Messages of the last 30 days by outcome.
# TYPE qunfa_messages gauge
qunfa_messages{outcome="deleted"} 0
qunfa_messages{outcome="failed"} 0
qunfa_messages{outcome="missing"} 0
qunfa_messages{outcome="pending"} 0
qunfa_messages{outcome="rejected"} 4
qunfa_messages{outcome="sent"} 4
qunfa_messages{outcome="unknown"} 0
# HELP qunfa_oldest_pending_submission_timestamp_seconds Unix time of the submission of the oldest pending message; absent if none is pending.
# TYPE qunfa_oldest_pending_submission_timestamp_seconds gauge
qunfa_oldest_pending_submission_timestamp_seconds 1.772366405e+09
# HELP qunfa_recipients_total People, by what became of them: counted once per message, from its first received callback, since the start of the month (UTC).
# TYPE qunfa_recipients_total counter
qunfa_recipients_total{result="error"} 3
qunfa_recipients_total{result="filtered"} 7
qunfa_recipients_total{result="sent"} 90
`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want), "qunfa_messages", "qunfa_recipients_total", "qunfa_oldest_pending_submission_timestamp_seconds")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "qunfa_account_audit_failures_total"); err != nil || n != 2*(len(clickhouse.KnownErrCodes())+1) {
		t.Errorf("%d series of audit failures by account (%v): every known code and other must exist for both accounts", n, err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

func TestCodesThatNobodyPublishedCountAsOther(t *testing.T) {
	got := byKnownCode(map[int64]int64{10001: 2, 4711: 1, 4712: 3})
	if got["10001"] != 2 || got["other"] != 4 || got["30003"] != 0 {
		t.Errorf("got %v", got)
	}
	if _, ok := got["30003"]; !ok {
		t.Error("a known code that did not happen is not born")
	}
	if _, ok := got["4711"]; ok {
		t.Error("an unknown code has a label of its own: the set of labels would be open")
	}
}

func TestDeliveryPage(t *testing.T) {
	now := time.Unix(1772366405, 0)
	store := &fakeStore{figures: figures()}
	var behind error
	log := slog.New(slog.DiscardHandler)
	d := newDelivery(store, func(context.Context) error { return behind }, []string{"wx1"}, func() time.Time { return now }, log)
	get := func() (int, string) {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics/delivery", nil))
		body, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.Code, string(body)
	}

	if code, body := get(); code != http.StatusOK || !strings.Contains(body, `qunfa_recipients_total{result="sent"} 90`) {
		t.Errorf("%d %s", code, body)
	}
	now = now.Add(9 * time.Second)
	get()
	if store.asked != 1 {
		t.Errorf("the database was asked %d times within 10 s", store.asked)
	}
	now = now.Add(2 * time.Second)
	d.setAccounts([]string{"wx1", "wx2"})
	get()
	if store.asked != 2 || len(store.about) != 2 {
		t.Errorf("asked %d times, the last time about %v", store.asked, store.about)
	}

	behind = errors.New("the projection is 123456 records behind the log")
	if code, body := get(); code != http.StatusServiceUnavailable || !strings.Contains(body, "123456 records behind") || strings.Contains(body, "qunfa_") {
		t.Errorf("behind: %d %s", code, body)
	}
	behind = nil
	now = now.Add(time.Minute)
	store.err = errors.New("password=hunter2")
	if code, body := get(); code != http.StatusServiceUnavailable || strings.Contains(body, "hunter2") {
		t.Errorf("broken: %d %s", code, body)
	}
}
