package clickhouse_test

import (
	"testing"

	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// testServer returns how to reach the server, as a user who may do everything,
// with a database of the test's own that does not exist yet.
func testServer(t *testing.T) clickhouse.Config {
	t.Helper()
	server := embeddedtest.ClickHouse(t)
	return clickhouse.Config{
		Addr:     []string{server.Addr},
		Username: server.Username,
		Password: server.Password,
		Database: server.Database(t),
		TimeZone: "Asia/Shanghai",
	}
}

func open(t *testing.T, cfg clickhouse.Config) *clickhouse.DB {
	t.Helper()
	db, err := clickhouse.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// migrated returns an empty database of this version.
func migrated(t *testing.T) *clickhouse.DB {
	t.Helper()
	db := open(t, testServer(t))
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return db
}

// query runs a statement and returns the rows of the answer.
func query(t *testing.T, db *clickhouse.DB, sql string, args ...any) [][]any {
	t.Helper()
	r, err := db.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return r.Rows
}

// one runs a query whose answer is one value.
func one(t *testing.T, db *clickhouse.DB, sql string, args ...any) any {
	t.Helper()
	rows := query(t, db, sql, args...)
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("%s: the answer is %v, want one value", sql, rows)
	}
	return rows[0][0]
}
