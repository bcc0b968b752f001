package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// settingGeneration names, with a topic behind it, how often the topic was created.
const settingGeneration = "topic_generation "

// LogName is under what name the records of a topic are stored: offsets say
// nothing without it. A topic that was deleted and created again counts from 0
// anew, so each time it gets another name, which no topic of Kafka can have:
// qunfa.events, then qunfa.events#2.
func LogName(topic string, generation int) string {
	if generation <= 1 {
		return topic
	}
	return topic + "#" + strconv.Itoa(generation)
}

// Generation returns how often the topic was created, as far as anybody has
// told with [DB.AdoptTopic]; 1 if nobody ever did.
func (db *DB) Generation(ctx context.Context, topic string) (int, error) {
	start := db.cfg.Clock()
	generation := 1
	// Unlike other settings this one grows: the highest number holds.
	const sql = "SELECT value FROM " + tableSettings + " WHERE name = ?"
	err := db.each(ctx, sql, []any{settingGeneration + topic}, func(rows driver.Rows) error {
		var value string
		if err := rows.Scan(&value); err != nil {
			return err
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%w: the generation of topic %s is stored as %q", ErrSchema, topic, value)
		}
		generation = max(generation, n)
		return nil
	})
	return generation, db.done(opEnds, start, err)
}

// AdoptTopic stores that a topic was created anew for the generation-th time.
// It needs the rights of whoever migrates. Done twice, it does the same.
func (db *DB) AdoptTopic(ctx context.Context, topic string, generation int) error {
	if generation < 2 {
		return errors.New("clickhouse: the first generation of a topic needs no adoption")
	}
	start := db.cfg.Clock()
	return db.done(opMigrate, start, db.send(ctx, tableSettings, []column{
		{"name", []string{settingGeneration + topic}}, {"value", []string{strconv.Itoa(generation)}},
	}))
}

// CurrentEnds returns the [DB.Ends] of the topic as it is now, whatever
// generation it is of.
func (db *DB) CurrentEnds(ctx context.Context, topic string) (map[int32]int64, error) {
	generation, err := db.Generation(ctx, topic)
	if err != nil {
		return nil, err
	}
	return db.Ends(ctx, LogName(topic, generation))
}

// Tail is the last record of a partition that was stored.
type Tail struct {
	Offset int64
	At     time.Time // of the record, to the millisecond
}

// Tails returns the last record of each partition that was read and stored: by
// it a log can be recognised. The log is named as [LogName] names it.
func (db *DB) Tails(ctx context.Context, log string) (map[int32]Tail, error) {
	start := db.cfg.Clock()
	tails := map[int32]Tail{}
	const sql = "SELECT `partition`, max(`offset`), argMax(at, `offset`) FROM " + tableRecords +
		" WHERE topic = ? AND kind != '" + events.FateTrimmed + "' GROUP BY `partition`"
	err := db.each(ctx, sql, []any{log}, func(rows driver.Rows) error {
		var p int32
		var t Tail
		err := rows.Scan(&p, &t.Offset, &t.At)
		tails[p] = t
		return err
	})
	if err = db.done(opEnds, start, err); err != nil {
		return nil, err
	}
	return tails, nil
}

// HasRecords tells whether a record of each of these partitions is stored, at
// its offset. The log is named as [LogName] names it.
func (db *DB) HasRecords(ctx context.Context, log string, offsets map[int32]int64) (bool, error) {
	if len(offsets) == 0 {
		return true, nil
	}
	start := db.cfg.Clock()
	places := make([]string, 0, len(offsets))
	for p, o := range offsets {
		places = append(places, fmt.Sprintf("(%d, %d)", p, o))
	}
	var n uint64
	sql := "SELECT uniqExact(`partition`, `offset`) FROM " + tableRecords + " WHERE topic = ? AND (`partition`, `offset`) IN (" + strings.Join(places, ", ") + ")"
	err := db.conn.QueryRow(ctx, sql, log).Scan(&n)
	return n == uint64(len(offsets)), db.done(opEnds, start, err)
}

// SameTime tells whether a time is the one that was stored of it.
func SameTime(stored, t time.Time) bool { return stored.UnixMilli() == storable(t).UnixMilli() }
