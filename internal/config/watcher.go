package config

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WatcherConfig configures a [Watcher].
type WatcherConfig struct {
	Config *Config // as loaded; its AccountsDir is watched
	Loader Loader
	// Apply takes a new set: the accounts of the file and of the directory. If
	// it fails, the accounts before stay in force, and it is tried again when
	// the directory changes.
	Apply func(context.Context, []Account) error
	// Reload asks to read the directory now, changed or not, as on SIGHUP. The
	// environment of secrets stays that of the process. May be nil.
	Reload <-chan os.Signal

	// Interval is how often to look for changes. Default 5 s; with more than
	// 1,000 files it grows with their number, up to a minute.
	Interval   time.Duration
	Logger     *slog.Logger          // nil: no logging
	Registerer prometheus.Registerer // nil: metrics are not exported
}

// Watcher reads accounts_dir again when it changes. It polls sizes and times,
// which works on every file system, ConfigMaps and network mounts included. A
// change is read when it has not changed again for one interval, so a file that
// is being written is left alone. What is not valid is refused as a whole: the
// accounts before stay in force, and the error is logged, counted and told by
// [Watcher.Check].
type Watcher struct {
	cfg     WatcherConfig
	metrics *watcherMetrics
	loaded  []stamp // of what is in force, or was refused
	seen    []stamp // at the last look
	secrets []stamp // of the secret files that were read
	kept    keptFiles

	mu  sync.Mutex
	err error
}

// ErrNoAccounts refuses a directory without any file: it is a volume that is
// not mounted more often than the wish to have no accounts.
var ErrNoAccounts = errors.New("accounts_dir has no *.yaml file; keeping the accounts that it had")

// NewWatcher returns a watcher that does nothing until Run.
func NewWatcher(cfg WatcherConfig) *Watcher {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Interval <= 0 {
		cfg.Interval = 5 * time.Second
	}
	w := &Watcher{cfg: cfg, kept: cfg.Config.kept, metrics: newWatcherMetrics(cfg.Registerer)}
	w.metrics.accounts.Set(float64(len(cfg.Config.Accounts)))
	return w
}

// Run watches until ctx ends. Without an accounts_dir it only waits.
func (w *Watcher) Run(ctx context.Context) error {
	if w.cfg.Config.AccountsDir == "" {
		<-ctx.Done()
		return nil
	}
	// The directory may have changed since it was loaded, and the names of the
	// secret files are not known yet: read it once.
	w.reload(ctx)
	for {
		timer := time.NewTimer(w.interval())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-w.cfg.Reload:
			timer.Stop()
			w.cfg.Logger.Info("reading accounts_dir again, as asked by a signal")
			w.kept = nil
			w.reload(ctx)
		case <-timer.C:
			w.look(ctx)
		}
	}
}

func (w *Watcher) interval() time.Duration {
	slower := 1 + len(w.secrets)/1000
	return max(w.cfg.Interval, min(time.Duration(slower)*w.cfg.Interval, time.Minute))
}

// look reloads if something has changed since the last load, and has settled.
func (w *Watcher) look(ctx context.Context) {
	now := w.now()
	settled := slices.Equal(now, w.seen)
	w.seen = now
	if settled && !slices.Equal(now, w.loaded) {
		w.reload(ctx)
	}
}

// stamp is what tells one version of a file from the next.
type stamp struct {
	path        string
	size, mtime int64 // -1: it cannot be read
}

func stampOf(path string) stamp {
	info, err := os.Stat(path) // follows links: a ConfigMap is made of them
	if err != nil {
		return stamp{path, -1, -1}
	}
	return stamp{path, info.Size(), info.ModTime().UnixNano()}
}

// directory is the stamps of the files of accounts_dir.
func (w *Watcher) directory() []stamp {
	dir := w.cfg.Config.AccountsDir
	entries, err := os.ReadDir(dir)
	if err != nil {
		return []stamp{{dir, -1, -1}}
	}
	var list []stamp
	for _, e := range entries {
		if isAccountsFile(e.Name()) {
			list = append(list, stampOf(filepath.Join(dir, e.Name())))
		}
	}
	return list
}

// now is the stamps of everything that is watched.
func (w *Watcher) now() []stamp {
	list := w.directory()
	for _, s := range w.secrets {
		list = append(list, stampOf(s.path))
	}
	return list
}

// reload reads, validates and applies. Its error is logged, counted and kept.
func (w *Watcher) reload(ctx context.Context) {
	files := w.directory() // before reading, so that a change meanwhile is noticed
	set, err := w.cfg.Loader.reloadAccounts(w.cfg.Config, w.kept)
	if err == nil {
		err = w.cfg.Apply(ctx, set.accounts)
	}
	if ctx.Err() != nil {
		return
	}
	w.secrets, w.kept = set.secrets, set.kept
	w.loaded = slices.Concat(files, set.secrets)
	w.seen = w.loaded
	w.metrics.count(err, len(set.accounts))
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	if err != nil {
		w.cfg.Logger.Error("accounts_dir was not taken over; the accounts before stay in force", "error", err)
		return
	}
	for _, warning := range set.warnings {
		w.cfg.Logger.Warn(warning.String())
	}
	w.cfg.Logger.Info("accounts are in force", "accounts", len(set.accounts))
}

// Check returns why the last reading of accounts_dir was refused, or nil. The
// service works on with the accounts before, so the error is one that leaves it
// ready: its method Degraded says true.
func (w *Watcher) Check(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return nil
	}
	return refused{w.err}
}

type refused struct{ err error }

func (r refused) Error() string {
	return "older accounts are in force, since accounts_dir was refused: " + r.err.Error()
}

func (r refused) Unwrap() error { return r.err }

// Degraded marks the error for /readyz.
func (r refused) Degraded() bool { return true }
