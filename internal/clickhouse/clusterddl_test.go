package clickhouse_test

import (
	"strings"
	"testing"

	"qunfa/internal/clickhouse"
)

func statements(t *testing.T, cluster clickhouse.Cluster) string {
	t.Helper()
	cfg := clickhouse.Config{Database: "qunfa", Username: "owner", TimeZone: "Asia/Shanghai", Cluster: cluster}
	all, err := cfg.Statements()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, ";\n\n") + ";\n"
}

// The statements for replicated tables cannot be run in these tests, which have
// no Keeper: whoever changes them has to read them.
func TestClusterSQL(t *testing.T) {
	t.Parallel()
	golden(t, "cluster_replicated.sql", statements(t, clickhouse.Cluster{Name: "main", Replicated: true}))
}
