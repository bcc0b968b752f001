package clickhouse_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// A run that was trimmed away counts as all of its offsets, but each offset
// counts once, whoever noted the run, and whatever else is known of a part of it.
func TestCoverageOfTrimmedRuns(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	trimmed := func(topic string, from, to int64) events.Fate {
		return events.Fate{Position: events.Position{Topic: topic, Offset: to}, Count: to - from + 1, Kind: events.FateTrimmed}
	}
	event := func(topic string, offset int64) events.Fate {
		return events.Fate{Position: events.Position{Topic: topic, Offset: offset}, Kind: events.FateEvent}
	}
	for _, fates := range [][]events.Fate{
		{trimmed("a", 0, 9), event("a", 10)},
		{trimmed("b", 0, 9), trimmed("b", 5, 14), trimmed("b", 15, 15), trimmed("b", 20, 29), event("b", 3), event("b", 12), event("b", 30)},
		{trimmed("c", 0, 9), event("c", 9)}, // somebody who was slow had read the last of them: the run is gone from the table
		{trimmed("d", 100, 199)},
	} {
		if err := db.InsertRecords(t.Context(), fates); err != nil {
			t.Fatal(err)
		}
	}
	// As it was written before runs had a start of their own, and by a sink of that version still.
	query(t, db, "INSERT INTO record_rows (topic, `partition`, `offset`, kind, reason) VALUES"+
		" ('e', 0, 99, 'trimmed', 'offsets 40 to 99 were gone from the topic before they were read'), ('e', 0, 100, 'dead', 'offsets 7 to 9 are no range'), ('f', 0, 5, 'trimmed', '')")
	got, err := db.Coverage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []clickhouse.Coverage{
		{Topic: "a", Last: 10, Records: 11, Kinds: map[string]int64{"trimmed": 10, "event": 1}},
		{Topic: "b", Last: 30, Records: 27, Kinds: map[string]int64{"trimmed": 24, "event": 3}},
		{Topic: "c", First: 9, Last: 9, Records: 1, Kinds: map[string]int64{"event": 1}},
		{Topic: "d", First: 100, Last: 199, Records: 100, Kinds: map[string]int64{"trimmed": 100}},
		{Topic: "e", First: 40, Last: 100, Records: 61, Kinds: map[string]int64{"trimmed": 60, "dead": 1}},
		{Topic: "f", First: 5, Last: 5, Records: 1, Kinds: map[string]int64{"trimmed": 1}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("coverage (-want +got):\n%s", d)
	}
	var missing []int64
	for _, c := range got {
		missing = append(missing, c.Missing())
	}
	if d := cmp.Diff([]int64{0, 4, 0, 0, 0, 0}, missing); d != "" { // 16 to 19 of b
		t.Errorf("missing (-want +got):\n%s", d)
	}
}

func TestLostEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	sub := f.submitted("wx1", 1, "2026-11-20T10:00:00+08:00", nil)
	lost := f.submitted("wx1", 2, "2026-11-20T10:00:00+08:00", nil)
	f.append(sub, lost, sub, lost)
	if got, err := f.db.LostEvents(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("lost: %+v, %v", got, err)
	}
	query(t, f.db, "ALTER TABLE event_rows DELETE WHERE msg_id = 2 SETTINGS mutations_sync = 1")
	got, err := f.db.LostEvents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]clickhouse.Lost{{Topic: f.topic, Records: 2, First: 1, Last: 3}}, got); d != "" {
		t.Errorf("lost (-want +got):\n%s", d)
	}
}
