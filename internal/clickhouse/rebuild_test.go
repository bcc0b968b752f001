package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
	"qunfa/internal/sink"
)

// feed is a partition of a log that a real sink reads.
type feed struct {
	t     *testing.T
	topic string
	in    chan []events.Record

	mu        sync.Mutex
	given     int64 // records that were put in
	next      int64
	committed int64
	log       []events.Message // everything that was ever in it
}

func (f *feed) Owned() map[int32]int64      { return map[int32]int64{0: sink.Beginning} }
func (f *feed) Begin(map[int32]int64) error { return nil }

func (f *feed) Poll(ctx context.Context, _, _ int) (sink.Batch, error) {
	select {
	case <-ctx.Done():
		return sink.Batch{}, ctx.Err()
	case records := <-f.in:
		return sink.Batch{Messages: f.number(records)}, nil
	}
}

func (f *feed) number(records []events.Record) []events.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	var batch []events.Message
	for _, r := range records {
		batch = append(batch, events.Message{Record: r, Position: events.Position{Topic: f.topic, Offset: f.next}})
		f.next++
	}
	f.log = append(f.log, batch...)
	return batch
}

func (f *feed) Commit(_ context.Context, next map[int32]int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.committed = next[0]
	return nil
}

func (f *feed) Publish(_ context.Context, r ...events.Record) error {
	f.t.Errorf("%d dead letters", len(r))
	return nil
}

// put appends events to the log.
func (f *feed) put(evs ...events.Event) {
	f.t.Helper()
	all := records(f.t, evs...)
	f.mu.Lock()
	f.given += int64(len(all))
	f.mu.Unlock()
	if len(all) > 0 {
		f.in <- all
	}
}

// done waits until the sink has committed all that was put in.
func (f *feed) done() {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		f.mu.Lock()
		done := f.committed == f.given
		f.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatal("the sink does not get on")
		}
		<-time.After(5 * time.Millisecond)
	}
}

// startSink runs a real sink on the database until the end of the test.
func startSink(t *testing.T, db *clickhouse.DB) *feed {
	t.Helper()
	loc, err := db.Location(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{t: t, topic: "qunfa.events", in: make(chan []events.Record, 1000)}
	s, err := sink.New(sink.Config{Topic: f.topic, Location: loc, Interval: time.Millisecond, Classify: func(error) sink.Class { return sink.ClassRetry }}, db, f)
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

func records(t *testing.T, evs ...events.Event) []events.Record {
	t.Helper()
	var all []events.Record
	for _, e := range evs {
		r, err := events.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

const projection = "SELECT appid, msg_id, toString(day), events, outcome, sent, callbacks, polls, recorded FROM messages ORDER BY appid, msg_id"

func (f *fixture) check(when string, all []events.Event) {
	f.t.Helper()
	if d := cmp.Diff(f.expected(all), query(f.t, f.db, projection)); d != "" {
		f.t.Errorf("%s (-want +got):\n%s", when, d)
	}
	left := query(f.t, f.db, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%rebuild_' || '%' AND name != 'rebuild_rows'")
	if len(left) > 0 {
		f.t.Errorf("%s: tables are left: %v", when, left)
	}
}

// damage makes the projection wrong in every way: rows lost, wrong and invented.
func (f *fixture) damage() {
	f.t.Helper()
	query(f.t, f.db, "ALTER TABLE message_rows DELETE WHERE msg_id = 1 SETTINGS mutations_sync = 1")
	query(f.t, f.db, "ALTER TABLE message_rows UPDATE sent = 12345 WHERE msg_id = 2 AND NOT is_deleted SETTINGS mutations_sync = 1")
	query(f.t, f.db, "INSERT INTO message_rows (appid, msg_id, day, version, outcome) VALUES ('wx0', 99, '2026-11-20', 1000, 'sent')")
}

// A projection that is wrong is right after a rebuild, while a sink goes on
// writing, and figures are never of a half.
func TestRebuildBesideSink(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	r := rand.New(rand.NewPCG(7, 7))
	all := f.oneMonth(r, 150)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	in := startSink(t, f.db)
	early := len(all) / 3
	in.put(all[:early]...)
	in.done()
	f.damage()

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { watchDelivery(ctx, t, f) })
	var mu sync.Mutex
	rest := all[early:]
	more := func(n int) { // of a log that never stands still
		mu.Lock()
		defer mu.Unlock()
		n = min(n, len(rest))
		in.put(rest[:n]...)
		rest = rest[n:]
	}
	steps := map[string]bool{}
	report, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "test", Compare: true, Progress: func(p clickhouse.RebuildProgress) {
		steps[p.Step] = true
		more(20)
		if p.Step == clickhouse.RebuildSettle { // the new table is in use, and lacks what has just come
			if _, err := f.db.Delivery(t.Context(), f.now, nil); !errors.Is(err, clickhouse.ErrSwapping) {
				t.Errorf("delivery figures in the middle of the swap: %v", err)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	more(len(rest))
	in.done()
	stop()
	wg.Wait()
	f.check("after the rebuild", all)
	if !report.Swapped || report.Comparison == nil || report.Comparison.Same() || report.CaughtUp == 0 {
		t.Errorf("report %+v, %+v", report, report.Comparison)
	}
	for _, s := range []string{clickhouse.RebuildFold, clickhouse.RebuildCatchUp, clickhouse.RebuildCompare, clickhouse.RebuildSwap, clickhouse.RebuildSettle, clickhouse.RebuildClean} {
		if !steps[s] {
			t.Errorf("nothing was told of step %q", s)
		}
	}

	again, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "test", Compare: true})
	if err != nil {
		t.Fatal(err)
	}
	if c := again.Comparison; !c.Same() || c.Moving != 0 || !cmp.Equal(c.Before, c.After) || again.CaughtUp != 0 {
		t.Errorf("rebuilt again, something changes: %+v, %+v", again, c)
	}
	f.check("after the second rebuild", all)
}

// oneMonth returns events of messages that have one callback at most, and stay
// in one month: an insert into several is not seen as one, rebuild or not.
func (f *fixture) oneMonth(r *rand.Rand, messages int) []events.Event {
	start := f.time("2026-11-01T00:00:00+08:00")
	var all []events.Event
	seen := map[events.ID]bool{}
	for i := range messages {
		finished := false
		for range 1 + r.IntN(6) {
			at := start.Add(time.Duration(r.IntN(29*24*3600)) * time.Second).Format(time.RFC3339)
			e := f.randomEvent(r, fmt.Sprintf("wx%d", i%7), int64(i/7+1), at)
			if seen[e.ID] || finished && e.Type == events.TypeFinished {
				continue
			}
			seen[e.ID] = true
			finished = finished || e.Type == events.TypeFinished
			all = append(all, e)
		}
	}
	return all
}

// watchDelivery asks for the figures all the time. Callbacks only ever come in,
// so what was counted never goes away, whatever is being swapped.
func watchDelivery(ctx context.Context, t *testing.T, f *fixture) {
	var most int64
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; ctx.Err() == nil; <-tick.C {
		d, err := f.db.Delivery(ctx, f.time("2026-11-25T12:00:00Z"), nil)
		if errors.Is(err, clickhouse.ErrSwapping) || ctx.Err() != nil {
			continue
		}
		if err != nil {
			t.Errorf("delivery: %v", err)
			return
		}
		if d.All.Sent < most {
			t.Errorf("%d people were reached, and then %d", most, d.All.Sent)
		}
		most = d.All.Sent
	}
}

// cable connects to the server until it is cut: as if the process had been killed.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.New("cut")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

func rebuildSteps() []string {
	return []string{clickhouse.RebuildFold, clickhouse.RebuildCatchUp, clickhouse.RebuildCompare, clickhouse.RebuildSwap, clickhouse.RebuildSettle, clickhouse.RebuildClean}
}

// Interrupted or killed in any step, a rebuild leaves a projection that is
// whole, or says that it is not; and it can be run again.
func TestRebuildInterrupted(t *testing.T) {
	t.Parallel()
	for _, step := range rebuildSteps() {
		for _, how := range []string{"interrupted", "killed"} {
			t.Run(how+" in "+step, func(t *testing.T) {
				interruptRebuild(t, step, how == "killed")
			})
		}
	}
}

func interruptRebuild(t *testing.T, step string, kill bool) {
	cfg := testServer(t)
	db := open(t, cfg)
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, db)
	all := f.randomEvents(rand.New(rand.NewPCG(3, 3)), 60)
	half := len(all) / 2
	in := startSink(t, db)
	in.put(all[:half]...)
	in.done()

	wire := &cable{}
	cfg.Dial = wire.dial
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	once := sync.OnceFunc(func() {
		in.put(all[half:]...)
		in.done() // they are in the table in use, and not yet in the new one
		if kill {
			wire.kill()
		}
		cancel()
	})
	report, err := open(t, cfg).Rebuild(ctx, clickhouse.Rebuild{Who: "first", Compare: true, Progress: func(p clickhouse.RebuildProgress) {
		if p.Step == step {
			once()
		}
	}})
	over := !kill && (step == clickhouse.RebuildSwap || step == clickhouse.RebuildSettle) || step == clickhouse.RebuildClean
	if (err == nil) != over || report.Swapped != (over || step == clickhouse.RebuildSettle) {
		t.Fatalf("swapped %t, error %v", report.Swapped, err)
	}
	if kill {
		recoverFromKill(t, f, step)
	} else {
		f.check("after the interruption", all)
	}
	if again, err := db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "second", Compare: true}); err != nil || !again.Comparison.Same() {
		t.Errorf("run again: %v, %+v", err, again.Comparison)
	}
	f.check("after another rebuild", all)
	if _, err := db.Delivery(t.Context(), f.now, nil); err != nil {
		t.Errorf("delivery figures: %v", err)
	}
}

// recoverFromKill is what happens when the lock of the dead has run out.
func recoverFromKill(t *testing.T, f *fixture, step string) {
	t.Helper()
	if step == clickhouse.RebuildClean && one(t, f.db, "SELECT countIf(phase = 'building') FROM rebuild_rows FINAL") == uint64(0) {
		return // it had said that it is done
	}
	if _, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "second"}); !errors.Is(err, clickhouse.ErrRebuilding) || !strings.Contains(err.Error(), "first since 20") {
		t.Errorf("a second rebuild while the first counts as alive: %v", err)
	}
	swapping := step == clickhouse.RebuildSettle || step == clickhouse.RebuildSwap && one(t, f.db, "SELECT countIf(phase = 'swapping') FROM rebuild_rows FINAL") == uint64(1)
	if swapping {
		if _, err := f.db.Delivery(t.Context(), f.now, nil); !errors.Is(err, clickhouse.ErrSwapping) {
			t.Errorf("delivery figures of a table that lacks messages: %v", err)
		}
		if err := f.db.FinishSwap(t.Context()); !errors.Is(err, clickhouse.ErrSwapping) {
			t.Errorf("FinishSwap while the first counts as alive: %v", err)
		}
	}
	query(t, f.db, "INSERT INTO rebuild_rows SELECT id, seq + 1, phase, who, started_at, seen_at - INTERVAL 1 HOUR, since FROM rebuild_rows FINAL WHERE who = 'first'")
	if swapping && step == clickhouse.RebuildSettle {
		if err := f.db.FinishSwap(t.Context()); err != nil {
			t.Errorf("FinishSwap: %v", err)
		}
		if _, err := f.db.Delivery(t.Context(), f.now, nil); err != nil {
			t.Errorf("delivery figures: %v", err)
		}
	}
}

// Of two that begin at once at most one goes on.
func TestRebuildAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	all := f.randomEvents(rand.New(rand.NewPCG(5, 5)), 30)
	f.write(all...)
	errs := make([]error, 4)
	inside := 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = f.db.Rebuild(t.Context(), clickhouse.Rebuild{Who: fmt.Sprint("number ", i), Progress: func(p clickhouse.RebuildProgress) {
				mu.Lock()
				defer mu.Unlock()
				switch p.Step {
				case clickhouse.RebuildFold:
					if p.Done == 0 {
						if inside++; inside > 1 {
							t.Error("two are at work")
						}
					}
				case clickhouse.RebuildClean:
					inside = 0
				}
			}})
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, clickhouse.ErrRebuilding) {
			t.Error(err)
		}
	}
	if _, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "afterwards"}); err != nil {
		t.Errorf("nobody is at work, and yet: %v", err)
	}
	f.check("afterwards", all)
}

func TestRebuildDry(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	all := f.randomEvents(rand.New(rand.NewPCG(9, 9)), 30)
	f.write(all...)
	f.damage()
	before := query(t, f.db, projection)
	report, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "test", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, query(t, f.db, projection)); d != "" || report.Swapped {
		t.Errorf("a dry run has changed something (-before +after):\n%s", d)
	}
	c := report.Comparison
	if c.OnlyBefore != 1 || c.OnlyAfter != 7 || c.Changed != 7 || c.Moving != 0 || len(c.Examples) != 10 {
		t.Errorf("comparison %+v", c)
	}
	if cmp.Equal(c.Before[events.OutcomeSent], c.After[events.OutcomeSent]) {
		t.Errorf("the totals do not show the damage: %+v", c.Before)
	}
}

func TestRebuildOfNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	report, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Compare: true})
	if err != nil || !report.Swapped || !report.Comparison.Same() {
		t.Errorf("%+v, %v", report, err)
	}
	few := testServer(t)
	few.MaxConns = 3
	if _, err := open(t, few).Rebuild(t.Context(), clickhouse.Rebuild{}); err == nil || !strings.Contains(err.Error(), "connections") {
		t.Errorf("with three connections it would wait for itself: %v", err)
	}
}

// An import stores what a database lacks, and says what became of the records
// only when their messages are in the projection.
func TestRebuildImports(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	all := f.randomEvents(rand.New(rand.NewPCG(11, 11)), 60)
	in := startSink(t, f.db)
	in.put(all...)
	in.done()
	log := append(in.log,
		events.Message{Position: events.Position{Topic: in.topic, Offset: in.next}, Record: events.Record{Value: []byte("not ours")}},
		events.Message{Position: events.Position{Topic: in.topic, Offset: in.next + 1}, Record: events.Record{Value: []byte("{"), Key: []byte("wx1"), Headers: records(t, all[0])[0].Headers}},
	)
	for _, table := range []string{"event_rows", "record_rows", "message_rows"} {
		query(t, f.db, "TRUNCATE TABLE "+table)
	}
	hand := func(fail error) func(context.Context, clickhouse.StoreRecords) error {
		return func(ctx context.Context, store clickhouse.StoreRecords) error {
			for rest := log; len(rest) > 0; {
				n := min(50, len(rest))
				if err := store(ctx, rest[:n]); err != nil {
					return err
				}
				if rest = rest[n:]; fail != nil {
					return fail
				}
			}
			return nil
		}
	}
	broken := errors.New("the log cannot be read")
	if _, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Import: hand(broken)}); !errors.Is(err, broken) {
		t.Fatalf("a broken import: %v", err)
	}
	if ends, err := f.db.Ends(t.Context(), in.topic); err != nil || len(ends) > 0 {
		t.Errorf("a sink would begin at %v, and leave out what has no rows (%v)", ends, err)
	}
	report, err := f.db.Rebuild(t.Context(), clickhouse.Rebuild{Import: hand(nil), Compare: true})
	if err != nil {
		t.Fatal(err)
	}
	f.check("after the import", all)
	want := map[string]int64{events.FateEvent: int64(len(all)), events.FateForeign: 1, events.FateDead: 1}
	if d := cmp.Diff(want, report.Imported.Kinds); d != "" || report.Imported.Records != int64(len(log)) || report.CaughtUp != 0 {
		t.Errorf("report %+v (-want +got):\n%s", report, d)
	}
	coverage, err := f.db.Coverage(t.Context())
	if err != nil || len(coverage) != 1 || coverage[0].Missing() != 0 || !cmp.Equal(coverage[0].Kinds, want) {
		t.Errorf("coverage %+v, %v", coverage, err)
	}
}
