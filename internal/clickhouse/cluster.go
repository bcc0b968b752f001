package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Cluster spreads the database over the shards of a cluster. The zero value is
// no cluster: one server has everything.
//
// Each table then is two: a local one (…_rows_local) on every server, and a
// Distributed one of the usual name, through which everything is written and
// read. Nothing but migrations knows of the local ones.
type Cluster struct {
	// Name is what the servers' remote_servers call the cluster.
	Name string
	// Replicated makes tables that the replicas of a shard share through Keeper,
	// with statements that Keeper takes to every server. Without it each shard is
	// one server, there is no Keeper, and [Config.Addr] must list all of them:
	// migrate tells each one by itself.
	Replicated bool
}

func (c Cluster) on() bool { return c.Name != "" }

// Characters that mean the same in SQL, in Keeper's paths and in configuration files.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

func (c Config) validateCluster() error {
	switch {
	case !c.Cluster.on():
		return nil
	case !plainName.MatchString(c.Cluster.Name):
		return fmt.Errorf("clickhouse cluster %q: want letters, digits, dots, dashes and underscores", c.Cluster.Name)
	case !plainName.MatchString(c.Database):
		return fmt.Errorf("clickhouse database %q: in a cluster, want letters, digits, dots, dashes and underscores", c.Database)
	case c.Embedded:
		return errors.New("clickhouse: the local engine is no cluster")
	}
	return nil
}

// ErrNotInCluster says that something is not done where there are several servers.
var ErrNotInCluster = errors.New("not possible in a cluster")

// refuseInCluster is for what would not be whole there: some servers would have
// it, and others not.
func (db *DB) refuseInCluster(what, instead string) error {
	if !db.cfg.Cluster.on() {
		return nil
	}
	return fmt.Errorf("%w: %s; %s", ErrNotInCluster, what, instead)
}

// refuseDeleting is for what takes rows out of the tables.
func (db *DB) refuseDeleting() error {
	return db.refuseInCluster("rows are deleted from the local tables of every server", "see \"Erasing and expiring\" in docs/cluster.md")
}

// global makes a subquery over a distributed table be asked once, and its answer
// be sent to every shard. Elsewhere it is nothing.
func (db *DB) global() string {
	if db.cfg.Cluster.on() {
		return "GLOBAL "
	}
	return ""
}

// openStrategy is in which order addresses are tried: as they are listed, or, in
// a cluster, beginning with another one each time, so that all have the same to do.
func (c Config) openStrategy() clickhouse.ConnOpenStrategy {
	if c.Cluster.on() {
		return clickhouse.ConnOpenRoundRobin
	}
	return clickhouse.ConnOpenInOrder
}

// shard is a shard of the cluster, as a server describes it.
type shard struct {
	number   uint32
	weight   uint32
	replicas uint64
	internal uint8 // 1: a replica that was given rows hands them to the others itself
}

// shards asks a server who is in the cluster.
func (db *DB) shards(ctx context.Context) ([]shard, error) {
	const sql = "SELECT shard_num, any(shard_weight), count(), min(internal_replication) FROM system.clusters" +
		" WHERE cluster = ? GROUP BY shard_num ORDER BY shard_num"
	var all []shard
	err := db.each(ctx, sql, []any{db.cfg.Cluster.Name}, func(rows driver.Rows) error {
		var s shard
		err := rows.Scan(&s.number, &s.weight, &s.replicas, &s.internal)
		all = append(all, s)
		return err
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: the server knows no cluster %q: see remote_servers in its configuration, and clickhouse.cluster.name in this program's", ErrSchema, db.cfg.Cluster.Name)
	}
	return all, err
}

// weights writes down what decides which shard has a row.
func weights(shards []shard) string {
	return strings.Join(each(shards, func(s *shard) string { return strconv.Itoa(int(s.weight)) }), ",")
}

const settingShards = "cluster_shards"

// checkShards refuses a database whose rows are spread otherwise than rows
// would be spread now: those of one message could come to lie on two shards,
// where nothing merges them.
func (db *DB) checkShards(ctx context.Context) error {
	stored, err := db.setting(ctx, settingShards)
	if err != nil {
		return err
	}
	if err := db.compareLayout(stored != ""); err != nil || stored == "" {
		return err
	}
	shards, err := db.shards(ctx)
	if err != nil {
		return err
	}
	if now := weights(shards); now != stored {
		return fmt.Errorf("%w: database %q is spread over shards of the weights %s, and cluster %q has %s: its shards cannot change."+
			" To have others, make another database (clickhouse.database) and let a sink with another sink.group fill it from the topic",
			ErrSchema, db.cfg.Database, stored, db.cfg.Cluster.Name, now)
	}
	return nil
}

// compareLayout refuses to treat one server as a cluster, and the other way round.
func (db *DB) compareLayout(inCluster bool) error {
	switch {
	case inCluster && !db.cfg.Cluster.on():
		return fmt.Errorf("%w: database %q was made for a cluster: set clickhouse.cluster.name", ErrSchema, db.cfg.Database)
	case !inCluster && db.cfg.Cluster.on():
		return fmt.Errorf("%w: database %q was made for one server: remove clickhouse.cluster, or choose another clickhouse.database", ErrSchema, db.cfg.Database)
	}
	return nil
}

// checkEngine is compareLayout before anything is created: to a statement with
// IF NOT EXISTS either kind of table is there. Every server is asked.
func (db *DB) checkEngine(ctx context.Context) error {
	sql := "SELECT engine FROM " + db.onAll("system.tables") + " WHERE database = ? AND name = ?"
	return db.each(ctx, sql, []any{db.cfg.Database, tableEvents}, func(rows driver.Rows) error {
		var engine string
		if err := rows.Scan(&engine); err != nil {
			return err
		}
		return db.compareLayout(engine == "Distributed")
	})
}

// onAll is a table of every server in the cluster.
func (db *DB) onAll(table string) string {
	if !db.cfg.Cluster.on() {
		return table
	}
	return "clusterAllReplicas(" + quoteText(db.cfg.Cluster.Name) + ", " + table + ")"
}

// checkCluster says what a cluster lacks for the tables to be made in it.
func (db *DB) checkCluster(ctx context.Context) error {
	if !db.cfg.Cluster.on() {
		return nil
	}
	shards, err := db.shards(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		switch {
		case !db.cfg.Cluster.Replicated && s.replicas > 1:
			return fmt.Errorf("%w: shard %d of cluster %q has %d replicas: without clickhouse.cluster.replicated each shard must be one server", ErrSchema, s.number, db.cfg.Cluster.Name, s.replicas)
		case db.cfg.Cluster.Replicated && s.replicas > 1 && s.internal == 0:
			return fmt.Errorf("%w: shard %d of cluster %q has no internal_replication: without it its servers and its tables both replicate: set it to true in remote_servers", ErrSchema, s.number, db.cfg.Cluster.Name)
		}
	}
	if db.cfg.Cluster.Replicated {
		return db.checkMacros(ctx)
	}
	return nil
}

// checkMacros asks every server: the paths of replicated tables are made of them.
func (db *DB) checkMacros(ctx context.Context) error {
	sql := "SELECT hostName(), arraySort(groupArray(macro)), anyIf(substitution, macro = 'shard'), anyIf(substitution, macro = 'replica')" +
		" FROM " + db.onAll("view(SELECT * FROM system.macros RIGHT JOIN system.one ON 1 = 1)") + " GROUP BY hostName(), tcpPort()"
	seen := map[[2]string]string{}
	return db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var host, shard, replica string
		var macros []string
		if err := rows.Scan(&host, &macros, &shard, &replica); err != nil {
			return err
		}
		for _, m := range []string{"shard", "replica"} {
			if !slices.Contains(macros, m) {
				return fmt.Errorf("%w: server %s of cluster %q has no macro %s: see macros in its configuration", ErrSchema, host, db.cfg.Cluster.Name, m)
			}
		}
		if other, taken := seen[[2]string{shard, replica}]; taken {
			return fmt.Errorf("%w: servers %s and %s of cluster %q have the same macros shard and replica (%s, %s)", ErrSchema, other, host, db.cfg.Cluster.Name, shard, replica)
		}
		seen[[2]string{shard, replica}] = host
		return nil
	})
}
