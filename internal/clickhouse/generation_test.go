package clickhouse_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

func TestLogName(t *testing.T) {
	for want, generation := range map[string]int{"a": 1, "a#2": 2, "a#10": 10} {
		if got := clickhouse.LogName("a", generation); got != want {
			t.Errorf("generation %d is %q, want %q", generation, got, want)
		}
	}
}

// Generations of one topic hold the same offsets and keep apart.
func TestTopicGenerations(t *testing.T) {
	t.Parallel()
	db := open(t, testServer(t))
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_700_000_000_123).UTC()
	store := func(log string, upTo int64, kind string) {
		t.Helper()
		var fates []events.Fate
		for o := range upTo {
			fates = append(fates, events.Fate{Position: events.Position{Topic: log, Partition: 1, Offset: o}, Kind: kind, At: at.Add(time.Duration(o) * time.Hour)})
		}
		if err := db.InsertRecords(t.Context(), fates); err != nil {
			t.Fatal(err)
		}
	}
	check := func(generation int, end int64) {
		t.Helper()
		if g, err := db.Generation(t.Context(), "a"); err != nil || g != generation {
			t.Errorf("generation %d, %v, want %d", g, err, generation)
		}
		want := map[int32]int64{1: end}
		if end == 0 {
			want = map[int32]int64{}
		}
		ends, err := db.CurrentEnds(t.Context(), "a")
		if d := cmp.Diff(want, ends); err != nil || d != "" {
			t.Errorf("generation %d: %v\n%s", generation, err, d)
		}
	}
	check(1, 0)
	store("a", 3, events.FateEvent)
	check(1, 3)
	if err := db.AdoptTopic(t.Context(), "a", 1); err == nil {
		t.Error("the first generation was adopted")
	}
	for range 2 { // the second time changes nothing
		if err := db.AdoptTopic(t.Context(), "a", 2); err != nil {
			t.Fatal(err)
		}
		check(2, 0)
	}
	store("a#2", 1, events.FateEvent)
	check(2, 1)
	if g, err := db.Generation(t.Context(), "b"); err != nil || g != 1 {
		t.Errorf("another topic is of generation %d, %v", g, err)
	}
	tails, err := db.Tails(t.Context(), "a")
	if d := cmp.Diff(map[int32]clickhouse.Tail{1: {Offset: 2, At: at.Add(2 * time.Hour)}}, tails); err != nil || d != "" {
		t.Errorf("tails: %v\n%s", err, d)
	}
	if !clickhouse.SameTime(tails[1].At, at.Add(2*time.Hour+400*time.Microsecond)) || clickhouse.SameTime(tails[1].At, at) {
		t.Error("times are not told apart to the millisecond")
	}
	for _, test := range []struct {
		at    map[int32]int64
		there bool
	}{{nil, true}, {map[int32]int64{1: 2}, true}, {map[int32]int64{1: 3}, false}, {map[int32]int64{1: 2, 0: 0}, false}} {
		if there, err := db.HasRecords(t.Context(), "a", test.at); err != nil || there != test.there {
			t.Errorf("records at %v are stored: %t, %v", test.at, there, err)
		}
	}
	// What was never read says nothing about the log.
	store("t", 5, events.FateTrimmed)
	if tails, err := db.Tails(t.Context(), "t"); err != nil || len(tails) != 0 {
		t.Errorf("tails of what was never read: %v, %v", tails, err)
	}
}
