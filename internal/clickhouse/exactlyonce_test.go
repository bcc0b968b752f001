package clickhouse_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qunfa/internal/events"
)

// Two sinks work on one log, each at its own pace: one inserts a batch of events
// while the other has read back what was there before, and writes that only
// later; batches are inserted again at any time, as after a lost answer; tables
// merge in between. In the end the views show every event once and every message
// once, as the fold of its distinct events; also after all merges, and after
// every row that was ever made has been written once more, in any order.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	deadline := time.Now().Add(8 * time.Second)
	var accounts atomic.Int64 // every run has an account of its own
	runs, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if time.Now().After(deadline) && runs > 10 && !failed {
			return // enough; a failure is still looked into
		}
		runs++
		x := newExperiment(f, fmt.Sprintf("wx%d", accounts.Add(1)), rt)
		x.run(rt)
		wasFailed := failed
		failed = true // until it has come through
		x.verify(rt, "before merges")
		x.writeAgain(rt)
		x.verify(rt, "after stale rows")
		x.merge("events", "messages", "records")
		x.verify(rt, "after merges")
		failed = wasFailed
	})
	t.Logf("%d runs", runs)
}

// experiment is a log of one account and two writers.
type experiment struct {
	*fixture
	appid   string
	log     []events.Event // as read from Kafka, some of them copies
	taken   int            // how much of it was stored by anybody
	batches [][]events.Event
	writers [2]sinkLike
	rows    []events.Row // all that were ever made
	stones  []events.Tombstone
}

// sinkLike is a writer: events it has stored, and rows it has made of what it read back.
type sinkLike struct {
	unfolded []events.Event
	rows     []events.Row
	stones   []events.Tombstone
}

func newExperiment(f *fixture, appid string, rt *rapid.T) *experiment {
	x := &experiment{fixture: f, appid: appid}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
	for n := rapid.IntRange(1, 12).Draw(rt, "records"); len(x.log) < n; {
		if len(x.log) > 0 && rapid.IntRange(0, 3).Draw(rt, "copy") == 0 {
			e := x.log[r.IntN(len(x.log))]
			e.ReceivedAt = e.ReceivedAt.Add(time.Hour) // redelivered
			x.log = append(x.log, x.read(e))
			continue
		}
		at := time.Unix(1_790_000_000+r.Int64N(100*24*3600), 0).UTC().Format(time.RFC3339)
		x.log = append(x.log, x.read(f.randomEvent(r, appid, 1+r.Int64N(3), at)))
	}
	return x
}

// read sends an event through the log.
func (x *experiment) read(e events.Event) events.Event {
	record, err := events.Encode(e)
	if err != nil {
		x.t.Fatal(err)
	}
	at := events.Position{Topic: x.topic, Offset: int64(len(x.log))}
	if e, err = events.Decode(events.Message{Record: record, Position: at}); err != nil {
		x.t.Fatal(err)
	}
	return e
}

func (x *experiment) run(rt *rapid.T) {
	for x.taken < len(x.log) {
		w := &x.writers[rapid.IntRange(0, 1).Draw(rt, "writer")]
		switch rapid.IntRange(0, 5).Draw(rt, "step") {
		case 0, 1:
			n := rapid.IntRange(1, len(x.log)-x.taken).Draw(rt, "size")
			x.insert(w, x.log[x.taken:x.taken+n])
			x.taken += n
		case 2:
			if len(x.batches) > 0 { // a zombie, or a retry
				x.insert(w, x.batches[rapid.IntRange(0, len(x.batches)-1).Draw(rt, "batch")])
			}
		case 3:
			x.readBack(w)
		case 4:
			x.writeRows(w)
		case 5:
			x.merge(rapid.SampledFrom([]string{"events", "messages"}).Draw(rt, "table"))
		}
	}
	for i := range x.writers { // what is unfinished is finished before it is committed
		x.writeRows(&x.writers[i])
		x.readBack(&x.writers[i])
		x.writeRows(&x.writers[i])
	}
}

func (x *experiment) insert(w *sinkLike, batch []events.Event) {
	x.batches = append(x.batches, batch)
	w.unfolded = append(w.unfolded, batch...)
	var fates []events.Fate
	for _, e := range batch {
		fates = append(fates, events.Fate{Position: e.Position, EventID: e.ID, Kind: events.FateEvent, At: e.ReceivedAt})
	}
	for _, err := range []error{x.db.InsertEvents(x.t.Context(), batch), x.db.InsertRecords(x.t.Context(), fates)} {
		if err != nil {
			x.t.Fatal(err)
		}
	}
}

func (x *experiment) readBack(w *sinkLike) {
	if len(w.unfolded) == 0 {
		return
	}
	rows, stones := x.folded(keysOf(w.unfolded)...)
	w.unfolded = nil
	w.rows, w.stones = append(w.rows, rows...), append(w.stones, stones...)
	x.rows, x.stones = append(x.rows, rows...), append(x.stones, stones...)
}

func (x *experiment) writeRows(w *sinkLike) {
	if err := x.db.InsertMessages(x.t.Context(), w.rows, w.stones); err != nil {
		x.t.Fatal(err)
	}
	w.rows, w.stones = nil, nil
}

func (x *experiment) writeAgain(rt *rapid.T) {
	rows, stones := rapid.Permutation(x.rows).Draw(rt, "rows"), rapid.Permutation(x.stones).Draw(rt, "tombstones")
	if err := x.db.InsertMessages(x.t.Context(), rows, stones); err != nil {
		x.t.Fatal(err)
	}
}

func (x *experiment) merge(things ...string) {
	for _, of := range things {
		query(x.t, x.db, "OPTIMIZE TABLE "+of[:len(of)-1]+"_rows FINAL")
	}
}

// verify compares the views with the log.
func (x *experiment) verify(rt *rapid.T, when string) {
	compare := func(view string, want, got [][]any) {
		if d := gocmp.Diff(want, got); d != "" {
			rt.Fatalf("%s, %s (-want +got):\n%s", view, when, d)
		}
	}
	const messages = "SELECT msg_id, toString(day), events, outcome, decided_by, status, err_code, total, eligible, filtered, sent, errors," +
		" toUnixTimestamp(received_at)::Nullable(Int64), callbacks, polls, recorded, deleted_articles FROM messages WHERE appid = ? ORDER BY msg_id"
	compare("messages", x.wantMessages(), query(x.t, x.db, messages, x.appid))
	const evs = "SELECT event_id, `offset`, toUnixTimestamp(received_at)::Int64 FROM events WHERE appid = ? ORDER BY event_id"
	compare("events", x.wantEvents(), query(x.t, x.db, evs, x.appid))
}

func (x *experiment) wantMessages() [][]any {
	byKey := map[events.Key][]events.Event{}
	for _, e := range x.log {
		byKey[e.Key] = append(byKey[e.Key], e)
	}
	var want [][]any
	for _, k := range keysOf(x.log) {
		r, _ := events.Fold(byKey[k], x.loc)
		var received any
		if r.ReceivedAt != nil {
			received = r.ReceivedAt.Unix()
		}
		deleted := append([]int64{}, r.DeletedArticles...)
		want = append(want, []any{k.MsgID, r.Day.Format(time.DateOnly), int64(r.Version), string(r.Outcome), r.DecidedBy, r.Status,
			orNil(r.ErrCode), orNil(r.Total), orNil(r.Eligible), orNil(r.Filtered), orNil(r.Sent), orNil(r.Errors),
			received, int64(r.Finals), int64(r.Polls), r.Submissions > 0, deleted})
	}
	return want
}

func (x *experiment) wantEvents() [][]any {
	first := slices.Clone(x.log)
	slices.SortFunc(first, func(a, b events.Event) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Position.Offset, b.Position.Offset))
	})
	first = slices.CompactFunc(first, func(a, b events.Event) bool { return a.ID == b.ID })
	var want [][]any
	for _, e := range first {
		want = append(want, []any{e.ID.String(), e.Position.Offset, e.ReceivedAt.Unix()})
	}
	return want
}

func orNil(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}
