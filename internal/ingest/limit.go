package ingest

import "sync"

// limit bounds how many are at work, all together and per key. It never waits:
// who finds no place is turned away, so that nothing piles up.
type limit struct {
	mu          sync.Mutex
	total       int
	per         map[string]int
	most, byKey int
}

func newLimit(most, byKey int) *limit {
	return &limit{per: map[string]int{}, most: most, byKey: byKey}
}

// enter takes a place for key, or reports that there is none.
func (l *limit) enter(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.most || l.per[key] >= l.byKey {
		return false
	}
	l.total++
	l.per[key]++
	return true
}

// leave gives back what enter took.
func (l *limit) leave(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.per[key]--; l.per[key] == 0 {
		delete(l.per, key)
	}
}
