package app

import (
	"qunfa/internal/events"
	"qunfa/internal/ingest"
)

// Reread makes the event out of a callback that ingest once could not read, if
// this version can. Its errors say what is still wrong with it.
func Reread(d events.DeadLetter) (events.Record, error) { return ingest.Reread(d) }
