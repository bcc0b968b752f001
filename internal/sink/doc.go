// Package sink turns the log into the projection that people query.
//
// It takes batches of records over all partitions that it owns. For each batch
// it stores the events and what became of every record, reads back all events of the
// messages that were touched, folds them, stores one row per message, and only
// then commits. Every step may be done again: copies of an event collapse by
// its id, and a row carries the number of events that it has seen. So whatever
// fails, whenever, is simply repeated, and each event counts once.
//
// A record that cannot be used goes to the dead-letter topic and never takes
// its neighbours along. A database that cannot take rows makes the sink wait,
// not drop.
package sink
