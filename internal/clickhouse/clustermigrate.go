package clickhouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/pressly/goose/v3"
)

// everywhere runs statements that change the schema on every server of the
// cluster, one after the other; without a cluster, on the one there is. They can
// be repeated: where one server could not be reached, the next run does it.
func (db *DB) everywhere(ctx context.Context, statements ...string) error {
	if db.cfg.Cluster.on() && !db.cfg.Cluster.Replicated {
		return db.onEachServer(ctx, statements)
	}
	return execAll(ctx, db.conn, statements)
}

func execAll(ctx context.Context, conn driver.Conn, statements []string) error {
	for _, s := range statements {
		if err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", firstLine(s), err)
		}
	}
	return nil
}

// firstLine names a statement.
func firstLine(statement string) string {
	for line := range strings.Lines(statement) {
		if !strings.HasPrefix(line, "--") {
			return strings.TrimSpace(line)
		}
	}
	return statement
}

func (db *DB) onEachServer(ctx context.Context, statements []string) error {
	if err := db.checkServers(ctx); err != nil {
		return err
	}
	for _, addr := range db.cfg.Addr {
		err := db.onServer(addr, func(conn driver.Conn) error { return execAll(ctx, conn, statements) })
		if err != nil {
			return fmt.Errorf("server %s: %w", addr, err)
		}
	}
	return nil
}

// onServer connects to one server, and to no database: it may not have it yet.
func (db *DB) onServer(addr string, do func(driver.Conn) error) error {
	cfg := db.cfg
	cfg.Addr = []string{addr}
	options := cfg.options("")
	options.MaxOpenConns, options.MaxIdleConns = 1, 1
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(conn)
}

// checkServers makes sure that the configured addresses are all of the
// cluster's servers, and each once: nobody else would tell those that are missing.
func (db *DB) checkServers(ctx context.Context) error {
	seen := map[string]string{}
	var want uint64
	for _, addr := range db.cfg.Addr {
		var id string
		err := db.onServer(addr, func(conn driver.Conn) error {
			const sql = "SELECT concat(hostName(), ' ', toString(tcpPort()), ' ', toString(serverUUID())), (SELECT count() FROM system.clusters WHERE cluster = ?)"
			return conn.QueryRow(ctx, sql, db.cfg.Cluster.Name).Scan(&id, &want)
		})
		if err != nil {
			return fmt.Errorf("server %s: %w", addr, err)
		}
		if other, ok := seen[id]; ok {
			return fmt.Errorf("%w: clickhouse.addr has one server of cluster %q twice: %s and %s", ErrSchema, db.cfg.Cluster.Name, other, addr)
		}
		seen[id] = addr
		if want != uint64(len(db.cfg.Addr)) {
			return fmt.Errorf("%w: by server %s cluster %q has %d servers, and clickhouse.addr lists %d: without clickhouse.cluster.replicated it must list all of them", ErrSchema, addr, db.cfg.Cluster.Name, want, len(db.cfg.Addr))
		}
	}
	return nil
}

// clusterMigrations are the files as goose takes functions. It keeps the order
// and the version table; the statements go to every server.
func (db *DB) clusterMigrations() ([]*goose.Migration, error) {
	files, err := migrationFiles()
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	for _, f := range files {
		statements, err := db.cfg.migrationSQL(f)
		if err != nil {
			return nil, err
		}
		version, err := goose.NumericComponent(path.Base(f))
		if err != nil {
			return nil, err
		}
		run := func(ctx context.Context, _ *sql.DB) error { return db.everywhere(ctx, statements...) }
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{RunDB: run}, nil))
	}
	return all, nil
}

// createVersionTable makes goose's table, which it would make on one server alone.
func (db *DB) createVersionTable(ctx context.Context, _ func(Step)) error {
	if !db.cfg.Cluster.on() {
		return nil
	}
	if err := db.everywhere(ctx, db.cfg.clusterDDL().versionTable()...); err != nil {
		return wrap("create table "+tableMigrations, err)
	}
	var rows uint64
	if err := db.conn.QueryRow(ctx, "SELECT count() FROM "+tableMigrations).Scan(&rows); err != nil || rows > 0 {
		return wrap("read "+tableMigrations, err)
	}
	// goose takes a table without this row for none.
	return wrap("write "+tableMigrations, db.send(ctx, tableMigrations, []column{{"version_id", []int64{0}}, {"is_applied", []uint8{1}}}))
}

// storeShards writes down over which shards the rows are spread.
func (db *DB) storeShards(ctx context.Context, progress func(Step)) error {
	if !db.cfg.Cluster.on() {
		return nil
	}
	stored, err := db.setting(ctx, settingShards)
	if err != nil {
		return wrap("read the settings", err)
	}
	if stored == "" {
		shards, err := db.shards(ctx)
		if err != nil {
			return err
		}
		if err := db.send(ctx, tableSettings, []column{{"name", []string{settingShards}}, {"value", []string{weights(shards)}}}); err != nil {
			return wrap("store the shards", err)
		}
		progress(Step{StepSetting, settingShards + " " + weights(shards)})
	}
	return db.checkShards(ctx)
}

// completeServers makes tables on servers that lack them: replicas that were
// added after the migrations. What the tables look like now is asked of a server
// that has them, since Keeper would refuse what they looked like at first.
func (db *DB) completeServers(ctx context.Context, progress func(Step)) error {
	if !db.cfg.Cluster.on() {
		return nil
	}
	missing, err := db.incompleteTables(ctx)
	if err != nil {
		return wrap("ask the servers for their tables", err)
	}
	for _, t := range missing {
		statement, ok := db.cfg.clusterDDL().again(t.create)
		if !ok {
			return fmt.Errorf("clickhouse: the statement of table %s begins otherwise than expected", t.name)
		}
		if err := db.everywhere(ctx, statement); err != nil {
			return wrap("create table "+t.name+" on the servers that lack it", err)
		}
		progress(Step{StepServers, t.name})
	}
	return nil
}

// definition is a table, with its statement as a server tells it.
type definition struct{ name, create string }

// incompleteTables returns those that some server lacks; local ones first, since
// the others are made of them.
func (db *DB) incompleteTables(ctx context.Context) ([]definition, error) {
	if len(db.cfg.Addr) == 0 {
		return nil, errors.New("no servers")
	}
	sql := "SELECT name, any(create_table_query) FROM " + db.onAll("system.tables") +
		" WHERE database = ? AND engine LIKE '%MergeTree' OR database = ? AND engine = 'Distributed'" +
		" GROUP BY name HAVING count() < (SELECT count() FROM system.clusters WHERE cluster = ?)" +
		" ORDER BY endsWith(name, ?) DESC, name"
	var all []definition
	err := db.each(ctx, sql, []any{db.cfg.Database, db.cfg.Database, db.cfg.Cluster.Name, localSuffix}, func(rows driver.Rows) error {
		var d definition
		err := rows.Scan(&d.name, &d.create)
		all = append(all, d)
		return err
	})
	return all, err
}

// again makes a statement that a server tells of a table of its own one for the
// servers that lack it.
func (d clusterDDL) again(create string) (string, bool) {
	rest, ok := strings.CutPrefix(create, "CREATE TABLE ")
	name, rest, found := strings.Cut(rest, " ")
	return "CREATE TABLE IF NOT EXISTS " + name + d.onCluster() + " " + rest, ok && found
}
