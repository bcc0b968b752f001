package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// ErrSchema marks a database that this version cannot work with as it is. The
// text says what to do about it.
var ErrSchema = errors.New("database schema")

// CheckSchema reports why the database is not ready for this version: it is
// missing, or older (run qunfa migrate), or newer and too different (upgrade
// this program). Services ask until the answer is nil; they never change a schema.
func (db *DB) CheckSchema(ctx context.Context) error {
	start := db.cfg.Clock()
	return db.done(opSchema, start, db.checkSchema(ctx))
}

func (db *DB) checkSchema(ctx context.Context) error {
	if err := db.Ping(ctx); err != nil {
		return explainMissing(db.cfg.Database, err)
	}
	have, err := db.schemaVersion(ctx)
	if err != nil {
		return explainMissing(db.cfg.Database, err)
	}
	want, err := latestMigration()
	if err != nil {
		return err
	}
	if err := db.checkFits(ctx, have, want); err != nil {
		return err
	}
	if err := db.checkShards(ctx); err != nil {
		return err
	}
	_, err = db.location(ctx)
	return err
}

// schemaVersion returns the number of the last migration that was applied.
func (db *DB) schemaVersion(ctx context.Context) (int64, error) {
	var v int64
	err := db.conn.QueryRow(ctx, "SELECT max(version_id) FROM "+tableMigrations).Scan(&v)
	return v, err
}

func compareVersions(database string, have, want int64) error {
	switch {
	case have < want:
		return fmt.Errorf("%w: database %q is at version %d and this program needs %d: run qunfa migrate", ErrSchema, database, have, want)
	case have > want:
		return fmt.Errorf("%w: database %q is at version %d, but this program knows only %d: run a newer qunfa", ErrSchema, database, have, want)
	}
	return nil
}

// explainMissing says what to do about a missing database or table, and leaves
// other errors as they are.
func explainMissing(database string, err error) error {
	if class := ClassOf(err); class == ClassMissing {
		return fmt.Errorf("%w: database %q has not been created: run qunfa migrate (%w)", ErrSchema, database, err)
	}
	return err
}

// latestMigration returns the number of the newest migration of this version.
func latestMigration() (int64, error) {
	files, err := migrationFiles()
	if err != nil {
		return 0, err
	}
	number, _, _ := strings.Cut(path.Base(files[len(files)-1]), "_")
	return strconv.ParseInt(number, 10, 64)
}

// Location returns the time zone whose calendar days messages fall on, as the
// first migrate stored it.
func (db *DB) Location(ctx context.Context) (*time.Location, error) {
	start := db.cfg.Clock()
	loc, err := db.location(ctx)
	return loc, db.done(opSchema, start, err)
}

func (db *DB) location(ctx context.Context) (*time.Location, error) {
	name, err := db.setting(ctx, settingTimeZone)
	if err != nil {
		return nil, explainMissing(db.cfg.Database, err)
	}
	if name == "" {
		return nil, fmt.Errorf("%w: database %q has no time zone yet: run qunfa migrate", ErrSchema, db.cfg.Database)
	}
	return loadZone(name)
}

const settingTimeZone = "time_zone"

// setting returns what was set first under the name, or "" if nothing was.
func (db *DB) setting(ctx context.Context, name string) (string, error) {
	value := ""
	const sql = "SELECT value FROM " + tableSettings + " WHERE name = ? ORDER BY set_at, value LIMIT 1"
	err := db.each(ctx, sql, []any{name}, func(rows driver.Rows) error { return rows.Scan(&value) })
	return value, err
}
