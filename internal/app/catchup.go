package app

import (
	"maps"
	"sync"
)

// catchUp tells a projection that is being rebuilt, or read for the first time,
// from one that lacks only what came in the last moments. The first must not be
// shown: figures that begin low and climb look like a burst of sends. How much
// is missing does not tell them apart, since a small log is rebuilt within a
// few batches; but what was visible once and is not any more does.
type catchUp struct {
	mu     sync.Mutex
	seen   map[int32]int64 // what was visible at the last look; nil before the first
	target map[int32]int64 // what has to be visible before anything is shown; nil: nothing
}

// maxLag is how many records the projection may lack for its figures to be
// shown: a burst of callbacks, but no rebuild.
const maxLag = 10_000

// missing returns how many records are still needed before the projection can
// be shown, given where the log ends and up to where it is visible.
func (c *catchUp) missing(ends, visible map[int32]int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || wentBack(c.seen, visible) || lag(ends, visible) > maxLag {
		c.target = maps.Clone(ends)
	}
	c.seen = maps.Clone(visible)
	n := lag(c.target, visible)
	if n == 0 {
		c.target = nil
	}
	return n
}

func wentBack(before, now map[int32]int64) bool {
	for partition, offset := range before {
		if now[partition] < offset {
			return true
		}
	}
	return false
}

func lag(ends, visible map[int32]int64) (n int64) {
	for partition, end := range ends {
		n += max(0, end-max(0, visible[partition]))
	}
	return n
}
