package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
)

// engineConfig is a configuration on a directory, with the executable built.
func engineConfig(t *testing.T, dir string) embedded.EngineConfig {
	t.Helper()
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	return embedded.EngineConfig{Dir: dir, LocalEngine: exe, Logger: slog.New(slog.DiscardHandler)}
}

func startEngine(t *testing.T, config embedded.EngineConfig) *embedded.Engine {
	t.Helper()
	engine, err := embedded.StartEngine(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeEngine(t, engine) })
	return engine
}

func closeEngine(t *testing.T, engine *embedded.Engine) {
	t.Helper()
	if err := engine.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// connect opens connections that are closed at the end of the test.
func connect(t *testing.T, addr, user, password string) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{addr}, Auth: clickhouse.Auth{Username: user, Password: password},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func owner(t *testing.T, engine *embedded.Engine) driver.Conn {
	t.Helper()
	return connect(t, engine.Addr(), engine.Username(), engine.Password())
}

func execute(t *testing.T, conn driver.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func count(ctx context.Context, conn driver.Conn, query string) (n uint64, err error) {
	err = conn.QueryRow(ctx, query).Scan(&n)
	return n, err
}

func wantCount(t *testing.T, conn driver.Conn, query string, want uint64) {
	t.Helper()
	if got, err := count(t.Context(), conn, query); err != nil || got != want {
		t.Errorf("%s = %d, %v, want %d", query, got, err, want)
	}
}

// wantRefused expects a statement to fail for lack of rights.
func wantRefused(t *testing.T, conn driver.Conn, statement string) {
	t.Helper()
	err := conn.Exec(t.Context(), statement)
	exception, ok := errors.AsType[*clickhouse.Exception](err)
	const accessDenied, readOnly, unsettable = 497, 164, 452
	if !ok || exception.Code != accessDenied && exception.Code != readOnly && exception.Code != unsettable {
		t.Errorf("%s: %v, want to be refused", statement, err)
	}
}

// schema is a table, rows in it, and a view with its owner's rights.
var schema = []string{
	"CREATE DATABASE qunfa",
	"CREATE TABLE qunfa.t (n UInt64) ENGINE = ReplacingMergeTree ORDER BY n SETTINGS fsync_after_insert = 1, fsync_part_directory = 1",
	"INSERT INTO qunfa.t SELECT number FROM numbers(100)",
	"CREATE OR REPLACE VIEW qunfa.v DEFINER = qunfa SQL SECURITY DEFINER AS SELECT n FROM qunfa.t FINAL",
}

func TestEngineUsers(t *testing.T) {
	config := engineConfig(t, t.TempDir())
	config.ReaderGrants = []string{"GRANT SELECT ON qunfa.v"}
	engine := startEngine(t, config)

	conn := owner(t, engine)
	execute(t, conn, schema...)
	execute(t, conn, "CREATE TEMPORARY TABLE keys (n UInt64)")
	wantCount(t, conn, "SELECT count() FROM qunfa.v", 100)
	wantRefused(t, conn, "CREATE DATABASE other")
	wantRefused(t, conn, "CREATE USER somebody")
	wantRefused(t, conn, "SELECT * FROM file('/etc/hostname', LineAsString)")
	wantRefused(t, conn, "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)")

	reader := connect(t, engine.Addr(), engine.ReaderUsername(), engine.ReaderPassword())
	wantCount(t, reader, "SELECT count() FROM qunfa.v", 100)
	wantCount(t, reader, "SELECT count() FROM qunfa.v SETTINGS max_execution_time = 10", 100)
	wantRefused(t, reader, "SELECT count() FROM qunfa.t")
	wantRefused(t, reader, "INSERT INTO qunfa.t SELECT 1")
	wantRefused(t, reader, "DROP VIEW qunfa.v")
	wantRefused(t, reader, "SELECT count() FROM system.detached_parts")
	wantRefused(t, reader, "SELECT 1 SETTINGS max_execution_time = 100000")

	// The engine's own session has no password; it must be worth nothing.
	session := connect(t, engine.Addr(), "default", "")
	wantRefused(t, session, "SELECT count() FROM qunfa.v")
	wantRefused(t, session, "SELECT query FROM system.processes")
	wantRefused(t, session, "CREATE DATABASE other")
}

func TestEngineHTTP(t *testing.T) {
	config := engineConfig(t, t.TempDir())
	config.HTTP = true
	engine := startEngine(t, config)

	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+engine.HTTPAddr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(engine.ReaderUsername(), engine.ReaderPassword())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	if status, body := get("/?query=SELECT+1,2"); status != http.StatusOK || body != "1\t2\n" {
		t.Errorf("query: %d %q", status, body)
	}
	if status, body := get("/play"); status != http.StatusOK || !strings.Contains(body, "<html") {
		t.Errorf("query page: %d %.100q", status, body)
	}
}

func TestEngineListensOnLoopbackOnly(t *testing.T) {
	engine := startEngine(t, engineConfig(t, t.TempDir()))
	host, port, err := net.SplitHostPort(engine.Addr())
	if err != nil || host != "127.0.0.1" {
		t.Errorf("address %s, %v", engine.Addr(), err)
	}
	if engine.HTTPAddr() != "" {
		t.Errorf("HTTP on %s without being asked for", engine.HTTPAddr())
	}
	if ports := listening(t, engine.Pid()); len(ports) != 1 || ports[0] != "127.0.0.1:"+port {
		t.Errorf("listens on %v, want %s alone", ports, engine.Addr())
	}
}

// listening returns the TCP addresses that a process listens on.
func listening(t *testing.T, pid int) (addrs []string) {
	t.Helper()
	sockets := make(map[string]bool)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			sockets[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			const local, state, inode, listen = 1, 3, 9, "0A"
			if f := strings.Fields(line); len(f) > inode && f[state] == listen && sockets[f[inode]] {
				addrs = append(addrs, parseSocketAddr(t, f[local]))
			}
		}
	}
	return addrs
}

// parseSocketAddr reads 0100007F:1F90, an address as the kernel prints it.
func parseSocketAddr(t *testing.T, s string) string {
	t.Helper()
	var a, b, c, d byte
	var port int
	if _, err := fmt.Sscanf(s, "%2X%2X%2X%2X:%4X", &d, &c, &b, &a, &port); err != nil {
		return s
	}
	return fmt.Sprintf("%d.%d.%d.%d:%d", a, b, c, d, port)
}

// TestEngineSurvivesBadClients does what ends the library when it is not told
// that somebody sits at its terminal.
func TestEngineSurvivesBadClients(t *testing.T) {
	config := engineConfig(t, t.TempDir())
	config.HTTP = true
	engine := startEngine(t, config)
	pid := engine.Pid()
	for range 10 {
		if err := connect(t, engine.Addr(), engine.Username(), "wrong").Ping(t.Context()); err == nil {
			t.Error("a wrong password was accepted")
		}
		if err := connect(t, engine.Addr(), "nobody", "").Ping(t.Context()); err == nil {
			t.Error("an unknown user was accepted")
		}
		for _, addr := range []string{engine.Addr(), engine.HTTPAddr()} {
			sendGarbage(t, addr)
		}
	}
	conn := owner(t, engine)
	if err := conn.Exec(t.Context(), "SELECT throwIf(1)"); err == nil {
		t.Error("throwIf did not throw")
	}
	wantCount(t, conn, "SELECT count() FROM numbers(7)", 7)
	if engine.Pid() != pid {
		t.Error("the engine was restarted")
	}
}

// sendGarbage connects, says something meaningless, and resets.
func sendGarbage(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("\x00\xff\xfe garbage \r\n\r\n")); err != nil {
		t.Error(err)
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
}

func TestEngineKeepsDataAndPasswords(t *testing.T) {
	dir := t.TempDir()
	config := engineConfig(t, dir)
	first := startEngine(t, config)
	execute(t, owner(t, first), schema...)
	execute(t, owner(t, first), "SYSTEM FLUSH LOGS")
	closeEngine(t, first)
	if err := <-first.Exited(); err != nil {
		t.Errorf("exited: %v", err)
	}

	for range 2 { // the log tables of the server used to break at the second start
		second := startEngine(t, config)
		if second.Password() != first.Password() || second.ReaderPassword() != first.ReaderPassword() {
			t.Error("the passwords changed")
		}
		wantCount(t, owner(t, second), "SELECT sum(n) FROM qunfa.v", 4950)
		execute(t, owner(t, second), "SYSTEM FLUSH LOGS")
		if n, err := count(t.Context(), owner(t, second), "SELECT count() FROM system.query_log"); err != nil || n == 0 {
			t.Errorf("query log: %d, %v", n, err)
		}
		closeEngine(t, second)
	}
	wantPrivate(t, dir)
}

// wantPrivate expects that others can neither list nor read what holds
// passwords and data.
func wantPrivate(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"config.xml", "users.xml", "credentials.json", "data"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	users, err := os.ReadFile(filepath.Join(dir, "credentials.json"))
	if err != nil || len(users) == 0 {
		t.Errorf("credentials: %v", err)
	}
}

func TestEngineRefusesDirectoryInUse(t *testing.T) {
	config := engineConfig(t, t.TempDir())
	startEngine(t, config)
	_, err := embedded.StartEngine(t.Context(), config)
	if !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), config.Dir) {
		t.Errorf("second engine: %v, want ErrInUse with the directory", err)
	}
}

// TestEngineComesBack kills the engine a few times while rows are inserted.
// Each time it is there again on the same address, with every acknowledged
// row.
func TestEngineComesBack(t *testing.T) {
	config := engineConfig(t, t.TempDir())
	registry := prometheus.NewPedanticRegistry()
	config.Registerer = registry
	engine := startEngine(t, config)
	conn := owner(t, engine)
	execute(t, conn, schema[:2]...)

	const kills = 3
	inserted := uint64(0)
	for range kills {
		pid := engine.Pid()
		done := make(chan uint64)
		go func() { done <- insertUntilError(t.Context(), conn, inserted) }()
		waitFor(t, "insert", func() bool {
			n, err := count(t.Context(), conn, "SELECT count() FROM qunfa.t")
			return err == nil && n >= inserted+5
		})
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		inserted = <-done
		waitFor(t, "answer after a kill", func() bool { return conn.Ping(t.Context()) == nil && engine.Pid() != pid })
		n, err := count(t.Context(), conn, fmt.Sprintf("SELECT count() FROM qunfa.t FINAL WHERE n < %d", inserted))
		if err != nil || n != inserted {
			t.Errorf("%d of %d rows are left, %v", n, inserted, err)
		}
	}
	waitFor(t, "metrics", func() bool { return gauge(t, registry, "qunfa_embedded_engine_up") == 1 })
	if got := gauge(t, registry, "qunfa_embedded_engine_restarts_total"); got < kills {
		t.Errorf("restarts in the metric = %v, want %d", got, kills)
	}
}

// TestEngineCloseDuringRestart closes the engine at the moment when it is
// being started again, which must not leave a process behind.
func TestEngineCloseDuringRestart(t *testing.T) {
	config := engineConfig(t, t.TempDir())
	for _, pause := range []time.Duration{0, 100 * time.Millisecond, 150 * time.Millisecond, 250 * time.Millisecond} {
		engine := startEngine(t, config)
		if err := syscall.Kill(engine.Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-time.After(pause) // anywhere in the restart; no moment is wrong
		closeEngine(t, engine)
		if alive(engine.Pid()) {
			t.Errorf("closed after %s: process %d is still there", pause, engine.Pid())
		}
		if err, open := <-engine.Exited(); err != nil {
			t.Errorf("exited: %v, %v", err, open)
		}
	}
}

// insertUntilError inserts one number after the other and returns the
// first that was not acknowledged.
func insertUntilError(ctx context.Context, conn driver.Conn, next uint64) uint64 {
	for {
		insert := fmt.Sprintf("INSERT INTO qunfa.t SELECT %d", next)
		if err := conn.Exec(ctx, insert); err != nil {
			return next
		}
		next++
	}
}

// TestEngineEndsForGood removes what the engine needs to start again.
func TestEngineEndsForGood(t *testing.T) {
	library, err := embedded.Install(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	config := engineConfig(t, t.TempDir())
	config.ClickHouse = embedded.NoClickHouse
	config.Library = filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.Symlink(library, config.Library); err != nil {
		t.Fatal(err)
	}
	engine := startEngine(t, config)
	if err := os.Remove(config.Library); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(engine.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-engine.Exited():
		if err == nil || !strings.Contains(err.Error(), "library") {
			t.Errorf("exited: %v, want the library to be missing", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the engine does not give up")
	}
}

func TestEngineStartErrors(t *testing.T) {
	config := engineConfig(t, "")
	config.ClickHouse = embedded.NoClickHouse
	for name, c := range map[string]struct {
		change func(*embedded.EngineConfig)
		words  []string
	}{
		"no library":     {func(c *embedded.EngineConfig) { c.Library = "/nonexistent/libchdb.so" }, []string{"library", "/nonexistent/libchdb.so"}},
		"not a library":  {func(c *embedded.EngineConfig) { c.Library = os.Args[0] }, []string{"library not usable"}},
		"no executable":  {func(c *embedded.EngineConfig) { c.LocalEngine = "/nonexistent/localengine" }, []string{"/nonexistent/localengine"}},
		"bad grant":      {func(c *embedded.EngineConfig) { c.ReaderGrants = []string{"GRANT SELECT nonsense"} }, []string{"grant", "user 'reader'"}},
		"bad name":       {func(c *embedded.EngineConfig) { c.Databases = []string{"a; b"} }, []string{`"a; b"`}},
		"no directory":   {func(c *embedded.EngineConfig) { c.Dir = "" }, []string{"directory"}},
		"no permissions": {func(c *embedded.EngineConfig) { c.Dir = "/proc/qunfa" }, []string{"/proc/qunfa"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := config
			config.Dir = t.TempDir()
			c.change(&config)
			engine, err := embedded.StartEngine(t.Context(), config)
			if err == nil {
				closeEngine(t, engine)
				t.Fatal("started")
			}
			for _, word := range c.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %q: %v", word, err)
				}
			}
		})
	}
}

// TestEngineKeepsRoomForMerges checks what keeps the last bytes of the disk from
// inserts: merges that find none destroy what they merge.
func TestEngineKeepsRoomForMerges(t *testing.T) {
	config := engineConfig(t, t.TempDir())
	config.AllDatabases = true
	conn := owner(t, startEngine(t, config))
	wantCount(t, conn, "SELECT toUInt64(value) FROM system.merge_tree_settings WHERE name = 'min_free_disk_bytes_to_perform_insert'", 128<<20)
}

// TestEngineKilledWhileItStarts starts an engine that is killed a few times
// before it answers.
func TestEngineKilledWhileItStarts(t *testing.T) {
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	for deaths, starts := range map[int]bool{2: true, 3: false} {
		config := engineConfig(t, t.TempDir())
		config.ClickHouse = embedded.NoClickHouse
		config.LocalEngine = filepath.Join(t.TempDir(), "localengine")
		log := config.LocalEngine + ".log"
		script := fmt.Sprintf("#!/bin/sh\necho start >> %[1]s\n[ $(wc -l < %[1]s) -gt %[2]d ] || kill -KILL $$\nexec %[3]s \"$@\"\n", log, deaths, exe)
		if err := os.WriteFile(config.LocalEngine, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		engine, err := embedded.StartEngine(t.Context(), config)
		if err == nil {
			closeEngine(t, engine)
		}
		if (err == nil) != starts {
			t.Errorf("killed %d times: %v", deaths, err)
		}
		if err != nil && !strings.Contains(err.Error(), "killed") {
			t.Errorf("the error does not say that it was killed: %v", err)
		}
	}
}

func TestEngineReplacesBusyPorts(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	var log syncBuffer
	config := engineConfig(t, t.TempDir())
	config.TCPPort = busy.Addr().(*net.TCPAddr).Port
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	engine := startEngine(t, config)
	if engine.Addr() == busy.Addr().String() {
		t.Error("the engine claims a port that is not its own")
	}
	wantCount(t, owner(t, engine), "SELECT count() FROM numbers(3)", 3)
	if !strings.Contains(log.String(), "port in use") {
		t.Errorf("no warning about the port:\n%s", log.String())
	}
}

func TestEngineStartCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if engine, err := embedded.StartEngine(ctx, engineConfig(t, t.TempDir())); err == nil {
		closeEngine(t, engine)
		t.Error("started")
	}
}

// TestEngineCloseWithRunningQuery must not take as long as the query.
func TestEngineCloseWithRunningQuery(t *testing.T) {
	engine := startEngine(t, engineConfig(t, t.TempDir()))
	conn := owner(t, engine)
	ended := make(chan error)
	go func() {
		ended <- conn.Exec(context.Background(), "SELECT count() FROM numbers(1e14) WHERE NOT ignore(sipHash64(number))")
	}()
	watch := owner(t, engine)
	waitFor(t, "running query", func() bool {
		n, err := count(t.Context(), watch, "SELECT count() FROM system.processes WHERE query LIKE '%1e14%' AND query NOT LIKE '%processes%'")
		return err == nil && n == 1
	})
	began := time.Now()
	closeEngine(t, engine)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("close took %s", took)
	}
	if err := <-ended; err == nil {
		t.Error("the query came to an end")
	}
}

// TestEngineEndsWithItsParent kills a process that has an engine, without
// giving it a chance to stop it.
func TestEngineEndsWithItsParent(t *testing.T) {
	dir := t.TempDir()
	parent := startParent(t, dir)
	execute(t, parent.conn(t), schema...)
	if err := parent.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.cmd.Wait() // killed

	// At once, while the orphan may still be stopping.
	engine := startEngine(t, engineConfig(t, dir))
	wantCount(t, owner(t, engine), "SELECT count() FROM qunfa.v", 100)
	waitFor(t, "end of the orphan", func() bool { return !alive(parent.enginePid) })
}

// TestEngineSurvivesCtrlC sends the signal to the whole process group, as a
// terminal does. Who owns the engine decides when it stops.
func TestEngineSurvivesCtrlC(t *testing.T) {
	parent := startParent(t, t.TempDir())
	if err := syscall.Kill(-parent.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if line := parent.line(t); line != "interrupted" {
		t.Errorf("the parent says %q", line)
	}
	wantCount(t, parent.conn(t), "SELECT count() FROM numbers(5)", 5)
	if err := parent.stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := parent.cmd.Wait(); err != nil {
		t.Errorf("the parent: %v", err)
	}
	if alive(parent.enginePid) {
		t.Error("the engine is still there")
	}
}

func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false
	}
	// A zombie waits for whoever adopted it, and is dead.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	return fields[0] != "Z"
}

// parentProcess is another process that has an engine.
type parentProcess struct {
	cmd            *exec.Cmd
	stdin          io.Closer
	stdout         *bufio.Scanner
	enginePid      int
	addr, password string
}

func startParent(t *testing.T, dir string) *parentProcess {
	t.Helper()
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	p := &parentProcess{cmd: helper(t, "parent", dir, exe)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewScanner(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(p.line(t))
	if len(fields) != 3 {
		t.Fatalf("the parent says %q", fields)
	}
	if p.enginePid, err = strconv.Atoi(fields[0]); err != nil {
		t.Fatal(err)
	}
	p.addr, p.password = fields[1], fields[2]
	return p
}

func (p *parentProcess) line(t *testing.T) string {
	t.Helper()
	if !p.stdout.Scan() {
		t.Fatalf("the parent ended: %v", p.stdout.Err())
	}
	return p.stdout.Text()
}

func (p *parentProcess) conn(t *testing.T) driver.Conn {
	t.Helper()
	return connect(t, p.addr, embedded.Username, p.password)
}

func init() {
	helpers["parent"] = func() {
		if err := runParent(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// runParent has an engine until its standard input ends. A Ctrl-C does not end
// it; it only says that there was one.
func runParent(dir, exe string) error {
	engine, err := embedded.StartEngine(context.Background(), embedded.EngineConfig{
		Dir: dir, LocalEngine: exe, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		<-interrupted
		fmt.Println("interrupted")
	}()
	fmt.Println(engine.Pid(), engine.Addr(), engine.Password())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return engine.Close()
}
