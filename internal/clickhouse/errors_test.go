package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
)

// What a service meets: each cause must come with the class that says what to do.
func TestErrorClasses(t *testing.T) {
	t.Parallel()
	good := testServer(t)
	fate := []events.Fate{{Position: events.Position{Topic: "t"}, Kind: events.FateEvent}}
	insert := func(cfg clickhouse.Config) error {
		return open(t, cfg).InsertRecords(t.Context(), fate)
	}
	with := func(change func(*clickhouse.Config)) clickhouse.Config { c := good; change(&c); return c }

	if err := insert(good); clickhouse.ClassOf(err) != clickhouse.ClassMissing {
		t.Errorf("no database: %v", err)
	}
	if err := insert(with(func(c *clickhouse.Config) { c.Database = "default" })); clickhouse.ClassOf(err) != clickhouse.ClassMissing {
		t.Errorf("no table: %v", err)
	}
	wrong := insert(with(func(c *clickhouse.Config) { c.Password = "s3cret-wrong" }))
	if clickhouse.ClassOf(wrong) != clickhouse.ClassAuth || strings.Contains(wrong.Error(), "s3cret-wrong") {
		t.Errorf("wrong password: %v", wrong)
	}
	refusing := func(c *clickhouse.Config) {
		c.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	}
	if err := insert(with(refusing)); clickhouse.ClassOf(err) != clickhouse.ClassRetry {
		t.Errorf("nobody answers: %v", err)
	}
	db := open(t, good)
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	query(t, db, "ALTER TABLE record_rows DROP COLUMN at")
	if err := insert(good); clickhouse.ClassOf(err) != clickhouse.ClassSchema {
		t.Errorf("a column is missing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.InsertRecords(ctx, fate); clickhouse.ClassOf(err) != clickhouse.ClassCanceled {
		t.Errorf("canceled: %v", err)
	}
}

func TestClassOfOthers(t *testing.T) {
	for want, err := range map[clickhouse.Class]error{
		clickhouse.ClassRetry:  fmt.Errorf("read: %w", io.ErrUnexpectedEOF),
		clickhouse.ClassSchema: fmt.Errorf("x: %w", clickhouse.ErrSchema),
	} {
		if got := clickhouse.ClassOf(err); got != want {
			t.Errorf("class of %v = %s, want %s", err, got, want)
		}
	}
}

// A connection that dies in the middle is healed by the next call, and what was
// in doubt is simply done again.
func TestInsertAfterLostConnection(t *testing.T) {
	t.Parallel()
	cfg := testServer(t)
	var last net.Conn
	cfg.MaxConns = 1
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		last = c
		return c, err
	}
	db := open(t, cfg)
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fates := []events.Fate{{Position: events.Position{Topic: "t", Offset: 7}, Kind: events.FateEvent}}
	for i := range 3 {
		for try := 0; ; try++ {
			err := db.InsertRecords(t.Context(), fates)
			if err == nil {
				break
			}
			if try == 3 || clickhouse.ClassOf(err) != clickhouse.ClassRetry {
				t.Fatalf("insert %d: %v", i, err)
			}
		}
		last.Close()
	}
	ends, err := open(t, testConfigWithout(cfg)).Ends(t.Context(), "t")
	if err != nil || ends[0] != 8 {
		t.Errorf("ends = %v, %v", ends, err)
	}
}

func testConfigWithout(cfg clickhouse.Config) clickhouse.Config { cfg.Dial = nil; return cfg }

func TestMetrics(t *testing.T) {
	t.Parallel()
	cfg := testServer(t)
	registry := prometheus.NewPedanticRegistry()
	cfg.Registerer = registry
	cfg.Clock = func() time.Time { return time.Unix(0, 0) }
	db, second := open(t, cfg), open(t, cfg) // two services of one process share the metrics
	if err := db.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fates := []events.Fate{{Position: events.Position{Topic: "t", Offset: 7}}, {Position: events.Position{Topic: "t", Offset: 8}}}
	for _, d := range []*clickhouse.DB{db, second} {
		if err := d.InsertRecords(t.Context(), fates); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Query(t.Context(), "SELECT * FROM nowhere"); err == nil {
		t.Fatal("a table that is not there answered")
	}
	const rows = `
# HELP qunfa_clickhouse_inserted_rows_total Rows that ClickHouse acknowledged, by operation; repeated inserts count again.
# TYPE qunfa_clickhouse_inserted_rows_total counter
qunfa_clickhouse_inserted_rows_total{operation="insert_accounts"} 0
qunfa_clickhouse_inserted_rows_total{operation="insert_events"} 0
qunfa_clickhouse_inserted_rows_total{operation="insert_messages"} 0
qunfa_clickhouse_inserted_rows_total{operation="insert_records"} 4
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(rows), "qunfa_clickhouse_inserted_rows_total"); err != nil {
		t.Error(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "qunfa_clickhouse_errors_total" {
				got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] += m.GetCounter().GetValue()
			}
		}
	}
	if len(got) != 15*len(clickhouse.Classes()) || got["query missing"]+got["missing query"] != 1 {
		t.Errorf("errors are counted as %v", got)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) != 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	server := embeddedtest.ClickHouse(t)
	db := open(t, clickhouse.Config{Addr: []string{server.Addr}, Username: server.Username, Password: server.Password, Database: "default"})
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
