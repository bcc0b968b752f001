package clickhouse

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"

	"qunfa/schemas"
)

// ddlTimeout is how long the servers of a cluster may take for one statement. It
// lies below the time after which the client stops waiting.
const ddlTimeout = 50 * time.Second

// localSuffix marks the tables that hold the rows of one shard.
const localSuffix = "_local"

// shardingKey says which shard has a row of a table. Everything about an account
// is on one shard, so that its copies meet there and are merged. What is little
// is on the first shard alone: then there is no doubt about which row is right.
func shardingKey(table string) (string, bool) {
	switch table {
	case tableEvents, tableMessages:
		return "cityHash64(appid)", true
	case tableRecords:
		return "cityHash64(topic, `partition`)", true
	case tableErrorCodes, tableAccounts, tableSettings, tableRebuilds, tableClients, tableErasures, tableMigrations:
		return "0", true
	}
	return "", false
}

// clusterDDL writes the schema's statements for a cluster.
type clusterDDL struct {
	cluster  Cluster
	database string
	definer  string // whose rights the views read with
	timeZone string
}

func (c Config) clusterDDL() clusterDDL {
	return clusterDDL{c.Cluster, c.Database, c.Username, c.TimeZone}
}

// onCluster is the clause that takes a statement to every server; without
// Keeper it goes to each by itself.
func (d clusterDDL) onCluster() string {
	if !d.cluster.Replicated {
		return ""
	}
	return " ON CLUSTER " + quoteName(d.cluster.Name)
}

func (d clusterDDL) name(table string) string { return quoteName(d.database) + "." + table }

func (d clusterDDL) createDatabase() string {
	return "CREATE DATABASE IF NOT EXISTS " + quoteName(d.database) + d.onCluster()
}

// versionTable is the table that goose would make otherwise.
func (d clusterDDL) versionTable() []string {
	statements, err := d.rewrite(`CREATE TABLE IF NOT EXISTS ` + tableMigrations + `
(
    version_id Int64,
    is_applied UInt8,
    date       Date DEFAULT now(),
    tstamp     DateTime DEFAULT now()
)
ENGINE = MergeTree
ORDER BY version_id
COMMENT 'Which migrations were applied.'`)
	if err != nil {
		panic(err) // the text above
	}
	return statements
}

// migration returns the statements of a migration's file.
func (d clusterDDL) migration(text string) ([]string, error) {
	var all []string
	for _, s := range splitSQL(text) {
		rewritten, err := d.rewrite(s)
		if err != nil {
			return nil, err
		}
		all = append(all, rewritten...)
	}
	return all, nil
}

// splitSQL returns the statements of a file without comments. One ends with a
// semicolon at the end of a line.
func splitSQL(text string) []string {
	var code []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			code = append(code, line)
		}
	}
	var statements []string
	for s := range strings.SplitSeq(strings.Join(code, ""), ";\n") {
		if s = strings.TrimSuffix(strings.TrimSpace(s), ";"); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

var (
	createTable = regexp.MustCompile(`(?s)^CREATE TABLE IF NOT EXISTS (\w+)\n(\(.*\n\))\nENGINE = (\w*MergeTree)(?:\(([^)]*)\))?\n(.*)$`)
	comment     = regexp.MustCompile(`(?s)\nCOMMENT '(?:[^'\\]|\\.|'')*'$`)
	alterTable  = regexp.MustCompile(`(?s)^ALTER TABLE (\w+) (.*)$`)
	// What a Distributed table has, too. Keys, lifetimes, indices, settings and
	// rows are the local tables' own.
	ofColumns = regexp.MustCompile(`^(?:ADD|DROP|MODIFY|RENAME|COMMENT) COLUMN |^MODIFY COMMENT `)
)

// rewrite returns what a statement of the schema becomes.
func (d clusterDDL) rewrite(statement string) ([]string, error) {
	if m := createTable.FindStringSubmatch(statement); m != nil {
		return d.create(m[1], m[2], m[3], m[4], m[5])
	}
	if m := alterTable.FindStringSubmatch(statement); m != nil {
		return d.alter(m[1], m[2]), nil
	}
	return nil, fmt.Errorf("statement %.40q: what it means in a cluster is not known", statement)
}

func (d clusterDDL) create(table, columns, engine, args, rest string) ([]string, error) {
	key, ok := shardingKey(table)
	if !ok {
		return nil, fmt.Errorf("table %s: which shard has a row is not known", table)
	}
	if !d.cluster.Replicated {
		rest = withFsync(rest)
	}
	local := "CREATE TABLE IF NOT EXISTS " + d.name(table+localSuffix) + d.onCluster() + "\n" + columns + "\nENGINE = " + d.engine(table, engine, args) + "\n" + rest
	distributed := "CREATE TABLE IF NOT EXISTS " + d.name(table) + d.onCluster() + " AS " + d.name(table+localSuffix) +
		"\nENGINE = Distributed(" + strings.Join([]string{quoteText(d.cluster.Name), quoteText(d.database), quoteText(table + localSuffix), key}, ", ") + ")" +
		comment.FindString(rest)
	return []string{local, distributed}, nil
}

// withFsync adds the settings that make a row survive a power cut, since no
// other server has it.
func withFsync(rest string) string {
	const fsync = "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
	if strings.Contains(rest, "\nSETTINGS ") {
		return strings.Replace(rest, "\nSETTINGS ", "\n"+fsync+", ", 1)
	}
	text := comment.FindString(rest)
	return strings.TrimSuffix(rest, text) + "\n" + fsync + text
}

// engine returns the local table's. Its path in Keeper is spelled out, so that a
// replica which is added later finds the others, and a renamed table stays itself.
func (d clusterDDL) engine(table, engine, args string) string {
	var all []string
	if d.cluster.Replicated {
		engine = "Replicated" + engine
		all = append(all, quoteText(path.Join("/clickhouse/tables/{shard}", d.database, table)), quoteText("{replica}"))
	}
	if args != "" {
		all = append(all, args)
	}
	if len(all) == 0 {
		return engine
	}
	return engine + "(" + strings.Join(all, ", ") + ")"
}

func (d clusterDDL) alter(table, what string) []string {
	statements := []string{"ALTER TABLE " + d.name(table+localSuffix) + d.onCluster() + " " + what}
	if ofColumns.MatchString(what) {
		statements = append(statements, "ALTER TABLE "+d.name(table)+d.onCluster()+" "+what)
	}
	return statements
}

var (
	createView = regexp.MustCompile(`(?m)^CREATE OR REPLACE VIEW (\w+)$`)
	joins      = regexp.MustCompile(`(?m)^(LEFT ANY JOIN|FULL JOIN) \(`)
	from       = regexp.MustCompile(`\bFROM ([a-z_]+)\b`)
)

// view returns the statement of a view's file. Its joins are with what is asked
// for once. Its tables and whose rights it has are spelled out, since servers make
// it by themselves.
func (d clusterDDL) view(text string) string {
	text = createView.ReplaceAllString(text, "CREATE OR REPLACE VIEW "+d.name("$1")+d.onCluster())
	text = joins.ReplaceAllString(text, "GLOBAL $1 (")
	text = from.ReplaceAllString(text, "FROM "+d.name("$1"))
	text = strings.Replace(text, "DEFINER = CURRENT_USER", "DEFINER = "+quoteName(d.definer), 1)
	return strings.ReplaceAll(text, "{{time_zone}}", d.timeZone)
}

// Statements returns the SQL that [DB.Migrate] runs for a new database, but for
// what it writes into tables, which depends on what is there.
func (c Config) Statements() ([]string, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	all := []string{c.createDatabaseSQL()}
	if c.Cluster.on() {
		all = append(all, c.clusterDDL().versionTable()...)
	}
	files, err := migrationFiles()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		statements, err := c.migrationSQL(f)
		if err != nil {
			return nil, err
		}
		all = append(all, statements...)
	}
	views, err := Views()
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		statement, err := c.viewSQL(v)
		if err != nil {
			return nil, err
		}
		all = append(all, strings.TrimSuffix(strings.TrimSpace(statement), ";"))
	}
	return all, nil
}

func (c Config) createDatabaseSQL() string {
	if c.Cluster.on() {
		return c.clusterDDL().createDatabase()
	}
	return "CREATE DATABASE IF NOT EXISTS " + quoteName(c.Database)
}

// migrationSQL returns the statements of a migration.
func (c Config) migrationSQL(file string) ([]string, error) {
	text, err := fs.ReadFile(schemas.ClickHouse, file)
	if err != nil {
		return nil, err
	}
	if !c.Cluster.on() {
		return splitSQL(string(text)), nil
	}
	statements, err := c.clusterDDL().migration(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path.Base(file), err)
	}
	return statements, nil
}

// viewSQL returns the statement of a view. The zone's name was checked; views
// name their tables without a database, which the server fills in from the
// connection.
func (c Config) viewSQL(name string) (string, error) {
	text, err := fs.ReadFile(schemas.ClickHouse, viewFile(name))
	if err != nil {
		return "", err
	}
	if c.Cluster.on() {
		return c.clusterDDL().view(string(text)), nil
	}
	return strings.ReplaceAll(string(text), "{{time_zone}}", c.TimeZone), nil
}
