package clickhouse_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
)

// inCluster returns how to reach a cluster of two shards, with a database that
// does not exist yet.
func inCluster(cluster *embeddedtest.Cluster) clickhouse.Config {
	return clickhouse.Config{
		Addr:     cluster.Addrs(),
		Username: cluster.Username,
		Password: cluster.Password,
		Database: "qunfa",
		TimeZone: "Asia/Shanghai",
		Cluster:  clickhouse.Cluster{Name: embeddedtest.ClusterName},
	}
}

// migratedCluster returns an empty database of this version, spread over the
// shards of a cluster.
func migratedCluster(t *testing.T, cluster *embeddedtest.Cluster) *clickhouse.DB {
	t.Helper()
	db := open(t, inCluster(cluster))
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return db
}

// onShard opens the database on one server alone.
func onShard(t *testing.T, cluster *embeddedtest.Cluster, i int) *clickhouse.DB {
	t.Helper()
	cfg := inCluster(cluster)
	cfg.Addr, cfg.Cluster = []string{cluster.Shards[i].Addr}, clickhouse.Cluster{}
	return open(t, cfg)
}

func TestClusterMigrate(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.NewCluster(t, embeddedtest.ClusterOptions{})
	db := open(t, inCluster(cluster))
	if err := db.CheckSchema(t.Context()); err == nil || !strings.Contains(err.Error(), "run qunfa migrate") {
		t.Errorf("CheckSchema without a database: %v, want one that says to migrate", err)
	}
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	first := steps(t, db)
	want := map[string]int{"database": 1, "migration": first["migration"], "setting": 3, "error codes": 1, "view": len(views)}
	if d := cmp.Diff(want, first); d != "" || first["migration"] < 9 {
		t.Errorf("first migrate (-want +got):\n%s", d)
	}
	if err := db.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(map[string]int{"view": len(views)}, steps(t, db)); d != "" {
		t.Errorf("second migrate, want views alone (-want +got):\n%s", d)
	}
	const tables = "SELECT name, engine, create_table_query FROM system.tables WHERE database = 'qunfa' ORDER BY name"
	one, two := query(t, onShard(t, cluster, 0), tables), query(t, onShard(t, cluster, 1), tables)
	if d := cmp.Diff(one, two); d != "" {
		t.Errorf("the servers have not the same (-first +second):\n%s", d)
	}
}

// Whatever is asked, two shards answer as one server would.
func TestClusterAnswersLikeOneServer(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.NewCluster(t, embeddedtest.ClusterOptions{})
	spread, alone := newFixture(t, migratedCluster(t, cluster)), newFixture(t, migrated(t))
	log := alone.everyKind()
	spread.everyKind()
	r := rand.New(rand.NewPCG(5, 0))
	log = append(log, alone.randomEvents(r, 200)...)
	log = append(log, log[:len(log)/3]...) // some come twice
	r.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
	for len(log) > 0 {
		n := min(1+r.IntN(200), len(log))
		spread.write(log[:n]...)
		alone.write(log[:n]...)
		log = log[n:]
	}
	for _, f := range []*fixture{alone, spread} {
		if _, _, err := f.db.SetClients(t.Context(), []clickhouse.Client{{Name: "ann", AppIDs: []string{"wx1", "wx2"}}}); err != nil {
			t.Fatal(err)
		}
	}
	sameViews(t, alone.db, spread.db)
	sameFigures(t, alone, spread)
	onTheirShards(t, cluster)
}

// sameViews compares all that people can ask for.
func sameViews(t *testing.T, want, got *clickhouse.DB) {
	t.Helper()
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		sql := "SELECT * FROM " + v + " ORDER BY ALL"
		switch v {
		case "missing_callbacks":
			sql = "SELECT * EXCEPT age_seconds FROM " + v + " ORDER BY ALL" // by the clock
		case "settings":
			sql = "SELECT * FROM " + v + " WHERE name != 'cluster_shards' ORDER BY ALL"
		}
		one := query(t, want, sql)
		if len(one) == 0 {
			t.Errorf("view %s is empty: nothing is compared", v)
		}
		if d := cmp.Diff(one, query(t, got, sql)); d != "" {
			t.Errorf("%s (-one server +cluster):\n%s", v, d)
		}
	}
	// As dashboards ask: grouped, filtered and joined.
	for _, sql := range []string{
		"SELECT account, sum(sent), count() FROM messages WHERE day >= '2026-11-01' GROUP BY account ORDER BY account",
		"SELECT * FROM messages WHERE appid = 'wx1' AND msg_id = 1",
		"SELECT m.appid, count() FROM messages AS m JOIN articles AS a ON a.appid = m.appid AND a.msg_id = m.msg_id GROUP BY m.appid ORDER BY ALL",
		"SELECT count() FROM messages WHERE (appid, msg_id) IN (SELECT appid, msg_id FROM audit_failures)",
		"SELECT day, uniqExact(appid) FROM delivery_daily GROUP BY day ORDER BY day LIMIT 5",
	} {
		one := query(t, want, sql)
		if len(one) == 0 {
			t.Errorf("%s: no answer: nothing is compared", sql)
		}
		if d := cmp.Diff(one, query(t, got, sql)); d != "" {
			t.Errorf("%s (-one server +cluster):\n%s", sql, d)
		}
	}
}

// sameFigures compares what services ask for.
func sameFigures(t *testing.T, alone, spread *fixture) {
	t.Helper()
	now := alone.time("2026-11-25T12:00:00Z")
	accounts := []string{"wx1", "wx2", "wx9"}
	for what, ask := range map[string]func(*clickhouse.DB) (any, error){
		"Delivery": func(db *clickhouse.DB) (any, error) { return db.Delivery(t.Context(), now, accounts) },
		"Pending":  func(db *clickhouse.DB) (any, error) { return db.Pending(t.Context(), alone.now, events.Key{}, 1000) },
		"Coverage": func(db *clickhouse.DB) (any, error) { return db.Coverage(t.Context()) },
		"Lost":     func(db *clickhouse.DB) (any, error) { return db.LostEvents(t.Context()) },
		"Ends":     func(db *clickhouse.DB) (any, error) { return db.CurrentEnds(t.Context(), alone.topic) },
		"Tails":    func(db *clickhouse.DB) (any, error) { return db.Tails(t.Context(), alone.topic) },
	} {
		want, err := ask(alone.db)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ask(spread.db)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-one server +cluster):\n%s", what, d)
		}
	}
}

// onTheirShards checks that every row is on the shard of its account, and that
// both shards have some.
func onTheirShards(t *testing.T, cluster *embeddedtest.Cluster) {
	t.Helper()
	for i := range cluster.Shards {
		db := onShard(t, cluster, i)
		for _, table := range []string{"event_rows_local", "message_rows_local"} {
			sql := fmt.Sprintf("SELECT count() > 0, countIf(cityHash64(appid) %% 2 != %d) FROM %s", i, table)
			if got := query(t, db, sql)[0]; got[0] != uint8(1) || got[1] != uint64(0) {
				t.Errorf("%s of shard %d: has rows, rows of other shards: %v", table, i, got)
			}
		}
		for _, table := range []string{"account_rows_local", "setting_rows_local", "error_code_rows_local", "schema_migrations_local"} {
			if got := one(t, db, "SELECT count() > 0 FROM "+table); got != uint8(1-i) {
				t.Errorf("%s of shard %d has rows: %v; want them on the first alone", table, i, got)
			}
		}
	}
}

// Users of a cluster may do what users of one server may, and no more.
func TestClusterAccess(t *testing.T) {
	t.Parallel()
	names := map[clickhouse.Role]string{}
	list := users("qunfa", names)
	for i := range list {
		list[i].InCluster = true
	}
	file, err := clickhouse.UsersXML("qunfa", list)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "users_cluster.xml", file)
	cluster := embeddedtest.NewCluster(t, embeddedtest.ClusterOptions{Users: file})
	for i := range cluster.Shards {
		cfg := inCluster(cluster)
		cfg.Addr, cfg.Database, cfg.Cluster = []string{cluster.Shards[i].Addr}, "default", clickhouse.Cluster{}
		other := open(t, cfg)
		query(t, other, "CREATE DATABASE other")
		query(t, other, "CREATE TABLE other.secret (a Int64) ENGINE = MergeTree ORDER BY a")
	}
	as := func(role clickhouse.Role) *clickhouse.DB {
		cfg := inCluster(cluster)
		cfg.Username, cfg.Password = names[role], names[role]
		return open(t, cfg)
	}
	people := func(role clickhouse.Role) *clickhouse.DB { // whose programs know of no cluster
		cfg := inCluster(cluster)
		cfg.Username, cfg.Password, cfg.Cluster = names[role], names[role], clickhouse.Cluster{}
		return open(t, cfg)
	}
	owner := as(clickhouse.RoleOwner)
	if err := owner.Migrate(t.Context(), nil); err != nil {
		t.Fatalf("the owner cannot migrate: %v", err)
	}
	t.Run("writer", func(t *testing.T) {
		testWriter(t, as(clickhouse.RoleWriter))
		refused(t, as(clickhouse.RoleWriter), "ALTER TABLE event_rows_local DELETE WHERE 1", "INSERT INTO setting_rows_local (name, value) VALUES ('time_zone', 'UTC')")
	})
	t.Run("reader", func(t *testing.T) {
		testReader(t, people(clickhouse.RoleReader))
		refused(t, people(clickhouse.RoleReader), "SELECT count() FROM message_rows_local")
	})
	t.Run("client", func(t *testing.T) {
		testClient(t, owner, as(clickhouse.RoleWriter), people(clickhouse.RoleClient), names[clickhouse.RoleClient])
	})
}

// schemaError checks that an error is about the schema and says what to do.
func schemaError(t *testing.T, what string, err error, text string) {
	t.Helper()
	if !errors.Is(err, clickhouse.ErrSchema) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want one about the schema that says %q", what, err, text)
	}
}

// What would leave servers with different tables, or rows where nobody looks for
// them, is refused before anything is done.
func TestClusterRefusals(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.NewCluster(t, embeddedtest.ClusterOptions{})
	migrate := func(change func(*clickhouse.Config)) error {
		cfg := inCluster(cluster)
		change(&cfg)
		return open(t, cfg).Migrate(t.Context(), nil)
	}
	schemaError(t, "an unknown cluster", migrate(func(c *clickhouse.Config) { c.Cluster.Name = "three" }), `knows no cluster "three"`)
	schemaError(t, "a server that is not listed", migrate(func(c *clickhouse.Config) { c.Addr = c.Addr[:1] }), "has 2 servers, and clickhouse.addr lists 1")
	schemaError(t, "a server that is listed twice", migrate(func(c *clickhouse.Config) { c.Addr = []string{c.Addr[0], c.Addr[0]} }), "twice")
	schemaError(t, "no macros", migrate(func(c *clickhouse.Config) { c.Cluster.Replicated = true }), "has no macro shard")
	for i := range cluster.Shards {
		cfg := inCluster(cluster)
		cfg.Addr, cfg.Database, cfg.Cluster = []string{cluster.Shards[i].Addr}, "default", clickhouse.Cluster{}
		if n := one(t, open(t, cfg), "SELECT count() FROM system.databases WHERE name = 'qunfa'"); n != uint64(0) {
			t.Errorf("server %d has the database in spite of it", i)
		}
	}

	db := migratedCluster(t, cluster)
	alone := inCluster(cluster)
	alone.Cluster = clickhouse.Cluster{}
	schemaError(t, "migrate as one server", open(t, alone).Migrate(t.Context(), nil), "made for a cluster")
	schemaError(t, "CheckSchema as one server", open(t, alone).CheckSchema(t.Context()), "made for a cluster")
	alone.Database = "other"
	if err := open(t, alone).Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	alone.Cluster = inCluster(cluster).Cluster
	schemaError(t, "migrate as a cluster", open(t, alone).Migrate(t.Context(), nil), "made for one server")
	schemaError(t, "CheckSchema as a cluster", open(t, alone).CheckSchema(t.Context()), "made for one server")

	if _, err := db.Rebuild(t.Context(), clickhouse.Rebuild{Who: "test"}); !errors.Is(err, clickhouse.ErrNotInCluster) || !strings.Contains(err.Error(), "make another database") {
		t.Errorf("Rebuild: %v, want it refused with what to do instead", err)
	}

	for what, err := range map[string]error{
		"Erase":  db.Erase(t.Context(), clickhouse.Erasure{AppID: "wx1", Scope: clickhouse.EraseAll, Before: time.Now()}, nil),
		"Expire": db.Expire(t.Context(), clickhouse.Expiry{Before: time.Now()}, nil),
	} {
		if !errors.Is(err, clickhouse.ErrNotInCluster) || !strings.Contains(err.Error(), "docs/cluster.md") {
			t.Errorf("%s: %v, want it refused with where to read on", what, err)
		}
	}
	if n := one(t, db, "SELECT count() FROM erasure_rows"); n != uint64(0) {
		t.Error("the refused erasure was noted")
	}

	query(t, db, "INSERT INTO setting_rows (name, value, set_at) VALUES ('cluster_shards', '1,1,1', '2020-01-01 00:00:00')")
	schemaError(t, "CheckSchema of other shards", db.CheckSchema(t.Context()), "its shards cannot change")
	schemaError(t, "migrate with other shards", db.Migrate(t.Context(), nil), "its shards cannot change")
}

// A server that was added, or has lost its tables, gets what the others have.
func TestClusterCompletesServers(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.NewCluster(t, embeddedtest.ClusterOptions{})
	db := migratedCluster(t, cluster)
	second := onShard(t, cluster, 1)
	const tables = "SELECT name, create_table_query FROM system.tables WHERE database = 'qunfa' ORDER BY name"
	want := query(t, second, tables)
	query(t, second, "DROP DATABASE qunfa SYNC")
	got := steps(t, db)
	if got[clickhouse.StepServers] < 16 || got["migration"] != 0 {
		t.Errorf("steps: %v, want every table made on the server that lacks it, and no migration repeated", got)
	}
	if d := cmp.Diff(want, query(t, second, tables)); d != "" {
		t.Errorf("tables of the second server (-before +after):\n%s", d)
	}
}

// Settings of a service reach the shards that do the work: without them an
// answer would not mean what it is taken for.
func TestClusterSettingsReachTheShards(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.NewCluster(t, embeddedtest.ClusterOptions{})
	migratedCluster(t, cluster)
	cfg := inCluster(cluster)
	cfg.Cluster.Replicated = true // settings of replicated tables mean nothing to others, and are sent all the same
	f := newFixture(t, open(t, cfg))
	f.write(f.everyKind()...)
	const sql = `SELECT count(), countIf(Settings['insert_quorum'] = 'auto' AND Settings['insert_quorum_parallel'] = '0' AND Settings['insert_deduplicate'] = '0'
			AND Settings['distributed_foreground_insert'] = '1'),
		(SELECT count() FROM system.query_log WHERE type = 'QueryFinish' AND NOT is_initial_query AND query LIKE 'SELECT%event_rows_local%'),
		(SELECT countIf(Settings['select_sequential_consistency'] = '1') FROM system.query_log WHERE type = 'QueryFinish' AND NOT is_initial_query AND query LIKE 'SELECT%event_rows_local%')
		FROM system.query_log WHERE type = 'QueryFinish' AND NOT is_initial_query AND query LIKE 'INSERT INTO qunfa.%_rows_local %' AND query NOT LIKE '%setting_rows%' AND query NOT LIKE '%error_code_rows%'`
	total := make([]uint64, 4)
	for i := range cluster.Shards {
		shard := onShard(t, cluster, i)
		query(t, shard, "SYSTEM FLUSH LOGS")
		for j, n := range query(t, shard, sql)[0] {
			total[j] += n.(uint64)
		}
	}
	if total[0] == 0 || total[0] != total[1] || total[2] == 0 || total[2] != total[3] {
		t.Errorf("inserts that shards got from the other, of which with the settings; reads, of which with theirs: %v", total)
	}
}
