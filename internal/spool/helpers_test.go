package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"qunfa/internal/events"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

var (
	errAway    = errors.New("the test's log is away")
	errRefused = errors.New("the test's log refuses the record")
)

// fakeLog is a log in memory.
type fakeLog struct {
	mu      sync.Mutex
	down    bool
	err     error // what Publish answers
	hangs   bool  // until the context ends
	takes   time.Duration
	after   func(r events.Record, n int) error // decides once a record is in; n counts from 1
	records []events.Record
	tried   int
}

func (l *fakeLog) Publish(ctx context.Context, r events.Record) error {
	l.mu.Lock()
	l.tried++
	hangs, takes, err := l.hangs, l.takes, l.err
	if l.down && !hangs {
		err = errAway
	}
	l.mu.Unlock()
	if takes > 0 && !sleep(ctx, takes) {
		return ctx.Err()
	}
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.HasPrefix(string(r.Value), "refuse") {
		return fmt.Errorf("too large: %w", errRefused)
	}
	l.records = append(l.records, r)
	if l.after != nil {
		return l.after(r, len(l.records))
	}
	return nil
}

func (l *fakeLog) Down() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

func (l *fakeLog) set(change func(*fakeLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func (l *fakeLog) values() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, r := range l.records {
		out = append(out, string(r.Value))
	}
	return out
}

func (l *fakeLog) attempts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tried
}

func record(key, value string) events.Record {
	return events.Record{
		Key: []byte(key), Value: []byte(value), Time: time.Now().UTC().Truncate(time.Millisecond),
		Headers: []events.Header{{Key: "ce_type", Value: []byte("test")}},
	}
}

// open opens a spool that is closed at the end of the test, if not before.
func open(t testing.TB, dir string, log Next, change ...func(*Config)) *Spool {
	t.Helper()
	s, err := tryOpen(t, dir, log, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tryOpen(t testing.TB, dir string, log Next, change ...func(*Config)) (*Spool, error) {
	cfg := Config{
		Dir: dir, Permanent: func(err error) bool { return errors.Is(err, errRefused) },
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: prometheus.NewRegistry(), RetryMax: 100 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	return Open(cfg, log)
}

// run drains until the returned function is called, or the test ends.
func run(t testing.TB, s *Spool) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func publish(t testing.TB, s *Spool, r events.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2800*time.Millisecond)
	defer cancel()
	if err := s.Publish(ctx, r); err != nil {
		t.Fatalf("publish %s: %v", r.Value, err)
	}
}

// until polls until missing returns nothing.
func until(t testing.TB, what string, missing func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		why := missing()
		if why == "" {
			return
		}
		if !sleep(ctx, 2*time.Millisecond) {
			t.Fatalf("still not: %s: %s", what, why)
		}
	}
}

func untilEmpty(t testing.TB, s *Spool) {
	t.Helper()
	until(t, "the spool is empty, also on the disk", func() string {
		n, bytes, _ := s.Depth()
		if n == 0 && bytes == 0 {
			return ""
		}
		return fmt.Sprintf("%d records, %d bytes", n, bytes)
	})
}

// firsts drops repetitions.
func firsts(values []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, v := range values {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
