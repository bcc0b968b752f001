package clickhouse

import (
	"context"
	"database/sql"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/pressly/goose/v3"
	"qunfa/schemas"
)

// Step is something that a migration did.
type Step struct {
	Kind string // one of the Step constants
	Name string // of what was made
}

func (s Step) String() string { return s.Kind + " " + s.Name }

// Kinds of steps. Views are applied by every run, the others when they are due.
const (
	StepDatabase  = "database"
	StepMigration = "migration"
	StepSetting   = "setting"
	StepCodes     = "error codes"
	StepView      = "view"
	StepServers   = "on all servers" // a table that some server of the cluster lacked
)

// Migrate brings the database to this version: it creates the database, applies
// the migrations that are due, stores the time zone, fills in the error codes,
// and replaces the views. It reports each step after it was done; progress may be nil.
//
// It refuses a database of a newer version, and one whose time zone is another:
// days are part of a row's identity, so with another zone rows would double.
//
// ClickHouse has no transactions over such statements, and none are needed:
// every step can be repeated. A run that died half way is finished by the next,
// and of two at once both arrive.
func (db *DB) Migrate(ctx context.Context, progress func(Step)) error {
	start := db.cfg.Clock()
	if progress == nil {
		progress = func(Step) {}
	}
	return db.done(opMigrate, start, db.migrate(ctx, progress))
}

func (db *DB) migrate(ctx context.Context, progress func(Step)) error {
	for _, step := range []func(context.Context, func(Step)) error{
		db.createDatabase, db.completeServers, db.checkNotNewer, db.checkTimeZone,
		db.createVersionTable, db.migrateTables,
		db.storeTimeZone, db.storeShards, db.storeServices, db.fillErrorCodes, db.createViews, db.syncInserts,
	} {
		if err := step(ctx, progress); err != nil {
			return err
		}
	}
	return nil
}

// createDatabase does so only if there is none, so that a user without the
// right to create databases can migrate one that was made for it.
func (db *DB) createDatabase(ctx context.Context, progress func(Step)) error {
	conn, err := clickhouse.Open(db.cfg.options("")) // its own pool: the others connect to the database
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ping(ctx, conn); err != nil {
		return err
	}
	outside := &DB{cfg: db.cfg, conn: conn, metrics: db.metrics}
	if err := outside.checkCluster(ctx); err != nil {
		return err
	}
	if err := outside.checkEngine(ctx); err != nil {
		return err
	}
	var n uint64
	const exists = "SELECT count() FROM system.databases WHERE name = ?"
	if err := conn.QueryRow(ctx, exists, db.cfg.Database).Scan(&n); err != nil || n > 0 && !db.cfg.Cluster.on() {
		return wrap("look for the database", err)
	}
	if err := outside.everywhere(ctx, db.cfg.createDatabaseSQL()); err != nil { // in a cluster another server may lack it
		return wrap("create database", err)
	}
	if n == 0 {
		progress(Step{StepDatabase, db.cfg.Database})
	}
	return nil
}

func (db *DB) checkNotNewer(ctx context.Context, _ func(Step)) error {
	have, err := db.schemaVersion(ctx)
	if err != nil {
		return ignoreMissing(err)
	}
	want, err := latestMigration()
	if err != nil || have <= want {
		return err
	}
	return compareVersions(db.cfg.Database, have, want)
}

func (db *DB) checkTimeZone(ctx context.Context, _ func(Step)) error {
	zone, err := db.setting(ctx, settingTimeZone)
	if err != nil {
		return ignoreMissing(err)
	}
	if zone != "" && zone != db.cfg.TimeZone {
		return fmt.Errorf("%w: database %q was created for time zone %s and the configuration says %s:"+
			" set time_zone to %s, or drop the database and rebuild it from the log", ErrSchema, db.cfg.Database, zone, db.cfg.TimeZone, zone)
	}
	return nil
}

func ignoreMissing(err error) error {
	if ClassOf(err) == ClassMissing {
		return nil
	}
	return err
}

func (db *DB) migrateTables(ctx context.Context, progress func(Step)) error {
	opts := db.cfg.options(db.cfg.Database)
	opts.Settings = db.cfg.with(insertSettings()) // the version table, too, is written to
	pool := clickhouse.OpenDB(opts)
	defer pool.Close()
	p, err := db.newMigrations(pool)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	for last := int64(0); ; {
		r, err := p.UpByOne(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		if err != nil {
			return wrap("migrate", err)
		}
		if r.Source.Version <= last { // of servers that do not see each other's rows, for instance
			return fmt.Errorf("%w: migration %s was applied, and table %s of database %q does not have it", ErrSchema, migrationName(last), tableMigrations, db.cfg.Database)
		}
		last = r.Source.Version
		progress(Step{StepMigration, migrationName(r.Source.Version)})
	}
}

// newMigrations returns what applies the migrations that are due, one by one. In
// a cluster goose keeps their order and the version table alone: the statements
// go to every server.
func (db *DB) newMigrations(pool *sql.DB) (*goose.Provider, error) {
	options := []goose.ProviderOption{
		goose.WithTableName(tableMigrations), goose.WithDisableGlobalRegistry(true), goose.WithSlog(db.cfg.Logger),
	}
	if db.cfg.Cluster.on() {
		migrations, err := db.clusterMigrations()
		if err != nil {
			return nil, err
		}
		return goose.NewProvider(goose.DialectClickHouse, pool, nil, append(options, goose.WithGoMigrations(migrations...))...)
	}
	files, err := fs.Sub(schemas.ClickHouse, path.Dir(migrationPattern))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectClickHouse, pool, files, options...)
}

const migrationPattern = "clickhouse/migrations/*.sql"

// migrationFiles returns the migrations, in their order.
func migrationFiles() ([]string, error) {
	files, err := fs.Glob(schemas.ClickHouse, migrationPattern) // sorted
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no migrations are embedded (%w)", err)
	}
	return files, nil
}

// migrationName returns the name of a migration's file without its ending.
func migrationName(version int64) string {
	files, _ := migrationFiles() // there are some: one of them was applied
	for _, f := range files {
		if n, err := goose.NumericComponent(f); err == nil && n == version {
			return strings.TrimSuffix(path.Base(f), ".sql")
		}
	}
	return strconv.FormatInt(version, 10)
}

// storeTimeZone writes the zone and reads back which one holds: of two first
// migrations at once only one can have been first.
func (db *DB) storeTimeZone(ctx context.Context, progress func(Step)) error {
	zone, err := db.setting(ctx, settingTimeZone)
	if err != nil || zone != "" {
		return err
	}
	err = db.send(ctx, tableSettings, []column{
		{"name", []string{settingTimeZone}}, {"value", []string{db.cfg.TimeZone}},
	})
	if err != nil {
		return wrap("store the time zone", err)
	}
	progress(Step{StepSetting, settingTimeZone + " " + db.cfg.TimeZone})
	return db.checkTimeZone(ctx, nil)
}

// errorCode is a row of the table of error codes.
type errorCode struct {
	code             int64
	zh, en, category string
	documented       bool
}

// fillErrorCodes inserts the codes that are new or were described otherwise.
func (db *DB) fillErrorCodes(ctx context.Context, progress func(Step)) error {
	want, err := errorCodes()
	if err != nil {
		return err
	}
	have := map[int64]errorCode{}
	const sql = "SELECT code, reason_zh, reason_en, category, documented FROM " + tableErrorCodes + " FINAL"
	err = db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var c errorCode
		err := rows.Scan(&c.code, &c.zh, &c.en, &c.category, &c.documented)
		have[c.code] = c
		return err
	})
	if err != nil {
		return wrap("read the error codes", err)
	}
	var changed []errorCode
	for _, c := range want {
		if have[c.code] != c {
			changed = append(changed, c)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if err := db.send(ctx, tableErrorCodes, errorCodeColumns(changed)); err != nil {
		return wrap("write the error codes", err)
	}
	progress(Step{StepCodes, strconv.Itoa(len(changed))})
	return nil
}

func errorCodeColumns(codes []errorCode) []column {
	return []column{
		col("code", codes, func(c *errorCode) int64 { return c.code }),
		col("reason_zh", codes, func(c *errorCode) string { return c.zh }),
		col("reason_en", codes, func(c *errorCode) string { return c.en }),
		col("category", codes, func(c *errorCode) string { return c.category }),
		col("documented", codes, func(c *errorCode) bool { return c.documented }),
	}
}

func errorCodes() ([]errorCode, error) {
	f, err := schemas.ClickHouse.Open("clickhouse/data/error_codes.csv")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("error_codes.csv: %w", err)
	}
	var codes []errorCode
	for _, l := range lines[1:] { // the first line names the columns
		n, err := strconv.ParseInt(l[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("error_codes.csv: %w", err)
		}
		codes = append(codes, errorCode{n, l[1], l[2], l[3], l[4] == "true"})
	}
	return codes, nil
}

// KnownErrCodes returns the codes of err(num) that have a meaning here, in
// ascending order: metrics show each of them as 0 before it first happens.
func KnownErrCodes() []int64 {
	codes, err := errorCodes()
	if err != nil {
		panic(err) // the file is embedded and tested
	}
	return each(codes, func(c *errorCode) int64 { return c.code })
}

// createViews replaces every view. Readers see the old one or the new one.
func (db *DB) createViews(ctx context.Context, progress func(Step)) error {
	names, err := Views()
	if err != nil {
		return err
	}
	for _, name := range names {
		statement, err := db.cfg.viewSQL(name)
		if err != nil {
			return err
		}
		if err := db.everywhere(ctx, statement); err != nil {
			return wrap("create view "+name, err)
		}
		progress(Step{StepView, name})
	}
	return nil
}

// Views returns the names of the views, the project's interface to people, in
// the order in which they can be created.
func Views() ([]string, error) {
	files, err := fs.Glob(schemas.ClickHouse, "clickhouse/views/*.sql")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no views are embedded (%w)", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".sql")
	}
	return files, nil
}

func viewFile(name string) string { return "clickhouse/views/" + name + ".sql" }

// syncInserts makes the server fsync every insert before it answers, if so
// configured. Its answers otherwise come from the page cache.
func (db *DB) syncInserts(ctx context.Context, progress func(Step)) error {
	if !db.cfg.Embedded {
		return nil
	}
	for _, table := range []string{tableEvents, tableRecords, tableMessages, tableAccounts, tableSettings, tableRebuilds, tableClients, tableErasures} {
		var engine string
		const sql = "SELECT engine_full FROM system.tables WHERE database = ? AND name = ?"
		if err := db.conn.QueryRow(ctx, sql, db.cfg.Database, table).Scan(&engine); err != nil {
			return wrap("read the settings of "+table, err)
		}
		if strings.Contains(engine, "fsync_part_directory = ") {
			continue
		}
		alter := "ALTER TABLE " + table + " MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1"
		if err := db.conn.Exec(ctx, alter); err != nil {
			return wrap("set "+table+" to fsync", err)
		}
		progress(Step{StepSetting, "fsync of " + table})
	}
	return nil
}
