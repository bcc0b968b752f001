package clickhouse_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/schemas"
)

// steps migrates and returns the kinds of steps other than views, counted.
func steps(t *testing.T, db *clickhouse.DB) map[string]int {
	t.Helper()
	n := map[string]int{}
	if err := db.Migrate(t.Context(), func(s clickhouse.Step) { n[s.Kind]++ }); err != nil {
		t.Fatal(err)
	}
	return n
}

// migrations returns how many there are.
func migrations(t *testing.T) int {
	t.Helper()
	files, err := fs.Glob(schemas.ClickHouse, "clickhouse/migrations/*.sql")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d migrations are embedded (%v)", len(files), err)
	}
	return len(files)
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	cfg := testServer(t)
	cfg.Embedded = true
	db := open(t, cfg)

	err := db.CheckSchema(t.Context())
	if !errors.Is(err, clickhouse.ErrSchema) || !strings.Contains(err.Error(), "run qunfa migrate") {
		t.Errorf("CheckSchema without a database: %v, want one that says to migrate", err)
	}
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	got := steps(t, db)
	want := map[string]int{"database": 1, "migration": migrations(t), "setting": 10, "error codes": 1, "view": len(views)}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("first migrate (-want +got):\n%s", d)
	}
	if err := db.CheckSchema(t.Context()); err != nil {
		t.Errorf("CheckSchema: %v", err)
	}
	if d := cmp.Diff(map[string]int{"view": len(views)}, steps(t, db)); d != "" {
		t.Errorf("second migrate, want views alone (-want +got):\n%s", d)
	}
	loc, err := db.Location(t.Context())
	if err != nil || loc.String() != "Asia/Shanghai" {
		t.Errorf("Location = %v, %v", loc, err)
	}
	fsync := one(t, db, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine_full LIKE '%fsync_after_insert = 1%'")
	if fsync != uint64(8) {
		t.Errorf("%v tables fsync their inserts, want 8", fsync)
	}
	reserve := one(t, db, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine_full LIKE '%min_free_disk_bytes_to_perform_insert = 134217728%'")
	if reserve != uint64(3) {
		t.Errorf("%v tables leave the last of the disk to merges, want those of events, records and messages", reserve)
	}
}

func TestMigrateRefusesAnotherTimeZone(t *testing.T) {
	t.Parallel()
	cfg := testServer(t)
	if err := open(t, cfg).Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	cfg.TimeZone = "UTC"
	err := open(t, cfg).Migrate(t.Context(), nil)
	if !errors.Is(err, clickhouse.ErrSchema) || !strings.Contains(err.Error(), "set time_zone to Asia/Shanghai") {
		t.Errorf("migrate with another time zone: %v", err)
	}
}

func TestMigrateRefusesNewerSchema(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	query(t, db, "INSERT INTO schema_migrations (version_id, is_applied) VALUES (99, 1)")
	for name, err := range map[string]error{"Migrate": db.Migrate(t.Context(), nil), "CheckSchema": db.CheckSchema(t.Context())} {
		if !errors.Is(err, clickhouse.ErrSchema) || !strings.Contains(err.Error(), "run a newer qunfa") {
			t.Errorf("%s: %v, want one that says to run a newer program", name, err)
		}
	}
}

func TestCheckSchemaOlder(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	query(t, db, "DELETE FROM schema_migrations WHERE version_id > 3")
	if err := db.CheckSchema(t.Context()); !errors.Is(err, clickhouse.ErrSchema) || !strings.Contains(err.Error(), "at version 3 ") {
		t.Errorf("CheckSchema: %v", err)
	}
	// A run that died after making tables and before noting it is finished by the next.
	if got, want := steps(t, db)["migration"], migrations(t)-3; got != want {
		t.Errorf("%d migrations were repeated, want %d", got, want)
	}
}

// Nothing locks: every step can be repeated, so two migrations at once both arrive.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	cfg := testServer(t)
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		db := open(t, cfg)
		wg.Go(func() { errs[i] = db.Migrate(t.Context(), nil) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	db := open(t, cfg)
	if err := db.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	if got := one(t, db, "SELECT count() FROM error_codes"); got != uint64(len(clickhouse.KnownErrCodes())) {
		t.Errorf("%v error codes, want %d", got, len(clickhouse.KnownErrCodes()))
	}
}

// The name of the database may be any that ClickHouse takes.
func TestMigrateOddName(t *testing.T) {
	t.Parallel()
	cfg := testServer(t)
	cfg.Database = cfg.Database + "-`'\\ 群发"
	db := open(t, cfg)
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	quoted := "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(cfg.Database) + "`"
	t.Cleanup(func() {
		admin := cfg
		admin.Database = "default"
		if _, err := open(t, admin).Query(context.Background(), "DROP DATABASE "+quoted); err != nil {
			t.Error(err)
		}
	})
	if got := one(t, db, "SELECT count() FROM messages"); got != uint64(0) {
		t.Errorf("messages has %v rows", got)
	}
}
