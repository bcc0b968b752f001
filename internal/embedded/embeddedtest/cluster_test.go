package embeddedtest

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

func connect(t *testing.T, server *Server) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(server.Options(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestCluster(t *testing.T) {
	cluster := NewCluster(t, ClusterOptions{})
	for i, server := range cluster.Shards {
		conn := connect(t, server)
		if err := conn.Exec(t.Context(), "CREATE TABLE default.n ENGINE = MergeTree ORDER BY n AS SELECT toUInt64("+[]string{"1", "2"}[i]+") AS n"); err != nil {
			t.Fatal(err)
		}
	}
	conn := connect(t, cluster.Shards[0])
	var sum uint64
	const sql = "SELECT sum(n) FROM cluster(" + ClusterName + ", default.n)"
	if err := conn.QueryRow(t.Context(), sql).Scan(&sum); err != nil || sum != 3 {
		t.Errorf("sum over the shards = %d, %v, want 3", sum, err)
	}
	var own uint64
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM system.clusters WHERE cluster = '"+ClusterName+"' AND is_local").Scan(&own); err != nil || own != 1 {
		t.Errorf("the server takes %d shards for its own, %v, want 1", own, err)
	}
}
