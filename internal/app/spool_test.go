package app

import (
	"errors"
	"strings"
	"testing"
	"time"

	"qunfa/internal/daemon"
	"qunfa/internal/events"
	"qunfa/internal/ingest"
)

// With Kafka out of reach ingest is degraded while the spool has room, and not
// ready when it has none: then callers are told so.
func TestSpoolBehindIngest(t *testing.T) {
	cfg := parse(t, "kafka: {brokers: [\"127.0.0.1:1\"]}\n"+twoAccounts)
	cfg.Ingest.Listen, cfg.Ingest.Internal = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Ingest.KafkaTimeout, cfg.Ingest.SpoolDir, cfg.Ingest.SpoolMaxBytes = 10*time.Millisecond, t.TempDir(), 1<<20
	s, err := NewIngest(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	log, letters := s.publishers()
	big := events.Record{Key: []byte("wx1"), Value: make([]byte, 100_000), Time: time.Now()}
	if err := letters.Publish(t.Context(), big); err != nil {
		t.Errorf("a dead letter: %v", err)
	}
	var refused error
	taken := 0
	for ; refused == nil && taken < 100; taken++ {
		if taken == 3 {
			wantDegraded(t, s.checkSpools(errors.New("no broker")), " events in the spool since ", "no broker")
		}
		refused = log.Publish(t.Context(), big)
	}
	if taken != 11 || !errors.Is(refused, ingest.ErrOverloaded) {
		t.Errorf("the %dth record: %v; want the 11th refused as an overload", taken, refused)
	}
	// A record of another size shows how full it is.
	for refused = nil; refused == nil; {
		refused = log.Publish(t.Context(), events.Record{Key: []byte("wx1"), Value: make([]byte, 5_000), Time: time.Now()})
	}
	err = s.checkSpools(errors.New("no broker"))
	var degraded *daemon.Degraded
	if err == nil || errors.As(err, &degraded) || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), "no broker") {
		t.Errorf("neither Kafka nor the spool takes anything: %v", err)
	}
	wantDegraded(t, s.checkSpools(nil), "full")
}

func wantDegraded(t *testing.T, err error, words ...string) {
	t.Helper()
	var degraded *daemon.Degraded
	if !errors.As(err, &degraded) {
		t.Errorf("%v: want degraded", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: want it to say %q", err, w)
		}
	}
}

func TestNoSpoolWithoutADirectory(t *testing.T) {
	cfg := parse(t, "kafka: {brokers: [\"127.0.0.1:1\"]}\n"+twoAccounts)
	cfg.Ingest.Listen, cfg.Ingest.Internal = "127.0.0.1:0", "127.0.0.1:0"
	s, err := NewIngest(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.spools) != 0 {
		t.Errorf("%d spools", len(s.spools))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
