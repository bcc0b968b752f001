package upgrade

import (
	"fmt"
	"testing"
)

// TestFutureSchema does to today's services what an upgrade will do to them: a
// migration that only adds comes under load. Those that run go on, and so does
// one that is restarted before it is replaced. After one that they cannot work
// with, who is restarted waits, says so, and loses nothing.
func TestFutureSchema(t *testing.T) {
	t.Parallel()
	now := today(t)
	w := newWorld(t)
	w.migrate(now)
	in, sink1, sink2 := w.start(now, "ingest"), w.start(now, "sink"), w.start(now, "sink")
	w.ready(in, sink1, sink2)
	load, reader := startLoad(t, in), w.startReader()
	w.storesMore(50)

	for _, sql := range []string{
		"ALTER TABLE event_rows ADD COLUMN trace String DEFAULT ''",
		"ALTER TABLE record_rows ADD COLUMN size UInt32 DEFAULT 0 AFTER kind",
		"ALTER TABLE message_rows ADD COLUMN language LowCardinality(String) DEFAULT 'zh' FIRST",
		"CREATE TABLE future_rows (n UInt8) ENGINE = MergeTree ORDER BY n",
		"CREATE VIEW future AS SELECT * FROM future_rows",
	} {
		w.query(sql)
	}
	w.noteMigration(990, int64(len(now.migrations)))
	w.storesMore(100)
	sink1.neverPaused()
	sink2.neverPaused()

	sink1.stop()
	again := w.start(now, "sink")
	w.ready(again) // although the schema is newer
	w.storesMore(50)

	w.noteMigration(991, 991)
	sink2.stop()
	waiting := w.start(now, "sink")
	w.until("a sink that cannot work with the schema says so", func() string {
		return waiting.lacks("/readyz", `at version 991, but this program knows only`, "run a newer qunfa")
	})
	w.storesMore(50) // by the other one, who knows how to write its columns
	again.neverPaused()
	w.query("DELETE FROM schema_migrations WHERE version_id = 991") // stands for a newer program
	w.ready(waiting)
	w.settle(load)
	reader.stop()
	again.neverPaused()
}

// noteMigration writes what `qunfa migrate` of a later version will write.
func (w *world) noteMigration(version, since int64) {
	w.t.Helper()
	w.query(fmt.Sprintf("INSERT INTO setting_rows (name, value) VALUES ('services_since schema %d', '%d')", version, since))
	w.query(fmt.Sprintf("INSERT INTO schema_migrations (version_id, is_applied) VALUES (%d, 1)", version))
}
