package clickhouse

import (
	"context"
	"slices"
	"time"

	"qunfa/internal/events"
)

// rowsAtOnce is how many rows a rebuild inserts at once. They come in the order
// of accounts and so fall on every month, each of which gets a part per insert.
const rowsAtOnce = 50_000

// rowWriter folds messages and writes their rows into a table, many at a time.
type rowWriter struct {
	db     *DB
	table  string
	rows   []events.Row
	stones []events.Tombstone
	total  int64 // messages
}

func (w *rowWriter) add(ctx context.Context, evs []events.Event, loc *time.Location) error {
	row, stones := events.Fold(evs, loc)
	w.rows, w.stones = append(w.rows, row), append(w.stones, stones...)
	w.total++
	if len(w.rows)+len(w.stones) < rowsAtOnce {
		return nil
	}
	return w.flush(ctx)
}

func (w *rowWriter) flush(ctx context.Context) error {
	err := w.db.insertMessages(ctx, w.table, w.rows, w.stones)
	w.rows, w.stones = w.rows[:0], w.stones[:0]
	return err
}

// scan reads all stored events in the order of their messages, which is that of
// the table, and writes the row of each into the new table.
func (r *rebuild) scan(ctx context.Context) error {
	var total uint64
	if err := r.db.conn.QueryRow(ctx, "SELECT count() FROM "+tableEvents).Scan(&total); err != nil {
		return err
	}
	r.step(RebuildFold, 0, int64(total))
	rows, err := r.db.conn.Query(ctx, "SELECT appid, msg_id, "+storedColumns+" FROM "+tableEvents+" ORDER BY appid, msg_id")
	if err != nil {
		return err
	}
	defer rows.Close()
	w := &rowWriter{db: r.db, table: r.messages}
	var at events.Key
	message := copies{}
	for rows.Next() {
		var k events.Key
		s, err := scanStored(rows, &k.AppID, &k.MsgID)
		if err != nil {
			return err
		}
		if k != at {
			if err := r.foldOne(ctx, w, message); err != nil {
				return err
			}
			at = k
			clear(message)
		}
		message.add(s)
		if r.report.Events++; r.report.Events%10_000 == 0 {
			r.step(RebuildFold, r.report.Events, max(int64(total), r.report.Events))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := r.foldOne(ctx, w, message); err != nil {
		return err
	}
	r.step(RebuildFold, r.report.Events, r.report.Events)
	r.report.Messages = w.total
	return w.flush(ctx)
}

func (r *rebuild) foldOne(ctx context.Context, w *rowWriter, message copies) error {
	if len(message) == 0 {
		return nil // before the first
	}
	evs, err := message.decode()
	if err != nil {
		return err
	}
	evs = slices.DeleteFunc(evs, func(e events.Event) bool { return r.out.erased(&e) })
	if len(evs) == 0 {
		return nil // an erasure was interrupted, or older tables were brought back
	}
	return w.add(ctx, evs, r.loc)
}
