package embedded_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
)

// fakeClickHouse is a script that has the command line of an installed
// clickhouse and runs the library. It closes its standard input to us, as the
// real one does not look at it, and logs how it was called.
func fakeClickHouse(t *testing.T) (path, log string) {
	t.Helper()
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	library, err := embedded.Install(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, log = filepath.Join(dir, "clickhouse"), filepath.Join(dir, "log")
	fifo := filepath.Join(dir, "fifo") // never ends when opened for both
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
[ "$1" = local ] && { echo "ClickHouse local version 26.7.2.1."; exit; }
echo "$@" >> %[1]s
config=${2#--config-file=}
value() { sed -n "s|.*<$1>\(.*\)</$1>.*|\1|p" "$config"; }
exec %[2]s -lib %[3]s -config "$config" -path "$(value path)" -tcp "$(value tcp_port)" 0<>%[4]s
`, log, exe, library, fifo)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, log
}

// TestInstalledClickHouse runs the way of an installed server: another command
// line, no announcement, stopped by a signal.
func TestInstalledClickHouse(t *testing.T) {
	path, log := fakeClickHouse(t)
	dir := t.TempDir()
	engine, err := embedded.StartEngine(t.Context(), embedded.EngineConfig{
		Dir: dir, ClickHouse: path, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeEngine(t, engine) })
	if !strings.HasPrefix(engine.Program(), "ClickHouse 26.7.2.1") {
		t.Errorf("runs %s", engine.Program())
	}
	execute(t, owner(t, engine), schema...)
	pid := engine.Pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "answer after a kill", func() bool { return engine.Pid() != pid && owner(t, engine).Ping(t.Context()) == nil })
	wantCount(t, owner(t, engine), "SELECT count() FROM qunfa.v", 100)
	pid = engine.Pid()
	closeEngine(t, engine)
	if alive(pid) {
		t.Error("the server is still there")
	}
	want := strings.Repeat("server --config-file="+filepath.Join(dir, "config.xml")+"\n", 2)
	if got, err := os.ReadFile(log); err != nil || string(got) != want {
		t.Errorf("called with %q, %v", got, err)
	}
}

// TestEngineReportsDamagedParts: ClickHouse itself would say nothing.
func TestEngineReportsDamagedParts(t *testing.T) {
	var log syncBuffer
	config := engineConfig(t, t.TempDir())
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	engine := startEngine(t, config)
	execute(t, owner(t, engine), schema...)
	execute(t, owner(t, engine), "ALTER TABLE qunfa.t DETACH PARTITION tuple()")
	closeEngine(t, engine)
	parts, err := filepath.Glob(filepath.Join(config.Dir, "data", "store", "*", "*", "detached", "all_*"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("detached parts %v, %v", parts, err)
	}
	if err := os.Rename(parts[0], filepath.Join(filepath.Dir(parts[0]), "broken-on-start_"+filepath.Base(parts[0]))); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "set aside") {
		t.Error("warned too early")
	}
	startEngine(t, config)
	for _, want := range []string{"set aside", "table=t", "reason=broken-on-start", "parts=1"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}
