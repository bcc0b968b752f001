package sink

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
)

// state is what others may ask about a sink while it works.
type state struct {
	mu       sync.Mutex
	sessions int
	failure  string          // what goes wrong right now
	behind   map[int32]int64 // per partition, the offset up to which the projection is known to be behind
	seen     map[int32]bool  // partitions of which at least one record was read
	next     map[int32]int64 // per partition, up to where everything was stored
}

func (s *state) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	s.failure, s.behind, s.seen, s.next = "", map[int32]int64{}, map[int32]bool{}, nil
}

func (s *state) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions--
}

// failing notes a failure and reports whether it differs from the last one noted.
func (s *state) failing(step string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%s: %v", step, err)
	changed := withoutNumbers(text) != withoutNumbers(s.failure)
	s.failure = text
	return changed
}

// withoutNumbers is what makes an error the same as another: ports, connections
// and durations differ from attempt to attempt.
func withoutNumbers(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, s)
}

func (s *state) working() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = ""
}

// rewound notes partitions whose records are being read again: until the end
// is known, they are behind.
func (s *state) rewound(partitions map[int32]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range partitions {
		s.behind[p] = -1
	}
}

// caughtUp updates how far each partition is behind the end that it had when
// its first record came.
func (s *state) caughtUp(b Batch, next map[int32]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range b.Messages {
		m := &b.Messages[i]
		if !s.seen[m.Partition] {
			s.seen[m.Partition] = true
			s.behind[m.Partition] = m.HighWater
		}
	}
	for p, end := range s.behind {
		if end >= 0 && next[p] >= end {
			delete(s.behind, p)
		}
	}
}

// reached notes up to where everything was stored.
func (s *state) reached(next map[int32]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = maps.Clone(next)
}

// lost returns a partition of which the database holds less than was stored.
func (s *state) lost(ends map[int32]int64) (partition int32, stored int64, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, next := range s.next {
		if next > 0 && ends[p] < next {
			return p, next, true
		}
	}
	return 0, 0, false
}

// Ready reports why the sink cannot do its work now, or nil.
func (s *Sink) Ready() error {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	switch {
	case s.state.sessions == 0:
		return errors.New("waiting for the consumer group to assign partitions")
	case s.state.failure != "":
		return fmt.Errorf("cannot write, trying again: %s", s.state.failure)
	}
	return nil
}

// CatchingUp reports whether the projection still lacks records that were in
// the log when the sink began: its figures are not the whole truth yet.
func (s *Sink) CatchingUp() bool {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	return s.state.sessions > 0 && len(s.state.behind) > 0
}
