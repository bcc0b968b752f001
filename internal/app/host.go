package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/config"
	"qunfa/internal/daemon"
)

// Host runs services in one process, behind one admin listener.
type Host struct {
	cfg      *config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	admin    *daemon.Admin
	daemon   *daemon.Daemon
	services []Service
}

// NewHost makes the services of these names and binds all listeners. After an
// error nothing is left behind.
func NewHost(cfg *config.Config, o Options, names ...string) (_ *Host, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Registerer == nil {
		o.Registerer = o.Registry
	}
	h := &Host{cfg: cfg, log: o.Logger, registry: o.Registry, daemon: daemon.New(daemon.Config{Logger: o.Logger})}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.daemon.Stop())
		}
	}()
	daemon.RegisterProcess(h.registry, daemon.ReadBuild(o.Version))
	h.admin, err = daemon.NewAdmin(daemon.AdminConfig{Listen: cfg.Admin.Listen, Gatherer: h.registry, Logger: o.Logger, Pprof: cfg.Admin.Pprof})
	if err != nil {
		return nil, listenError("admin.listen", err)
	}
	h.daemon.OnStop("admin", h.admin.Close)
	h.daemon.AddSupport("admin", h.admin.Run)
	for _, name := range names {
		s, err := New(name, cfg, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		h.services = append(h.services, s)
		h.daemon.OnStop(name, s.Close)
		h.daemon.Add(name, s.Run)
		s.AddTo(h.admin)
	}
	h.admin.AddCheck("running", h.daemon.CheckRunning)
	if cfg.AccountsDir != "" {
		h.watchAccounts(cfg, o)
	}
	return h, nil
}

// listenError says what can be done about the commonest reason not to start. keys
// are the places of the configuration that may be to blame.
func listenError(keys string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program has the port; stop it, or choose another one in %s of the configuration", err, keys)
	}
	return err
}

// Registry collects the metrics of everything in the process.
func (h *Host) Registry() *prometheus.Registry { return h.registry }

// AdminAddr is where metrics and health are.
func (h *Host) AdminAddr() string { return h.admin.Addr() }

// Handle shows another page on the admin listener.
func (h *Host) Handle(path string, page http.Handler) { h.admin.Handle(path, page) }

// Ingest returns the ingest service of the process, or nil.
func (h *Host) Ingest() *Ingest {
	for _, s := range h.services {
		if i, ok := s.(*Ingest); ok {
			return i
		}
	}
	return nil
}

// Add runs something else beside the services.
func (h *Host) Add(name string, run func(context.Context) error) { h.daemon.Add(name, run) }

// OnStop registers what is to be undone after the services have stopped.
func (h *Host) OnStop(name string, stop func(context.Context) error) { h.daemon.OnStop(name, stop) }

// Ready runs every readiness check.
func (h *Host) Ready() (bool, []daemon.Result) {
	status, results := h.admin.Ready()
	return status != daemon.StatusNotReady, results
}

// Run runs everything until ctx ends or a service fails, and stops it again.
func (h *Host) Run(ctx context.Context) error {
	h.log.Info("admin listener", "metrics", "http://"+h.AdminAddr()+"/metrics", "ready", "http://"+h.AdminAddr()+"/readyz")
	return h.daemon.Run(ctx)
}

// Stop undoes NewHost for a host that is not run.
func (h *Host) Stop() error { return h.daemon.Stop() }

// watchAccounts passes on what changes in accounts_dir while everything runs.
func (h *Host) watchAccounts(cfg *config.Config, o Options) {
	w := config.NewWatcher(config.WatcherConfig{
		Config:     cfg,
		Reload:     o.Reload,
		Logger:     o.Logger,
		Registerer: h.registry,
		Apply: func(ctx context.Context, accounts []config.Account) error {
			next := *cfg
			next.Accounts = accounts
			var errs []error
			for _, s := range h.services {
				if err := s.Reload(ctx, &next); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", s.Name(), err))
				}
			}
			return errors.Join(errs...)
		},
	})
	h.admin.AddCheck("accounts_dir", w.Check)
	h.daemon.Add("accounts", w.Run)
}
