package clickhouse_test

import (
	"net"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded/embeddedtest"
)

// A server that takes connections and says nothing, as one that hangs does, must
// not use up the time in which another would answer.
func TestSilentServerIsPassedOver(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	server := embeddedtest.ClickHouse(t)
	db := open(t, clickhouse.Config{
		Addr: []string{silent.Addr().String(), server.Addr}, Username: server.Username, Password: server.Password, Database: "default",
		DialTimeout: 4 * time.Second,
	})
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
