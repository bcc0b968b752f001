// Package kill kills `qunfa up` and its ClickHouse at random moments under
// load, as power cuts and the OOM killer do, and checks that every callback
// that was answered with success is in SQL, once, with its figures.
//
// QUNFA_KILL_ROUNDS (default 6) says how often, QUNFA_KILL_SEED when; a failed
// run logs its seed.
package kill
