//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/local"
	"qunfa/test/internal/proc"
)

// alone is the world of `qunfa up`: one process, and its engine as a child.
type alone struct {
	*stage
	up   *service
	data *disk
	apis []string
}

func startAlone(s *stage) *alone {
	s.say("building the programs")
	if err := proc.Build(s.dir, "qunfa", "localengine"); err != nil {
		s.t.Fatal(err)
	}
	a := &alone{stage: s, apis: []string{s.address()}, data: newDisk(s.t, filepath.Join(s.dir, "data"), 1536)}
	a.up = &service{stage: s, name: "up", kind: "up", admin: s.address(), front: s.address()}
	s.startWeChat(a.up.front)
	wechat := s.address()
	s.wires.add(wechat, strings.TrimPrefix(s.sim.URL(), "http://"), "reconcile–WeChat")
	file := filepath.Join(s.dir, "qunfa.yaml")
	yaml := fmt.Sprintf(`admin: {listen: %q}
ingest: {listen: %q, internal: %q, api_token: %s}
embedded: {dir: %s, http: false, tcp_port: %d}
wechat: {base_url: "http://%s"}
`, a.up.admin, a.up.front, a.apis[0], apiToken, a.data.dir, s.port(), wechat) + reconcileYAML("up") + accountsYAML(s.sim)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		s.t.Fatal(err)
	}
	a.up.cmd = proc.Command{
		Path: filepath.Join(s.dir, "qunfa"), Args: []string{"up", "--config", file}, Dir: s.dir, Env: append(os.Environ(), "QUNFA_LOCALENGINE="+filepath.Join(s.dir, "localengine")),
	}
	s.say("starting qunfa up")
	if err := a.up.run(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(a.up.end)
	s.until("qunfa up is ready", 2*time.Minute, a.up.unready)
	return a
}

const theEngine = "the engine of qunfa up"

func (a *alone) moves() []move {
	s := time.Second
	return slices.Concat(
		each("up", s, 5*s, []string{"kill", "stop", "freeze", "kill while it starts"}, "up"),
		each("up", 3*s, 10*s, []string{"starve"}, "up"),
		each("engine", 2*s, 12*s, []string{"kill", "freeze"}, theEngine),
		each("reconcile–WeChat", 2*s, 8*s, wireTroubles, "reconcile–WeChat"),
	)
}

func (a *alone) trouble(m move) (on string, undo func() error, err error) {
	switch {
	case m.whom == theEngine:
		return a.troubleEngine(m.what)
	case m.what == "starve":
		over := a.front.excuse(a.up.front, true)
		empty, err := a.data.fill()
		if err != nil {
			over()
			return "", nil, err
		}
		return "its whole directory", func() error { defer over(); return empty() }, nil
	case m.what == "kill while it starts":
		undo, err = a.killStarting()
	case a.wires.named[m.whom] != nil:
		undo, err = a.wires.trouble(m.what, m.whom)
	default:
		undo, err = a.up.trouble(m.what)
	}
	return "", undo, err
}

// killStarting kills the process, and its next run at some moment of its start.
func (a *alone) killStarting() (undo func() error, err error) {
	again, err := a.up.trouble("kill")
	if err != nil {
		return nil, err
	}
	if err := a.up.run(); err != nil {
		return again, err
	}
	return func() error {
		a.up.current(true).Kill()
		return again()
	}, nil
}

// troubleEngine kills or freezes the child process.
func (a *alone) troubleEngine(what string) (on string, undo func() error, err error) {
	children, err := a.up.current(false).Children()
	if err != nil {
		return "", nil, err
	}
	if len(children) == 0 {
		return "it does not run now", func() error { return nil }, nil
	}
	pid := children[0]
	signals := map[string]syscall.Signal{"kill": syscall.SIGKILL, "freeze": stopSignal}
	if err := syscall.Kill(pid, signals[what]); err != nil && !errors.Is(err, syscall.ESRCH) {
		return "", nil, err
	}
	return fmt.Sprintf("process %d", pid), func() error {
		if err := syscall.Kill(pid, contSignal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil
	}, nil
}

func (a *alone) running() []*service { return []*service{a.up} }

// open connects as other commands of qunfa do.
func (a *alone) open() (*config.Config, app.Options, error) {
	conn, err := local.ReadConnection(a.data.dir)
	if err != nil {
		return nil, app.Options{}, err
	}
	cfg, o := conn.Apply(config.Default())
	return cfg, o, nil
}

func (a *alone) rows(ctx context.Context) ([]row, error) {
	cfg, o, err := a.open()
	if err != nil {
		return nil, err
	}
	db, err := app.OpenClickHouse(cfg, o)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return storedRows(ctx, db)
}

func (a *alone) checks(ctx context.Context) ([]check, error) {
	cfg, o, err := a.open()
	if err != nil {
		return nil, err
	}
	db, err := app.OpenClickHouse(cfg, o)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	client, err := app.NewKafka(cfg, o)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return storedChecks(ctx, client, db, cfg.Kafka.Topic, cfg.Kafka.DeadTopic, cfg.Sink.Group)
}

func TestEmbedded(t *testing.T) {
	set := readSettings(t)
	s := newStage(t, set.seed)
	s.say("world embedded, CHAOS_SEED=%d CHAOS_FOR=%s CHAOS_RATE=%g", set.seed, set.lasts, set.rate)
	a := startAlone(s)
	play(s, a, s.startLoad(set.rate, a.apis...), set)
}
