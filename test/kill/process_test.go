package kill

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/local"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// patience bounds the wait for what must come.
const patience = time.Minute

// program is the qunfa that is killed, and how to start it.
type program struct {
	t      *testing.T
	exe    string
	dir    string // of its data
	config string
	env    []string
}

func build(t *testing.T, accounts string) *program {
	t.Helper()
	engine, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	p := &program{
		t: t, exe: filepath.Join(tmp, "qunfa"), dir: filepath.Join(tmp, "data"), config: filepath.Join(tmp, "qunfa.yaml"),
		env: append(os.Environ(), "QUNFA_LOCALENGINE="+engine, "CGO_ENABLED=0"),
	}
	compile := exec.CommandContext(t.Context(), "go", "build", "-o", p.exe, "qunfa/cmd/qunfa")
	compile.Env = p.env
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	config := fmt.Sprintf(`log: {level: warn}
admin: {listen: 127.0.0.1:0}
ingest: {listen: 127.0.0.1:0, internal: 127.0.0.1:0}
sink: {interval: 300ms}
embedded: {dir: %s, http: false, tcp_port: 0}
accounts:
%s`, p.dir, accounts)
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// process is one run of it.
type process struct {
	*program
	cmd  *exec.Cmd
	log  *log
	done chan struct{} // closed when it has ended
	err  error         // written before done is closed
}

// start runs `qunfa up` and does not wait for anything.
func (p *program) start() *process {
	p.t.Helper()
	r := &process{program: p, log: new(log), done: make(chan struct{})}
	r.cmd = exec.Command(p.exe, "up", "--config", p.config)
	r.cmd.Dir = filepath.Dir(p.config)
	r.cmd.Env = p.env
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	// What a killed process leaves running must not hold up the test.
	r.cmd.WaitDelay = 10 * time.Second
	if err := r.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		r.err = r.cmd.Wait()
	}()
	p.t.Cleanup(r.kill)
	return r
}

// connection returns how to reach the process, or nil while it is not up.
func (r *process) connection() *local.Connection {
	c, err := local.ReadConnection(r.dir)
	if err != nil || c.PID != r.cmd.Process.Pid {
		return nil
	}
	return c
}

// kill ends it at once, and waits until it is gone.
func (r *process) kill() {
	_ = r.cmd.Process.Kill() // it may have ended
	<-r.done
}

// stop ends it in order.
func (r *process) stop() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatalf("it does not stop:\n%s", r.log)
	}
	if r.err != nil {
		r.t.Errorf("it stopped with %v:\n%s", r.err, r.log)
	}
}

// mustRun fails the test if the process has ended without being killed.
func (r *process) mustRun() {
	r.t.Helper()
	select {
	case <-r.done:
		r.t.Fatalf("qunfa up has ended by itself: %v\n%s", r.err, r.log)
	default:
	}
}

// killEngine kills the ClickHouse of the process; false: it has none now.
func (r *process) killEngine() bool {
	r.t.Helper()
	pids := children(r.t, r.cmd.Process.Pid)
	if len(pids) == 0 {
		return false
	}
	err := syscall.Kill(pids[0], syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		r.t.Fatal(err)
	}
	return err == nil
}

// children lists the processes that a process has started.
func children(t *testing.T, parent int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatalf("this test looks for the engine in /proc: %v", err)
	}
	var pids []int
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything; state and parent follow it.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// run runs another command of qunfa and returns what it prints.
func (p *program) run(args ...string) (string, error) {
	cmd := exec.CommandContext(p.t.Context(), p.exe, args...)
	cmd.Dir, cmd.Env = filepath.Dir(p.config), p.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("qunfa %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// log is the output of a process.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
