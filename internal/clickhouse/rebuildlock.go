package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Phases of a rebuild, as the table of rebuilds has them.
const (
	phaseBuilding = "building"
	phaseSwapping = "swapping"
	phaseSwapped  = "swapped"
	phaseEnded    = "ended" // without a swap
)

const (
	// heartbeat is how often a rebuild says that it lives, and lease after which
	// silence it is taken for dead.
	heartbeat = 10 * time.Second
	lease     = 60 * time.Second
)

// errLockLost ends a rebuild that could not say that it lives.
var errLockLost = errors.New("clickhouse: another rebuild may have begun, since this one could not say that it goes on")

// rebuildLock is this rebuild's row in the table of rebuilds. It keeps a second
// one from the same work; what either writes would be right all the same.
type rebuildLock struct {
	db      *DB
	id, who string
	started time.Time

	mu    sync.Mutex
	seq   uint64
	phase string
	since ends
}

// lockRebuild enters a rebuild, unless there is another. Each enters itself
// before it looks for others, so of two at once one sees the other, or both do
// and both give up: never do both go on.
func (db *DB) lockRebuild(ctx context.Context, id, who string) (*rebuildLock, error) {
	l := &rebuildLock{db: db, id: id, who: who, started: db.cfg.Clock()}
	if err := l.say(ctx, phaseBuilding, nil); err != nil {
		return nil, wrap("enter the rebuild", err)
	}
	other := ""
	const sql = "SELECT concat(who, ' since ', toString(started_at), ' UTC') FROM " + tableRebuilds + " FINAL" +
		" WHERE id != ? AND phase IN ('" + phaseBuilding + "', '" + phaseSwapping + "') AND seen_at > now64(3, 'UTC') - toIntervalSecond(?) LIMIT 1"
	err := db.each(ctx, sql, []any{id, int64(lease / time.Second)}, func(rows driver.Rows) error { return rows.Scan(&other) })
	if err == nil && other == "" {
		return l, nil
	}
	l.end(ctx)
	if err != nil {
		return nil, wrap("look for other rebuilds", err)
	}
	return nil, fmt.Errorf("%w: %s; if it was killed, it counts as dead after %s", ErrRebuilding, other, lease)
}

// say writes the row anew.
func (l *rebuildLock) say(ctx context.Context, phase string, since ends) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(ctx, phase, since)
}

func (l *rebuildLock) write(ctx context.Context, phase string, since ends) error {
	l.seq++
	err := l.db.send(ctx, tableRebuilds, []column{
		{"id", []string{l.id}}, {"seq", []uint64{l.seq}}, {"phase", []string{phase}}, {"who", []string{l.who}},
		{"started_at", []time.Time{l.started}}, {"since", []string{since.String()}},
	})
	if err == nil {
		l.phase, l.since = phase, since
	}
	return err
}

// keep says from time to time that the rebuild lives. The context that it
// returns ends if that cannot be said any more; the function ends the rebuild.
func (l *rebuildLock) keep(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	beating, stop := context.WithCancel(context.WithoutCancel(ctx)) // also while an interrupted one finishes
	var wg sync.WaitGroup
	wg.Go(func() { l.beat(beating, cancel) })
	return ctx, func() {
		stop()
		wg.Wait()
		l.end(ctx)
		cancel(nil)
	}
}

func (l *rebuildLock) beat(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.repeat(ctx); err == nil {
			last = time.Now()
		} else if time.Since(last) > lease-2*heartbeat {
			lost(fmt.Errorf("%w: %w", errLockLost, err))
			return
		}
	}
}

func (l *rebuildLock) repeat(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	return l.write(ctx, l.phase, l.since)
}

// end says that the rebuild is over. One whose swap is not done stays as it is:
// somebody has to finish it.
func (l *rebuildLock) end(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != phaseBuilding {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer cancel()
	if err := l.write(ctx, phaseEnded, nil); err != nil {
		l.db.cfg.Logger.Warn("the end of a rebuild cannot be noted: until it counts as dead no other can begin", "after", lease, "error", err)
	}
}

// succeed ends those that died before: the table in use owes them nothing.
func (l *rebuildLock) succeed(ctx context.Context) error {
	return wrap("end the rebuilds that died before", l.db.endDead(ctx, "id != ?", l.id))
}

func (db *DB) endRebuild(ctx context.Context, id string) error {
	return wrap("end a rebuild that died", db.endDead(ctx, "id = ?", id))
}

func (db *DB) endDead(ctx context.Context, which string, arg any) error {
	sql := "INSERT INTO " + tableRebuilds + " (id, seq, phase, who, started_at)" +
		" SELECT id, seq + 1, if(phase = '" + phaseSwapping + "', '" + phaseSwapped + "', '" + phaseEnded + "'), who, started_at FROM " + tableRebuilds + " FINAL" +
		" WHERE phase IN ('" + phaseBuilding + "', '" + phaseSwapping + "') AND " + which
	return db.conn.Exec(ctx, sql, arg)
}

// ErrSwapping says that the projection is being swapped for a new one, or that
// this was interrupted: figures would be of two tables, or lack the last moments.
var ErrSwapping = errors.New("the projection is being swapped for a rebuilt one")

type unfinishedSwap struct {
	id, who, since string
	alive          bool
}

func (db *DB) unfinishedSwaps(ctx context.Context) ([]unfinishedSwap, error) {
	start := db.cfg.Clock()
	var left []unfinishedSwap
	const sql = "SELECT id, who, since, seen_at > now64(3, 'UTC') - toIntervalSecond(?) FROM " + tableRebuilds + " FINAL WHERE phase = '" + phaseSwapping + "'"
	err := db.each(ctx, sql, []any{int64(lease / time.Second)}, func(rows driver.Rows) error {
		var u unfinishedSwap
		var alive uint8
		err := rows.Scan(&u.id, &u.who, &u.since, &alive)
		u.alive = alive != 0
		left = append(left, u)
		return err
	})
	return left, db.done(opRebuild, start, err)
}

// undivided runs queries of which all must see one table of messages. It fails
// with [ErrSwapping] rather than let some see one and the others another.
func (db *DB) undivided(ctx context.Context, ask func() error) error {
	for range 2 {
		active, before, err := db.swaps(ctx)
		if err != nil {
			return err
		}
		if active > 0 {
			return ErrSwapping
		}
		if err := ask(); err != nil {
			return err
		}
		if _, after, err := db.swaps(ctx); err != nil || after == before {
			return err
		}
	}
	return ErrSwapping
}

// swaps counts the swaps that are under way, and all that ever began.
func (db *DB) swaps(ctx context.Context) (active, begun uint64, err error) {
	const sql = "SELECT countIf(phase = '" + phaseSwapping + "'), count() FROM " + tableRebuilds + " FINAL" +
		" WHERE phase IN ('" + phaseSwapping + "', '" + phaseSwapped + "')"
	err = db.conn.QueryRow(ctx, sql).Scan(&active, &begun)
	return active, begun, err
}
