package embeddedtest

import (
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func TestMain(m *testing.M) { Main(m) }

func TestClickHouse(t *testing.T) {
	server := ClickHouse(t)
	conn, err := clickhouse.Open(server.Options(""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	name := server.Database(t)
	for _, statement := range []string{
		"CREATE DATABASE " + name,
		"CREATE TABLE " + name + ".t (n UInt8) ENGINE = MergeTree ORDER BY n",
		"INSERT INTO " + name + ".t VALUES (1), (2)",
		"CREATE VIEW " + name + ".v DEFINER = " + server.Username + " SQL SECURITY DEFINER AS SELECT sum(n) AS s FROM " + name + ".t",
	} {
		if err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	var sum uint64
	if err := conn.QueryRow(t.Context(), "SELECT s FROM "+name+".v").Scan(&sum); err != nil || sum != 3 {
		t.Errorf("sum = %d, %v, want 3", sum, err)
	}
}

func TestParseServer(t *testing.T) {
	got, secure, err := parseServer("clickhouse://user:p%40ss@localhost:9000")
	if err != nil || secure != nil || *got != (Server{Addr: "localhost:9000", Username: "user", Password: "p@ss"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"localhost:9000", "clickhouse://localhost:9000", "http://u:p@h", "clickhouse://u:secret@h:%zz", "clickhouse://u:secret@h:1?secure=true&ca_file=nowhere.pem"} {
		if _, _, err := parseServer(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}
