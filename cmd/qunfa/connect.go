package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/kafka"
	"qunfa/internal/local"
)

// defaultConfig is where a configuration is looked for that need not be there.
const defaultConfig = "qunfa.yaml"

// demoDir is where `qunfa demo` runs if it is told nothing else.
const demoDir = "qunfa-demo"

// target is what a command works on: configured servers or a local stack.
type target struct {
	cfg   *config.Config
	opts  app.Options
	local *local.Connection // nil: the servers of the configuration
	dir   string            // of the local stack
	where string            // in words
}

// target finds out what to work on. --data says so; else the configuration does
// if it names servers; else it is what runs in this directory.
func (g *globals) target() (*target, error) {
	cfg, err := g.loadConfig()
	if err != nil {
		return nil, err
	}
	opts, err := g.options()
	if err != nil {
		return nil, err
	}
	if g.Data == "" && (len(cfg.Kafka.Brokers) > 0 || len(cfg.ClickHouse.Addr) > 0) {
		return &target{cfg: cfg, opts: opts, where: "the servers of " + g.Config}, nil
	}
	dirs := []string{cfg.Embedded.Dir, demoDir}
	if g.Data != "" {
		dirs = []string{g.Data}
	}
	conn, dir, err := findStack(dirs)
	if err != nil {
		return nil, g.nothingRuns(err, dirs)
	}
	own, local := conn.Apply(cfg)
	local.Logger = opts.Logger
	return &target{cfg: own, opts: local, local: conn, dir: dir, where: "the local stack in " + shortPath(dir)}, nil
}

func findStack(dirs []string) (conn *local.Connection, dir string, err error) {
	for _, dir := range dirs {
		conn, err := local.ReadConnection(dir)
		if err == nil {
			return conn, dir, nil
		}
		if !errors.Is(err, local.ErrNotRunning) {
			return nil, "", fmt.Errorf("look for what runs in %s: %w", dir, err)
		}
	}
	return nil, "", local.ErrNotRunning
}

func (g *globals) nothingRuns(err error, dirs []string) error {
	if !errors.Is(err, local.ErrNotRunning) {
		return err
	}
	var names []string
	for _, d := range dirs {
		names = append(names, shortPath(d))
	}
	return fmt.Errorf("nothing runs in %s: start it with `qunfa up` or `qunfa demo`, or name servers (kafka.brokers, clickhouse.addr) in %s",
		strings.Join(names, " or "), g.Config)
}

// shortPath is a path below the working directory as people write it.
func shortPath(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, abs); err == nil && filepath.IsLocal(rel) {
		return "./" + rel
	}
	return abs
}

// loadConfig reads the configuration. The default one may be missing: a local
// stack says by itself how to reach it.
func (g *globals) loadConfig() (*config.Config, error) {
	if _, err := os.Stat(g.Config); errors.Is(err, fs.ErrNotExist) && g.Config == defaultConfig {
		return config.Default(), nil
	}
	return g.requireConfig()
}

// requireConfig is loadConfig where there must be one. Warnings are for
// check-config and the services; repeated by every command nobody would read them.
func (g *globals) requireConfig() (*config.Config, error) {
	cfg, _, err := config.Load(g.Config)
	if err != nil {
		return nil, &usageError{err}
	}
	return cfg, nil
}

func (g *globals) options() (app.Options, error) {
	logger, err := daemon.NewLogger(g.Stderr, "text", cmp.Or(g.LogLevel, "error"))
	if err != nil {
		return app.Options{}, &usageError{err}
	}
	return app.Options{Logger: logger}, nil
}

// kafka connects to Kafka.
func (t *target) kafka() (*kafka.Client, error) {
	if len(t.cfg.Kafka.Brokers) == 0 {
		return nil, usagef("the configuration names no Kafka: give kafka.brokers, or use --data for a local stack")
	}
	return app.NewKafka(t.cfg, t.opts)
}

// database opens ClickHouse as the services do.
func (t *target) database() (*clickhouse.DB, error) {
	if len(t.cfg.ClickHouse.Addr) == 0 {
		return nil, usagef("the configuration names no ClickHouse: give clickhouse.addr, or use --data for a local stack")
	}
	return app.OpenClickHouse(t.cfg, t.opts)
}

// readerFlags say as whom to ask. A person who asks should not be able to change anything.
type readerFlags struct {
	User     string `help:"ClickHouse user to ask as. Default: the reader of a local stack, else clickhouse.username." env:"QUNFA_CLICKHOUSE_USER" placeholder:"NAME"`
	Password string `help:"Its password; better given in the environment." env:"QUNFA_CLICKHOUSE_PASSWORD" placeholder:"PASSWORD"`
}

// reader opens ClickHouse for people's questions.
func (f readerFlags) reader(t *target) (*clickhouse.DB, error) {
	as := *t
	as.cfg = f.configure(t)
	return as.database()
}

func (f readerFlags) configure(t *target) *config.Config {
	cfg := *t.cfg
	switch {
	case f.User != "":
		cfg.ClickHouse.Username, cfg.ClickHouse.Password = f.User, config.NewSecret(f.Password)
	case t.local != nil:
		cfg.ClickHouse.Username = t.local.ClickHouse.ReaderUsername
		cfg.ClickHouse.Password = config.NewSecret(t.local.ClickHouse.ReaderPassword)
	}
	return &cfg
}

// explainAccess adds what to do about a user who may not read the views.
func explainAccess(err error) error {
	if clickhouse.ClassOf(err) != clickhouse.ClassAuth || !strings.Contains(err.Error(), "grant SELECT") {
		return err
	}
	return fmt.Errorf("%w\n(ask as a user who may read the views, with --user or QUNFA_CLICKHOUSE_USER; `qunfa migrate --grants` prints how to make one)", err)
}

// ownerFlags say who migrates: what changes or deletes tables is for that user.
type ownerFlags struct {
	User     string `help:"ClickHouse user who may change tables: the one who migrates. Default: clickhouse.username, or that of the local stack." env:"QUNFA_OWNER_USER" placeholder:"NAME"`
	Password string `help:"Its password; better given in the environment." env:"QUNFA_OWNER_PASSWORD" placeholder:"PASSWORD"`
}

func (f ownerFlags) as(t *target) *target {
	as := *t
	if f.User != "" {
		cfg := *t.cfg
		cfg.ClickHouse.Username, cfg.ClickHouse.Password = f.User, config.NewSecret(f.Password)
		as.cfg = &cfg
	}
	return &as
}

// explainOwner adds what to do about a user who may not change tables.
func explainOwner(cfg *config.Config, err error) error {
	if clickhouse.ClassOf(err) != clickhouse.ClassAuth {
		return err
	}
	return fmt.Errorf("%w\n(%s may not change tables: give the user who migrates, with --user or QUNFA_OWNER_USER)", err, cfg.ClickHouse.Username)
}
