package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/kafka"
)

// errRecreated says that offsets mean something else than before. Going on
// would take new records for old ones.
var errRecreated = errors.New("the topic was deleted and created anew, or has lost the end of its log")

// recognise compares the topic with what is stored of it: it must not end
// before, and its record at the last offset that was read must be the same one.
// What of it was trimmed away cannot be compared.
func recognise(ctx context.Context, client *kafka.Client, db *clickhouse.DB, topic, log string, stored map[int32]int64) error {
	if len(stored) == 0 {
		return nil
	}
	ends, err := client.EndOffsets(ctx, topic)
	if err != nil {
		return client.Diagnose(ctx, err)
	}
	const run = "If it was created anew, run: qunfa topic adopt"
	for p, end := range stored {
		if end > ends[p] {
			return fmt.Errorf("%w: partition %d of topic %s ends at offset %d, and it is stored up to %d. %s", errRecreated, p, topic, ends[p], end, run)
		}
	}
	tails, err := db.Tails(ctx, log)
	if err != nil {
		return err
	}
	for p, tail := range tails {
		m, found, err := client.ReadAt(ctx, topic, p, tail.Offset)
		if err != nil {
			return client.Diagnose(ctx, err)
		}
		if found && !clickhouse.SameTime(tail.At, m.Time) {
			return fmt.Errorf("%w: the record at offset %d of partition %d of topic %s is of %s, and one of %s is stored. %s", errRecreated,
				tail.Offset, p, topic, m.Time.UTC().Format(time.RFC3339Nano), tail.At.UTC().Format(time.RFC3339Nano), run)
		}
	}
	return nil
}

// ErrNothingToAdopt says that a topic is the one whose records are stored, as
// far as its records tell.
var ErrNothingToAdopt = errors.New("the topic is the one that is stored, as far as its records tell")

// AdoptTopic makes a topic that was deleted and created anew usable: what is
// stored of the old one is kept, and the new one is read from its beginning. It
// can be run beside a sink that waits for it. force adopts also where nothing
// proves that the topic is another: all that could may have been trimmed away.
func AdoptTopic(ctx context.Context, cfg *config.Config, o Options, force bool, progress func(string)) error {
	client, err := NewKafka(cfg, o)
	if err != nil {
		return err
	}
	defer client.Close()
	db, err := OpenClickHouse(cfg, o)
	if err != nil {
		return err
	}
	defer db.Close()
	topic := cfg.Kafka.Topic
	if _, err := client.Partitions(ctx, topic); err != nil {
		return client.Diagnose(ctx, err)
	}
	generation, err := db.Generation(ctx, topic)
	if err != nil {
		return err
	}
	log := clickhouse.LogName(topic, generation)
	stored, err := db.Ends(ctx, log)
	if err != nil {
		return err
	}
	switch err := recognise(ctx, client, db, topic, log, stored); {
	case err == nil && len(stored) == 0:
		return fmt.Errorf("nothing is stored of topic %s yet: there is nothing to tell it from", topic)
	case err == nil && !force:
		return fmt.Errorf("topic %s: %w; if it was, --force adopts it all the same", topic, ErrNothingToAdopt)
	case err != nil && !errors.Is(err, errRecreated):
		return err
	}
	if err := db.AdoptTopic(ctx, topic, generation+1); err != nil {
		return err
	}
	progress(fmt.Sprintf("topic %s is adopted in its generation %d: its records are stored as those of %s", topic, generation+1, clickhouse.LogName(topic, generation+1)))
	progress("the sink reads it from its beginning, by itself")
	return nil
}
