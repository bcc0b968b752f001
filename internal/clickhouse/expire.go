package clickhouse

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Expiry says up to when things have expired. A zero time: nothing has.
type Expiry struct {
	// Before is the time before which the latest event of a message must lie for
	// the message to expire, with all its events.
	Before time.Time
	// RawBefore is the time before which a callback must have come, or happened,
	// for its openid to expire; see [events.WithoutOpenID].
	RawBefore time.Time
	Who       string
}

// ExpiryCounts is what an expiry concerns.
type ExpiryCounts struct {
	Messages, Events int64 // messages that expire, and their stored events
	Raw              int64 // callbacks whose openid expires, of messages that stay or go
}

// expiredKeys selects the messages that expire.
func (x Expiry) expiredKeys() string {
	return "SELECT appid, msg_id FROM " + tableEvents + " GROUP BY appid, msg_id HAVING max(at) < " + timeLiteral(x.Before) +
		" SETTINGS optimize_aggregation_in_order = 1"
}

func (x Expiry) raw() string {
	return "least(at, received_at) < " + timeLiteral(x.RawBefore) + " AND " + hasOpenID
}

// CountExpiry counts what an expiry would take.
func (db *DB) CountExpiry(ctx context.Context, x Expiry) (ExpiryCounts, error) {
	start := db.cfg.Clock()
	c, err := db.countExpiry(ctx, x)
	return c, db.done(opErase, start, err)
}

func (db *DB) countExpiry(ctx context.Context, x Expiry) (c ExpiryCounts, err error) {
	if !x.Before.IsZero() {
		sql := "SELECT toInt64(count()), toInt64(sum(n)) FROM (SELECT count() AS n FROM " + tableEvents +
			" GROUP BY appid, msg_id HAVING max(at) < " + timeLiteral(x.Before) + " SETTINGS optimize_aggregation_in_order = 1)"
		if err := db.conn.QueryRow(ctx, sql).Scan(&c.Messages, &c.Events); err != nil {
			return c, err
		}
	}
	if !x.RawBefore.IsZero() {
		err = db.conn.QueryRow(ctx, "SELECT toInt64(count()) FROM "+tableEvents+" WHERE "+x.raw()).Scan(&c.Raw)
	}
	return c, err
}

// Expire deletes messages that are older than is kept, each with all its events,
// and the openids of callbacks that are. It notes up to when before it deletes,
// and from then on events that are older are not stored any more, unless their
// message has newer ones. It needs the rights of whoever migrates, and can be
// interrupted and done again. Records stay accounted for, as expired.
func (db *DB) Expire(ctx context.Context, x Expiry, progress PurgeProgress) error {
	if err := db.refuseDeleting(); err != nil {
		return err
	}
	if x.Before.IsZero() && x.RawBefore.IsZero() {
		return errors.New("clickhouse: an expiry needs a time up to which")
	}
	if progress == nil {
		progress = func(string) {}
	}
	x.Before, x.RawBefore = x.Before.Truncate(time.Millisecond), x.RawBefore.Truncate(time.Millisecond)
	start := db.cfg.Clock()
	err := db.alone(ctx, x.Who, func(ctx context.Context, id string) error {
		if err := db.noteExpired(ctx, x); err != nil {
			return err
		}
		if err := db.expireMessages(ctx, x, id, progress); err != nil || x.RawBefore.IsZero() {
			return err
		}
		return db.stripOpenIDs(ctx, "least(at, received_at) < "+timeLiteral(x.RawBefore), progress)
	})
	return db.done(opErase, start, err)
}

func (db *DB) noteExpired(ctx context.Context, x Expiry) error {
	have, err := db.expired(ctx)
	if err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		at   time.Time
	}{{settingExpired, x.Before}, {settingRawExpired, x.RawBefore}} {
		if s.at.IsZero() || !s.at.After(have[s.name]) {
			continue
		}
		err := db.send(ctx, tableSettings, []column{{"name", []string{s.name}}, {"value", []string{strconv.FormatInt(s.at.UnixMilli(), 10)}}})
		if err != nil {
			return wrap("note up to when has expired", err)
		}
	}
	return nil
}

// keysPrefix begins the name of a table of what is to be deleted.
const keysPrefix = "purge_"

// expireMessages first writes down which messages expire. Their events go by
// that list: of a message that gets an event meanwhile all that it had goes, and
// its row is folded of what is new.
func (db *DB) expireMessages(ctx context.Context, x Expiry, id string, progress PurgeProgress) error {
	if err := db.dropKeys(ctx); err != nil || x.Before.IsZero() {
		return err
	}
	progress("finding the messages that expire")
	keys := keysPrefix + "keys_" + id
	if err := db.conn.Exec(ctx, "CREATE TABLE "+keys+" (appid String, msg_id Int64) ENGINE = MergeTree ORDER BY (appid, msg_id)"); err != nil {
		return wrap("create table "+keys, err)
	}
	if err := db.exec(ctx, "INSERT INTO "+keys+" "+x.expiredKeys()); err != nil {
		return wrap("find the messages that expire", err)
	}
	var n uint64
	if err := db.conn.QueryRow(ctx, "SELECT count() FROM "+keys).Scan(&n); err != nil {
		return wrap("count the messages that expire", err)
	}
	if n > 0 {
		among := "(appid, msg_id) IN (SELECT appid, msg_id FROM " + db.qualified(keys) + ")"
		p := &purge{db: db, ids: keysPrefix + "ids_" + id, events: among + " AND at < " + timeLiteral(x.Before), messages: among, kind: events.FateExpired, progress: progress}
		if err := p.run(ctx); err != nil {
			return err // the table stays: a mutation that goes on reads it
		}
	}
	return wrap("drop table "+keys, db.conn.Exec(ctx, "DROP TABLE "+keys))
}

// dropKeys drops the tables that killed runs have left, once no mutation needs
// them: mutations of a table are done one after the other.
func (db *DB) dropKeys(ctx context.Context) error {
	var left []string
	const sql = "SELECT name FROM system.tables WHERE database = ? AND startsWith(name, ?)"
	err := db.each(ctx, sql, []any{db.cfg.Database, keysPrefix}, func(rows driver.Rows) error {
		var name string
		err := rows.Scan(&name)
		left = append(left, name)
		return err
	})
	if err != nil || len(left) == 0 {
		return wrap("look for tables that an erasure or an expiry has left", err)
	}
	for _, table := range []string{tableRecords, tableEvents, tableMessages} {
		if err := db.mutate(ctx, "ALTER TABLE "+table+" DELETE WHERE 0"); err != nil {
			return wrap("wait for the mutations of "+table, err)
		}
	}
	for _, name := range left {
		if err := db.conn.Exec(ctx, "DROP TABLE IF EXISTS "+name); err != nil {
			return wrap("drop table "+name, err)
		}
	}
	return nil
}
