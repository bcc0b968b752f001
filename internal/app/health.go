package app

import (
	"context"
	"sync"

	"qunfa/internal/clickhouse"
	"qunfa/internal/daemon"
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

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// databaseCheck asks the database each time: a service that has nothing to
// write would not notice by itself that it is away.
func databaseCheck(db *clickhouse.DB, state *health) daemon.Check {
	return func(ctx context.Context) error {
		if err := state.get(); err != nil {
			return err
		}
		return db.Ping(ctx)
	}
}
