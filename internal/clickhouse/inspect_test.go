package clickhouse_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
)

func TestInspectServer(t *testing.T) {
	db := migrated(t)
	s, err := db.InspectServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Version == "" || time.Since(s.Now).Abs() > time.Minute || s.Uptime < 0 {
		t.Errorf("got %+v", s)
	}
	disks, err := db.Disks(t.Context())
	if err != nil || len(disks) == 0 || disks[0].Total == 0 || disks[0].Free > disks[0].Total {
		t.Errorf("disks %+v, %v", disks, err)
	}
}

// A part whose files are damaged is set aside when the table is attached.
func TestSickTables(t *testing.T) {
	db := migrated(t)
	if sick, err := db.SickTables(t.Context()); err != nil || len(sick) != 0 {
		t.Fatalf("of a new database: %+v, %v", sick, err)
	}
	f := newFixture(t, db)
	f.write(f.submitted("wx1", 1, "2026-11-20T10:00:00+08:00", nil))
	query(t, db, "ALTER TABLE event_rows DETACH PARTITION ID 'all'")
	if sick, err := db.SickTables(t.Context()); err != nil || len(sick) != 0 {
		t.Errorf("what people detach is theirs: %+v, %v", sick, err)
	}
	for _, row := range query(t, db, "SELECT path FROM system.detached_parts WHERE database = currentDatabase() AND table = 'event_rows'") {
		path := row[0].(string)
		if _, err := os.Stat(path); err != nil {
			t.Log("the server's disk is elsewhere: nothing is broken there")
			return
		}
		breakPart(t, path)
	}
	sick, err := db.SickTables(t.Context())
	if err != nil || len(sick) != 1 || sick[0].Table != "event_rows" || sick[0].Detached == 0 {
		t.Errorf("with a broken part: %+v, %v", sick, err)
	}
}

func TestMissingGrants(t *testing.T) {
	t.Parallel()
	addr, database, names := accessServer(t)
	as := func(role clickhouse.Role) *clickhouse.DB {
		return open(t, clickhouse.Config{Addr: []string{addr}, Database: database, Username: names[role], Password: names[role]})
	}
	if err := as(clickhouse.RoleOwner).Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if missing, err := as(clickhouse.RoleWriter).MissingGrants(t.Context(), clickhouse.RoleWriter); err != nil || len(missing) != 0 {
		t.Errorf("the writer lacks %q, %v", missing, err)
	}
	missing, err := as(clickhouse.RoleReader).MissingGrants(t.Context(), clickhouse.RoleWriter)
	if err != nil || !slices.ContainsFunc(missing, func(g string) bool { return strings.Contains(g, "INSERT") && strings.Contains(g, "event_rows") }) {
		t.Errorf("as a writer the reader lacks %q, %v", missing, err)
	}
}

// breakPart renames a detached part as the server names one that it set aside.
func breakPart(t *testing.T, path string) {
	t.Helper()
	dir, name := filepath.Split(strings.TrimSuffix(path, "/"))
	if err := os.Rename(path, filepath.Join(dir, "broken-on-start_"+name)); err != nil {
		t.Fatal(err)
	}
}
