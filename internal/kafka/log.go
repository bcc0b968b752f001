package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sampler lets one line through per interval and says how many it held back,
// so that an outage does not fill the disk with the same sentence.
type sampler struct {
	log   *slog.Logger
	every time.Duration

	mu     sync.Mutex
	last   map[string]time.Time
	hidden map[string]int
}

func newSampler(log *slog.Logger, every time.Duration) *sampler {
	return &sampler{log: log, every: every, last: map[string]time.Time{}, hidden: map[string]int{}}
}

// warn logs under its message at most once per interval. Messages are constants.
func (s *sampler) warn(msg string, args ...any) {
	s.mu.Lock()
	now := time.Now()
	if last, seen := s.last[msg]; seen && now.Sub(last) < s.every {
		s.hidden[msg]++
		s.mu.Unlock()
		return
	}
	n := s.hidden[msg]
	s.last[msg], s.hidden[msg] = now, 0
	s.mu.Unlock()
	if n > 0 {
		args = append(args, "similar_not_logged", n)
	}
	s.log.Log(context.Background(), slog.LevelWarn, msg, args...)
}
