package clickhouse_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
	"qunfa/schemas"
)

// firstSchema is the number of the oldest schema that programs wrote to.
const firstSchema = 6

// A database of every older schema, filled with what that schema can hold,
// answers every view as one that was new from the start.
func TestMigrateFromEveryVersion(t *testing.T) {
	t.Parallel()
	reference := migrated(t)
	fillEverything(t, reference)
	want := answers(t, reference)
	for version := firstSchema; version < migrations(t); version++ {
		t.Run(fmt.Sprint("from ", version), func(t *testing.T) {
			t.Parallel()
			cfg := testServer(t)
			migrateTo(t, cfg, int64(version))
			db := open(t, cfg)
			copyRows(t, reference, db)
			if got := steps(t, db)["migration"]; got != migrations(t)-version {
				t.Errorf("%d migrations were applied, want %d", got, migrations(t)-version)
			}
			if err := db.CheckSchema(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, answers(t, db)); d != "" {
				t.Errorf("after migrating (-want +got):\n%s", d)
			}
		})
	}
}

// fillEverything writes messages of every kind, and records of every fate.
func fillEverything(t *testing.T, db *clickhouse.DB) {
	t.Helper()
	f := newFixture(t, db)
	f.write(f.randomEvents(rand.New(rand.NewPCG(1, 0)), 120)...)
	fates := []events.Fate{
		{Position: events.Position{Topic: f.topic, Offset: f.offset}, Kind: events.FateDead, Reason: "no event", At: f.now},
		{Position: events.Position{Topic: f.topic, Offset: f.offset + 9}, Count: 9, Kind: events.FateTrimmed,
			Reason: fmt.Sprintf("offsets %d to %d were trimmed away", f.offset+1, f.offset+9), At: f.now},
	}
	if err := db.InsertRecords(t.Context(), fates); err != nil {
		t.Fatal(err)
	}
	if err := db.UpsertAccounts(t.Context(), []clickhouse.Account{{AppID: "wx1", OriginalID: "gh_1", Name: "账号"}}); err != nil {
		t.Fatal(err)
	}
}

// migrateTo makes a database as it was at that version, tables alone.
func migrateTo(t *testing.T, cfg clickhouse.Config, version int64) {
	t.Helper()
	admin := cfg
	admin.Database = "default"
	query(t, open(t, admin), "CREATE DATABASE "+cfg.Database)
	pool := chgo.OpenDB(&chgo.Options{Addr: cfg.Addr, Auth: chgo.Auth{Database: cfg.Database, Username: cfg.Username, Password: cfg.Password}})
	t.Cleanup(func() { pool.Close() })
	files, err := fs.Sub(schemas.ClickHouse, "clickhouse/migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectClickHouse, pool, files, goose.WithTableName("schema_migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// copyRows fills every table of a database, in the columns that it has.
func copyRows(t *testing.T, from, to *clickhouse.DB) {
	t.Helper()
	columns := query(t, to, "SELECT table, arrayStringConcat(groupArray(concat('`', name, '`')), ', ') FROM system.columns"+
		" WHERE database = currentDatabase() AND table LIKE '%\\_rows' AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') GROUP BY table")
	if len(columns) < 6 {
		t.Fatalf("there are %d tables", len(columns))
	}
	for _, c := range columns {
		query(t, to, fmt.Sprintf("INSERT INTO %s (%s) SELECT %[2]s FROM %s.%[1]s", c[0], c[1], from.Database()))
	}
}

// answers asks every view, and what the services ask.
func answers(t *testing.T, db *clickhouse.DB) map[string]any {
	t.Helper()
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	for _, v := range views {
		except := ""
		if v == "missing_callbacks" {
			except = "EXCEPT (age_seconds)" // goes on meanwhile
		}
		all[v] = query(t, db, "SELECT toString(tuple(* "+except+")) AS r FROM "+v+" ORDER BY r")
	}
	for _, v := range []string{"messages", "events", "delivery_daily", "delivery_hourly", "audit_failures", "missing_callbacks", "recording_daily", "accounts", "settings"} {
		if rows, _ := all[v].([][]any); len(rows) == 0 {
			t.Errorf("the view %s is empty: nothing is compared", v)
		}
	}
	coverage, err := db.Coverage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all["coverage"] = coverage
	return all
}
