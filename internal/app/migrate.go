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

// Migrate makes what the services need: the topics, and the database with its
// tables, views and the names of the accounts. It can be run again at any time,
// and beside running services. progress gets a line for everything that was
// done or should be looked at; it may be nil.
//
// A part that the configuration does not name an address of is left out: Kafka
// is often in the hands of others, who create the topics themselves.
func Migrate(ctx context.Context, cfg *config.Config, o Options, progress func(string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	if len(cfg.Kafka.Brokers) > 0 {
		if err := ensureTopics(ctx, cfg, o, progress); err != nil {
			return err
		}
	}
	if len(cfg.ClickHouse.Addr) > 0 {
		return migrateDatabase(ctx, cfg, o, progress)
	}
	return nil
}

func ensureTopics(ctx context.Context, cfg *config.Config, o Options, progress func(string)) error {
	client, err := NewKafka(cfg, o)
	if err != nil {
		return err
	}
	defer client.Close()
	waiting, cancel := context.WithTimeout(ctx, topicPatience)
	defer cancel()
	if err := awaitKafka(waiting, client, progress); err != nil {
		return err
	}
	for _, t := range topicsOf(cfg, o) {
		if err := ensureTopic(waiting, client, t, progress); err != nil {
			return diagnose(ctx, client, err)
		}
	}
	return nil
}

// topicPatience is how long a cluster that is only just starting may take.
const topicPatience = 30 * time.Second

// awaitKafka waits for a broker that lets us in. What time cannot heal it returns
// at once; what it waits for it says, when it changes.
func awaitKafka(ctx context.Context, client *kafka.Client, progress func(string)) error {
	said := ""
	for {
		err := reach(ctx, client)
		if err == nil {
			return nil
		}
		err = client.Diagnose(ctx, err)
		if !kafka.Passing(err) || ctx.Err() != nil {
			return err
		}
		var advice *kafka.Diagnosis
		if errors.As(err, &advice) && advice.Advice != said {
			said = advice.Advice
			progress("waiting for Kafka: " + said)
		}
		t := time.NewTimer(time.Second)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

func reach(ctx context.Context, client *kafka.Client) error {
	ctx, cancel := context.WithTimeout(ctx, diagnosisPatience)
	defer cancel()
	return client.Reach(ctx)
}

// diagnose says what to do about an error, also if it is that the time is over.
func diagnose(ctx context.Context, client *kafka.Client, err error) error {
	ctx, cancel := context.WithTimeout(ctx, diagnosisPatience)
	defer cancel()
	return client.Diagnose(ctx, err)
}

const diagnosisPatience = 4 * time.Second

// topicsOf are the topics as they are created. Records are kept for ever: how
// long is for the operator to say, in Kafka.
func topicsOf(cfg *config.Config, o Options) []kafka.TopicConfig {
	var topics []kafka.TopicConfig
	for _, name := range []string{cfg.Kafka.Topic, cfg.Kafka.DeadTopic} {
		t := kafka.TopicConfig{
			Name:              name,
			Partitions:        cfg.Kafka.Partitions,
			ReplicationFactor: cfg.Kafka.ReplicationFactor,
			MinInSyncReplicas: cfg.Kafka.MinInsyncReplicas,
		}
		if name == cfg.Kafka.DeadTopic {
			t.MaxMessageBytes = deadLetterBytes
		}
		if o.Embedded { // one broker, which syncs one partition after the other
			t.Partitions, t.ReplicationFactor, t.MinInSyncReplicas = 1, 1, 1
		}
		topics = append(topics, t)
	}
	return topics
}

// deadLetterBytes is the size limit of the dead-letter topic. A dead letter is
// the record with a few headers more, so it needs more room than the record had.
const deadLetterBytes = 2 << 20

func ensureTopic(ctx context.Context, client *kafka.Client, t kafka.TopicConfig, progress func(string)) error {
	warnings, err := client.EnsureTopic(ctx, t)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		progress(fmt.Sprintf("warning: topic %s: %s", t.Name, w))
	}
	n, err := client.WaitForTopic(ctx, t.Name)
	if err != nil {
		return err
	}
	progress(fmt.Sprintf("topic %s: %d partitions", t.Name, n))
	return nil
}

func migrateDatabase(ctx context.Context, cfg *config.Config, o Options, progress func(string)) error {
	db, err := OpenClickHouse(cfg, o)
	if err != nil {
		return err
	}
	defer db.Close()
	views := 0
	err = db.Migrate(ctx, func(s clickhouse.Step) {
		if s.Kind == clickhouse.StepView {
			views++ // the same dozen every time: one line says it
			return
		}
		progress(s.String())
	})
	if err != nil {
		return err
	}
	progress(fmt.Sprintf("database %s: %d views", cfg.ClickHouse.Database, views))
	accounts := storedAccounts(cfg)
	if err := db.UpsertAccounts(ctx, accounts); err != nil {
		return err
	}
	progress(fmt.Sprintf("accounts: %d", len(accounts)))
	return setClients(ctx, cfg, db, progress)
}

// setClients stores who may see which accounts. It tells of what was taken, too:
// a configuration that lacks a client locks it out.
func setClients(ctx context.Context, cfg *config.Config, db *clickhouse.DB, progress func(string)) error {
	var clients []clickhouse.Client
	for _, c := range cfg.ClickHouse.Clients {
		clients = append(clients, clickhouse.Client{Name: c.Name, AppIDs: c.AppIDs})
	}
	given, taken, err := db.SetClients(ctx, clients)
	if err != nil || len(clients)+given+taken == 0 {
		return err
	}
	progress(fmt.Sprintf("clients: %d; accounts given to them: %d, taken from them: %d", len(clients), given, taken))
	return nil
}
