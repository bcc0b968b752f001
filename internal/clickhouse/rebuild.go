package clickhouse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Rebuild says how to compute the projection anew.
type Rebuild struct {
	// Who runs it, for whoever finds that it is under way: host and process.
	Who string
	// Import, if set, reads the log from its beginning and hands its records on;
	// see [StoreRecords]. Without it the events are those that are stored.
	Import func(context.Context, StoreRecords) error
	// Reread, if set, reads the raw text of every stored callback again. What it
	// finds replaces what was stored, where it differs; see [events.Revise].
	Reread Reread
	// Compare compares the new projection with the old one before it is used.
	Compare bool
	// DryRun ends after that: the new projection is dropped. Events that were
	// imported or read anew stay as they are then.
	DryRun bool
	// Progress is told about steps; nil: nobody.
	Progress func(RebuildProgress)
}

// RebuildProgress is how far a rebuild has come.
type RebuildProgress struct {
	Step        string // one of the Rebuild constants
	Done, Total int64  // of Total, if that is not 0
}

// The steps of a rebuild.
const (
	RebuildImport  = "import"
	RebuildReread  = "reread"
	RebuildFold    = "fold"
	RebuildCatchUp = "catch up"
	RebuildCompare = "compare"
	RebuildSwap    = "swap"
	RebuildSettle  = "settle"
	RebuildClean   = "clean"
)

// RebuildReport is what a rebuild has done.
type RebuildReport struct {
	Imported   Imported
	Reread     RereadCounts
	Events     int64       // stored events that were read, copies included
	Messages   int64       // rows that were written
	CaughtUp   int64       // messages that were folded again, since events came meanwhile
	Comparison *Comparison // nil: nothing was compared
	Swapped    bool        // the new projection is in use
}

// Names of the tables of a rebuild: each has its own, so that one which was
// left for dead cannot write into the tables of another.
const rebuildInfix = "_rebuild_"

// ErrRebuilding says that another rebuild is under way.
var ErrRebuilding = errors.New("another rebuild is under way")

// rebuildConns is how many connections a rebuild holds at once: it reads
// keys, their events, writes rows, and says that it lives.
const rebuildConns = 4

// rebuild is one in progress.
type rebuild struct {
	Rebuild
	db       *DB
	lock     *rebuildLock
	loc      *time.Location
	messages string // the new table of messages
	records  string // the new table of records, of an import
	since    ends   // where the log is in the new table for certain
	out      *takenOut
	report   RebuildReport
}

// Rebuild computes the row of every message anew from its events, into a table
// beside the one in use, and swaps the two, while sinks go on writing. Readers
// see the old table or the new one. It needs the rights of whoever migrates.
//
// Nothing is lost on the way, since a sink stores records after it has stored
// the events and rows of a batch, and a partition's batches in order. So before
// anything is read it is noted where the records end: every event before is
// stored then, and is read; every message with an event after it, whenever it
// came, is folded again, first into the new table, until little is left to do,
// and after the swap into the table that is in use then. That covers the rows
// which a sink was just writing into the old one. Where both have written a
// row the higher version wins, which knows more events.
//
// It can be interrupted at any time: before the swap it leaves nothing behind
// but a table that the next one drops; after it, what is to be done is done
// first. If it was killed in between, [DB.FinishSwap] does that.
func (db *DB) Rebuild(ctx context.Context, o Rebuild) (RebuildReport, error) {
	if err := db.refuseInCluster("a rebuild beside the rows in use swaps tables, which servers would do at different moments",
		"make another database instead (clickhouse.database, then qunfa migrate), let a sink with another sink.group fill it from the topic, and change over to it; see docs/cluster.md"); err != nil {
		return RebuildReport{}, err
	}
	start := db.cfg.Clock()
	if db.cfg.MaxConns < rebuildConns {
		return RebuildReport{}, fmt.Errorf("clickhouse: a rebuild needs %d connections and may use %d", rebuildConns, db.cfg.MaxConns)
	}
	r := &rebuild{Rebuild: o, db: db}
	if r.Progress == nil {
		r.Progress = func(RebuildProgress) {}
	}
	err := db.done(opRebuild, start, r.run(ctx))
	return r.report, err
}

func (r *rebuild) run(ctx context.Context) (err error) {
	if err := r.db.checkSchema(ctx); err != nil {
		return err
	}
	if r.loc, err = r.db.location(ctx); err != nil {
		return err
	}
	id := strings.ToLower(rand.Text())
	r.messages, r.records = tableMessages+rebuildInfix+id, tableRecords+rebuildInfix+id
	if r.lock, err = r.db.lockRebuild(ctx, id, r.Who); err != nil {
		return err
	}
	ctx, unlock := r.lock.keep(ctx)
	defer func() {
		r.clean(ctx) // also what a run before this one has left
		unlock()
		if cause := context.Cause(ctx); err != nil && errors.Is(cause, errLockLost) {
			err = cause
		}
	}()
	r.dropLeftovers(ctx)
	return r.steps(ctx)
}

func (r *rebuild) steps(ctx context.Context) error {
	if err := r.importLog(ctx); err != nil {
		return err
	}
	if err := r.reread(ctx); err != nil {
		return err
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	if err := r.compare(ctx); err != nil || r.DryRun {
		return err
	}
	if err := r.swap(ctx); err != nil {
		return err
	}
	return r.keepRecords(ctx)
}

func (r *rebuild) step(step string, done, total int64) {
	r.Progress(RebuildProgress{Step: step, Done: done, Total: total})
}

// build makes the new table and fills it.
func (r *rebuild) build(ctx context.Context) error {
	stored, err := r.db.recordEnds(ctx)
	if err != nil {
		return wrap("find the ends of the log", err)
	}
	r.since = stored.join(r.report.Imported.ranges)
	if r.out, err = r.db.takenOut(ctx); err != nil {
		return wrap("read the erasure list", err)
	}
	// The clause AS copies keys, engine and settings, too.
	if err := r.db.conn.Exec(ctx, "CREATE TABLE "+r.messages+" AS "+tableMessages); err != nil {
		return wrap("create table "+r.messages, err)
	}
	if err := r.scan(ctx); err != nil {
		return wrap("fold the stored events", err)
	}
	return r.catchUpTo(ctx, 1000, 5)
}

// catchUpTo folds what came meanwhile into the new table, until few messages
// are left to do or it has tried often enough.
func (r *rebuild) catchUpTo(ctx context.Context, few int64, tries int) error {
	for range tries {
		n, err := r.catchUp(ctx, r.messages)
		if err != nil || n <= few {
			return err
		}
	}
	return nil
}

// catchUp folds the messages with events from r.since on into a table, and
// moves r.since.
func (r *rebuild) catchUp(ctx context.Context, table string) (int64, error) {
	r.step(RebuildCatchUp, 0, 0)
	next, err := r.db.recordEnds(ctx)
	if err != nil {
		return 0, wrap("find the ends of the log", err)
	}
	n, err := r.db.foldSince(ctx, r.loc, table, r.since, func(n int64) { r.step(RebuildCatchUp, n, 0) })
	r.report.CaughtUp += n
	if err != nil {
		return n, wrap("fold what came meanwhile", err)
	}
	r.since = r.since.later(next)
	return n, nil
}

// swapTimeout bounds what is finished after an interruption.
const swapTimeout = 5 * time.Minute

// swap puts the new table in the place of the old one. From when it says so
// until it is done the figures of [DB.Delivery] are not shown, and nothing
// interrupts it but death; then [DB.FinishSwap] knows from the lock what to do.
func (r *rebuild) swap(ctx context.Context) error {
	if err := r.catchUpTo(ctx, 0, 2); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.step(RebuildSwap, 0, 0)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), swapTimeout)
	defer cancel()
	if err := r.lock.say(ctx, phaseSwapping, r.since); err != nil {
		return wrap("say that the tables are being swapped", err)
	}
	if err := r.db.conn.Exec(ctx, "EXCHANGE TABLES "+tableMessages+" AND "+r.messages); err != nil {
		return r.notSwapped(ctx, err)
	}
	r.report.Swapped = true
	r.step(RebuildSettle, 0, 0)
	if _, err := r.catchUp(ctx, tableMessages); err != nil {
		return fmt.Errorf("the new projection is in use, but lacks the messages of the last moments: run this again (%w)", err)
	}
	if err := r.lock.say(ctx, phaseSwapped, nil); err != nil {
		return wrap("say that the tables are swapped", err)
	}
	return r.lock.succeed(ctx)
}

// notSwapped tells a server that has refused from one whose answer was lost.
func (r *rebuild) notSwapped(ctx context.Context, err error) error {
	if _, refused := errors.AsType[*clickhouse.Exception](err); !refused {
		return fmt.Errorf("whether the tables were swapped is not known: run this again (%w)", err)
	}
	if err := r.lock.say(ctx, phaseBuilding, nil); err != nil {
		return wrap("say that the tables are not swapped", err)
	}
	return wrap("swap the tables (the database must have the engine Atomic, as by default)", err)
}

// foldSince folds every message that has an event at or after these ends into
// a table, and returns how many they were.
func (db *DB) foldSince(ctx context.Context, loc *time.Location, table string, since ends, progress func(int64)) (n int64, err error) {
	err = db.touched(ctx, since, nil, func(keys []events.Key) error {
		w := &rowWriter{db: db, table: table}
		if err := db.foldKeys(ctx, loc, w, keys); err != nil {
			return err
		}
		n += int64(len(keys))
		progress(n)
		return w.flush(ctx)
	})
	return n, err
}

// FinishSwap does what a rebuild has left to do that died while it swapped the
// tables, and returns [ErrSwapping] if one is at it that lives. It needs no more
// rights than a sink has.
func (db *DB) FinishSwap(ctx context.Context) error {
	left, err := db.unfinishedSwaps(ctx)
	if err != nil || len(left) == 0 {
		return err
	}
	loc, err := db.Location(ctx)
	if err != nil {
		return err
	}
	for _, l := range left {
		if l.alive {
			return ErrSwapping
		}
		since, err := parseEnds(l.since)
		if err != nil {
			return fmt.Errorf("%w: rebuild %s: %w", ErrSchema, l.id, err)
		}
		n, err := db.foldSince(ctx, loc, tableMessages, since, func(int64) {})
		if err != nil {
			return wrap("finish the swap of an interrupted rebuild", err)
		}
		db.cfg.Logger.Warn("a rebuild had been interrupted while it swapped the tables: what it had left to do is done", "rebuild", l.id, "who", l.who, "messages", n)
		if err := db.endRebuild(ctx, l.id); err != nil {
			return err
		}
	}
	return nil
}

// clean drops the tables of this run, also after an interruption. What cannot
// be dropped now is dropped by the next.
func (r *rebuild) clean(ctx context.Context) {
	r.step(RebuildClean, 0, 0)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	r.drop(ctx, r.messages)
	r.drop(ctx, r.records)
}

func (r *rebuild) drop(ctx context.Context, table string) {
	if err := r.db.conn.Exec(ctx, "DROP TABLE IF EXISTS "+table); err != nil {
		r.db.cfg.Logger.Warn("a table of a rebuild cannot be dropped: the next one tries again", "table", table, "error", err)
	}
}

// dropLeftovers drops the tables of runs that were killed. None is alive: the lock is ours.
func (r *rebuild) dropLeftovers(ctx context.Context) {
	var names []string
	const sql = "SELECT name FROM system.tables WHERE database = ? AND (startsWith(name, ?) OR startsWith(name, ?))"
	err := r.db.each(ctx, sql, []any{r.db.cfg.Database, tableMessages + rebuildInfix, tableRecords + rebuildInfix}, func(rows driver.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	})
	if err != nil {
		r.db.cfg.Logger.Warn("tables that an earlier rebuild may have left cannot be looked for", "error", err)
	}
	for _, name := range names {
		r.drop(ctx, name)
	}
}
