// Package clickhouse is the projection of the event log that people query: it
// creates the database, writes to it, and answers the questions that the
// services ask of it.
//
// Everything written is idempotent, so that an insert whose answer was lost is
// simply done again. Events and records carry their identity in the sorting key
// of their table; a message's row is a pure fold of its events, versioned by
// their number. No insert relies on deduplication tokens, windows or
// transactions, and none needs Keeper.
//
// The tables (…_rows) are the project's own; people read the views, whose names
// and columns are documented in the database itself. The SQL is in
// schemas/clickhouse.
package clickhouse
