package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
	"qunfa/internal/sink"
)

// everything is what is stored of all accounts but one, to the last row.
func everything(t *testing.T, db *clickhouse.DB, but string) map[string][][]any {
	t.Helper()
	all := map[string][][]any{}
	for table, columns := range map[string]string{
		"event_rows":   "*, ver",
		"message_rows": "*",
		"account_rows": "appid, name",
	} {
		all[table] = query(t, db, "SELECT "+columns+" FROM "+table+" FINAL WHERE appid != '"+but+"' ORDER BY ALL")
	}
	for _, v := range []string{"messages", "delivery_daily", "campaigns", "recording_daily"} {
		all[v] = query(t, db, "SELECT * FROM "+v+" WHERE appid != '"+but+"' ORDER BY ALL")
	}
	return all
}

// nothingOf checks that nothing of an account is anywhere.
func nothingOf(t *testing.T, db *clickhouse.DB, when, appid string) {
	t.Helper()
	for _, r := range query(t, db, "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name NOT IN ('erasure_rows', 'client_rows')") {
		table := r[0].(string)
		if n := one(t, db, "SELECT count() FROM system.columns WHERE database = currentDatabase() AND table = ? AND name = 'appid'", table); n != uint64(1) {
			continue
		}
		if n := one(t, db, "SELECT count() FROM "+table+" WHERE appid = ?", appid); n != uint64(0) {
			t.Errorf("%s: %v rows of the account in %s", when, n, table)
		}
	}
	if n := one(t, db, "SELECT count() FROM record_rows WHERE kind = 'event' AND event_id NOT IN (SELECT event_id FROM event_rows)"); n != uint64(0) {
		t.Errorf("%s: %v records are noted as events that are not there", when, n)
	}
}

// accounted checks that every offset is accounted for, so many as erased or expired.
func accounted(t *testing.T, db *clickhouse.DB, kind string, want int64) {
	t.Helper()
	all, err := db.Coverage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, c := range all {
		n += c.Kinds[kind]
		if c.Missing() != 0 {
			t.Errorf("%d offsets are not accounted for: %+v", c.Missing(), c)
		}
	}
	if n != want {
		t.Errorf("%d offsets are noted as %s, want %d", n, kind, want)
	}
}

// startSinkThat runs a sink that leaves out what must not be stored.
func startSinkThat(t *testing.T, db *clickhouse.DB, leaveOut bool) *feed {
	t.Helper()
	loc, err := db.Location(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{t: t, topic: "qunfa.events", in: make(chan []events.Record, 1000)}
	cfg := sink.Config{Topic: f.topic, Location: loc, Interval: time.Millisecond, MaxBackoff: 50 * time.Millisecond}
	if leaveOut {
		cfg.LeaveOut = db.LeaveOut
	}
	s, err := sink.New(cfg, db, f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, f) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("sink: %v", err)
		}
	})
	return f
}

// eraseWorld is events of three accounts, a message of each at a time.
func eraseWorld(f *fixture, from, to int64) (evs []events.Event) {
	for i := from; i < to; i++ {
		for _, appid := range []string{"wxa", "wxgone", "wxz"} {
			day := fmt.Sprintf("2026-%02d-%02dT", 1+i%9, 1+i%28)
			evs = append(evs,
				f.submitted(appid, 1000+i, day+"10:00:00+08:00", func(s *events.Submitted) { s.Campaign, s.Label = "活动", "of "+appid }),
				f.finished(appid, 1000+i, day+"10:01:00+08:00", "send success", 100+i, 90, 80, 10))
			evs[len(evs)-1].Data.(*events.Finished).FromUser = `o"from_user":"x` + appid
		}
	}
	return evs
}

func of(appid string, evs []events.Event) (n int64) {
	for i := range evs {
		if evs[i].Key.AppID == appid {
			n++
		}
	}
	return n
}

// An account is erased while a sink writes more of it. Then everything is rebuilt
// from the events and from the topic, an older copy of the tables is brought
// back, and the sink reads it all again: nothing of the account is there, and of
// the others nothing has changed, to the last row.
func TestErase(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	f := newFixture(t, db)
	if err := db.UpsertAccounts(t.Context(), []clickhouse.Account{{AppID: "wxa", Name: "甲"}, {AppID: "wxgone", Name: "乙"}}); err != nil {
		t.Fatal(err)
	}
	in := startSinkThat(t, db, true)
	all := eraseWorld(f, 0, 60)
	in.put(all...)
	in.done()
	for _, table := range []string{"event_rows", "record_rows", "message_rows", "account_rows", "erasure_rows"} { // a backup
		query(t, db, "CREATE TABLE then_"+table+" CLONE AS "+table)
	}
	e := clickhouse.Erasure{AppID: "wxgone", Scope: clickhouse.EraseAll, Before: f.now.Add(time.Minute), Who: "test"}
	counts, err := db.CountErasure(t.Context(), e)
	if d := cmp.Diff(clickhouse.EraseCounts{Events: 120, Messages: 60, Names: 1, Records: 120}, counts); err != nil || d != "" {
		t.Errorf("what would be erased (-want +got): %v\n%s", err, d)
	}

	more := eraseWorld(f, 60, 90)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < len(more); i += 6 {
			in.put(more[i : i+6]...)
			<-time.After(10 * time.Millisecond)
		}
	})
	if err := db.Erase(t.Context(), e, nil); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	in.done()
	all = append(all, more...)
	for _, table := range []string{"event_rows", "record_rows", "message_rows", "account_rows", "erasure_rows"} {
		query(t, db, "ALTER TABLE then_"+table+" MODIFY COMMENT ''") // they are no tables of ours
	}
	clean := func(when string) {
		t.Helper()
		for _, table := range []string{"event_rows", "message_rows", "account_rows"} {
			if n := one(t, db, "SELECT count() FROM "+table+" WHERE appid = 'wxgone'"); n != uint64(0) {
				t.Errorf("%s: %v rows of the account in %s", when, n, table)
			}
		}
		if n := one(t, db, "SELECT count() FROM messages WHERE appid = 'wxa'"); n != uint64(90) {
			t.Errorf("%s: %v messages of another account, want 90", when, n)
		}
		accounted(t, db, events.FateErased, of("wxgone", all))
	}
	clean("erased under load")
	if lost, err := db.LostEvents(t.Context()); err != nil || len(lost) != 0 {
		t.Errorf("events are lost: %v, %v", lost, err)
	}
	others := everything(t, db, "wxgone")
	same := func(when string) {
		t.Helper()
		clean(when)
		if d := cmp.Diff(others, everything(t, db, "wxgone")); d != "" {
			t.Errorf("%s: of others (-before +after):\n%s", when, d)
		}
	}

	for when, o := range map[string]clickhouse.Rebuild{
		"rebuilt from the events": {Who: "test", Compare: true},
		"rebuilt from the topic":  {Who: "test", Compare: true, Import: func(ctx context.Context, store clickhouse.StoreRecords) error { return store(ctx, in.log) }},
	} {
		report, err := db.Rebuild(t.Context(), o)
		if err != nil || !report.Comparison.Same() {
			t.Errorf("%s: %v, %+v", when, err, report.Comparison)
		}
		same(when)
	}

	list, err := db.Erasures(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("the list: %v, %v", list, err)
	}
	for _, table := range []string{"event_rows", "record_rows", "message_rows", "account_rows", "erasure_rows"} { // the restore
		query(t, db, "EXCHANGE TABLES "+table+" AND then_"+table)
		query(t, db, "DROP TABLE then_"+table)
	}
	if n := one(t, db, "SELECT count() FROM messages WHERE appid = 'wxgone'"); n != uint64(60) {
		t.Fatalf("the copy has %v messages of the account: it shows nothing", n)
	}
	if err := db.Erase(t.Context(), list[0], nil); err != nil {
		t.Fatal(err)
	}
	again := startSinkThat(t, db, true) // from the beginning, as after a rewind
	again.put(all...)
	again.done()
	same("restored from an older copy")
	nothingOf(t, db, "restored from an older copy", "wxgone")

	late := f.submitted("wxgone", 9999, f.now.Add(time.Hour).Format(time.RFC3339), nil) // the account is back
	again.put(append([]events.Event{late}, all[:6]...)...)
	again.done()
	if got := query(t, db, "SELECT msg_id, outcome FROM messages WHERE appid = 'wxgone'"); fmt.Sprint(got) != "[[9999 pending]]" {
		t.Errorf("after the account came back: %v", got)
	}
}

// Without asking what to leave out a sink brings everything back: this shows
// that TestErase can fail.
func TestEraseNeedsTheList(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	f := newFixture(t, db)
	all := eraseWorld(f, 0, 5)
	in := startSinkThat(t, db, false)
	in.put(all...)
	in.done()
	if err := db.Erase(t.Context(), clickhouse.Erasure{AppID: "wxgone", Scope: clickhouse.EraseAll, Before: f.now, Who: "test"}, nil); err != nil {
		t.Fatal(err)
	}
	in.put(all...)
	in.done()
	if n := one(t, db, "SELECT count() FROM messages WHERE appid = 'wxgone'"); n != uint64(5) {
		t.Errorf("%v messages of the account came back, want 5", n)
	}
	report, err := db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "test", Compare: true})
	if n := one(t, db, "SELECT count() FROM messages WHERE appid = 'wxgone'"); err != nil || n != uint64(0) {
		t.Errorf("a rebuild from such events brings %v messages: %v, %+v", n, err, report.Comparison)
	}
}

// Of an account the openids alone are erased; figures stay, and so do other accounts' openids.
func TestEraseRaw(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	f := newFixture(t, db)
	in := startSinkThat(t, db, true)
	all := eraseWorld(f, 0, 20)
	in.put(all...)
	in.done()
	figures := query(t, db, "SELECT * FROM messages ORDER BY appid, msg_id")
	others := everything(t, db, "wxgone")
	e := clickhouse.Erasure{AppID: "wxgone", Scope: clickhouse.EraseRaw, Before: f.now, Who: "test"}
	if c, err := db.CountErasure(t.Context(), e); err != nil || c.Events != 20 {
		t.Errorf("what would be erased: %+v, %v", c, err)
	}
	if err := db.Erase(t.Context(), e, nil); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		const openids = "SELECT countIf(raw != '' OR JSONHas(data, 'from_user') OR data LIKE '%xwxgone%'), countIf(NOT isValidJSON(data)), countIf(type LIKE '%finished%') FROM event_rows FINAL WHERE appid = 'wxgone'"
		if got := query(t, db, openids); fmt.Sprint(got) != "[[0 0 20]]" {
			t.Errorf("%s: openids, broken data, callbacks: %v", when, got)
		}
		if d := cmp.Diff(figures, query(t, db, "SELECT * FROM messages ORDER BY appid, msg_id")); d != "" {
			t.Errorf("%s: figures (-before +after):\n%s", when, d)
		}
		if d := cmp.Diff(others, everything(t, db, "wxgone")); d != "" {
			t.Errorf("%s: of others (-before +after):\n%s", when, d)
		}
	}
	check("erased")
	again := startSinkThat(t, db, true)
	again.put(all...)
	again.done()
	check("read again")
	_, err := db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "test", Import: func(ctx context.Context, store clickhouse.StoreRecords) error { return store(ctx, in.log) }})
	if err != nil {
		t.Fatal(err)
	}
	check("rebuilt from the topic")
	if n := one(t, db, "SELECT count() FROM event_rows FINAL WHERE appid = 'wxa' AND raw != '' AND JSONHas(data, 'from_user')"); n != uint64(20) {
		t.Errorf("%v callbacks of another account have their openid, want 20", n)
	}
}

func TestEraseRefuses(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	now := time.Now()
	for _, e := range []clickhouse.Erasure{{Scope: clickhouse.EraseAll, Before: now}, {AppID: "wx1", Scope: "some", Before: now}, {AppID: "wx1", Scope: clickhouse.EraseAll}} {
		if err := db.Erase(t.Context(), e, nil); err == nil {
			t.Errorf("%+v was erased", e)
		}
	}
	query(t, db, "INSERT INTO rebuild_rows (id, seq, phase, who, started_at) VALUES ('x', 1, 'building', 'somebody', now())")
	err := db.Erase(t.Context(), clickhouse.Erasure{AppID: "wx1", Scope: clickhouse.EraseAll, Before: now}, nil)
	if !errors.Is(err, clickhouse.ErrRebuilding) || !strings.Contains(err.Error(), "somebody") {
		t.Errorf("beside a rebuild: %v", err)
	}
}
