package clickhouse

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Reread reads the raw text of a callback, which is stored as old, with the
// decoder of this version.
type Reread func(old *events.Finished, raw string) (*events.Finished, error)

// RereadCounts says what reading stored callbacks anew has come to.
type RereadCounts struct {
	Read    int64 // callbacks with a raw text
	Revised int64 // of which something else was stored
	Failed  int64 // that could not be read, or would be of another message: they stay as they are
	// Failure is the first reason why.
	Failure string
}

// revisionsAtOnce bounds how many callbacks are replaced with one insert.
const revisionsAtOnce = 1000

// revision is a stored event with new data.
type revision struct {
	events.Event
	source, raw string
}

// reread reads every stored callback again and replaces what differs.
func (r *rebuild) reread(ctx context.Context) error {
	if r.Reread == nil {
		return nil
	}
	r.step(RebuildReread, 0, 0)
	var batch []revision
	const sql = "SELECT source, raw, " + storedColumns + " FROM " + tableEvents + " FINAL WHERE type = '" + string(events.TypeFinished) + "' AND raw != ''"
	err := r.db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var v revision
		s, err := scanStored(rows, &v.source, &v.raw)
		if err != nil {
			return err
		}
		if !r.revise(&v, s) {
			return nil
		}
		if batch = append(batch, v); len(batch) < revisionsAtOnce {
			return nil
		}
		err = r.db.insertRevisions(ctx, batch)
		batch = batch[:0]
		return err
	})
	if err == nil {
		err = r.db.insertRevisions(ctx, batch)
	}
	c := r.report.Reread
	r.step(RebuildReread, c.Read, c.Read)
	return wrap("read the stored callbacks anew", err)
}

// revise reads one callback again, and says whether it differs. One that cannot
// be read is no reason to stop: it was read when it came.
func (r *rebuild) revise(v *revision, s events.Stored) bool {
	c := &r.report.Reread
	if c.Read++; c.Read%1000 == 0 {
		r.step(RebuildReread, c.Read, 0)
	}
	changed, err := r.readAgain(v, s)
	if err != nil {
		if c.Failed++; c.Failed == 1 {
			c.Failure = err.Error()
		}
		return false
	}
	if changed {
		c.Revised++
	}
	return changed
}

func (r *rebuild) readAgain(v *revision, s events.Stored) (changed bool, err error) {
	old := new(events.Finished)
	if err := json.Unmarshal(s.Body, old); err != nil {
		return false, err
	}
	read, err := r.Reread(old, v.raw)
	if err != nil {
		return false, err
	}
	if s.Body, changed, err = events.Revise(s, read); err != nil || !changed {
		return false, err
	}
	s.Revision++
	v.Event, err = events.DecodeStored(s)
	return err == nil, err
}

// insertRevisions writes events anew under their ids. The highest ver makes them
// win over every copy of the record, which ver is otherwise computed of.
func (db *DB) insertRevisions(ctx context.Context, revisions []revision) error {
	type rev = revision
	return db.insert(ctx, opInsertEvents, tableEvents, len(revisions), []column{
		col("appid", revisions, func(v *rev) string { return v.Key.AppID }),
		col("msg_id", revisions, func(v *rev) int64 { return v.Key.MsgID }),
		col("event_id", revisions, func(v *rev) []byte { return v.ID[:] }),
		col("type", revisions, func(v *rev) string { return string(v.Type) }),
		col("source", revisions, func(v *rev) string { return v.source }),
		col("at", revisions, func(v *rev) time.Time { return storable(v.Time) }),
		col("received_at", revisions, func(v *rev) time.Time { return storable(v.ReceivedAt) }),
		col("data", revisions, func(v *rev) []byte { return v.Body }),
		col("raw", revisions, func(v *rev) string { return v.raw }),
		col("topic", revisions, func(v *rev) string { return v.Position.Topic }),
		col("partition", revisions, func(v *rev) int32 { return v.Position.Partition }),
		col("offset", revisions, func(v *rev) int64 { return v.Position.Offset }),
		col("revision", revisions, func(v *rev) uint32 { return v.Revision }),
		col("ver", revisions, func(*rev) uint64 { return math.MaxUint64 }),
	})
}
