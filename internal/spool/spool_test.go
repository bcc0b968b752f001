package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
)

func TestAnEmptySpoolIsNotInTheWay(t *testing.T) {
	log := &fakeLog{}
	s := open(t, t.TempDir(), log)
	publish(t, s, record("wx1", "one"))
	publish(t, s, record("wx1", "two"))
	if d := cmp.Diff([]string{"one", "two"}, log.values()); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
	if n, bytes, oldest := s.Depth(); n != 0 || bytes != 0 || !oldest.IsZero() {
		t.Errorf("depth %d, %d bytes, oldest %s", n, bytes, oldest)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestWhatTheLogDoesNotTakeWaitsAndKeepsItsOrder(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{err: errAway}
	s := open(t, dir, log)
	want := []events.Record{record("wx1", "one"), record("wx1", "two"), record("wx2", "three")}
	for _, r := range want {
		publish(t, s, r)
	}
	if n := log.attempts(); n != 1 {
		t.Errorf("the log was tried %d times: once something waits, all else has to queue behind it", n)
	}
	n, bytes, oldest := s.Depth()
	size := 0
	for _, r := range want {
		size += encodedSize(r)
	}
	if n != 3 || bytes != int64(size) || !oldest.Equal(want[0].Time) {
		t.Errorf("depth %d, %d bytes, oldest %s; want 3, %d, %s", n, bytes, oldest, size, want[0].Time)
	}

	log.set(func(l *fakeLog) { l.err = nil })
	publish(t, s, record("wx1", "four")) // the log would take it, but not before the others
	if got := log.values(); len(got) != 0 {
		t.Errorf("%q went past those that wait", got)
	}
	run(t, s)
	untilEmpty(t, s)
	publish(t, s, record("wx1", "five"))
	var ofOne []string
	for _, r := range log.records {
		if string(r.Key) == "wx1" {
			ofOne = append(ofOne, string(r.Value))
		}
	}
	if d := cmp.Diff([]string{"one", "two", "four", "five"}, ofOne); d != "" {
		t.Errorf("the records of wx1 in the log (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want[0], log.records[slices.IndexFunc(log.records, func(r events.Record) bool { return string(r.Value) == "one" })]); d != "" {
		t.Errorf("a record came out of the spool as another one, its time of receipt included (-in +out):\n%s", d)
	}
}

func TestWhatWaitsOutlastsARestart(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{down: true}
	var want []string
	for round := range 3 {
		s := open(t, dir, log)
		for i := range 50 {
			v := fmt.Sprintf("%d.%d", round, i)
			publish(t, s, record("wx1", v))
			want = append(want, v)
		}
		if n, _, _ := s.Depth(); n != len(want) {
			t.Fatalf("after %d restarts %d records wait, want %d", round, n, len(want))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), record("wx1", "late")); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed spool says %v", err)
		}
	}
	log.set(func(l *fakeLog) { l.down = false })
	s := open(t, dir, log)
	run(t, s)
	untilEmpty(t, s)
	if d := cmp.Diff(want, log.values()); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
}

func TestFullRefusesAndForgetsNothing(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{err: errAway}
	s := open(t, dir, log, func(c *Config) { c.MaxBytes = 64 << 10 })
	var taken []string
	var refusal error
	for i := 0; refusal == nil; i++ {
		v := fmt.Sprintf("%03d %s", i, strings.Repeat("x", 1000))
		if refusal = s.Publish(t.Context(), record("wx1", v)); refusal == nil {
			taken = append(taken, v)
		}
	}
	if !errors.Is(refusal, ErrFull) {
		t.Fatalf("a full spool says: %v", refusal)
	}
	if len(taken) < 55 || len(taken) > 63 {
		t.Errorf("%d records of about 1 KiB in 64 KiB", len(taken))
	}
	if err := s.Ready(); !errors.Is(err, ErrFull) {
		t.Errorf("a full spool is ready: %v", err)
	}
	log.set(func(l *fakeLog) { l.err = nil })
	run(t, s)
	untilEmpty(t, s)
	if d := cmp.Diff(taken, log.values()); d != "" {
		t.Errorf("the log has something else than what was acknowledged (-want +got):\n%s", d)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("an empty spool is not ready: %v", err)
	}
	publish(t, s, record("wx1", "there is room again"))
}

func TestALogThatIsTooBusyIsRelieved(t *testing.T) {
	log := &fakeLog{}
	s := open(t, t.TempDir(), log)
	log.set(func(l *fakeLog) { l.err = errors.New("the queue is full") })
	publish(t, s, record("wx1", "one"))
	if n, _, _ := s.Depth(); n != 1 {
		t.Errorf("%d records wait, want 1", n)
	}
}

func TestPermanentRefusalsGoToTheCaller(t *testing.T) {
	s := open(t, t.TempDir(), &fakeLog{})
	if err := s.Publish(t.Context(), record("wx1", "refuse")); !errors.Is(err, errRefused) {
		t.Errorf("error %v", err)
	}
	if n, _, _ := s.Depth(); n != 0 {
		t.Errorf("%d records wait that nobody will take", n)
	}
}

// A record that turns out to be unacceptable only in the drain must not hold
// the others up, nor be lost.
func TestDrainSetsAsideWhatTheLogRefuses(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{down: true}
	s := open(t, dir, log)
	for _, v := range []string{"one", "refuse", "two"} {
		publish(t, s, record("wx1", v))
	}
	log.set(func(l *fakeLog) { l.down = false })
	stop := run(t, s)
	untilEmpty(t, s)
	if d := cmp.Diff([]string{"one", "two"}, log.values()); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
	var degraded *Degraded
	if err := s.Ready(); !errors.As(err, &degraded) || !strings.Contains(err.Error(), "1 events are set aside") {
		t.Errorf("ready: %v", err)
	}
	want := map[string]float64{"qunfa_spool_set_aside_total": 1, "qunfa_spool_set_aside_records": 1, "qunfa_spool_drained_total": 2, "qunfa_spool_records": 0}
	if d := cmp.Diff(want, pick(gather(t, s), want)); d != "" {
		t.Errorf("metrics (-want +got):\n%s", d)
	}
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	lenient := &fakeLog{}
	s = open(t, dir, nextFunc(func(_ context.Context, r events.Record) error { // its limit was raised
		lenient.set(func(l *fakeLog) { l.records = append(l.records, r) })
		return nil
	}))
	run(t, s)
	untilEmpty(t, s)
	if d := cmp.Diff([]string{"refuse"}, lenient.values()); d != "" {
		t.Errorf("the log after a restart (-want +got):\n%s", d)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
}

type nextFunc func(context.Context, events.Record) error

func (f nextFunc) Publish(ctx context.Context, r events.Record) error { return f(ctx, r) }
func (f nextFunc) Down() bool                                         { return false }

// What is acknowledged by many callers at once, with a log that comes and goes,
// says that it failed when it did not, and a spool that is reopened, is all in
// the log at the end, and for each caller in its order.
func TestManyPublishersWhileTheLogComesAndGoes(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{}
	log.after = func(_ events.Record, n int) error {
		if n%31 == 0 { // written, but the answer was lost
			return errAway
		}
		return nil
	}
	const publishers, rounds, each = 8, 3, 60
	var wantMu sync.Mutex
	want := map[string][]string{}
	for round := range rounds {
		s := open(t, dir, log)
		stop := run(t, s)
		var wg sync.WaitGroup
		for p := range publishers {
			wg.Go(func() {
				key := fmt.Sprintf("wx%d", p)
				for i := range each {
					v := fmt.Sprintf("%s %d.%d", key, round, i)
					if err := s.Publish(t.Context(), record(key, v)); err != nil {
						t.Errorf("publish: %v", err)
						return
					}
					wantMu.Lock()
					want[key] = append(want[key], v)
					wantMu.Unlock()
				}
			})
		}
		wg.Go(func() {
			for i := range 40 {
				log.set(func(l *fakeLog) { l.down = i%3 == 1; l.err = nil })
				if i%3 == 2 {
					log.set(func(l *fakeLog) { l.err = errAway })
				}
				sleep(t.Context(), time.Duration(rand.IntN(4))*time.Millisecond)
			}
			log.set(func(l *fakeLog) { l.down, l.err = false, nil })
		})
		wg.Wait()
		if round == rounds-1 {
			untilEmpty(t, s)
		}
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string][]string{}
	for _, v := range firsts(log.values()) {
		key, _, _ := strings.Cut(v, " ")
		got[key] = append(got[key], v)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the log, repetitions aside (-acknowledged +log):\n%s", d)
	}
}

// With a steady stream of records the spool must come to an end all the same.
func TestTheSpoolEmptiesUnderASteadyStream(t *testing.T) {
	log := &fakeLog{err: errAway, takes: time.Millisecond}
	s := open(t, t.TempDir(), log)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var published atomic.Int64
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := s.Publish(context.Background(), record(fmt.Sprintf("wx%d", p), fmt.Sprint(i))); err != nil {
					t.Errorf("publish: %v", err)
				}
				published.Add(1)
			}
		})
	}
	until(t, "something waits", func() string {
		if n, _, _ := s.Depth(); n < 8 {
			return fmt.Sprint(n)
		}
		return ""
	})
	log.set(func(l *fakeLog) { l.err = nil })
	run(t, s)
	written := func() float64 { return gather(t, s)["qunfa_spool_written_total"] }
	until(t, "500 records have gone past the spool", func() string {
		before, from := written(), published.Load()
		for published.Load() < from+500 && ctx.Err() == nil {
			sleep(ctx, time.Millisecond)
		}
		if n := written() - before; n > 0 {
			return fmt.Sprintf("%v of them were spooled", n)
		}
		return ""
	})
	cancel()
	wg.Wait()
}

func TestOneDirectoryIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &fakeLog{})
	_, err := tryOpen(t, dir, &fakeLog{}, func(c *Config) { c.LockTimeout = 50 * time.Millisecond })
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
	// One that ends meanwhile is waited for.
	opened := make(chan error, 1)
	go func() {
		second, err := tryOpen(t, dir, &fakeLog{}, func(c *Config) { c.LockTimeout = 20 * time.Second })
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	if _, err := Open(Config{}, &fakeLog{}); err == nil {
		t.Error("no directory is no error")
	}
	if _, err := tryOpen(t, t.TempDir(), &fakeLog{}, func(c *Config) { c.MaxBytes = -1 }); err == nil {
		t.Error("-1 bytes is no error")
	}
	path := t.TempDir() + "/file"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(t, path, &fakeLog{}); err == nil {
		t.Error("a directory that is a file is no error")
	}
	reg := prometheus.NewRegistry()
	same := func(c *Config) { c.Registerer = reg }
	open(t, t.TempDir(), &fakeLog{}, same)
	dir := t.TempDir()
	if _, err := tryOpen(t, dir, &fakeLog{}, same); err == nil {
		t.Error("metrics registered twice are no error")
	}
	open(t, dir, &fakeLog{}) // and nothing was left locked
}

func TestReadySaysSinceWhenAndHowMuch(t *testing.T) {
	now := time.Date(2026, 11, 18, 9, 30, 0, 0, time.UTC)
	log := &fakeLog{down: true}
	s := open(t, t.TempDir(), log, func(c *Config) { c.Clock = func() time.Time { return now } })
	if err := s.Ready(); err == nil || err.Error() != "Kafka is down" {
		t.Errorf("ready: %v", err)
	}
	publish(t, s, record("wx1", "one"))
	publish(t, s, record("wx1", "two"))
	err := s.Ready()
	var d interface{ Degraded() bool }
	if want := "Kafka is down, 2 events in the spool since 2026-11-18T09:30:00Z"; err == nil || err.Error() != want || !errors.As(err, &d) || !d.Degraded() {
		t.Errorf("ready: %v, want degraded: %s", err, want)
	}
	log.set(func(l *fakeLog) { l.down = false })
	if want := "Kafka is up, 2 events in the spool since 2026-11-18T09:30:00Z are on their way"; s.Ready().Error() != want {
		t.Errorf("ready: %v, want %s", s.Ready(), want)
	}
}

// gather returns every series of the spool by name and label op.
func gather(t testing.TB, s *Spool) map[string]float64 {
	t.Helper()
	families, err := s.cfg.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "," + l.GetName() + "=" + l.GetValue()
			}
			all[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}

func pick(all, names map[string]float64) map[string]float64 {
	some := map[string]float64{}
	for name := range names {
		some[name] = all[name]
	}
	return some
}

func TestMetrics(t *testing.T) {
	log := &fakeLog{down: true}
	s := open(t, t.TempDir(), log)
	want := map[string]float64{
		"qunfa_spool_records": 0, "qunfa_spool_bytes": 0, "qunfa_spool_max_bytes": 256 << 20, "qunfa_spool_oldest_timestamp_seconds": 0,
		"qunfa_spool_written_total": 0, "qunfa_spool_drained_total": 0, "qunfa_spool_set_aside_total": 0, "qunfa_spool_set_aside_records": 0,
		"qunfa_spool_salvaged_total": 0, "qunfa_spool_damaged_files": 0,
		"qunfa_spool_errors_total,op=open": 0, "qunfa_spool_errors_total,op=write": 0, "qunfa_spool_errors_total,op=read": 0,
		"qunfa_spool_errors_total,op=remove": 0, "qunfa_spool_errors_total,op=publish": 0,
	}
	if d := cmp.Diff(want, gather(t, s)); d != "" {
		t.Errorf("metrics of a new spool (-want +got):\n%s", d)
	}
	r := record("wx1", "one")
	publish(t, s, r)
	want["qunfa_spool_records"], want["qunfa_spool_bytes"], want["qunfa_spool_written_total"] = 1, float64(encodedSize(r)), 1
	want["qunfa_spool_oldest_timestamp_seconds"] = float64(r.Time.UnixMilli()) / 1000
	if d := cmp.Diff(want, gather(t, s)); d != "" {
		t.Errorf("metrics with a record (-want +got):\n%s", d)
	}
	log.set(func(l *fakeLog) { l.down, l.err = false, errAway })
	run(t, s)
	until(t, "the drain has failed", func() string {
		if gather(t, s)["qunfa_spool_errors_total,op=publish"] > 0 {
			return ""
		}
		return "no error"
	})
	log.set(func(l *fakeLog) { l.err = nil })
	untilEmpty(t, s)
	got := gather(t, s)
	want["qunfa_spool_errors_total,op=publish"] = got["qunfa_spool_errors_total,op=publish"]
	want["qunfa_spool_records"], want["qunfa_spool_bytes"], want["qunfa_spool_oldest_timestamp_seconds"], want["qunfa_spool_drained_total"] = 0, 0, 0, 1
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("metrics after the drain (-want +got):\n%s", d)
	}
}
