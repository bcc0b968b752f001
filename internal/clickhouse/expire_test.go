package clickhouse_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// Messages expire whole, by the latest thing that happened to them, and do not
// come back: not by a late copy, not by a rebuild from the events or the topic.
func TestExpire(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	f := newFixture(t, db)
	in := startSinkThat(t, db, true)
	var old, rest []events.Event
	for i := range int64(10) {
		old = append(old,
			f.submitted("wx1", 1+i, "2025-01-10T10:00:00+08:00", nil),
			f.finished("wx1", 1+i, "2025-01-10T10:01:00+08:00", "send success", 100, 90, 80, 10),
			f.polled("wx1", 1+i, "2025-01-13T10:00:00+08:00", "SEND_SUCCESS"))
		rest = append(rest, // began before, and ended after
			f.submitted("wx1", 100+i, "2025-02-27T10:00:00+08:00", nil),
			f.finished("wx1", 100+i, "2025-03-02T10:01:00+08:00", "send success", 100, 90, 80, 10),
			f.submitted("wx2", 200+i, "2026-03-01T10:00:00+08:00", nil))
	}
	all := append(append([]events.Event{}, old...), rest...)
	in.put(all...)
	in.done()
	stays := func() map[string][][]any {
		t.Helper()
		return map[string][][]any{
			"events":   query(t, db, "SELECT *, ver FROM event_rows FINAL WHERE msg_id >= 100 ORDER BY ALL"),
			"messages": query(t, db, "SELECT * FROM message_rows FINAL WHERE msg_id >= 100 ORDER BY ALL"),
		}
	}
	before := stays()
	x := clickhouse.Expiry{Before: f.time("2025-03-01T00:00:00+08:00"), Who: "test"}
	if c, err := db.CountExpiry(t.Context(), x); err != nil || c != (clickhouse.ExpiryCounts{Messages: 10, Events: 30}) {
		t.Errorf("what would expire: %+v, %v", c, err)
	}
	check := func(when string, records int64) {
		t.Helper()
		if got := query(t, db, "SELECT (SELECT count() FROM event_rows WHERE msg_id < 100), (SELECT count() FROM message_rows WHERE msg_id < 100)"); fmt.Sprint(got) != "[[0 0]]" {
			t.Errorf("%s: events and messages that have expired: %v", when, got)
		}
		if d := cmp.Diff(before, stays()); d != "" {
			t.Errorf("%s: of the others (-before +after):\n%s", when, d)
		}
		accounted(t, db, events.FateExpired, records)
		if lost, err := db.LostEvents(t.Context()); err != nil || len(lost) != 0 {
			t.Errorf("%s: events are lost: %v, %v", when, lost, err)
		}
	}
	for range 2 { // the second finds nothing
		if err := db.Expire(t.Context(), x, nil); err != nil {
			t.Fatal(err)
		}
		check("expired", 30)
	}
	in.put(old[:6]...) // late copies
	in.done()
	check("after late copies", 36)
	for when, o := range map[string]clickhouse.Rebuild{
		"rebuilt from the events": {Who: "test", Compare: true},
		"rebuilt from the topic":  {Who: "test", Compare: true, Import: func(ctx context.Context, store clickhouse.StoreRecords) error { return store(ctx, in.log) }},
	} {
		report, err := db.Rebuild(t.Context(), o)
		if err != nil || !report.Comparison.Same() {
			t.Errorf("%s: %v, %+v", when, err, report.Comparison)
		}
		check(when, 36)
	}
	if n := one(t, db, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND (name LIKE 'purge%' OR name LIKE '%rebuild_%') AND name != 'rebuild_rows'"); n != uint64(0) {
		t.Errorf("%v tables are left", n)
	}
}

// An old event of a message that lives is stored: nothing of it may be missing.
// Something new about one that has expired begins a row that knows it alone.
func TestExpiredAndAlive(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	f := newFixture(t, db)
	in := startSinkThat(t, db, true)
	final := f.finished("wx1", 1, "2025-03-02T10:01:00+08:00", "send success", 100, 90, 80, 10)
	gone := f.submitted("wx1", 2, "2025-01-01T10:00:00+08:00", nil)
	in.put(final, gone)
	in.done()
	if err := db.Expire(t.Context(), clickhouse.Expiry{Before: f.time("2025-03-01T00:00:00+08:00"), Who: "test"}, nil); err != nil {
		t.Fatal(err)
	}
	in.put(f.submitted("wx1", 1, "2025-02-27T10:00:00+08:00", nil)) // recorded late
	in.put(f.event(&events.Deleted{AppID: "wx1", MsgID: 2, DeletedAt: f.time("2026-01-01T10:00:00+08:00")}))
	in.put(f.submitted("wx1", 3, "2025-02-20T10:00:00+08:00", nil), f.finished("wx1", 3, "2025-03-02T10:01:00+08:00", "send success", 1, 1, 1, 0)) // both at once
	in.put(f.submitted("wx1", 4, "2024-02-20T10:00:00+08:00", nil))                                                                                // imported history
	in.done()
	got := query(t, db, "SELECT msg_id, events, outcome, recorded FROM messages ORDER BY msg_id")
	if d := cmp.Diff("[[1 2 sent true] [2 1 deleted false] [3 2 sent true]]", fmt.Sprint(got)); d != "" {
		t.Errorf("messages (-want +got):\n%s", d)
	}
	accounted(t, db, events.FateExpired, 2)
}

// Openids can expire before their messages, whose figures stay.
func TestExpireRaw(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	f := newFixture(t, db)
	in := startSinkThat(t, db, true)
	var all []events.Event
	for i, day := range []string{"2026-01-01", "2026-02-01", "2026-03-01"} {
		e := f.finished("wx1", int64(i+1), day+"T10:00:00+08:00", "send success", 100, 90, 80, 10)
		e.Data.(*events.Finished).FromUser = "oOpenID"
		all = append(all, e)
	}
	in.put(all...)
	in.done()
	figures := query(t, db, "SELECT * FROM messages ORDER BY msg_id")
	if err := db.Expire(t.Context(), clickhouse.Expiry{RawBefore: f.time("2026-02-15T00:00:00+08:00"), Who: "test"}, nil); err != nil {
		t.Fatal(err)
	}
	in.put(all...) // once more
	in.done()
	const openids = "SELECT msg_id, toUInt8(raw != ''), JSONHas(data, 'from_user') FROM event_rows FINAL ORDER BY msg_id"
	if got := fmt.Sprint(query(t, db, openids)); got != "[[1 0 0] [2 0 0] [3 1 1]]" {
		t.Errorf("message, raw, from_user: %v", got)
	}
	if d := cmp.Diff(figures, query(t, db, "SELECT * FROM messages ORDER BY msg_id")); d != "" {
		t.Errorf("figures (-before +after):\n%s", d)
	}
	if n := one(t, db, "SELECT count() FROM event_rows WHERE msg_id < 3 AND (raw != '' OR JSONHas(data, 'from_user'))"); n != uint64(0) {
		t.Errorf("%v copies hold an openid", n)
	}
}

// Keys that a killed run has left are dropped, after the mutations that may need them.
func TestExpireAfterAKilledRun(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	query(t, db, "CREATE TABLE purge_keys_dead (appid String, msg_id Int64) ENGINE = MergeTree ORDER BY appid")
	if err := db.Expire(t.Context(), clickhouse.Expiry{Before: time.Now().Add(-1000 * time.Hour), Who: "test"}, nil); err != nil {
		t.Fatal(err)
	}
	if n := one(t, db, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name LIKE 'purge%'"); n != uint64(0) {
		t.Errorf("%v tables are left", n)
	}
}
