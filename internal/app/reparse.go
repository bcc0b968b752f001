package app

import (
	"qunfa/internal/events"
	"qunfa/internal/ingest"
)

// Reparse reads the raw text of a stored callback as ingest reads those that come
// now; see [clickhouse.Rebuild.Reread].
func Reparse(old *events.Finished, raw string) (*events.Finished, error) {
	return ingest.Reparse(old, raw)
}
