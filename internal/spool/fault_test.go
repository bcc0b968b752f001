package spool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/events"
)

// faulty is a store whose transactions wait, or fail before or after they happened.
type faulty struct {
	store
	hold         chan struct{} // append waits for it
	arrived      chan int      // how many records a transaction has
	appendErr    atomic.Pointer[error]
	appendsFirst bool // does it, and fails then
	removeErr    atomic.Pointer[error]
	readErr      atomic.Pointer[error]
}

func (f *faulty) append(recs []events.Record) ([]entry, error) {
	if f.hold != nil {
		f.arrived <- len(recs)
		<-f.hold
	}
	if err := f.appendErr.Load(); err != nil {
		if f.appendsFirst {
			list, _ := f.store.append(recs)
			return list, *err
		}
		return nil, *err
	}
	return f.store.append(recs)
}

func (f *faulty) remove(list []entry) error {
	if err := f.removeErr.Load(); err != nil {
		return *err
	}
	return f.store.remove(list)
}

func (f *faulty) read(list []entry) ([]stored, error) {
	if err := f.readErr.Load(); err != nil {
		return nil, *err
	}
	return f.store.read(list)
}

// sabotage must be called before anything is published.
func sabotage(s *Spool, f *faulty) *faulty {
	f.store = s.store
	s.store = f
	return f
}

var errDisk = errors.New("the test's disk fails")

func TestSuccessOnlyAfterTheTransaction(t *testing.T) {
	s := open(t, t.TempDir(), &fakeLog{down: true})
	f := sabotage(s, &faulty{hold: make(chan struct{}), arrived: make(chan int, 10)})
	answered := make(chan error, 100)
	put := func(i int) {
		go func() { answered <- s.Publish(context.Background(), record("wx1", fmt.Sprint(i))) }()
	}
	put(0)
	if n := <-f.arrived; n != 1 {
		t.Fatalf("a transaction of %d records, want 1", n)
	}
	for i := range 40 { // all of these share the next transaction
		put(1 + i)
	}
	until(t, "all wait for the disk", func() string {
		if n := len(s.queue); n < 40 {
			return fmt.Sprint(n)
		}
		return ""
	})
	select {
	case err := <-answered:
		t.Fatalf("an answer before the transaction has ended: %v", err)
	default:
	}
	if n, _, _ := s.Depth(); n != 0 {
		t.Errorf("%d records count as safe before they are", n)
	}
	f.hold <- struct{}{}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if n := <-f.arrived; n != 40 {
		t.Errorf("a transaction of %d records, want all 40 that were waiting", n)
	}
	select {
	case err := <-answered:
		t.Fatalf("an answer before the second transaction has ended: %v", err)
	default:
	}
	f.hold <- struct{}{}
	for range 40 {
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
}

func TestADiskThatFailsIsSaidAndForgiven(t *testing.T) {
	log := &fakeLog{down: true}
	s := open(t, t.TempDir(), log)
	f := sabotage(s, &faulty{})
	f.appendErr.Store(&errDisk)
	if err := s.Publish(t.Context(), record("wx1", "lost by us, so WeChat repeats it")); !errors.Is(err, errDisk) {
		t.Fatalf("error %v", err)
	}
	var degraded *Degraded
	if err := s.Ready(); !errors.Is(err, errDisk) || errors.As(err, &degraded) {
		t.Errorf("nothing can be made safe, and ready says: %v", err)
	}
	if n := gather(t, s)["qunfa_spool_errors_total,op=write"]; n != 1 {
		t.Errorf("%v errors counted, want 1", n)
	}
	f.appendErr.Store(nil)
	publish(t, s, record("wx1", "one"))
	if err := s.Ready(); !errors.As(err, &degraded) {
		t.Errorf("ready: %v", err)
	}
	log.set(func(l *fakeLog) { l.down = false })
	run(t, s)
	untilEmpty(t, s)
	if d := cmp.Diff([]string{"one"}, log.values()); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
}

// The last fsync of a transaction may fail after its pages are in place. The
// callers must not be told that they are safe, but the records are there.
func TestATransactionThatHappenedAllTheSame(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{down: true}
	s := open(t, dir, log)
	f := sabotage(s, &faulty{appendsFirst: true})
	f.appendErr.Store(&errDisk)
	if err := s.Publish(t.Context(), record("wx1", "one")); !errors.Is(err, errDisk) {
		t.Fatalf("error %v", err)
	}
	f.appendErr.Store(nil)
	publish(t, s, record("wx1", "two"))
	log.set(func(l *fakeLog) { l.down = false })
	run(t, s)
	untilEmpty(t, s)
	if d := cmp.Diff([]string{"one", "two"}, log.values()); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
}

// A full disk does not even let go of what was drained. The log must not get
// the same again and again because of it.
func TestWhatCannotBeRemovedIsNotRepeatedBeforeARestart(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{down: true}
	s := open(t, dir, log)
	f := sabotage(s, &faulty{})
	publish(t, s, record("wx1", "one"))
	publish(t, s, record("wx2", "two"))
	f.removeErr.Store(&errDisk)
	log.set(func(l *fakeLog) { l.down = false })
	stop := run(t, s)
	until(t, "removing has failed a few times", func() string {
		if n := gather(t, s)["qunfa_spool_errors_total,op=remove"]; n < 3 {
			return fmt.Sprint(n)
		}
		return ""
	})
	if n, bytes, _ := s.Depth(); n != 0 || bytes == 0 {
		t.Errorf("%d records wait with %d bytes: want none, whose bytes still take room", n, bytes)
	}
	publish(t, s, record("wx1", "three")) // nothing waits for the log, so it goes straight there
	stop()
	if got := log.values(); len(got) != 3 || got[2] != "three" {
		t.Errorf("the log: %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, log)
	run(t, s)
	untilEmpty(t, s)
	if got := log.values(); len(got) != 5 {
		t.Errorf("the log after a restart, which has to repeat two: %q", got)
	}
}

func TestWhatCannotBeReadWaits(t *testing.T) {
	log := &fakeLog{down: true}
	s := open(t, t.TempDir(), log)
	f := sabotage(s, &faulty{})
	publish(t, s, record("wx1", "one"))
	f.readErr.Store(&errDisk)
	log.set(func(l *fakeLog) { l.down = false })
	run(t, s)
	until(t, "reading has failed a few times", func() string {
		if n := gather(t, s)["qunfa_spool_errors_total,op=read"]; n < 3 {
			return fmt.Sprint(n)
		}
		return ""
	})
	f.readErr.Store(nil)
	untilEmpty(t, s)
	if d := cmp.Diff([]string{"one"}, log.values()); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
}

// A drain that is interrupted after the log has taken some records, but before
// the spool has noted it, repeats them and loses none.
func TestAnInterruptedDrainRepeats(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{down: true}
	s := open(t, dir, log)
	var want []string
	for i := range 20 {
		publish(t, s, record("wx1", fmt.Sprint(i)))
		want = append(want, fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	log.set(func(l *fakeLog) {
		l.down = false
		l.after = func(_ events.Record, n int) error {
			if n == 7 {
				cancel()
			}
			if n >= 7 {
				return context.Canceled
			}
			return nil
		}
	})
	f := sabotage(s, &faulty{})
	f.removeErr.Store(&errDisk) // as if the process had died here
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log.set(func(l *fakeLog) { l.after = nil })
	s = open(t, dir, log)
	run(t, s)
	untilEmpty(t, s)
	got := log.values()
	if d := cmp.Diff(want, firsts(got)); d != "" {
		t.Errorf("the log, repetitions aside (-want +got):\n%s", d)
	}
	if len(got) != 27 {
		t.Errorf("%d records in the log, want the 20 and 7 again", len(got))
	}
}

// How long a caller waits, in fake time: the log has two seconds from the
// receipt of the record, the disk what is left of the caller's 2.8.
func TestDeadlines(t *testing.T) {
	const whole = 2800 * time.Millisecond
	for name, c := range map[string]struct {
		age   time.Duration // of the record
		limit time.Duration // the caller's; 0: whole
		down  bool
		disk  bool // hangs
		waits time.Duration
		fails bool
	}{
		"the log hangs":                         {waits: 2 * time.Second},
		"the log is known to be down":           {down: true},
		"the record has taken a second to come": {age: time.Second, waits: time.Second},
		"the record has taken longer":           {age: 2500 * time.Millisecond},
		"our clock was set back":                {age: -time.Hour, waits: 2 * time.Second},
		"the caller has less time":              {limit: 1500 * time.Millisecond, waits: 700 * time.Millisecond},
		"the caller has hardly any":             {limit: 500 * time.Millisecond},
		"both hang":                             {disk: true, waits: whole, fails: true},
		"the log is down and the disk hangs":    {down: true, disk: true, waits: whole, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, t.TempDir(), &fakeLog{hangs: true, down: c.down})
				if c.disk {
					f := sabotage(s, &faulty{hold: make(chan struct{}), arrived: make(chan int, 1)})
					defer close(f.hold)
				}
				r := record("wx1", "one")
				r.Time = time.Now().Add(-c.age)
				limit := c.limit
				if limit == 0 {
					limit = whole
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				start := time.Now()
				err := s.Publish(ctx, r)
				if took := time.Since(start); took != c.waits {
					t.Errorf("took %s, want %s", took, c.waits)
				}
				if (err != nil) != c.fails {
					t.Errorf("error %v, want one: %t", err, c.fails)
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// A caller who has gone has told WeChat to repeat its push: writing it now
// would only add a copy.
func TestWhoHasGoneIsNotWritten(t *testing.T) {
	s := open(t, t.TempDir(), &fakeLog{down: true})
	f := sabotage(s, &faulty{hold: make(chan struct{}), arrived: make(chan int, 1)})
	first := make(chan error, 1)
	go func() { first <- s.Publish(context.Background(), record("wx1", "one")) }()
	<-f.arrived
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() { second <- s.Publish(ctx, record("wx1", "two")) }()
	until(t, "the second waits", func() string {
		if len(s.queue) == 1 {
			return ""
		}
		return "it does not"
	})
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(f.hold)
	if err := <-first; err != nil {
		t.Error(err)
	}
	until(t, "the queue is empty", func() string { return map[bool]string{false: "it is not"}[len(s.queue) == 0] })
	publish(t, s, record("wx1", "three"))
	if n, _, _ := s.Depth(); n != 2 {
		t.Errorf("%d records wait, want 2", n)
	}
}

// Callers that are held up while the last records are drained go on into the
// spool when that fails, within their time.
func TestAHandoverThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &fakeLog{down: true}
		s := open(t, t.TempDir(), log, func(c *Config) { c.BatchRecords = 1 })
		publish(t, s, record("wx1", "one"))
		publish(t, s, record("wx1", "two"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		var takes atomic.Int64
		log.set(func(l *fakeLog) {
			l.down = false
			l.after = func(events.Record, int) error { // the first is taken; the second hangs
				takes.Add(1)
				l.hangs = true
				return nil
			}
		})
		go func() { done <- s.Run(ctx) }()
		until(t, "the last record is being drained", func() string {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.handover != nil {
				return ""
			}
			return "no"
		})
		start := time.Now()
		publish(t, s, record("wx1", "three"))
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		if n, _, _ := s.Depth(); n != 2 {
			t.Errorf("%d records wait, want 2", n)
		}
		log.set(func(l *fakeLog) { l.hangs, l.after = false, nil })
		untilEmpty(t, s)
		if d := cmp.Diff([]string{"one", "two", "three"}, firsts(log.values())); d != "" {
			t.Errorf("the log (-want +got):\n%s", d)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
