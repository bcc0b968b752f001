package ingest

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// sampleEvery and sampleBurst: this many lines of one kind per period. The
	// hot path must not be slowed by its own log, least of all under attack.
	sampleEvery = 10 * time.Second
	sampleBurst = 5
)

// sampler writes a few log lines of each kind per period and counts the rest.
type sampler struct {
	log   *slog.Logger
	clock func() time.Time
	mu    sync.Mutex
	kinds map[string]*sample
}

type sample struct {
	since   time.Time
	written int
	dropped int
}

func newSampler(log *slog.Logger, clock func() time.Time) *sampler {
	return &sampler{log: log, clock: clock, kinds: map[string]*sample{}}
}

// line logs msg, or counts it as dropped. kind must come from a closed set.
func (s *sampler) line(level slog.Level, kind, msg string, args ...any) {
	write, dropped := s.admit(kind)
	if !write {
		return
	}
	if dropped > 0 {
		args = append(args, "similar_dropped", dropped)
	}
	s.log.Log(context.Background(), level, msg, args...)
}

func (s *sampler) admit(kind string) (write bool, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	k := s.kinds[kind]
	if k == nil {
		k = &sample{since: now}
		s.kinds[kind] = k
	}
	if now.Sub(k.since) >= sampleEvery {
		dropped = k.dropped
		*k = sample{since: now}
	}
	if k.written >= sampleBurst {
		k.dropped++
		return false, 0
	}
	k.written++
	return true, dropped
}
