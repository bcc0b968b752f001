package clickhouse

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Scopes of an erasure.
const (
	EraseAll = "all" // all events of the account
	EraseRaw = "raw" // the openids in its events; see [events.WithoutOpenID]
)

// Erasure is an entry of the erasure list.
type Erasure struct {
	AppID  string
	Scope  string    // EraseAll or EraseRaw
	Before time.Time // what happened or came before is erased, to the millisecond
	Who    string
	At     time.Time // when it was noted
}

// Erasures returns the erasure list, by account.
func (db *DB) Erasures(ctx context.Context) ([]Erasure, error) {
	start := db.cfg.Clock()
	list, err := db.erasures(ctx)
	return list, db.done(opErase, start, err)
}

func (db *DB) erasures(ctx context.Context) ([]Erasure, error) {
	var list []Erasure
	const sql = "SELECT appid, scope, before, who, at FROM " + tableErasures + " FINAL ORDER BY appid, scope"
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var e Erasure
		err := rows.Scan(&e.AppID, &e.Scope, &e.Before, &e.Who, &e.At)
		list = append(list, e)
		return err
	})
	return list, err
}

// Settings that say what has expired: milliseconds since 1970, of which the
// highest holds, so that what has expired stays so when more is kept from then on.
const (
	settingExpired    = "expired_before"
	settingRawExpired = "raw_expired_before"
)

// expired returns up to when things have expired, by setting; zero: nothing has.
func (db *DB) expired(ctx context.Context) (map[string]time.Time, error) {
	latest := map[string]time.Time{}
	const sql = "SELECT name, value FROM " + tableSettings + " WHERE name IN ('" + settingExpired + "', '" + settingRawExpired + "')"
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		ms, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: the setting %s is stored as %q", ErrSchema, name, value)
		}
		if t := time.UnixMilli(ms).UTC(); t.After(latest[name]) {
			latest[name] = t
		}
		return nil
	})
	return latest, err
}

// takenOut is what must not be stored again.
type takenOut struct {
	all, raw            map[string]time.Time // by account: erased before
	expired, rawExpired time.Time
}

func (db *DB) takenOut(ctx context.Context) (*takenOut, error) {
	list, err := db.erasures(ctx)
	if err != nil {
		return nil, err
	}
	o := &takenOut{all: map[string]time.Time{}, raw: map[string]time.Time{}}
	for _, e := range list {
		if e.Scope == EraseRaw {
			o.raw[e.AppID] = e.Before
		} else {
			o.all[e.AppID] = e.Before
		}
	}
	expired, err := db.expired(ctx)
	o.expired, o.rawExpired = expired[settingExpired], expired[settingRawExpired]
	return o, err
}

// erased tells whether an event is erased: it happened before, or came before.
// A copy that comes later is of what happened before, all the same.
func (o *takenOut) erased(e *events.Event) bool { return isBefore(e, o.all[e.Key.AppID]) }

// anonymous tells whether an event is to be stored without its openid.
func (o *takenOut) anonymous(e *events.Event) bool {
	return isBefore(e, o.raw[e.Key.AppID]) || isBefore(e, o.rawExpired)
}

func isBefore(e *events.Event, t time.Time) bool {
	return !t.IsZero() && (storable(e.Time).Before(t) || storable(e.ReceivedAt).Before(t))
}

// LeaveOut returns what of these events is to be stored, and what becomes of the
// others, by their position: [events.FateErased] or [events.FateExpired]. Where
// the openid of a callback is erased, it is returned without it.
//
// An event that is older than is kept is left out only if nothing newer is known
// of its message: messages expire as a whole.
func (db *DB) LeaveOut(ctx context.Context, evs []events.Event) (kept []events.Event, out map[events.Position]string, err error) {
	start := db.cfg.Clock()
	kept, out, err = db.leaveOut(ctx, evs)
	return kept, out, db.done(opLeaveOut, start, err)
}

func (db *DB) leaveOut(ctx context.Context, evs []events.Event) (kept []events.Event, out map[events.Position]string, err error) {
	o, err := db.takenOut(ctx)
	if err != nil {
		return nil, nil, err
	}
	old := map[events.Key]bool{} // messages of which the events before us have all expired
	for i := range evs {
		if e := &evs[i]; !o.erased(e) {
			before, seen := old[e.Key]
			old[e.Key] = storable(e.Time).Before(o.expired) && (before || !seen)
		}
	}
	if err := db.known(ctx, old); err != nil {
		return nil, nil, err
	}
	out = map[events.Position]string{}
	for _, e := range evs {
		switch {
		case o.erased(&e):
			out[e.Position] = events.FateErased
			continue
		case old[e.Key]:
			out[e.Position] = events.FateExpired
			continue
		case o.anonymous(&e):
			if e, err = events.WithoutOpenID(e); err != nil {
				return nil, nil, err
			}
		}
		kept = append(kept, e)
	}
	return kept, out, nil
}

// known clears the mark of messages of which something is stored: they live.
func (db *DB) known(ctx context.Context, old map[events.Key]bool) error {
	var ask []events.Key
	for k, is := range old {
		if is {
			ask = append(ask, k)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	stored, err := db.storedKeys(ctx, ask)
	for _, k := range stored {
		old[k] = false
	}
	return err
}

func (db *DB) storedKeys(ctx context.Context, ask []events.Key) ([]events.Key, error) {
	table, err := keyTable(ask)
	if err != nil {
		return nil, err
	}
	var stored []events.Key
	const sql = "SELECT DISTINCT appid, msg_id FROM " + tableEvents + " WHERE (appid, msg_id) IN qunfa_keys"
	err = db.each(withTable(ctx, table), sql, nil, func(rows driver.Rows) error {
		var k events.Key
		err := rows.Scan(&k.AppID, &k.MsgID)
		stored = append(stored, k)
		return err
	})
	return stored, err
}
