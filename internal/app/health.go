package app

import (
	"context"
	"sync"
)

// health is why a service cannot do its work now.
type health struct {
	mu  sync.Mutex
	err error
}

// set notes the state and reports whether it reads differently from before.
func (h *health) set(err error) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = (err == nil) != (h.err == nil) || err != nil && err.Error() != h.err.Error()
	h.err = err
	return changed
}

func (h *health) check(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
