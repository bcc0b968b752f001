package clickhouse

import (
	"cmp"
	"context"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Coverage says how much of a partition of the log is accounted for.
type Coverage struct {
	Topic       string
	Partition   int32
	First, Last int64            // offsets
	Records     int64            // distinct offsets, whatever became of them
	Kinds       map[string]int64 // the same by what became of them: see the Fate constants of events
}

// Missing returns how many offsets between the first and the last are not
// accounted for: 0, or something was passed over.
func (c Coverage) Missing() int64 { return c.Last - c.First + 1 - c.Records }

// Coverage returns how much of each partition is accounted for, by topic and partition.
func (db *DB) Coverage(ctx context.Context) ([]Coverage, error) {
	start := db.cfg.Clock()
	all, err := db.coverage(ctx)
	if err = db.done(opCompleteness, start, err); err != nil {
		return nil, err
	}
	return all, nil
}

func (db *DB) coverage(ctx context.Context) ([]Coverage, error) {
	const sql = "SELECT topic, `partition`, kind, min(`offset`), max(`offset`), count() FROM " + tableRecords + " FINAL" +
		" WHERE kind != '" + events.FateTrimmed + "' GROUP BY topic, `partition`, kind"
	var all []Coverage
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var c Coverage
		var kind string
		var n uint64
		err := rows.Scan(&c.Topic, &c.Partition, &kind, &c.First, &c.Last, &n)
		c.Records, c.Kinds = int64(n), map[string]int64{kind: int64(n)}
		all = append(all, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	trimmed, err := db.trimmed(ctx)
	if err != nil {
		return nil, err
	}
	return joinCoverage(append(all, trimmed...)), nil
}

// joinCoverage makes one entry per partition of what was counted in parts.
func joinCoverage(parts []Coverage) []Coverage {
	slices.SortFunc(parts, func(a, b Coverage) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	var all []Coverage
	for _, c := range parts {
		n := len(all)
		if n == 0 || all[n-1].Topic != c.Topic || all[n-1].Partition != c.Partition {
			all = append(all, c)
			continue
		}
		last := &all[n-1]
		last.First, last.Last = min(last.First, c.First), max(last.Last, c.Last)
		last.Records += c.Records
		for kind, n := range c.Kinds {
			last.Kinds[kind] += n
		}
	}
	return all
}

// trimmed returns the runs of offsets that were gone before they were read,
// without those of their offsets of which something else is known: a run may
// have been noted after somebody else had still read a part of it.
func (db *DB) trimmed(ctx context.Context) ([]Coverage, error) {
	const sql = "SELECT topic, `partition`, from_offset, `offset` FROM " + tableRecords + " FINAL" +
		" WHERE kind = '" + events.FateTrimmed + "' ORDER BY topic, `partition`, from_offset, `offset`"
	var runs []Coverage
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var c Coverage
		err := rows.Scan(&c.Topic, &c.Partition, &c.First, &c.Last)
		runs = addRun(runs, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range runs {
		if err := db.countRun(ctx, &runs[i]); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// addRun appends a run, or widens the last one if the two overlap.
func addRun(runs []Coverage, c Coverage) []Coverage {
	if n := len(runs); n > 0 {
		last := &runs[n-1]
		if last.Topic == c.Topic && last.Partition == c.Partition && c.First <= last.Last+1 {
			last.Last = max(last.Last, c.Last)
			return runs
		}
	}
	return append(runs, c)
}

func (db *DB) countRun(ctx context.Context, c *Coverage) error {
	var known uint64
	const sql = "SELECT count() FROM " + tableRecords + " FINAL WHERE topic = ? AND `partition` = ? AND `offset` BETWEEN ? AND ?" +
		" AND kind != '" + events.FateTrimmed + "'"
	if err := db.conn.QueryRow(ctx, sql, c.Topic, c.Partition, c.First, c.Last).Scan(&known); err != nil {
		return err
	}
	c.Records = c.Last - c.First + 1 - int64(known)
	c.Kinds = map[string]int64{events.FateTrimmed: c.Records}
	return nil
}

// Lost says that records of a partition are noted as stored events that are not
// stored, as after the restore of a backup whose tables are not of one instant.
type Lost struct {
	Topic       string
	Partition   int32
	Records     int64
	First, Last int64 // offsets
}

// LostEvents looks for them; none is as it should be. To read the topic again
// (qunfa replay --from topic) is the remedy. It compares all records with all
// events, so it is for whoever asks, and not for a health check.
func (db *DB) LostEvents(ctx context.Context) ([]Lost, error) {
	start := db.cfg.Clock()
	sql := "SELECT topic, `partition`, toInt64(count()), min(`offset`), max(`offset`) FROM " + tableRecords + " FINAL" +
		" WHERE kind = '" + events.FateEvent + "' AND event_id " + db.global() + "NOT IN (SELECT event_id FROM " + tableEvents + ")" +
		" GROUP BY topic, `partition` ORDER BY topic, `partition`"
	var all []Lost
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var l Lost
		err := rows.Scan(&l.Topic, &l.Partition, &l.Records, &l.First, &l.Last)
		all = append(all, l)
		return err
	})
	if err = db.done(opCompleteness, start, err); err != nil {
		return nil, err
	}
	return all, nil
}
