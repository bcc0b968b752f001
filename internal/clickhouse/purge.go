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

// PurgeProgress is told about the steps of an erasure or an expiry, in words.
type PurgeProgress func(step string)

// purge takes events out of all tables, beside sinks that go on writing. It is
// an erasure or an expiry; what sets them apart are the conditions.
//
// What must not come back is noted before anything is deleted, and a sink asks
// for that note before it stores a batch. So only a batch that was under way can
// still bring what is to be gone: hence it looks again, until nothing has come.
type purge struct {
	db       *DB
	ids      string // name of a table for the ids of the events that were found
	events   string // condition for the rows of event_rows
	messages string // condition for the messages that may have had such events
	kind     string // what becomes of their records
	progress PurgeProgress
}

// settle is for how long nothing must have come: longer than a batch takes from
// when it asks what to leave out until its rows are stored.
const settle = 3 * time.Second

// purgePasses bounds how often a purge looks again.
const purgePasses = 20

// errStillThere ends a purge of what somebody keeps writing.
var errStillThere = errors.New("clickhouse: what was deleted keeps coming back: is a sink of an older version running?")

func (p *purge) run(ctx context.Context) error {
	if err := p.db.conn.Exec(ctx, "CREATE TABLE "+p.ids+" (event_id FixedString(16)) ENGINE = MergeTree ORDER BY event_id"); err != nil {
		return wrap("create table "+p.ids, err)
	}
	if err := p.untilGone(ctx); err != nil {
		return err // the table stays: a mutation that goes on reads it
	}
	return wrap("drop table "+p.ids, p.db.conn.Exec(ctx, "DROP TABLE "+p.ids))
}

func (p *purge) untilGone(ctx context.Context) error {
	for range purgePasses {
		if err := p.delete(ctx); err != nil {
			return err
		}
		p.progress("looking whether anything came meanwhile")
		if err := pause(ctx, settle); err != nil {
			return err
		}
		n, err := p.left(ctx)
		if err != nil || n == 0 {
			return wrap("count what is left", err)
		}
	}
	return errStillThere
}

// records is the condition for the records of events that were found. A sink
// stores an event before its record, so the record may come when the event has
// been deleted already: hence the ids are kept until nothing comes any more.
func (p *purge) records() string {
	return "kind = '" + events.FateEvent + "' AND event_id IN (SELECT event_id FROM " + p.db.qualified(p.ids) + ")"
}

// left counts what is still there: events, records of events that are gone, and
// rows of messages without any event.
func (p *purge) left(ctx context.Context) (n uint64, err error) {
	sql := "SELECT (SELECT count() FROM " + tableEvents + " WHERE " + p.events + ")" +
		" + (SELECT count() FROM " + tableRecords + " WHERE " + p.records() + ")" +
		" + (SELECT count() FROM " + tableMessages + " WHERE " + p.messages +
		" AND (appid, msg_id) NOT IN (SELECT appid, msg_id FROM " + tableEvents + " WHERE " + p.messages + "))"
	err = p.db.conn.QueryRow(ctx, sql).Scan(&n)
	return n, err
}

// delete goes from what is made of the events to the events: broken off, it can
// be done again. Messages that have other events as well get their row anew.
func (p *purge) delete(ctx context.Context) error {
	p.progress("noting what became of the records")
	if err := p.db.exec(ctx, "INSERT INTO "+p.ids+" SELECT DISTINCT event_id FROM "+tableEvents+" WHERE "+p.events); err != nil {
		return wrap("note the ids of events", err)
	}
	const columns = "topic, `partition`, `offset`, from_offset, at"
	note := "INSERT INTO " + tableRecords + " (" + columns + ", kind, event_id) SELECT " + columns + ", '" + p.kind + "', toFixedString('', 16) FROM " + tableRecords + " WHERE " + p.records()
	if err := p.db.exec(ctx, note); err != nil {
		return wrap("note what became of the records", err)
	}
	// A record that came since then is not noted yet: it stays until it is.
	noted := "(topic, `partition`, `offset`) IN (SELECT topic, `partition`, `offset` FROM " + p.db.qualified(tableRecords) + " WHERE kind = '" + p.kind + "')"
	if err := p.db.mutate(ctx, "ALTER TABLE "+tableRecords+" DELETE WHERE "+p.records()+" AND "+noted); err != nil {
		return wrap("delete from "+tableRecords, err)
	}
	p.progress("deleting events")
	if err := p.db.mutate(ctx, "ALTER TABLE "+tableEvents+" DELETE WHERE "+p.events); err != nil {
		return wrap("delete from "+tableEvents, err)
	}
	p.progress("deleting messages")
	if err := p.db.mutate(ctx, "ALTER TABLE "+tableMessages+" DELETE WHERE "+p.messages); err != nil {
		return wrap("delete from "+tableMessages, err)
	}
	return p.foldRest(ctx)
}

// foldRest writes the rows of messages that have events left.
func (p *purge) foldRest(ctx context.Context) error {
	loc, err := p.db.location(ctx)
	if err != nil {
		return err
	}
	w := &rowWriter{db: p.db, table: tableMessages}
	var keys []events.Key
	flush := func() error {
		err := p.db.foldKeys(ctx, loc, w, keys)
		keys = keys[:0]
		return err
	}
	err = p.db.each(ctx, "SELECT DISTINCT appid, msg_id FROM "+tableEvents+" WHERE "+p.messages, nil, func(rows driver.Rows) error {
		var k events.Key
		if err := rows.Scan(&k.AppID, &k.MsgID); err != nil {
			return err
		}
		if keys = append(keys, k); len(keys) < keysAtOnce {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = w.flush(ctx)
	}
	return wrap("fold the messages that have events left", err)
}

// foldKeys folds messages and hands their rows to a writer.
func (db *DB) foldKeys(ctx context.Context, loc *time.Location, w *rowWriter, keys []events.Key) error {
	if len(keys) == 0 {
		return nil
	}
	history, err := db.history(ctx, keys)
	if err != nil {
		return err
	}
	byKey := map[events.Key][]events.Event{}
	for _, e := range history {
		byKey[e.Key] = append(byKey[e.Key], e)
	}
	for _, evs := range byKey {
		if err := w.add(ctx, evs, loc); err != nil {
			return err
		}
	}
	return nil
}

// qualified names a table with its database, as a mutation needs: it runs without one.
func (db *DB) qualified(table string) string { return quoteName(db.cfg.Database) + "." + table }

// exec runs an INSERT … SELECT as other inserts run.
func (db *DB) exec(ctx context.Context, sql string) error {
	return db.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings())), sql)
}

// mutationTimeout bounds the wait for an answer to a mutation, which comes when
// it is done on every replica.
const mutationTimeout = 24 * time.Hour

// mutate changes rows and waits until that is done. It is not interrupted: the
// server would go on with it. What is deleted is gone from the disk when the
// server drops the old parts, some minutes later.
func (db *DB) mutate(ctx context.Context, sql string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	opts := db.cfg.options(db.cfg.Database)
	opts.ReadTimeout = mutationTimeout
	opts.MaxOpenConns, opts.MaxIdleConns = 1, 1
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(clickhouse.Context(context.WithoutCancel(ctx), clickhouse.WithSettings(clickhouse.Settings{
		"mutations_sync": 2,
		// The condition asks other tables, which on replicas counts as not determined.
		"allow_nondeterministic_mutations": 1,
	})), sql)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// alone runs do while no rebuild, erasure or expiry does, with the tables gone
// that a dead one has left: they, too, may hold what is to go.
func (db *DB) alone(ctx context.Context, who string, do func(ctx context.Context, id string) error) (err error) {
	if err := db.checkSchema(ctx); err != nil {
		return err
	}
	if err := db.FinishSwap(ctx); err != nil {
		return err
	}
	id := strings.ToLower(rand.Text())
	lock, err := db.lockRebuild(ctx, id, who)
	if err != nil {
		return err
	}
	ctx, unlock := lock.keep(ctx)
	defer func() {
		unlock()
		if cause := context.Cause(ctx); err != nil && errors.Is(cause, errLockLost) {
			err = cause
		}
	}()
	(&rebuild{db: db}).dropLeftovers(ctx)
	return do(ctx, id)
}

// timeLiteral is a time in SQL, to the millisecond.
func timeLiteral(t time.Time) string {
	return fmt.Sprintf("toDateTime64('%s', 3, 'UTC')", millis(t))
}
