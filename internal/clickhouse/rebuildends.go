package clickhouse

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// logPart is a partition of a log, which is named as [LogName] names it.
type logPart struct {
	Log       string
	Partition int32
}

// ends are, for partitions, the offsets before which all is known.
type ends map[logPart]int64

// stretch is a run of offsets: from first up to but without end.
type stretch struct{ first, end int64 }

// recordEnds returns where the stored records end. A sink stores a batch's
// records last, so all events before are stored, and in the rows.
func (db *DB) recordEnds(ctx context.Context) (ends, error) {
	e := ends{}
	const sql = "SELECT topic, `partition`, max(`offset`) + 1 FROM " + tableRecords + " GROUP BY topic, `partition`"
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var p logPart
		var end int64
		err := rows.Scan(&p.Log, &p.Partition, &end)
		e[p] = end
		return err
	})
	return e, err
}

// join moves ends that lie in, or just before, what was imported to its end.
func (e ends) join(imported map[logPart]stretch) ends {
	joined := maps.Clone(e)
	for p, s := range imported {
		if e[p] >= s.first {
			joined[p] = max(e[p], s.end)
		}
	}
	return joined
}

// later takes of each partition the higher end.
func (e ends) later(than ends) ends {
	all := maps.Clone(e)
	for p, end := range than {
		all[p] = max(all[p], end)
	}
	return all
}

// storedEnd is how ends are written down.
type storedEnd struct {
	Log       string `json:"log"`
	Partition int32  `json:"partition"`
	Next      int64  `json:"next"`
}

// String returns the ends as JSON, or nothing for none.
func (e ends) String() string {
	if e == nil {
		return ""
	}
	list := make([]storedEnd, 0, len(e))
	for p, next := range e {
		list = append(list, storedEnd{p.Log, p.Partition, next})
	}
	slices.SortFunc(list, func(a, b storedEnd) int {
		return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.Partition, b.Partition))
	})
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // names and numbers
	}
	return string(text)
}

func parseEnds(text string) (ends, error) {
	var list []storedEnd
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("ends of the log %q: %w", text, err)
	}
	e := ends{}
	for _, s := range list {
		e[logPart{s.Log, s.Partition}] = s.Next
	}
	return e, nil
}

func (e ends) table() (*ext.Table, error) {
	table, err := ext.NewTable("qunfa_ends", ext.Column("log", "String"), ext.Column("part", "Int32"), ext.Column("next", "Int64"))
	if err != nil {
		return nil, err
	}
	for p, next := range e {
		if err := table.Append(p.Log, p.Partition, next); err != nil {
			return nil, err
		}
	}
	return table, nil
}

// touchedSQL finds messages with events at or after the ends; of a partition
// that has none, every event is.
const touchedSQL = "SELECT DISTINCT e.appid, e.msg_id FROM " + tableEvents + " AS e" +
	" LEFT ANY JOIN qunfa_ends AS s ON s.log = e.topic AND s.part = e.`partition` WHERE e.`offset` >= s.next"

// keysAtOnce bounds how many messages are folded, or compared, together.
const keysAtOnce = 5000

// touched calls do for every message that has an event at or after the ends,
// a few thousand at a time; for those of them alone that are in among, if that is given.
func (db *DB) touched(ctx context.Context, since ends, among []events.Key, do func([]events.Key) error) error {
	table, err := since.table()
	if err != nil {
		return err
	}
	sql, tables := touchedSQL, []*ext.Table{table}
	if among != nil {
		keys, err := keyTable(among)
		if err != nil {
			return err
		}
		sql, tables = sql+" AND (e.appid, e.msg_id) IN qunfa_keys", append(tables, keys)
	}
	rows, err := db.conn.Query(clickhouse.Context(ctx, clickhouse.WithExternalTable(tables...)), sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	var keys []events.Key
	for rows.Next() {
		var k events.Key
		if err := rows.Scan(&k.AppID, &k.MsgID); err != nil {
			return err
		}
		if keys = append(keys, k); len(keys) < keysAtOnce {
			continue
		}
		if err := do(keys); err != nil {
			return err
		}
		keys = keys[:0]
	}
	if err := rows.Err(); err != nil || len(keys) == 0 {
		return err
	}
	return do(keys)
}
