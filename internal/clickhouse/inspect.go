package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// ServerState is a server as it describes itself, for people.
type ServerState struct {
	Version string
	Now     time.Time // by its clock
	Uptime  time.Duration
}

// InspectServer asks the server about itself.
func (db *DB) InspectServer(ctx context.Context) (ServerState, error) {
	start := db.cfg.Clock()
	var s ServerState
	var uptime uint32
	err := db.conn.QueryRow(ctx, "SELECT version(), now64(3, 'UTC'), uptime()").Scan(&s.Version, &s.Now, &uptime)
	s.Uptime = time.Duration(uptime) * time.Second
	return s, db.done(opQuery, start, err)
}

// Disk is a disk of the server.
type Disk struct {
	Name        string
	Path        string
	Free, Total uint64 // bytes; Free is what the server may use
}

// Disks lists the server's disks. Those whose size nobody knows, such as object
// stores, are left out.
func (db *DB) Disks(ctx context.Context) ([]Disk, error) {
	start := db.cfg.Clock()
	var disks []Disk
	const sql = "SELECT name, path, unreserved_space, total_space FROM system.disks WHERE total_space BETWEEN 1 AND 1152921504606846976 ORDER BY name"
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var d Disk
		err := rows.Scan(&d.Name, &d.Path, &d.Free, &d.Total)
		disks = append(disks, d)
		return err
	})
	return disks, db.done(opQuery, start, err)
}

// SickTable is a table of the database that does not do all it should.
type SickTable struct {
	Table string
	// Detached counts parts that the server set aside because it could not use
	// them: rows that are missing from every answer.
	Detached uint64
	// ReadOnly says that a replica has lost its coordination service, and so
	// takes no rows.
	ReadOnly bool
}

// SickTables lists them; none is as it should be.
func (db *DB) SickTables(ctx context.Context) ([]SickTable, error) {
	start := db.cfg.Clock()
	// What people detached has no reason, and what a merge left behind is no loss.
	const sql = `
SELECT name, sum(detached), max(read_only)
FROM
(
    SELECT table AS name, count() AS detached, 0 AS read_only FROM system.detached_parts
    WHERE database = ? AND reason != '' AND reason NOT IN ('ignored', 'clone', 'attaching', 'deleting', 'covered-by-broken') GROUP BY table
    UNION ALL
    SELECT table AS name, 0 AS detached, toUInt8(is_readonly) AS read_only FROM system.replicas WHERE database = ?
)
GROUP BY name HAVING sum(detached) > 0 OR max(read_only) > 0
ORDER BY name`
	var tables []SickTable
	err := db.each(ctx, sql, []any{db.cfg.Database, db.cfg.Database}, func(rows driver.Rows) error {
		var t SickTable
		var readOnly uint8
		err := rows.Scan(&t.Table, &t.Detached, &readOnly)
		t.ReadOnly = readOnly > 0
		tables = append(tables, t)
		return err
	})
	return tables, db.done(opQuery, start, err)
}

// MissingGrants returns those statements of [Grants] whose rights the user of
// this pool does not have.
func (db *DB) MissingGrants(ctx context.Context, role Role) ([]string, error) {
	grants, err := Grants(role, db.cfg.Database, db.cfg.Username)
	if err != nil {
		return nil, err
	}
	start := db.cfg.Clock()
	var missing []string
	for _, g := range grants {
		ok, err := db.granted(ctx, g)
		if err != nil {
			return nil, db.done(opQuery, start, err)
		}
		if !ok {
			missing = append(missing, g)
		}
	}
	return missing, db.done(opQuery, start, nil)
}

// granted asks whether the user has what a GRANT gives.
func (db *DB) granted(ctx context.Context, grant string) (bool, error) {
	rights, ok := strings.CutPrefix(grant, "GRANT ")
	if !ok {
		return false, fmt.Errorf("%q is no GRANT", grant)
	}
	var yes uint8
	err := db.conn.QueryRow(ctx, "CHECK GRANT "+rights).Scan(&yes)
	return yes == 1, err
}
