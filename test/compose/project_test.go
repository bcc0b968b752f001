//go:build compose

package compose

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// started are the services that the test starts; the others follow as dependencies.
// Grafana is left out: its plugin comes from the internet.
var started = []string{"ingest", "sink", "reconcile", "prometheus", "alertmanager"}

// restarted are all long-running ones among them, in an order of no meaning.
var restarted = []string{"sink", "kafka", "ingest", "clickhouse", "reconcile", "prometheus", "alertmanager"}

// project is one run of docker-compose.yml.
type project struct {
	t        *testing.T
	name     string
	image    string
	root     string
	env      []string
	ports    map[string]int // by the ending of the variable
	accounts []account
}

// account is an account of the test.
type account struct {
	appid, originalID, token, aesKey string
}

// newProject writes a configuration and chooses ports. Nothing is started.
func newProject(t *testing.T) *project {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	suffix := strings.ToLower(rand.Text()[:8])
	p := &project{t: t, name: "qunfa-test-" + suffix, image: "qunfa:test", root: root, ports: map[string]int{}}
	p.accounts = []account{
		{appid: "wx00000000000000a1", originalID: "gh_0000000000a1", token: "token" + rand.Text()},
		{appid: "wx00000000000000a2", originalID: "gh_0000000000a2", token: "token" + rand.Text(), aesKey: (rand.Text() + rand.Text())[:42] + "A"},
	}
	dir := p.writeConfig()
	p.env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+p.name, "QUNFA_DIR="+dir, "QUNFA_VERSION=test", "COMPOSE_PROFILES=", "COMPOSE_FILE="+filepath.Join(root, "docker-compose.yml"))
	for _, name := range []string{"CALLBACKS", "RECORD", "CLICKHOUSE", "CLICKHOUSE_HTTP", "PROMETHEUS", "ALERTMANAGER", "GRAFANA"} {
		p.ports[name] = freePort(t)
		p.env = append(p.env, fmt.Sprintf("QUNFA_PORT_%s=%d", name, p.ports[name]))
	}
	return p
}

// writeConfig copies the configuration as it is shipped, with accounts of the test.
// The services run as a user of their own, who must be able to read it.
func (p *project) writeConfig() string {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "qunfa")
	shipped, err := os.ReadFile(filepath.Join(p.root, "deploy/compose/qunfa.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	var accounts strings.Builder
	for _, a := range p.accounts {
		fmt.Fprintf(&accounts, "- appid: %s\n  original_id: %s\n  tokens: [%s]\n", a.appid, a.originalID, a.token)
		if a.aesKey != "" {
			fmt.Fprintf(&accounts, "  aes_keys: [%s]\n", a.aesKey)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "accounts"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	for name, content := range map[string]string{"qunfa.yaml": string(shipped), "accounts/test.yaml": accounts.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	return dir
}

// freePort is free now. Ports stay the same over restarts, so Docker cannot choose them.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// run runs a program in the root of the sources, and returns its standard output.
func (p *project) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = p.root, p.env
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, clipEnd(errs.String()))
	}
	return string(out), nil
}

// clipEnd keeps what matters of a long output.
func clipEnd(s string) string {
	const most = 4000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// compose runs docker compose, which must succeed.
func (p *project) compose(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Minute)
	defer cancel()
	out, err := p.run(ctx, "docker", append([]string{"compose"}, args...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// up builds the image, starts everything, and removes it at the end of the test.
func (p *project) up() {
	p.t.Helper()
	p.t.Cleanup(p.down)
	p.compose("build", "init")
	p.compose(append([]string{"up", "-d", "--wait", "--wait-timeout", "180"}, started...)...)
}

// down removes everything, with the volumes. What was logged is shown if the test failed.
func (p *project) down() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), 3*time.Minute)
	defer cancel()
	if p.t.Failed() {
		logs, err := p.run(ctx, "docker", "compose", "logs", "--no-color", "--tail", "30")
		p.t.Logf("%v\n%s", err, logs)
	}
	if _, err := p.run(ctx, "docker", "compose", "--profile", "*", "down", "-v", "--remove-orphans", "-t", "10"); err != nil {
		p.t.Error(err)
	}
	for _, kind := range []string{"container", "volume", "network"} {
		args := []string{kind, "ls", "-q", "--filter", "label=com.docker.compose.project=" + p.name}
		if kind == "container" {
			args = append(args, "-a")
		}
		left, err := p.run(ctx, "docker", args...)
		if err != nil || strings.TrimSpace(left) != "" {
			p.t.Errorf("left behind, of each %s: %q, %v", kind, left, err)
		}
	}
}

// health is what Docker says of a service.
func (p *project) health(service string) string {
	p.t.Helper()
	var s struct{ Health, State string }
	if err := json.Unmarshal([]byte(p.compose("ps", "-a", "--format", "json", service)), &s); err != nil {
		p.t.Fatal(err)
	}
	return s.State + " " + s.Health
}

// awaitHealth waits until Docker says so of a service.
func (p *project) awaitHealth(service, want string) {
	p.t.Helper()
	p.await(90*time.Second, service+" is "+want, func() error {
		if got := p.health(service); got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// await calls check until it finds nothing wrong.
func (p *project) await(within time.Duration, what string, check func() error) {
	p.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			p.t.Fatalf("not within %s: %s: %v", within, what, err)
		case <-tick.C:
		}
	}
}
