package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qunfa/internal/events"
)

// EraseCounts is what an erasure concerns, or has left.
type EraseCounts struct {
	Events   int64 // stored events that are, or were, to go; for EraseRaw those with an openid
	Messages int64 // messages with a row
	Names    int64 // names of the account, as the configuration had them
	Records  int64 // records of the log that are noted as these events
}

func checkErasure(e Erasure) error {
	switch {
	case e.AppID == "":
		return errors.New("an erasure needs an appid")
	case e.Scope != EraseAll && e.Scope != EraseRaw:
		return fmt.Errorf("scope %q of an erasure: want %s or %s", e.Scope, EraseAll, EraseRaw)
	case e.Before.IsZero():
		return errors.New("an erasure needs a time up to which")
	}
	return nil
}

// of returns the conditions of an erasure.
func (e Erasure) of() (account, evs string) {
	account = "appid = " + quoteText(e.AppID)
	return account, account + " AND least(at, received_at) < " + timeLiteral(e.Before)
}

// hasOpenID finds callbacks that hold one.
const hasOpenID = "(raw != '' OR JSONHas(data, 'from_user'))"

// CountErasure counts what an erasure would take, or has left.
func (db *DB) CountErasure(ctx context.Context, e Erasure) (EraseCounts, error) {
	if err := checkErasure(e); err != nil {
		return EraseCounts{}, err
	}
	start := db.cfg.Clock()
	c, err := db.countErasure(ctx, e)
	return c, db.done(opErase, start, err)
}

func (db *DB) countErasure(ctx context.Context, e Erasure) (c EraseCounts, err error) {
	account, evs := e.of()
	if e.Scope == EraseRaw {
		err = db.conn.QueryRow(ctx, "SELECT toInt64(count()) FROM "+tableEvents+" WHERE "+evs+" AND "+hasOpenID).Scan(&c.Events)
		return c, err
	}
	sql := "SELECT toInt64((SELECT count() FROM " + tableEvents + " WHERE " + evs + "))," +
		" toInt64((SELECT count() FROM " + tableMessages + " FINAL WHERE " + account + "))," +
		" toInt64((SELECT count() FROM " + tableAccounts + " FINAL WHERE " + account + "))," +
		" toInt64((SELECT count() FROM " + tableRecords + " FINAL WHERE kind = '" + events.FateEvent + "' AND event_id " + db.global() + "IN (SELECT event_id FROM " + tableEvents + " WHERE " + evs + ")))"
	err = db.conn.QueryRow(ctx, sql).Scan(&c.Events, &c.Messages, &c.Names, &c.Records)
	return c, err
}

// Erase puts an entry on the erasure list and deletes what it concerns from all
// tables: the events and messages of an account, and its name; or the openids in
// its events. From then on such events are not stored any more, wherever they
// come from: the topic, a replay, a late copy. What happens after the time of
// the entry is stored as ever. It needs the rights of whoever migrates, and can
// be interrupted and done again.
//
// What became of the records stays noted, as erased, so that the log is still
// accounted for to the last offset.
func (db *DB) Erase(ctx context.Context, e Erasure, progress PurgeProgress) error {
	if err := db.refuseDeleting(); err != nil {
		return err
	}
	if err := checkErasure(e); err != nil {
		return err
	}
	if progress == nil {
		progress = func(string) {}
	}
	e.Before = e.Before.UTC().Truncate(time.Millisecond)
	start := db.cfg.Clock()
	err := db.alone(ctx, e.Who, func(ctx context.Context, id string) error { return db.erase(ctx, e, id, progress) })
	return db.done(opErase, start, err)
}

func (db *DB) erase(ctx context.Context, e Erasure, id string, progress PurgeProgress) error {
	if err := db.dropKeys(ctx); err != nil {
		return err
	}
	progress("noting on the erasure list")
	err := db.send(ctx, tableErasures, []column{
		{"appid", []string{e.AppID}}, {"scope", []string{e.Scope}}, {"before", []time.Time{e.Before}}, {"who", []string{e.Who}},
	})
	if err != nil {
		return wrap("note the erasure", err)
	}
	account, evs := e.of()
	if e.Scope == EraseRaw {
		return db.stripOpenIDs(ctx, evs, progress)
	}
	if err := db.mutate(ctx, "ALTER TABLE "+tableAccounts+" DELETE WHERE "+account); err != nil {
		return wrap("delete from "+tableAccounts, err)
	}
	p := &purge{db: db, ids: keysPrefix + "ids_" + id, events: evs, messages: account, kind: events.FateErased, progress: progress}
	return p.run(ctx)
}

// withoutFromUser is data without the member from_user. A quotation mark within
// a value is escaped, so that the pattern can match the member alone.
const withoutFromUser = `replaceRegexpOne(replaceRegexpOne(data, ',\\s*"from_user"\\s*:\\s*"(?:[^"\\\\]|\\\\.)*"', ''), '"from_user"\\s*:\\s*"(?:[^"\\\\]|\\\\.)*"\\s*,?', '')`

// stripOpenIDs takes the openids out of events, until none comes any more.
func (db *DB) stripOpenIDs(ctx context.Context, evs string, progress PurgeProgress) error {
	where := evs + " AND " + hasOpenID
	for range purgePasses {
		progress("taking the openids out of the events")
		if err := db.mutate(ctx, "ALTER TABLE "+tableEvents+" UPDATE raw = '', data = "+withoutFromUser+" WHERE "+where); err != nil {
			return wrap("update "+tableEvents, err)
		}
		progress("looking whether anything came meanwhile")
		if err := pause(ctx, settle); err != nil {
			return err
		}
		var n uint64
		if err := db.conn.QueryRow(ctx, "SELECT count() FROM "+tableEvents+" WHERE "+where).Scan(&n); err != nil || n == 0 {
			return wrap("count what is left", err)
		}
	}
	return errStillThere
}
