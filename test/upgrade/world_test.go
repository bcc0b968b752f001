package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/kafka"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// patience is how long to wait for what must come. It bounds failures alone.
const patience = 2 * time.Minute

const (
	appid    = "wx0123456789abcdef"
	token    = "token-of-the-account"
	apiToken = "token-of-the-record-api"
	topic    = "qunfa.events"
)

// world is an installation: a broker, a database and one configuration for
// programs of all versions.
type world struct {
	t      *testing.T
	config string // file
	client *kafka.Client
	db     *clickhouse.DB
	server clickhouse.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	server := embeddedtest.ClickHouse(t)
	w := &world{t: t, config: filepath.Join(t.TempDir(), "qunfa.yaml"), server: clickhouse.Config{
		Addr: []string{server.Addr}, Username: server.Username, Password: server.Password, Database: server.Database(t),
	}}
	text := fmt.Sprintf(`admin: {listen: 127.0.0.1:0}
kafka: {brokers: [%q], topic: %s, partitions: 3, replication_factor: 1, min_insync_replicas: 1}
clickhouse: {addr: [%q], database: %s, username: %q, password: %q}
ingest: {listen: 127.0.0.1:0, internal: 127.0.0.1:0, api_token: %s}
sink: {interval: 200ms}
reconcile: {interval: 1s}
accounts: [{appid: %s, original_id: gh_1, name: 账号, tokens: [%s]}]
`, broker.ListenAddrs()[0], topic, server.Addr, w.server.Database, server.Username, server.Password, apiToken, appid, token)
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.client, err = kafka.NewClient(kafka.Config{Brokers: broker.ListenAddrs()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	w.db = w.open(w.server)
	return w
}

func (w *world) open(cfg clickhouse.Config) *clickhouse.DB {
	w.t.Helper()
	db, err := clickhouse.Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			w.t.Errorf("close the database: %v", err)
		}
	})
	return db
}

// migrate runs `qunfa migrate` of a release.
func (w *world) migrate(r release) {
	w.t.Helper()
	out, err := run(w.t, w.t.TempDir(), nil, filepath.Join(r.bin, "qunfa"), "migrate", "--config", w.config)
	if err != nil {
		w.t.Fatalf("qunfa migrate of %s: %v\n%s", r.name, err, out)
	}
}

// query asks the database.
func (w *world) query(sql string, args ...any) [][]any {
	w.t.Helper()
	r, err := w.db.Query(w.t.Context(), sql, args...)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return r.Rows
}

// stored returns how many messages a reader sees.
func (w *world) stored() int64 {
	w.t.Helper()
	return w.query("SELECT toInt64(count()) FROM messages")[0][0].(int64)
}

// storesMore waits until so many more messages are stored.
func (w *world) storesMore(n int64) {
	w.t.Helper()
	want := w.stored() + n
	w.until(fmt.Sprintf("%d more messages are stored", n), func() string {
		if have := w.stored(); have < want {
			return fmt.Sprintf("%d of %d", have, want)
		}
		return ""
	})
}

// settle waits until the database holds what was taken: every message once,
// with its figures, and an account of every record of the log.
func (w *world) settle(l *load) {
	w.t.Helper()
	l.stop()
	want := l.ledger()
	w.until("the database holds what was taken", func() string {
		have := map[int64]string{}
		for _, r := range w.query("SELECT msg_id, outcome, total, eligible, filtered, sent, errors, callbacks, recorded FROM messages") {
			id := r[0].(int64)
			if have[id] != "" {
				w.t.Errorf("message %d stands there twice", id)
			}
			have[id] = fmt.Sprint(r[1:])
		}
		return cmp.Diff(want, have)
	})
	w.until("every record of the log is accounted for", w.unaccounted)
	if n := w.query("SELECT toInt64(count()), toInt64(uniqExact(event_id)) FROM events")[0]; n[0] != n[1] {
		w.t.Errorf("the view events has %v rows of %v events", n[0], n[1])
	}
}

// unaccounted says which records of the log have become nothing.
func (w *world) unaccounted() string {
	ends, err := w.client.EndOffsets(w.t.Context(), topic)
	if err != nil {
		return err.Error()
	}
	coverage, err := w.db.Coverage(w.t.Context())
	if err != nil {
		return err.Error()
	}
	have := map[int32]int64{0: 0, 1: 0, 2: 0}
	for _, c := range coverage {
		if c.Missing() != 0 || c.First != 0 {
			return fmt.Sprintf("%+v", c)
		}
		have[c.Partition] = c.Last + 1
	}
	return cmp.Diff(ends, have)
}

// viewsAnswer asks every view of this version.
func (w *world) viewsAnswer() {
	w.t.Helper()
	views, err := clickhouse.Views()
	if err != nil {
		w.t.Fatal(err)
	}
	filled := []string{"messages", "events", "delivery_daily", "delivery_hourly", "recording_daily", "accounts", "settings", "error_codes"}
	for _, v := range views {
		if rows := w.query("SELECT * FROM " + v + " LIMIT 3"); len(rows) == 0 && slices.Contains(filled, v) {
			w.t.Errorf("the view %s is empty", v)
		}
	}
}

// shape describes every table and column of a database, without its name.
func (w *world) shape(cfg clickhouse.Config) map[string]string {
	w.t.Helper()
	db := w.open(cfg)
	shape := map[string]string{}
	for what, sql := range map[string]string{
		"table":  "SELECT name, engine_full, sorting_key, partition_key, comment FROM system.tables WHERE database = currentDatabase()",
		"column": "SELECT concat(table, '.', name), type, default_kind, default_expression, compression_codec, comment FROM system.columns WHERE database = currentDatabase()",
	} {
		r, err := db.Query(w.t.Context(), sql)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, row := range r.Rows {
			shape[what+" "+row[0].(string)] = strings.ReplaceAll(fmt.Sprint(row[1:]), cfg.Database, "DATABASE")
		}
	}
	return shape
}
