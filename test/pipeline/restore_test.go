package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/wechat/wechattest"
)

// archive keeps copies of the world's database, part by part, as a backup does.
type archive struct {
	w  *world
	db *clickhouse.DB
	// tables are those of the database; views are made anew by migrate.
	tables []string
}

func (w *world) newArchive() *archive {
	w.t.Helper()
	c := w.cfg.ClickHouse
	db, err := clickhouse.Open(clickhouse.Config{Addr: c.Addr, Database: "default", Username: c.Username, Password: c.Password.Reveal()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			w.t.Errorf("close the archive: %v", err)
		}
	})
	a := &archive{w: w, db: db}
	for _, r := range w.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'") {
		a.tables = append(a.tables, r[0].(string))
	}
	return a
}

func (a *archive) do(sql string, args ...any) {
	a.w.t.Helper()
	sql = fmt.Sprintf(sql, args...)
	if _, err := a.db.Query(context.WithoutCancel(a.w.t.Context()), sql); err != nil {
		a.w.t.Fatalf("%s: %v", sql, err)
	}
}

// copyDatabase makes a database of another's tables as they are now.
func (a *archive) copyDatabase(from, to string) {
	a.w.t.Helper()
	a.do("CREATE DATABASE %s", to)
	for _, table := range a.tables {
		a.do("CREATE TABLE %s.%s CLONE AS %s.%s", to, table, from, table)
	}
}

// backUp returns the name of the copy.
func (a *archive) backUp() string {
	a.w.t.Helper()
	name := a.w.cfg.ClickHouse.Database + "_then"
	a.copyDatabase(a.w.cfg.ClickHouse.Database, name)
	a.w.t.Cleanup(func() { a.do("DROP DATABASE %s", name) })
	return name
}

func (a *archive) restore(name string) {
	a.w.t.Helper()
	a.do("DROP DATABASE %s SYNC", a.w.cfg.ClickHouse.Database)
	a.copyDatabase(name, a.w.cfg.ClickHouse.Database)
	a.w.migrate()
}

// TestRestoredBackup brings back a database of some time ago. The sink notices
// by itself that Kafka's offsets say more than the database holds, reads the log
// from there, and everything is as if nothing had happened.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 61, Scale: 3600, Accounts: accounts("")[:4]})
	w.migrate()
	in, sink, ask := w.startIngest(), w.start("sink"), w.start("reconcile")
	w.awaitReady(in, sink, ask)
	w.sendEach(in, 5)
	w.settle()
	archive := w.newArchive()
	backup := archive.backUp()
	then := w.stored()

	w.sendEach(in, 10)
	w.settle()
	sink.stop()
	archive.restore(backup)
	if d := cmp.Diff(then, w.stored()); d != "" {
		t.Fatalf("the restored database is not what was backed up (-then +now):\n%s", d)
	}
	w.sendEach(in, 3) // nobody writes them yet
	sink = w.start("sink")
	w.settle()
	w.awaitReady(sink, ask)
	w.complete()
	if d := cmp.Diff(w.trueDelivery(), sink.delivery()); d != "" {
		t.Errorf("the figures differ from the ledger (-ledger +metrics):\n%s", d)
	}
	w.sendEach(in, 1)
	w.settle()
	w.complete()
}

// TestRebuildUnderLoad computes the projection anew, with every callback read
// anew, while callbacks come: nothing differs before and after, to the last row.
func TestRebuildUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 62, Scale: 3600, Accounts: accounts("")[:4], Plans: wechattest.Mix{Seed: 62, Weights: wechattest.DefaultWeights()}.Plan})
	w.cfg.Reconcile.FirstPoll, w.cfg.Reconcile.Schedule, w.cfg.Reconcile.GiveUpAfter = 3*time.Second, []time.Duration{time.Second}, 20*time.Second
	w.migrate()
	in, sink, ask := w.startIngest(), w.start("sink"), w.start("reconcile")
	w.awaitReady(in, sink, ask)
	w.sendEach(in, 5)

	var wg sync.WaitGroup
	var report clickhouse.RebuildReport
	for range 3 {
		var err error
		wg.Go(func() {
			report, err = w.db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "test", Compare: true, Reread: app.Reparse})
		})
		w.sendEach(in, 5)
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if c := report.Comparison; !report.Swapped || !c.Same() || report.Reread.Revised != 0 || report.Reread.Failed != 0 {
			t.Errorf("a right projection was rebuilt, and differs: %+v, %+v, %+v", c, report.Reread, c.Examples)
		}
	}
	if report.Reread.Read == 0 {
		t.Error("no callback was read anew")
	}
	w.settle()
	w.complete()
	w.awaitReady(sink)
	if d := cmp.Diff(w.trueDelivery(), sink.delivery()); d != "" {
		t.Errorf("the figures differ from the ledger (-ledger +metrics):\n%s", d)
	}
}
