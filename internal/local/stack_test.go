package local_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
	"qunfa/internal/local"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func options(t *testing.T) local.Options {
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	return local.Options{Engine: func(c embedded.EngineConfig) embedded.EngineConfig {
		c.LocalEngine = exe
		return c
	}}
}

func configuration(dir string) *config.Config {
	cfg := config.Default()
	cfg.Embedded.Dir = dir
	cfg.Embedded.TCPPort, cfg.Embedded.HTTPPort = 0, 0
	cfg.Ingest.Listen, cfg.Ingest.Internal, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Accounts = []config.Account{{AppID: "wx1", Name: "one", Tokens: []config.Secret{config.NewSecret("tokenOne")}}}
	return cfg
}

// start runs a stack until the test or stop ends it.
func start(t *testing.T, dir string) (s *local.Stack, stop func()) {
	t.Helper()
	s, err := local.Start(t.Context(), configuration(dir), options(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// eventually polls a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-tick.C
	}
}

func submit(t *testing.T, c *local.Connection, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.RecordAPI+"/v1/submissions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.APIToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", resp.Status, answer)
	}
}

func TestOtherProcessesReachTheStack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := local.ReadConnection(dir); !errors.Is(err, local.ErrNotRunning) {
		t.Errorf("before the start: %v", err)
	}
	s, stop := start(t, dir)
	conn, err := local.ReadConnection(dir)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", func() bool { ready, _ := s.Host.Ready(); return ready })
	submit(t, conn, `{"appid":"wx1","msg_id":7}`)

	// Everything below goes by what the connection says alone.
	cfg, opts := conn.Apply(config.Default())
	client, err := app.NewKafka(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	producer, err := app.NewProducer(client, cfg.Kafka.DeadTopic, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := producer.Produce(t.Context(), events.DeadLetter{Reason: events.DeadUnparsable}.Encode()); err != nil {
		t.Errorf("produce through the socket: %v", err)
	}
	if err := producer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	ends, err := client.EndOffsets(t.Context(), cfg.Kafka.DeadTopic)
	if err != nil || ends[0] != 1 {
		t.Errorf("end offsets %v: %v", ends, err)
	}
	db, err := app.OpenClickHouse(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventually(t, "the submission in SQL", func() bool {
		r, err := db.Query(t.Context(), "SELECT outcome, account FROM messages WHERE msg_id = 7")
		return err == nil && len(r.Rows) == 1 && r.Rows[0][0] == "pending" && r.Rows[0][1] == "one"
	})
	for _, secret := range []string{"connection.json", "api_token", "kafka.sock"} {
		info, err := os.Stat(filepath.Join(dir, secret))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %s", secret, info.Mode())
		}
	}

	if _, err := local.Start(t.Context(), configuration(dir), options(t)); err == nil || !strings.Contains(err.Error(), "another qunfa is running") {
		t.Errorf("a second stack in the same directory: %v", err)
	}
	client.Close()
	stop()
	if _, err := local.ReadConnection(dir); !errors.Is(err, local.ErrNotRunning) {
		t.Errorf("after the stop: %v", err)
	}
}

func TestDataOutlivesTheStack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, stop := start(t, dir)
	eventually(t, "ready", func() bool { ready, _ := s.Host.Ready(); return ready })
	token := s.Conn.APIToken
	submit(t, s.Conn, `[{"appid":"wx1","msg_id":7},{"appid":"wx1","msg_id":8}]`)
	stop()

	s, _ = start(t, dir)
	eventually(t, "ready again", func() bool { ready, _ := s.Host.Ready(); return ready })
	if s.Conn.APIToken != token {
		t.Error("the token changed with a restart")
	}
	submit(t, s.Conn, `{"appid":"wx1","msg_id":8}`) // recorded again
	submit(t, s.Conn, `{"appid":"wx1","msg_id":9}`)
	db, err := app.OpenClickHouse(s.Config, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventually(t, "three messages", func() bool {
		r, err := db.Query(t.Context(), "SELECT count(), sum(events) FROM messages")
		return err == nil && r.Rows[0][0] == uint64(3) && r.Rows[0][1] == int64(3)
	})
}

func TestFailedStartLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	cfg := configuration(dir)
	cfg.Ingest.Listen = "192.0.2.1:80" // not an address of this machine
	if _, err := local.Start(t.Context(), cfg, options(t)); err == nil {
		t.Fatal("it started")
	}
	lock, err := local.LockDir(dir)
	if err != nil {
		t.Fatalf("the directory is still taken: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}
