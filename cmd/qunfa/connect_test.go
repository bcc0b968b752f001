package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"qunfa/internal/local"
)

// runsIn writes what a running stack writes of itself.
func runsIn(t *testing.T, dir string, pid int) {
	t.Helper()
	b, err := json.Marshal(local.Connection{
		PID: pid, KafkaSocket: "/nowhere/kafka.sock", Topic: "t", DeadTopic: "t.dead", Admin: "127.0.0.1:1",
		ClickHouse: local.ClickHouse{Addr: "127.0.0.1:2", Database: "q", Username: "owner", Password: "p1", ReaderUsername: "reader", ReaderPassword: "p2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "connection.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What a command works on: --data, else configured servers, else what runs here.
func TestTarget(t *testing.T) {
	servers := writeFile(t, "servers.yaml", "kafka: {brokers: [\"kafka1:9092\"]}\n")
	elsewhere := filepath.Join(t.TempDir(), "data")
	runsIn(t, elsewhere, os.Getpid())
	for name, c := range map[string]struct {
		config, data string
		demo, up     bool
		broker, dead string // of the target
	}{
		"servers":            {config: servers, up: true, broker: "kafka1:9092", dead: "qunfa.events.dead"},
		"--data before them": {config: servers, data: elsewhere, dead: "t.dead"},
		"up":                 {config: defaultConfig, up: true, demo: true, dead: "t.dead"},
		"demo":               {config: defaultConfig, demo: true, dead: "t.dead"},
		"nothing":            {config: defaultConfig},
		"nothing in --data":  {config: defaultConfig, data: "empty", up: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if c.up {
				runsIn(t, "qunfa-data", os.Getpid())
			}
			if c.demo {
				runsIn(t, "qunfa-demo", os.Getpid())
			}
			g, _ := testGlobals(t, formatAuto)
			g.Config, g.Data = c.config, c.data
			got, err := g.target()
			if c.dead == "" {
				if err == nil {
					t.Errorf("found %s", got.where)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.cfg.Kafka.DeadTopic != c.dead || (got.local == nil) != (c.broker != "") {
				t.Errorf("found %s with %s", got.where, got.cfg.Kafka.DeadTopic)
			}
		})
	}
}

// A question is never asked with more rights than it needs.
func TestReaderOfLocalStack(t *testing.T) {
	t.Chdir(t.TempDir())
	runsIn(t, "qunfa-data", os.Getpid())
	g, _ := testGlobals(t, formatAuto)
	found, err := g.target()
	if err != nil {
		t.Fatal(err)
	}
	if cfg := (readerFlags{}).configure(found); cfg.ClickHouse.Username != "reader" || cfg.ClickHouse.Password.Reveal() != "p2" {
		t.Errorf("asks as %s", cfg.ClickHouse.Username)
	}
	if cfg := (readerFlags{User: "me", Password: "p3"}).configure(found); cfg.ClickHouse.Username != "me" || cfg.ClickHouse.Password.Reveal() != "p3" {
		t.Errorf("with --user asks as %s", cfg.ClickHouse.Username)
	}
	if found.cfg.ClickHouse.Username != "owner" {
		t.Errorf("the target itself was changed to %s", found.cfg.ClickHouse.Username)
	}
}
