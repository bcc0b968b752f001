package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Comparison is how a rebuilt projection differs from the one that was in use.
type Comparison struct {
	// Before and After count by outcome. On a busy system After lacks what came
	// in the last moments; see Moving.
	Before, After map[events.Outcome]Totals
	OnlyBefore    int64 // rows that are gone
	OnlyAfter     int64 // rows that are new
	Changed       int64 // rows that differ in any column
	// Moving are messages that got events while both were read; they were not compared.
	Moving   int64
	Examples []Difference // a few of the differences
}

// Same tells whether no row differs.
func (c Comparison) Same() bool { return c.OnlyBefore == 0 && c.OnlyAfter == 0 && c.Changed == 0 }

// Totals are messages, and people: nil where they are not known of any message.
type Totals struct {
	Messages                                int64
	Total, Eligible, Filtered, Sent, Errors *int64
}

// Difference is a row that is not the same before and after.
type Difference struct {
	Key           events.Key
	Day           string // yyyy-mm-dd
	Before, After bool   // whether there is one
}

const maxExamples = 10

// rowHash is of a whole row. A tuple keeps NULL apart from 0, and arrays from
// their neighbours.
const rowHash = "cityHash64(tuple(* EXCEPT (is_deleted)))"

// compare finds out how the new projection differs from the one in use.
func (r *rebuild) compare(ctx context.Context) error {
	if !r.Compare && !r.DryRun {
		return nil
	}
	r.step(RebuildCompare, 0, 0)
	before, err := r.db.summarize(ctx, tableMessages)
	if err != nil {
		return wrap("count the old projection", err)
	}
	after, err := r.db.summarize(ctx, r.messages)
	if err != nil {
		return wrap("count the new projection", err)
	}
	c := &Comparison{Before: before.totals, After: after.totals}
	months := before.differing(after)
	for i, m := range months {
		r.step(RebuildCompare, int64(i), int64(len(months)))
		if err := r.compareMonth(ctx, m, c); err != nil {
			return wrap(fmt.Sprintf("compare the month %d", m), err)
		}
	}
	r.report.Comparison = c
	return nil
}

// summary is a table in figures small enough to compare here.
type summary struct {
	totals map[events.Outcome]Totals
	months map[uint32]monthSum // by year and month, 202611
}

type monthSum struct{ rows, hash uint64 }

func (db *DB) summarize(ctx context.Context, table string) (summary, error) {
	s := summary{map[events.Outcome]Totals{}, map[uint32]monthSum{}}
	sql := "SELECT toYYYYMM(day) AS month, outcome, count(), sum(" + rowHash + ")," +
		" sum(total), sum(eligible), sum(filtered), sum(sent), sum(errors)" +
		" FROM " + table + " FINAL GROUP BY month, outcome" + acrossPartitions
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var month uint32
		var outcome string
		var m monthSum
		var t Totals
		if err := rows.Scan(&month, &outcome, &m.rows, &m.hash, &t.Total, &t.Eligible, &t.Filtered, &t.Sent, &t.Errors); err != nil {
			return err
		}
		t.Messages = int64(m.rows)
		s.totals[events.Outcome(outcome)] = s.totals[events.Outcome(outcome)].plus(t)
		old := s.months[month]
		s.months[month] = monthSum{old.rows + m.rows, old.hash + m.hash}
		return nil
	})
	return s, err
}

func (t Totals) plus(u Totals) Totals {
	return Totals{t.Messages + u.Messages, plus(t.Total, u.Total), plus(t.Eligible, u.Eligible), plus(t.Filtered, u.Filtered), plus(t.Sent, u.Sent), plus(t.Errors, u.Errors)}
}

func plus(a, b *int64) *int64 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	sum := *a + *b
	return &sum
}

// differing returns the months whose rows are not the same.
func (s summary) differing(t summary) []uint32 {
	all := map[uint32]bool{}
	for m := range s.months {
		all[m] = true
	}
	for m := range t.months {
		all[m] = true
	}
	maps.DeleteFunc(all, func(m uint32, _ bool) bool { return s.months[m] == t.months[m] })
	return slices.Sorted(maps.Keys(all))
}

// compareMonth compares row by row. A message that got an event since may
// differ for that reason alone. Whether it did is asked after both were read:
// an event is stored before the row that it changes.
func (r *rebuild) compareMonth(ctx context.Context, month uint32, c *Comparison) error {
	side := func(table, name string) string {
		return "SELECT appid, day, msg_id, '" + name + "' AS side, " + rowHash + " AS hash FROM " + table + " FINAL WHERE toYYYYMM(day) = " + fmt.Sprint(month)
	}
	sql := "SELECT appid, msg_id, toString(day), countIf(side = 'before') > 0, countIf(side = 'after') > 0" +
		" FROM (" + side(tableMessages, "before") + " UNION ALL " + side(r.messages, "after") + ")" +
		" GROUP BY appid, day, msg_id HAVING count() = 1 OR min(hash) != max(hash)"
	var found []Difference
	err := r.db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var d Difference
		var before, after uint8
		if err := rows.Scan(&d.Key.AppID, &d.Key.MsgID, &d.Day, &before, &after); err != nil {
			return err
		}
		d.Before, d.After = before != 0, after != 0
		if found = append(found, d); len(found) < keysAtOnce {
			return nil
		}
		err := r.judge(ctx, found, c)
		found = found[:0]
		return err
	})
	if err != nil {
		return err
	}
	return r.judge(ctx, found, c)
}

func (r *rebuild) judge(ctx context.Context, found []Difference, c *Comparison) error {
	if len(found) == 0 {
		return nil
	}
	moving := map[events.Key]bool{}
	keys := each(found, func(d *Difference) events.Key { return d.Key })
	err := r.db.touched(ctx, r.since, keys, func(keys []events.Key) error {
		for _, k := range keys {
			moving[k] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range found {
		c.add(d, moving[d.Key])
	}
	return nil
}

func (c *Comparison) add(d Difference, moving bool) {
	switch {
	case moving:
		c.Moving++
		return
	case !d.After:
		c.OnlyBefore++
	case !d.Before:
		c.OnlyAfter++
	default:
		c.Changed++
	}
	if len(c.Examples) < maxExamples {
		c.Examples = append(c.Examples, d)
	}
}
