//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/embedded/engineproto"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func TestParseOptions(t *testing.T) {
	good := []string{"-lib", "/a/libchdb.so", "-path", "data", "-config", "c.xml", "-tcp", "9000"}
	got, err := parseOptions(good, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(got.path) || !filepath.IsAbs(got.config) || got.host != "127.0.0.1" || got.httpPort != 0 || got.tcpPort != 9000 {
		t.Errorf("%+v", got)
	}
	for _, bad := range [][]string{nil, good[2:], good[:6], append(good, "more"), {"-nonsense"}} {
		if _, err := parseOptions(bad, io.Discard); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestCheckXML(t *testing.T) {
	for content, want := range map[string]bool{
		"<clickhouse><a>1</a></clickhouse>": true,
		"<clickhouse><a>1</b></clickhouse>": false,
		"<clickhouse>":                      false,
		"<a>&unknown;</a>":                  false,
	} {
		path := filepath.Join(t.TempDir(), "config.xml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkXML(path); (err == nil) != want {
			t.Errorf("%s: %v", content, err)
		}
	}
	if err := checkXML("/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestPrepareDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	lock, err := prepareDir(path)
	if err != nil {
		t.Fatal(err)
	}
	first := readSystemDatabase(t, path)
	if _, err := prepareDir(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a second time: %v, want to be refused with the directory", err)
	}
	if err := os.WriteFile(filepath.Join(path, historyFile), []byte("exit"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}

	lock, err = prepareDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if again := readSystemDatabase(t, path); again != first {
		t.Errorf("the system database was replaced: %q, before %q", again, first)
	}
	if _, err := os.Stat(filepath.Join(path, historyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the history is still there: %v", err)
	}
}

func readSystemDatabase(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path, "metadata", "system.sql"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^ATTACH DATABASE _ UUID '[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'\nENGINE = Atomic\n$`)
	if !want.Match(data) {
		t.Errorf("system database: %q", data)
	}
	return string(data)
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want engineproto.ExitCode
	}{
		{nil, engineproto.ExitStopped},
		{because(engineproto.ExitPort, nil), engineproto.ExitStopped},
		{errors.New("something"), engineproto.ExitFailed},
		{fmt.Errorf("around: %w", because(engineproto.ExitLibrary, os.ErrNotExist)), engineproto.ExitLibrary},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// command is the built executable with good arguments.
func command(t *testing.T, change func(o *options)) (*exec.Cmd, options) {
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
	o := options{lib: library, path: filepath.Join(dir, "data"), config: filepath.Join(dir, "config.xml"), tcpPort: freePort(t)}
	if err := os.WriteFile(o.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-lib", o.lib, "-path", o.path, "-config", o.config, "-tcp", strconv.Itoa(o.tcpPort))
	cmd.WaitDelay = time.Second
	return cmd, o
}

// config gives the engine's own session the right it needs.
const config = `<clickhouse>
  <profiles><default/></profiles><quotas><default/></quotas>
  <users><default><password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>
</clickhouse>`

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func TestExits(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	inUse := filepath.Join(t.TempDir(), "data")
	lock, err := prepareDir(inUse)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()

	for name, c := range map[string]struct {
		change func(o *options)
		want   engineproto.ExitCode
		words  string
	}{
		"usage":            {func(o *options) { o.tcpPort = 0 }, engineproto.ExitUsage, "-tcp"},
		"no library":       {func(o *options) { o.lib = "/nonexistent/lib.so" }, engineproto.ExitLibrary, "/nonexistent/lib.so"},
		"not a library":    {func(o *options) { o.lib = o.config }, engineproto.ExitLibrary, "load"},
		"directory in use": {func(o *options) { o.path = inUse }, engineproto.ExitDirectory, inUse},
		"not a directory":  {func(o *options) { o.path = o.config }, engineproto.ExitDirectory, "directory"},
		"port in use":      {func(o *options) { o.tcpPort = busy.Addr().(*net.TCPAddr).Port }, engineproto.ExitPort, "in use"},
		"no configuration": {func(o *options) { o.config = "/nonexistent/c.xml" }, engineproto.ExitConfig, "/nonexistent/c.xml"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, _ := command(t, c.change)
			output, err := cmd.CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || engineproto.ExitCode(exit.ExitCode()) != c.want || !strings.Contains(string(output), c.words) {
				t.Errorf("%v, want exit code %d: %s", err, c.want, output)
			}
		})
	}
}

// engine is a running localengine.
type engine struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr *bytes.Buffer
	options
}

func start(t *testing.T) *engine {
	t.Helper()
	cmd, o := command(t, nil)
	e := &engine{cmd: cmd, stderr: new(bytes.Buffer), options: o}
	var err error
	if e.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	e.stdout, cmd.Stderr = bufio.NewReader(stdout), e.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := e.stdout.ReadString('\n')
	if err != nil || !regexp.MustCompile(`^READY \d+\.\d+\.\d+`).MatchString(line) {
		_ = cmd.Wait()
		t.Fatalf("says %q, %v: %s", line, err, e.stderr)
	}
	return e
}

// wantStopped waits for a clean end, and expects nothing more on stdout.
func (e *engine) wantStopped(t *testing.T) {
	t.Helper()
	rest, err := io.ReadAll(e.stdout)
	if err != nil || len(rest) > 0 {
		t.Errorf("also says %q, %v", rest, err)
	}
	if err := e.cmd.Wait(); err != nil {
		t.Errorf("ended with %v: %s", err, e.stderr)
	}
}

func TestServesUntilStdinCloses(t *testing.T) {
	e := start(t)
	var dialer net.Dialer
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(e.tcpPort)))
	if err != nil {
		t.Errorf("it is ready, but: %v", err)
	} else {
		_ = conn.Close()
	}
	if err := e.stdin.Close(); err != nil {
		t.Error(err)
	}
	e.wantStopped(t)
}

func TestStopsOnSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			e := start(t)
			if err := e.cmd.Process.Signal(sig); err != nil {
				t.Error(err)
			}
			e.wantStopped(t)
		})
	}
}

// TestOwnSession: a signal to the group of the parent is not for the engine.
func TestOwnSession(t *testing.T) {
	e := start(t)
	group, err := syscall.Getpgid(e.cmd.Process.Pid)
	if err != nil || group != e.cmd.Process.Pid {
		t.Errorf("process group %d, %v, want its own", group, err)
	}
	if err := e.stdin.Close(); err != nil {
		t.Error(err)
	}
	e.wantStopped(t)
}
