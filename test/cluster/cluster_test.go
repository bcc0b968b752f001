// Package cluster runs the sink on a ClickHouse cluster of two shards, and takes
// servers away from it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
	"qunfa/test/wire"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// patience is how long to wait for what must come. It bounds failures alone.
const patience = 2 * time.Minute

// installation is a sink between a topic and a cluster.
type installation struct {
	t        *testing.T
	cfg      *config.Config
	options  app.Options
	clients  []*wire.Proxy // between the sink and each server
	peers    []*wire.Proxy // between the other server and each
	producer *kafka.Producer
	db       *clickhouse.DB // of the test itself
	sink     *app.Host
	sent     int64
}

func install(t *testing.T) *installation {
	t.Helper()
	i := &installation{t: t}
	servers := embeddedtest.NewCluster(t, embeddedtest.ClusterOptions{Way: func(addr string) string {
		i.peers = append(i.peers, wire.NewProxy(t, addr))
		return i.peers[len(i.peers)-1].Addr()
	}})
	brokers := embeddedtest.Kafka(t)
	i.options = app.Options{KafkaDial: brokers.Dial, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	i.cfg = config.Default()
	i.cfg.Admin.Listen = "127.0.0.1:0"
	i.cfg.Kafka.Brokers, i.cfg.Kafka.Topic = brokers.Addrs, brokers.Topic(t)
	i.cfg.Kafka.DeadTopic = i.cfg.Kafka.Topic + ".dead"
	i.cfg.Kafka.Partitions, i.cfg.Kafka.ReplicationFactor, i.cfg.Kafka.MinInsyncReplicas = 2, 1, 1
	i.cfg.Sink.Group, i.cfg.Sink.Interval = brokers.Group(t), 100*time.Millisecond
	i.cfg.ClickHouse.Username, i.cfg.ClickHouse.Password = servers.Username, config.NewSecret(servers.Password)
	i.cfg.ClickHouse.Addr = servers.Addrs()
	i.cfg.ClickHouse.Cluster = config.Cluster{Name: embeddedtest.ClusterName}
	if err := app.Migrate(t.Context(), i.cfg, i.options, nil); err != nil {
		t.Fatal(err)
	}
	i.open()
	i.cfg.ClickHouse.Addr = nil
	for _, addr := range servers.Addrs() {
		i.clients = append(i.clients, wire.NewProxy(t, addr))
		i.cfg.ClickHouse.Addr = append(i.cfg.ClickHouse.Addr, i.clients[len(i.clients)-1].Addr())
	}
	i.start()
	return i
}

func (i *installation) open() {
	i.t.Helper()
	client, err := app.NewKafka(i.cfg, i.options)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(client.Close)
	if i.producer, err = app.NewProducer(client, i.cfg.Kafka.Topic, app.Options{Logger: i.options.Logger}); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() {
		if err := i.producer.Close(context.Background()); err != nil {
			i.t.Error(err)
		}
	})
	if i.db, err = app.OpenClickHouse(i.cfg, app.Options{}); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { _ = i.db.Close() })
}

func (i *installation) start() {
	i.t.Helper()
	var err error
	if i.sink, err = app.NewHost(i.cfg, i.options, "sink"); err != nil {
		i.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- i.sink.Run(ctx) }()
	i.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			i.t.Error(err)
		}
	})
}

// send makes submissions of messages of many accounts.
func (i *installation) send(n int) {
	i.t.Helper()
	var records []events.Record
	for range n {
		i.sent++
		e, err := events.New("qunfa/test", &events.Submitted{
			AppID: fmt.Sprintf("wx%016d", i.sent%20), MsgID: i.sent, SubmittedAt: time.Now().UTC(), Recorder: "test", Chase: true,
		})
		if err != nil {
			i.t.Fatal(err)
		}
		r, err := events.Encode(e)
		if err != nil {
			i.t.Fatal(err)
		}
		records = append(records, r)
	}
	if err := i.producer.ProduceAll(i.t.Context(), records); err != nil {
		i.t.Fatal(err)
	}
}

// until waits until something is so; why says why it is not yet.
func (i *installation) until(what string, why func() string) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		reason := why()
		if reason == "" {
			return
		}
		select {
		case <-ctx.Done():
			i.t.Fatalf("waited in vain until %s: %s", what, reason)
		case <-tick.C:
		}
	}
}

func (i *installation) count(sql string) int64 {
	i.t.Helper()
	r, err := i.db.Query(i.t.Context(), sql)
	if err != nil {
		i.t.Fatal(err)
	}
	return r.Rows[0][0].(int64)
}

// awaitAll waits until every message has a row, and checks that all is complete.
func (i *installation) awaitAll() {
	i.t.Helper()
	i.until("every message has a row", func() string {
		if n := i.count("SELECT toInt64(count()) FROM messages"); n != i.sent {
			return fmt.Sprintf("%d of %d have", n, i.sent)
		}
		return ""
	})
	i.until("every record is noted", func() string {
		all, err := i.db.Coverage(i.t.Context())
		if err != nil {
			return err.Error()
		}
		var records, missing int64
		for _, c := range all {
			records, missing = records+c.Records, missing+c.Missing()
		}
		if records != i.sent || missing != 0 {
			return fmt.Sprintf("%d of %d are, and %d are missing in between", records, i.sent, missing)
		}
		return ""
	})
	if n := i.count("SELECT toInt64(count()) FROM events"); n != i.sent {
		i.t.Errorf("%d events, want %d", n, i.sent)
	}
}

func (i *installation) readiness() string {
	resp, err := http.Get("http://" + i.sink.AdminAddr() + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status + "\n" + string(body)
}

func (i *installation) awaitReady(want bool) {
	i.t.Helper()
	i.until(fmt.Sprintf("the sink's readiness is %v", want), func() string {
		if r := i.readiness(); strings.HasPrefix(r, "200") != want {
			return r
		}
		return ""
	})
}

// A server that the sink cannot reach is not needed: any other takes its rows.
func TestSinkGoesOnWithAnotherServer(t *testing.T) {
	i := install(t)
	i.send(100)
	i.awaitAll()
	for _, gone := range i.clients {
		gone.Cut()
		i.send(100)
		i.awaitAll()
		gone.Mend()
	}
}

// A shard that is gone stops the sink, and costs nothing: it goes on by itself.
func TestSinkWaitsForAShard(t *testing.T) {
	i := install(t)
	i.send(100)
	i.awaitAll()
	i.clients[1].Cut()
	i.peers[1].Cut()
	i.send(100)
	i.awaitReady(false)
	if r := i.readiness(); !strings.Contains(r, "sink") {
		t.Errorf("readiness without a shard: %s", r)
	}
	i.peers[1].Mend()
	i.awaitReady(true) // the first server is enough to reach both
	i.send(100)
	i.awaitAll()
}
