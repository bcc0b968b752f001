package clickhouse

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
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
	const sql = "SELECT topic, `partition`, kind, min(`offset`), max(`offset`), count() FROM record_rows FINAL" +
		" GROUP BY topic, `partition`, kind ORDER BY topic, `partition`, kind"
	var all []Coverage
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var c Coverage
		var kind string
		var n uint64
		err := rows.Scan(&c.Topic, &c.Partition, &kind, &c.First, &c.Last, &n)
		c.Records, c.Kinds = int64(n), map[string]int64{kind: int64(n)}
		all = addCoverage(all, c)
		return err
	})
	if err = db.done(opCompleteness, start, err); err != nil {
		return nil, err
	}
	return all, nil
}

// addCoverage joins what was counted by kind to one entry per partition.
func addCoverage(all []Coverage, c Coverage) []Coverage {
	if n := len(all); n > 0 && all[n-1].Topic == c.Topic && all[n-1].Partition == c.Partition {
		last := &all[n-1]
		last.First, last.Last = min(last.First, c.First), max(last.Last, c.Last)
		last.Records += c.Records
		for kind, n := range c.Kinds {
			last.Kinds[kind] += n
		}
		return all
	}
	return append(all, c)
}
