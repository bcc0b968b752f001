package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"qunfa/internal/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "qunfa.events"

var (
	errRefused = errors.New("refused")
	errRow     = errors.New("bad row")
	errBroken  = errors.New("missing table")
)

func classify(err error) Class {
	switch {
	case errors.Is(err, errRow):
		return ClassRow
	case errors.Is(err, errBroken):
		return ClassPause
	}
	return ClassRetry
}

// memory is a store that keeps what a ReplacingMergeTree would.
type memory struct {
	mu     sync.Mutex
	events []events.Event // every copy
	fates  map[events.Position]events.Fate
	cells  map[string]cell

	fail   func(step string, call int) error
	poison map[events.ID]bool
	calls  map[string]int
	log    []string
	// after runs when a call has done its work, before it answers.
	after func(step string)
}

type cell struct {
	version uint64
	row     *events.Row
}

func newMemory() *memory {
	return &memory{fates: map[events.Position]events.Fate{}, cells: map[string]cell{}, calls: map[string]int{}, poison: map[events.ID]bool{}}
}

func (m *memory) enter(ctx context.Context, step string) error {
	m.calls[step]++
	m.log = append(m.log, step)
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.fail != nil {
		return m.fail(step, m.calls[step])
	}
	return nil
}

func (m *memory) leave(step string) {
	if m.after != nil {
		m.after(step)
	}
}

func (m *memory) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ends := map[int32]int64{}
	for p := range m.fates {
		ends[p.Partition] = max(ends[p.Partition], p.Offset+1)
	}
	return ends, m.enter(ctx, stepEnds)
}

func (m *memory) InsertEvents(ctx context.Context, evs []events.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx, stepEvents); err != nil {
		return err
	}
	for _, e := range evs {
		if m.poison[e.ID] {
			return fmt.Errorf("%w among %d", errRow, len(evs))
		}
	}
	m.events = append(m.events, evs...)
	m.leave(stepEvents)
	return nil
}

func (m *memory) InsertRecords(ctx context.Context, fates []events.Fate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx, stepRecords); err != nil {
		return err
	}
	for _, f := range fates {
		m.fates[f.Position] = f
	}
	m.leave(stepRecords)
	return nil
}

func (m *memory) History(ctx context.Context, keys []events.Key) ([]events.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx, stepHistory); err != nil {
		return nil, err
	}
	var found []events.Event
	for _, e := range m.events {
		for _, k := range keys {
			if e.Key == k {
				found = append(found, e)
			}
		}
	}
	return found, nil
}

func (m *memory) InsertMessages(ctx context.Context, rows []events.Row, stones []events.Tombstone) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(ctx, stepMessages); err != nil {
		return err
	}
	put := func(k events.Key, day time.Time, c cell) {
		at := k.String() + day.String()
		if old, ok := m.cells[at]; !ok || c.version >= old.version {
			m.cells[at] = c
		}
	}
	for i := range rows {
		put(rows[i].Key, rows[i].Day, cell{rows[i].Version, &rows[i]})
	}
	for _, s := range stones {
		put(s.Key, s.Day, cell{version: s.Version})
	}
	m.leave(stepMessages)
	return nil
}

// outcomes is what a query of the messages would show.
func (m *memory) outcomes() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]string{}
	for _, c := range m.cells {
		if c.row == nil {
			continue
		}
		k := c.row.Key.String()
		if _, twice := seen[k]; twice {
			k += " again"
		}
		seen[k] = fmt.Sprintf("%s v%d", c.row.Outcome, c.row.Version)
	}
	return seen
}

// log is one or more partitions and a consumer group over them.
type fakeLog struct {
	mu        sync.Mutex
	records   map[int32][]events.Message
	committed map[int32]int64
	dead      []events.Record
	deadErr   error
	trimmed   []Range
	arrived   chan struct{}
}

func newLog() *fakeLog {
	return &fakeLog{records: map[int32][]events.Message{}, committed: map[int32]int64{0: Beginning}, arrived: make(chan struct{}, 1)}
}

func (l *fakeLog) put(p int32, r events.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records[p] = append(l.records[p], events.Message{Record: r, Position: events.Position{Topic: topic, Partition: p, Offset: int64(len(l.records[p]))}})
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

func (l *fakeLog) Publish(_ context.Context, rs ...events.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deadErr != nil {
		return l.deadErr
	}
	l.dead = append(l.dead, rs...)
	return nil
}

// session is one generation: after lose, nothing can be committed.
type session struct {
	*fakeLog
	next map[int32]int64
	lost bool
	// drained is closed when everything in the log was committed.
	drained func()
}

func (l *fakeLog) session(drained func()) *session { return &session{fakeLog: l, drained: drained} }

func (s *session) Owned() map[int32]int64 { return maps.Clone(s.committed) }

func (s *session) Begin(next map[int32]int64) error {
	s.next = map[int32]int64{}
	for p, o := range next {
		s.next[p] = max(o, 0)
	}
	return nil
}

func (s *session) Poll(ctx context.Context, maxRecords, _ int) (Batch, error) {
	for {
		if b := s.take(maxRecords); len(b.Messages) > 0 {
			return b, nil
		}
		if s.drained != nil {
			s.drained()
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case <-s.arrived:
		}
	}
}

func (s *session) take(most int) Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Batch{Trimmed: s.trimmed}
	s.trimmed = nil
	for p := range s.next {
		all := s.records[p]
		for len(b.Messages) < most && s.next[p] < int64(len(all)) {
			m := all[s.next[p]]
			m.HighWater = int64(len(all))
			b.Messages = append(b.Messages, m)
			s.next[p]++
		}
	}
	return b
}

func (s *session) Commit(ctx context.Context, next map[int32]int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return ErrLost
	}
	maps.Copy(s.committed, next)
	return nil
}

func record(t testing.TB, appid string, msgID int64, status string) events.Record {
	t.Helper()
	e, err := events.New("test", &events.Finished{AppID: appid, MsgID: msgID, CreateTime: 1772366405, Status: status})
	if err != nil {
		t.Fatal(err)
	}
	e.ReceivedAt = e.Time
	r, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func submission(t testing.TB, appid string, msgID int64) events.Record {
	t.Helper()
	e, err := events.NewSubmitted("test", events.Submitted{AppID: appid, MsgID: msgID, SubmittedAt: time.Unix(1772280000, 0), Recorder: "api"}, events.Given{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newSink(t testing.TB, store Store, dead DeadLetters, change func(*Config)) *Sink {
	t.Helper()
	cfg := Config{Topic: topic, Location: time.UTC, Classify: classify, Registerer: prometheus.NewRegistry()}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, store, dead)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// drain runs the sink until everything in the log was committed.
func drain(t testing.TB, s *Sink, l *fakeLog) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := s.Run(ctx, l.session(cancel)); err != nil {
		t.Fatal(err)
	}
}

func TestEventsBecomeRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		l.put(0, submission(t, "wx1", 7))
		l.put(0, record(t, "wx1", 7, "send success"))
		l.put(0, record(t, "wx2", 7, "err(20013)"))
		l.put(0, record(t, "wx2", 7, "err(20013)")) // redelivered
		drain(t, newSink(t, m, l, nil), l)
		want := map[string]string{"wx1/7": "sent v2", "wx2/7": "rejected v1"}
		if diff := cmp.Diff(m.outcomes(), want); diff != "" {
			t.Errorf("rows (-got, +want):\n%s", diff)
		}
		if l.committed[0] != 4 || len(m.fates) != 4 {
			t.Errorf("committed %d, %d fates; want 4 and 4", l.committed[0], len(m.fates))
		}
	})
}

// A crash may come after any call; a rebalance may let a second sink do the
// same records at any time. Whatever the interleaving, the rows are the same.
func TestCrashAnywhereLosesAndDoublesNothing(t *testing.T) {
	fill := func(l *fakeLog) {
		l.put(0, submission(t, "wx1", 7))
		l.put(0, record(t, "wx1", 7, "send success"))
		l.put(0, record(t, "wx1", 8, "send fail"))
		l.put(0, events.Record{Key: []byte("wx1"), Value: []byte("{"), Headers: record(t, "wx1", 9, "send fail").Headers})
		l.put(0, record(t, "wx2", 7, "err(20013)"))
	}
	want := map[string]string{"wx1/7": "sent v2", "wx1/8": "failed v1", "wx2/7": "rejected v1"}
	for crashAfter := 1; ; crashAfter++ {
		crashed := false
		synctest.Test(t, func(t *testing.T) {
			l, m := newLog(), newMemory()
			fill(l)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			calls := 0
			dying := l.session(cancel)
			m.after = func(string) {
				if calls++; calls == crashAfter {
					crashed, dying.lost = true, true
					cancel()
				}
			}
			m.fail = func(string, int) error { // a dead process calls nothing
				if crashed {
					return errRefused
				}
				return nil
			}
			s := newSink(t, m, l, func(c *Config) { c.MaxRecords, c.Grace = 2, time.Nanosecond })
			if err := s.Run(ctx, dying); err != nil {
				t.Fatal(err)
			}
			m.after, m.fail = nil, nil
			drain(t, newSink(t, m, l, nil), l)
			if diff := cmp.Diff(m.outcomes(), want); diff != "" {
				t.Errorf("crash after call %d: rows (-got, +want):\n%s", crashAfter, diff)
			}
			if l.committed[0] != 5 || len(m.fates) != 5 {
				t.Errorf("crash after call %d: committed %d, %d fates; want 5 and 5", crashAfter, l.committed[0], len(m.fates))
			}
			if len(l.dead) == 0 {
				t.Errorf("crash after call %d: the dead letter is lost", crashAfter)
			}
		})
		if !crashed {
			if crashAfter < 8 {
				t.Fatalf("only %d calls were made: the test has lost its subject", crashAfter-1)
			}
			return
		}
	}
}

func TestOneBadRowCostsOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		const n = 1000
		for i := range int64(n) {
			l.put(0, record(t, "wx1", i+1, "send success"))
		}
		bad, err := events.Decode(l.records[0][617])
		if err != nil {
			t.Fatal(err)
		}
		m.poison[bad.ID] = true
		s := newSink(t, m, l, nil)
		drain(t, s, l)
		if got := len(m.outcomes()); got != n-1 {
			t.Errorf("%d rows, want %d", got, n-1)
		}
		if f := m.fates[bad.Position]; f.Kind != events.FateDead || !strings.Contains(f.Reason, "bad row") {
			t.Errorf("fate of the bad record: %+v", f)
		}
		if len(l.dead) != 1 {
			t.Fatalf("%d dead letters, want 1", len(l.dead))
		}
		d, err := events.DecodeDeadLetter(events.Message{Record: l.dead[0]})
		if err != nil {
			t.Fatal(err)
		}
		want := l.records[0][617]
		if d.Reason != events.DeadUninsertable || *d.Origin != want.Position || string(d.Value) != string(want.Value) || !cmp.Equal(d.Headers, want.Headers) {
			t.Errorf("dead letter %+v does not tell where it came from or has not kept the record", d)
		}
		if m.calls[stepEvents] > 25 {
			t.Errorf("%d inserts to find one bad row", m.calls[stepEvents])
		}
		if got := testutil.ToFloat64(s.metrics.dead.WithLabelValues(events.DeadUninsertable)); got != 1 {
			t.Errorf("counted %v dead letters", got)
		}
	})
}

func TestForeignAndUndecodableRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		l.put(0, events.Record{Key: []byte{0, 0, 0, 1}, Value: make([]byte, 6)}) // a transaction marker
		l.put(0, events.Record{Key: []byte("wx1"), Value: []byte("{"), Headers: record(t, "wx1", 9, "send fail").Headers})
		l.put(0, record(t, "wx1", 7, "send success"))
		l.trimmed = []Range{{Partition: 0, From: -3, To: 0}}
		drain(t, newSink(t, m, l, nil), l)
		kinds := map[int64]string{}
		for p, f := range m.fates {
			kinds[p.Offset] = f.Kind
			if f.Kind == events.FateTrimmed && f.First() != -3 {
				t.Errorf("the trimmed run begins at %d, want -3: the offsets in between would look passed over", f.First())
			}
		}
		want := map[int64]string{-1: events.FateTrimmed, 0: events.FateForeign, 1: events.FateDead, 2: events.FateEvent}
		if diff := cmp.Diff(kinds, want); diff != "" {
			t.Errorf("fates (-got, +want):\n%s", diff)
		}
		if len(l.dead) != 1 {
			t.Errorf("%d dead letters, want 1", len(l.dead))
		}
	})
}

func TestPauseNeverDrops(t *testing.T) {
	for _, step := range []string{stepEnds, stepEvents, stepHistory, stepMessages, stepRecords} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, m := newLog(), newMemory()
				l.put(0, record(t, "wx1", 7, "send success"))
				broken := true
				m.fail = func(s string, _ int) error {
					if s == step && broken {
						return errBroken
					}
					return nil
				}
				s := newSink(t, m, l, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx, l.session(cancel)) }()

				<-time.After(time.Hour) // of the bubble's time
				if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "missing table") {
					t.Errorf("ready says %v", err)
				}
				if got := testutil.ToFloat64(s.metrics.paused); got != 1 {
					t.Errorf("paused gauge %v, want 1", got)
				}
				if l.committed[0] != Beginning {
					t.Errorf("committed %d while nothing could be written", l.committed[0])
				}
				m.mu.Lock()
				calls := m.calls[step]
				broken = false
				m.mu.Unlock()
				if calls < 100 || calls > 1000 {
					t.Errorf("%d attempts in an hour", calls)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if got := m.outcomes(); got["wx1/7"] != "sent v1" || l.committed[0] != 1 {
					t.Errorf("after the repair: rows %v, committed %d", got, l.committed[0])
				}
				if got := testutil.ToFloat64(s.metrics.paused); got != 0 {
					t.Errorf("paused gauge %v after the repair", got)
				}
			})
		})
	}
}

func TestLaggingReplicaIsNotFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		l.put(0, record(t, "wx1", 7, "send success"))
		lagging := &laggard{memory: m, times: 3}
		drain(t, newSink(t, lagging, l, nil), l)
		if got := m.outcomes()["wx1/7"]; got != "sent v1" {
			t.Errorf("row %q", got)
		}
		if m.calls[stepMessages] != 1 || lagging.times != 0 {
			t.Errorf("%d rows written, %d stale answers left", m.calls[stepMessages], lagging.times)
		}
	})
}

type laggard struct {
	*memory
	times int
}

func (l *laggard) History(ctx context.Context, keys []events.Key) ([]events.Event, error) {
	if l.times > 0 {
		l.times--
		return nil, nil
	}
	return l.memory.History(ctx, keys)
}

func TestRewindsWhenClickHouseIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		for i := range int64(10) {
			l.put(0, record(t, "wx1", i+1, "send success"))
		}
		drain(t, newSink(t, m, l, nil), l)
		if l.committed[0] != 10 {
			t.Fatalf("committed %d", l.committed[0])
		}

		restored := newMemory() // a backup that ends at offset 6
		for p, f := range m.fates {
			if p.Offset < 6 {
				restored.fates[p] = f
			}
		}
		s := newSink(t, restored, l, nil)
		seenBehind := false
		restored.after = func(string) {
			seenBehind = seenBehind || s.CatchingUp()
			if l.committed[0] > 6 {
				t.Errorf("committed %d before the records were written again", l.committed[0])
			}
		}
		drain(t, s, l)
		if len(restored.outcomes()) != 4 || l.committed[0] != 10 {
			t.Errorf("%d rows read again, committed %d; want 4 and 10", len(restored.outcomes()), l.committed[0])
		}
		if !seenBehind || s.CatchingUp() {
			t.Errorf("catching up: %v while it did, %v after", seenBehind, s.CatchingUp())
		}
		if got := testutil.ToFloat64(s.metrics.rewinds); got != 1 {
			t.Errorf("counted %v rewinds", got)
		}

		dropped := newMemory() // nothing is left
		drain(t, newSink(t, dropped, l, nil), l)
		if len(dropped.outcomes()) != 10 {
			t.Errorf("%d rows after the database was dropped, want 10", len(dropped.outcomes()))
		}
	})
}

func TestBatchesKeepApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		var starts []time.Duration
		began := time.Now()
		m.after = func(step string) {
			if step == stepEvents {
				starts = append(starts, time.Since(began))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		s := newSink(t, m, l, nil)
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, l.session(nil)) }()
		for i, wait := range []time.Duration{0, 100, 100, 5000} {
			<-time.After(wait * time.Millisecond)
			l.put(0, record(t, "wx1", int64(i+1), "send success"))
			synctest.Wait()
		}
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// The first and the one after a quiet time go at once, those in between together.
		want := []time.Duration{0, time.Second, 5200 * time.Millisecond}
		if diff := cmp.Diff(starts, want); diff != "" {
			t.Errorf("batches started at (-got, +want):\n%s", diff)
		}
	})
}

func TestStopFinishesTheBatchInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		l.put(0, record(t, "wx1", 7, "send success"))
		ctx, cancel := context.WithCancel(t.Context())
		m.after = func(step string) {
			if step == stepEvents {
				cancel()
			}
		}
		if err := newSink(t, m, l, nil).Run(ctx, l.session(nil)); err != nil {
			t.Fatal(err)
		}
		if l.committed[0] != 1 || m.outcomes()["wx1/7"] != "sent v1" {
			t.Errorf("committed %d, rows %v", l.committed[0], m.outcomes())
		}
	})
}

func TestStopDoesNotWaitForABrokenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		l.put(0, record(t, "wx1", 7, "send success"))
		m.fail = func(step string, _ int) error {
			if step == stepEvents {
				return errRefused
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := newSink(t, m, l, nil).Run(ctx, l.session(nil)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Minute+5*time.Second {
			t.Errorf("stopped after %s", took)
		}
		if l.committed[0] != Beginning {
			t.Errorf("committed %d", l.committed[0])
		}
	})
}

func TestDeadLettersAreSafeBeforeTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		l.put(0, events.Record{Key: []byte("wx1"), Value: []byte("{"), Headers: record(t, "wx1", 9, "send fail").Headers})
		l.deadErr = errRefused
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := newSink(t, m, l, nil).Run(ctx, l.session(nil)); err != nil {
			t.Fatal(err)
		}
		if l.committed[0] != Beginning || len(m.fates) != 0 {
			t.Errorf("committed %d with %d fates although the dead letter is nowhere", l.committed[0], len(m.fates))
		}
	})
}

func TestMetricsAreBornAtZero(t *testing.T) {
	reg := prometheus.NewRegistry()
	newSink(t, newMemory(), newLog(), func(c *Config) { c.Registerer = reg })
	want := `
# HELP qunfa_sink_dead_letters_total Records that were set aside in the dead-letter topic, by reason.
# TYPE qunfa_sink_dead_letters_total counter
qunfa_sink_dead_letters_total{reason="undecodable"} 0
qunfa_sink_dead_letters_total{reason="uninsertable"} 0
qunfa_sink_dead_letters_total{reason="unparsable"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "qunfa_sink_dead_letters_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
