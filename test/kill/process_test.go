package kill

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/local"
	"qunfa/test/internal/proc"
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
	if err := proc.Build(tmp, "qunfa"); err != nil {
		t.Fatal(err)
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
	*proc.Process
	log *proc.Log
}

// start runs `qunfa up` and does not wait for anything.
func (p *program) start() *process {
	p.t.Helper()
	r := &process{program: p, log: new(proc.Log)}
	var err error
	r.Process, err = proc.Start(proc.Command{
		Path: p.exe, Args: []string{"up", "--config", p.config}, Dir: filepath.Dir(p.config), Env: p.env, Log: r.log,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(r.Kill)
	return r
}

// connection returns how to reach the process, or nil while it is not up.
func (r *process) connection() *local.Connection {
	c, err := local.ReadConnection(r.dir)
	if err != nil || c.PID != r.PID() {
		return nil
	}
	return c
}

// stop ends it in order.
func (r *process) stop() {
	r.t.Helper()
	if err := r.Stop(patience); err != nil {
		r.t.Fatalf("stop: %v\n%s", err, r.log)
	}
}

// mustRun fails the test if the process has ended without being killed.
func (r *process) mustRun() {
	r.t.Helper()
	if r.Ended() {
		r.t.Fatalf("qunfa up has ended by itself: %v\n%s", r.Err(), r.log)
	}
}

// killEngine kills the ClickHouse of the process; false: it has none now.
func (r *process) killEngine() bool {
	r.t.Helper()
	pids, err := r.Children()
	if err != nil {
		r.t.Fatal(err)
	}
	if len(pids) == 0 {
		return false
	}
	err = syscall.Kill(pids[0], syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		r.t.Fatal(err)
	}
	return err == nil
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
