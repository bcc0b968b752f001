package clickhouse

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// History returns every stored event of the messages, each once and in no
// particular order, without the raw callback.
//
// Copies of an event are dropped here in favour of the latest revision, else of
// the lowest offset, as merges do in time: FINAL would do it at several times the cost.
func (db *DB) History(ctx context.Context, keys []events.Key) ([]events.Event, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	start := db.cfg.Clock()
	evs, err := db.history(ctx, keys)
	return evs, db.done(opHistory, start, err)
}

// storedColumns are what an event is decoded from, as scanStored reads them.
const storedColumns = "event_id, type, received_at, data, topic, `partition`, `offset`, revision"

const historySQL = "SELECT " + storedColumns + " FROM " + tableEvents + " WHERE (appid, msg_id) IN qunfa_keys"

func (db *DB) history(ctx context.Context, keys []events.Key) ([]events.Event, error) {
	table, err := keyTable(keys)
	if err != nil {
		return nil, err
	}
	rows, err := db.conn.Query(withTable(ctx, table), historySQL)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	kept := make(copies, len(keys))
	for rows.Next() {
		s, err := scanStored(rows)
		if err != nil {
			return nil, err
		}
		kept.add(s)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return kept.decode()
}

// keyTable sends the keys along with the query. A literal list of them ends at
// the server's limit of query size, and a join would read the whole table.
func keyTable(keys []events.Key) (*ext.Table, error) {
	table, err := ext.NewTable("qunfa_keys", ext.Column("appid", "String"), ext.Column("msg_id", "Int64"))
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if err := table.Append(k.AppID, k.MsgID); err != nil {
			return nil, err
		}
	}
	return table, nil
}

func withTable(ctx context.Context, table *ext.Table) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithExternalTable(table))
}

// scanStored reads a row of these columns: those of lead, then storedColumns.
func scanStored(rows driver.Rows, lead ...any) (events.Stored, error) {
	var (
		s              events.Stored
		id, kind, data string
		received       time.Time
	)
	err := rows.Scan(append(lead, &id, &kind, &received, &data, &s.Position.Topic, &s.Position.Partition, &s.Position.Offset, &s.Revision)...)
	if err != nil {
		return s, err
	}
	copy(s.ID[:], id)
	s.Type, s.ReceivedAt, s.Body = events.Type(kind), received.UTC(), []byte(data)
	return s, nil
}

// copies holds of each event the copy that counts: of the latest revision, and
// the first in the log.
type copies map[events.ID]events.Stored

func (c copies) add(s events.Stored) {
	if old, ok := c[s.ID]; !ok || preferred(s, old) {
		c[s.ID] = s
	}
}

// preferred is the order of [events.Fold] among copies, to the last bit, so that
// it does not matter in which order the server returns them.
func preferred(a, b events.Stored) bool {
	return cmp.Or(
		cmp.Compare(b.Revision, a.Revision),
		cmp.Compare(a.Position.Offset, b.Position.Offset),
		a.ReceivedAt.Compare(b.ReceivedAt),
		bytes.Compare(a.Body, b.Body),
	) < 0
}

func (c copies) decode() ([]events.Event, error) {
	evs := make([]events.Event, 0, len(c))
	for _, s := range c {
		e, err := events.DecodeStored(s)
		if err != nil { // it was decoded when it was stored, so by another version
			return nil, fmt.Errorf("%w: written by another version of qunfa: %w", ErrSchema, err)
		}
		evs = append(evs, e)
	}
	return evs, nil
}

// Ends returns, for every partition of the topic of which a record was stored,
// the offset after the last one.
func (db *DB) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	start := db.cfg.Clock()
	ends := map[int32]int64{}
	const sql = "SELECT `partition`, max(`offset`) + 1 FROM " + tableRecords + " WHERE topic = ? GROUP BY `partition`"
	err := db.each(ctx, sql, []any{topic}, func(rows driver.Rows) error {
		var p int32
		var end int64
		err := rows.Scan(&p, &end)
		ends[p] = end
		return err
	})
	if err = db.done(opEnds, start, err); err != nil {
		return nil, err
	}
	return ends, nil
}

// each runs a query and calls f for every row of the answer.
func (db *DB) each(ctx context.Context, sql string, args []any, f func(driver.Rows) error) error {
	rows, err := db.conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
