package reconcile

import (
	"sync"
	"time"

	"qunfa/internal/events"
)

// recent remembers what we published lately, for the case that the projection
// does not show it although the sink has committed it: a replica of the database
// that lags, or an event that went to the dead-letter topic. Without it such a
// message would be polled in every round until its quota is gone.
//
// It is bounded and lost at a restart; the barrier is what makes polls single.
type recent struct {
	mu   sync.Mutex
	most int
	memo map[events.Key]memo
}

type memo struct {
	at     time.Time
	ended  bool // abandoned
	status string
	code   *int64
}

func newRecent(most int) *recent { return &recent{most: most, memo: map[events.Key]memo{}} }

func (m *recent) note(k events.Key, n memo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.memo[k]; ok || len(m.memo) < m.most {
		m.memo[k] = n
	}
}

// correct adds to what the projection says what we know better. stale tells
// that it did; ended that nothing more is to be done.
func (m *recent) correct(p Pending) (_ Pending, stale, ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.memo[p.Key]
	if !ok {
		return p, false, false
	}
	if n.ended {
		return p, true, true
	}
	if p.LastPollAt != nil && !n.at.After(*p.LastPollAt) {
		return p, false, false
	}
	p.Polls++
	p.LastPollAt, p.LastPollStatus, p.LastPollError = &n.at, n.status, n.code
	return p, true, false
}

func (m *recent) forget(before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.memo {
		if n.at.Before(before) {
			delete(m.memo, k)
		}
	}
}
