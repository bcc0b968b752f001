package app

import (
	"context"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
	"qunfa/internal/ingest"
	"qunfa/internal/kafka"
)

// Reparse reads the raw text of a stored callback as ingest reads those that come
// now; see [clickhouse.Rebuild.Reread].
func Reparse(old *events.Finished, raw string) (*events.Finished, error) {
	return ingest.Reparse(old, raw)
}

// LogOf returns the name under which the records of a topic are stored. It
// fails where a sink would pause: if the topic is another than the one whose
// records are stored.
func LogOf(ctx context.Context, client *kafka.Client, db *clickhouse.DB, topic string) (string, error) {
	s := &store{DB: db, client: client}
	if _, err := s.Ends(ctx, topic); err != nil {
		return "", err
	}
	return s.logName(), nil
}
