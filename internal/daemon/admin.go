package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminConfig configures the admin listener.
type AdminConfig struct {
	Listen       string              // default 127.0.0.1:0
	Gatherer     prometheus.Gatherer // what /metrics shows; nil: no /metrics
	Logger       *slog.Logger        // nil: no logging
	CheckTimeout time.Duration       // of each readiness check; default 2 s
	Pprof        bool                // serve /debug/pprof
}

// Admin is the listener for those who run the service: /metrics, /healthz (the
// process is alive), /readyz (it can do its work now) and what else is mounted.
type Admin struct {
	*Server
	cfg AdminConfig
	mux *http.ServeMux

	mu      sync.Mutex
	checks  []*namedCheck
	mounted []string
	calls   sync.WaitGroup // checks in work
}

// NewAdmin binds the listener. Requests wait until Run.
func NewAdmin(cfg AdminConfig) (*Admin, error) {
	cfg.Logger = loggerOrNone(cfg.Logger)
	setDefault(&cfg.Listen, "127.0.0.1:0")
	setDefault(&cfg.CheckTimeout, 2*time.Second)
	a := &Admin{cfg: cfg, mux: http.NewServeMux()}
	a.routes()
	// A CPU profile takes as long as it is asked to.
	srv, err := NewServer(ServerConfig{Name: "admin", Listen: cfg.Listen, Handler: a.mux, Logger: cfg.Logger, WriteTimeout: 3 * time.Minute})
	if err != nil {
		return nil, err
	}
	a.Server = srv
	return a, nil
}

func (a *Admin) routes() {
	a.mux.HandleFunc("GET /{$}", a.index)
	a.Handle("/healthz", http.HandlerFunc(a.healthz))
	a.Handle("/readyz", http.HandlerFunc(a.readyz))
	if a.cfg.Gatherer != nil {
		a.Handle("/metrics", MetricsHandler(a.cfg.Gatherer, a.cfg.Logger))
	}
	if a.cfg.Pprof {
		a.Handle("/debug/pprof/", http.HandlerFunc(pprof.Index))
		a.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		a.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		a.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		a.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
}

// Handle mounts a page, for GET and HEAD.
func (a *Admin) Handle(path string, h http.Handler) {
	a.mux.Handle("GET "+path, h)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mounted = append(a.mounted, path)
	slices.Sort(a.mounted)
}

// AddCheck adds a check to /readyz. They are shown in the order of adding.
func (a *Admin) AddCheck(name string, check Check) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks = append(a.checks, &namedCheck{name: name, check: check, timeout: a.cfg.CheckTimeout})
}

// Close stops serving and waits for the checks in work, bounded by ctx.
func (a *Admin) Close(ctx context.Context) error {
	err := a.Server.Close(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.calls.Wait()
	}()
	if !await(ctx, done) {
		a.cfg.Logger.Warn("a readiness check did not end in time")
	}
	return err
}

// Run serves until ctx ends; see [Server.Run].
func (a *Admin) Run(ctx context.Context) error {
	err := a.Server.Run(ctx)
	a.calls.Wait() // each is bounded by the check timeout, if it keeps its word
	return err
}

// Ready runs every check at the same time.
func (a *Admin) Ready() (Status, []Result) {
	a.mu.Lock()
	checks := slices.Clone(a.checks)
	a.mu.Unlock()
	results := make([]Result, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { results[i] = c.result(&a.calls) })
	}
	wg.Wait()
	return worst(results), results
}

func (a *Admin) index(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	writeText(w, http.StatusOK, strings.Join(a.mounted, "\n"))
}

func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") }

var headlines = map[Status]string{StatusOK: "ready", StatusDegraded: "ready, but degraded", StatusNotReady: "not ready"}

func (a *Admin) readyz(w http.ResponseWriter, r *http.Request) {
	status, results := a.Ready()
	code := http.StatusOK
	if status == StatusNotReady {
		code = http.StatusServiceUnavailable
	}
	if r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, code, map[string]any{"status": status, "checks": results})
		return
	}
	lines := []string{headlines[status]}
	for _, res := range results {
		lines = append(lines, res.String())
	}
	writeText(w, code, strings.Join(lines, "\n"))
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // a client that has left needs no answer
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// MetricsHandler shows what g gathers. What cannot be gathered is logged and
// left out: the rest is needed most when something is broken.
func MetricsHandler(g prometheus.Gatherer, logger *slog.Logger) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(loggerOrNone(logger).Handler(), slog.LevelError),
	})
}
