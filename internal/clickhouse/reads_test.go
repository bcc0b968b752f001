package clickhouse_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

func TestPending(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	pollError := f.event(&events.Polled{AppID: "wx1", MsgID: 2, PolledAt: f.time("2026-11-20T11:00:00+08:00"), Attempt: 1,
		Error: &events.APIError{Code: 40059}, Instance: "test"})
	f.write(
		f.submitted("wx1", 1, "2026-11-20T10:00:00.5+08:00", nil),
		f.submitted("wx1", 2, "2026-11-20T10:00:00+08:00", func(d *events.Submitted) { d.Chase = false }),
		pollError,
		f.submitted("wx1", 3, "2026-11-20T10:00:00+08:00", nil),
		f.finished("wx1", 3, "2026-11-20T10:01:00+08:00", "send success", 1, 1, 1, 0),
		f.submitted("wx2", 1, "2026-11-20T10:00:00+08:00", nil),
		f.polled("wx2", 1, "2026-11-20T11:00:00+08:00", "SENDING"),
		f.submitted("wx2", 2, "2026-11-20T12:00:00+08:00", nil),    // too late
		f.polled("wx3", 1, "2026-11-20T11:00:00+08:00", "SENDING"), // nobody submitted it
	)
	at := func(s string) *time.Time { u := f.time(s).UTC(); return &u }
	code := int64(40059)
	want := []clickhouse.Pending{
		{Key: events.Key{AppID: "wx1", MsgID: 1}, SubmittedAt: at("2026-11-20T10:00:00.5+08:00"), Chase: true},
		{Key: events.Key{AppID: "wx1", MsgID: 2}, SubmittedAt: at("2026-11-20T10:00:00+08:00"), Polls: 1, LastPollAt: at("2026-11-20T11:00:00+08:00"), LastPollError: &code},
		{Key: events.Key{AppID: "wx2", MsgID: 1}, SubmittedAt: at("2026-11-20T10:00:00+08:00"), Chase: true, Polls: 1, LastPollAt: at("2026-11-20T11:00:00+08:00"), LastPollStatus: "SENDING"},
	}
	before := f.time("2026-11-20T12:00:00+08:00")
	all, err := f.db.Pending(t.Context(), before, events.Key{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, all); d != "" {
		t.Errorf("pending (-want +got):\n%s", d)
	}
	var paged []clickhouse.Pending
	for after := (events.Key{}); ; after = paged[len(paged)-1].Key {
		page, err := f.db.Pending(t.Context(), before, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if paged = append(paged, page...); len(page) == 0 {
			break
		}
	}
	if d := cmp.Diff(want, paged); d != "" {
		t.Errorf("pending, page by page (-want +got):\n%s", d)
	}
	exact, err := f.db.Pending(t.Context(), f.time("2026-11-20T10:00:00.5+08:00"), events.Key{}, 10)
	if err != nil || len(exact) != 2 {
		t.Errorf("submitted before 10:00:00.5: %d messages, %v; want 2", len(exact), err)
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	now := f.time("2026-11-25T12:00:00Z")
	received := func(e events.Event, at string) events.Event { e.ReceivedAt = f.time(at); return e }
	f.write(
		f.submitted("wx1", 1, "2026-11-20T10:00:00Z", nil),
		f.finished("wx1", 1, "2026-11-20T10:01:00Z", "send success", 100, 90, 88, 2),
		f.finished("wx1", 2, "2026-11-21T10:01:00Z", "err(20001)", 0, 0, 0, 0),
		f.finished("wx2", 1, "2026-11-21T10:01:00Z", "err(20999)", 0, 0, 0, 0),
		f.finished("wx2", 2, "2026-11-21T10:02:00Z", "send success", 10, 10, 10, 0),
		// Not counted: of last month; received a day and more after it was made; received next month.
		received(f.finished("wx1", 3, "2026-10-31T23:59:00Z", "send success", 7, 7, 7, 0), "2026-10-31T23:59:59.999Z"),
		received(f.finished("wx1", 4, "2026-11-01T00:00:00Z", "send success", 7, 7, 7, 0), "2026-11-02T00:00:00.001Z"),
		received(f.finished("wx1", 5, "2026-11-30T23:59:59Z", "send success", 7, 7, 7, 0), "2026-12-01T00:00:00Z"),
		// Counted: received in this month, though made in the last.
		received(f.finished("wx1", 6, "2026-10-31T23:59:59Z", "send success", 1000, 1000, 1000, 0), "2026-11-01T00:00:00Z"),
		f.submitted("wx1", 7, "2026-11-24T10:00:00Z", nil),
		f.submitted("wx1", 8, "2026-01-24T10:00:00.25Z", nil),
		f.submitted("wx1", 9, "2026-11-24T10:00:00Z", nil),
		f.polled("wx1", 9, "2026-11-24T11:00:00Z", "SEND_SUCCESS"),
	)
	want := &clickhouse.Delivery{
		Since: f.time("2026-11-01T00:00:00Z"),
		All:   clickhouse.DeliveryCounts{Sent: 1098, Errors: 2, Filtered: 10, AuditFailures: map[int64]int64{20001: 1, 20999: 1}},
		Accounts: map[string]clickhouse.DeliveryCounts{
			"wx1": {Sent: 1088, Errors: 2, Filtered: 10, AuditFailures: map[int64]int64{20001: 1}},
			"wx9": {AuditFailures: map[int64]int64{}},
		},
		Outcomes: map[events.Outcome]int64{events.OutcomePending: 1, events.OutcomeSent: 7, events.OutcomeRejected: 2,
			events.OutcomeFailed: 0, events.OutcomeUnknown: 0, events.OutcomeDeleted: 0, events.OutcomeMissing: 0},
		Pending:       2,
		OldestPending: f.time("2026-01-24T10:00:00.25Z"),
	}
	check := func(when string) {
		t.Helper()
		got, err := f.db.Delivery(t.Context(), now, []string{"wx1", "wx9"})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
	}
	check("at first")
	// A correction and a submission that comes late change rows, but not the facts that are counted.
	f.write(f.finished("wx1", 1, "2026-11-20T10:05:00Z", "send success", 100, 90, 80, 10), f.submitted("wx2", 2, "2026-11-01T10:00:00Z", nil))
	check("after a correction")
}

func TestQueryTypes(t *testing.T) {
	t.Parallel()
	db := open(t, func() clickhouse.Config { c := testServer(t); c.Database = "default"; return c }())
	r, err := db.Query(t.Context(), `SELECT toInt64(-1) AS i, NULL AS n, CAST(NULL, 'Nullable(Int64)') AS ni, CAST(5, 'Nullable(Int64)') AS five, '群' AS s,
		[1, 2]::Array(Int64) AS a, [1, NULL]::Array(Nullable(Int64)) AS an, toDate('2026-01-02') AS d, toDateTime('2026-01-02 03:04:05', 'Asia/Shanghai') AS t,
		true AS b, 1.5 AS f, toInt128(7) AS big, CAST(NULL, 'Nullable(Int128)') AS nbig, CAST(NULL, 'LowCardinality(Nullable(String))') AS lc`)
	if err != nil {
		t.Fatal(err)
	}
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	one := int64(1)
	want := [][]any{{int64(-1), nil, nil, int64(5), "群", []int64{1, 2}, []*int64{&one, nil}, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 1, 2, 3, 4, 5, 0, shanghai), true, 1.5, big.NewInt(7), nil, nil}}
	if d := cmp.Diff(want, r.Rows, cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); d != "" {
		t.Errorf("rows (-want +got):\n%s", d)
	}
	if d := cmp.Diff(clickhouse.Column{Name: "ni", Type: "Nullable(Int64)"}, r.Columns[2]); d != "" {
		t.Errorf("column (-want +got):\n%s", d)
	}
	for _, sql := range []string{"SELECT number FROM numbers(100000)", "SELECT number FROM numbers(0)", "SYSTEM FLUSH LOGS"} {
		if _, err := db.Query(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// An error in the middle of an answer is an error, not a short answer.
	if r, err := db.Query(t.Context(), "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000"); err == nil {
		t.Errorf("a failing query answered %d rows", len(r.Rows))
	}
}

func TestPlainTextOfErrors(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	_, err := db.Query(t.Context(), "SELECT * FROM nowhere")
	if c := clickhouse.ClassOf(err); c != clickhouse.ClassMissing {
		t.Errorf("class of %v = %s, want missing", err, c)
	}
	if s := fmt.Sprint(err); len(s) == 0 || s[:len("clickhouse: query: ")] != "clickhouse: query: " {
		t.Errorf("error %q does not say what was being done", s)
	}
}
