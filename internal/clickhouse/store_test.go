package clickhouse_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

func TestEventsCollapse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	sub := f.submitted("wx1", 1, "2026-11-20T10:00:00+08:00", nil)
	fin := f.finished("wx1", 1, "2026-11-20T10:01:00+08:00", "send success", 100, 90, 88, 2)
	f.append(sub, fin)
	again := fin
	again.ReceivedAt = again.ReceivedAt.Add(time.Hour)
	f.append(again, sub, again)
	f.append(f.submitted("wx2", 1, "2026-11-20T10:00:00+08:00", nil)) // the same msg_id of another account

	for range 2 { // before and after merges
		rows := query(t, f.db, "SELECT type, `offset`, data LIKE '%raw%', raw FROM events WHERE appid = 'wx1' ORDER BY at")
		want := [][]any{
			{"qunfa.mass.submitted.v1", int64(0), uint8(0), ""},
			{"qunfa.mass.finished.v1", int64(1), uint8(0), "<xml>原文</xml>"},
		}
		if d := cmp.Diff(want, rows); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
		history, err := f.db.History(t.Context(), []events.Key{{AppID: "wx1", MsgID: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]events.Event{sub, fin}, sorted(history), ignoreRead()...); d != "" {
			t.Errorf("history (-want +got):\n%s", d)
		}
		query(t, f.db, "OPTIMIZE TABLE event_rows FINAL")
	}
}

func sorted(evs []events.Event) []events.Event {
	slices.SortFunc(evs, func(a, b events.Event) int { return a.Time.Compare(b.Time) })
	return evs
}

// ignoreRead leaves out what an event that was read back does not have.
func ignoreRead() []cmp.Option {
	return []cmp.Option{
		cmpopts.IgnoreFields(events.Event{}, "Source", "Position", "Body"),
		cmpopts.IgnoreFields(events.Finished{}, "Raw"),
	}
}

func TestHistoryOfMany(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	var evs []events.Event
	var keys []events.Key
	for i := range int64(10_000) { // more keys than a literal list could hold
		keys = append(keys, events.Key{AppID: "wx1", MsgID: i + 1})
		if i%100 == 0 {
			evs = append(evs, f.submitted("wx1", i+1, "2026-11-20T10:00:00+08:00", nil))
		}
	}
	f.append(evs...)
	got, err := f.db.History(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(evs) {
		t.Errorf("%d events came back, want %d", len(got), len(evs))
	}
	if none, err := f.db.History(t.Context(), nil); err != nil || none != nil {
		t.Errorf("history of no messages: %v, %v", none, err)
	}
}

// An event of a later version's type cannot be folded; the sink must wait for
// that version, neither skip the event nor set it aside.
func TestHistoryOfNewerVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	e := f.submitted("wx1", 1, "2026-11-20T10:00:00+08:00", nil)
	f.append(e)
	query(t, f.db, "INSERT INTO event_rows (appid, msg_id, event_id, type, data) VALUES ('wx1', 1, 'x', 'qunfa.mass.future.v9', '{}')")
	if _, err := f.db.History(t.Context(), []events.Key{e.Key}); clickhouse.ClassOf(err) != clickhouse.ClassSchema {
		t.Errorf("history: %v, want an error of class schema", err)
	}
}

func TestEndsAndCoverage(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	fate := func(topic string, partition int32, offset int64, kind string) events.Fate {
		return events.Fate{Position: events.Position{Topic: topic, Partition: partition, Offset: offset}, Kind: kind}
	}
	fates := []events.Fate{
		fate("a", 0, 5, events.FateTrimmed), fate("a", 0, 6, events.FateEvent), fate("a", 0, 7, events.FateDead), fate("a", 0, 9, events.FateEvent),
		fate("a", 1, 0, events.FateForeign), fate("b", 0, 100, events.FateEvent),
	}
	for range 2 { // done again, as after a lost answer
		if err := db.InsertRecords(t.Context(), fates); err != nil {
			t.Fatal(err)
		}
	}
	// That a record was handled outlives the claim that it was trimmed.
	if err := db.InsertRecords(t.Context(), []events.Fate{fate("a", 0, 6, events.FateTrimmed)}); err != nil {
		t.Fatal(err)
	}
	ends, err := db.Ends(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[int32]int64{0: 10, 1: 1}, ends); d != "" {
		t.Errorf("ends (-want +got):\n%s", d)
	}
	got, err := db.Coverage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []clickhouse.Coverage{
		{Topic: "a", Partition: 0, First: 5, Last: 9, Records: 4, Kinds: map[string]int64{"event": 2, "dead": 1, "trimmed": 1}},
		{Topic: "a", Partition: 1, Records: 1, Kinds: map[string]int64{"foreign": 1}},
		{Topic: "b", Partition: 0, First: 100, Last: 100, Records: 1, Kinds: map[string]int64{"event": 1}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("coverage (-want +got):\n%s", d)
	}
	if n := got[0].Missing(); n != 1 {
		t.Errorf("%d offsets are missing, want 1 (offset 8)", n)
	}
}

// A higher version wins, whichever comes last, before merges and after.
func TestHigherVersionWins(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	row := func(msgID int64, version uint64, label string) events.Row {
		return events.Row{Key: events.Key{AppID: "wx1", MsgID: msgID}, Day: day, Version: version, Outcome: events.OutcomePending, Label: label}
	}
	for _, rows := range [][]events.Row{
		{row(1, 2, "new"), row(2, 1, "old")},
		{row(1, 1, "stale"), row(2, 3, "new")},
		{row(1, 2, "new"), row(2, 3, "new")},
	} {
		if err := db.InsertMessages(t.Context(), rows, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		got := query(t, db, "SELECT msg_id, label, events FROM messages ORDER BY msg_id")
		if d := cmp.Diff([][]any{{int64(1), "new", int64(2)}, {int64(2), "new", int64(3)}}, got); d != "" {
			t.Errorf("messages (-want +got):\n%s", d)
		}
		query(t, db, "OPTIMIZE TABLE message_rows FINAL")
	}
}

// A late submission moves a message to another day, in the same month or not,
// and leaves one row, also after the partitions have been merged to one part
// each, and when a writer who does not know of the move writes again.
func TestLateSubmissionMovesDay(t *testing.T) {
	t.Parallel()
	for name, submittedAt := range map[string]string{
		"same month":    "2026-11-02T23:50:00+08:00",
		"another month": "2026-10-31T23:50:00+08:00",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, migrated(t))
			fin := f.finished("wx1", 1, "2026-11-03T00:10:00+08:00", "send success", 100, 90, 88, 2)
			f.write(fin)
			stale, _ := f.folded(fin.Key)
			want := [][]any{{f.time(submittedAt).In(f.loc).Format(time.DateOnly), int64(88)}}
			f.write(f.submitted("wx1", 1, submittedAt, nil))
			check := func(when string) {
				t.Helper()
				got := query(t, f.db, "SELECT toString(day), sent FROM messages")
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s (-want +got):\n%s", when, d)
				}
				if n := one(t, f.db, "SELECT sum(messages) FROM delivery_daily"); n != int64(1) {
					t.Errorf("%s: delivery_daily has %v messages, want 1", when, n)
				}
			}
			check("after the move")
			query(t, f.db, "OPTIMIZE TABLE message_rows FINAL")
			check("after merges")
			if err := f.db.InsertMessages(t.Context(), stale, nil); err != nil {
				t.Fatal(err)
			}
			check("after a stale write")
			query(t, f.db, "OPTIMIZE TABLE message_rows FINAL")
			check("after merges of that")
		})
	}
}

func TestInsertOddValues(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	// The time of a record is whatever its producer claimed.
	fates := []events.Fate{
		{Position: events.Position{Topic: "t", Offset: 1}, Kind: events.FateForeign},
		{Position: events.Position{Topic: "t", Offset: 2}, Kind: events.FateDead, Reason: "bad \xff bytes\x00", At: time.UnixMilli(1 << 60)},
	}
	if err := db.InsertRecords(t.Context(), fates); err != nil {
		t.Fatal(err)
	}
	rows := query(t, db, "SELECT toYear(at), reason FROM record_rows ORDER BY `offset`")
	if d := cmp.Diff([][]any{{uint16(1970), ""}, {uint16(2106), "bad \xff bytes\x00"}}, rows); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	if err := db.InsertEvents(t.Context(), nil); err != nil {
		t.Errorf("no events: %v", err)
	}
}

// Imported history may fall on more months than an insert may touch by default.
func TestInsertManyMonths(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	var rows []events.Row
	for i := range 300 {
		rows = append(rows, events.Row{
			Key: events.Key{AppID: "wx1", MsgID: int64(i + 1)}, Version: 1, Outcome: events.OutcomeSent,
			Day: time.Date(2001, time.Month(1+i), 1, 0, 0, 0, 0, time.UTC),
		})
	}
	if err := db.InsertMessages(t.Context(), rows, nil); err != nil {
		t.Fatal(err)
	}
	if n := one(t, db, "SELECT count() FROM messages"); n != uint64(300) {
		t.Errorf("%v messages, want 300", n)
	}
}

func TestUpsertAccounts(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for _, accounts := range [][]clickhouse.Account{
		{{AppID: "wx1", OriginalID: "gh_1", Name: "old"}, {AppID: "wx2", OriginalID: "gh_2", Name: "二号"}},
		{{AppID: "wx1", OriginalID: "gh_1", Name: "new"}},
		{{AppID: "wx1", OriginalID: "gh_1", Name: "new"}},
	} {
		if err := db.UpsertAccounts(t.Context(), accounts); err != nil {
			t.Fatal(err)
		}
	}
	got := query(t, db, "SELECT appid, account, original_id, configured, messages, missing_callbacks, recording FROM accounts ORDER BY appid")
	want := [][]any{{"wx1", "new", "gh_1", true, int64(0), nil, "none"}, {"wx2", "二号", "gh_2", true, int64(0), nil, "none"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("accounts (-want +got):\n%s", d)
	}
	if n := one(t, db, "SELECT count() FROM account_rows"); n != uint64(3) {
		t.Errorf("%v rows were written, want 3: what has not changed is not written again", n)
	}
}
