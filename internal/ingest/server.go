package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"qunfa/internal/sample"
)

// Server is the ingest service: the public listener, the internal listener and
// what passes pushes on.
type Server struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	forward *forwarder
	owned   *http.Transport // nil if it is the caller's

	public, internal *listener // internal may be nil
	release          sync.Once
}

// listener is a bound address and what is served there.
type listener struct {
	net  net.Listener
	http *http.Server
}

// New binds the listeners, so that addresses are known and requests wait in the
// kernel, but serves nothing until [Server.Run]. Without Run, call [Server.Close].
func New(cfg Config, deps Deps) (*Server, error) {
	if err := deps.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	s := &Server{cfg: cfg, deps: deps, metrics: newMetrics()}
	log := sample.New(deps.Logger, sample.Config{Every: sampleEvery, Burst: sampleBurst, Clock: deps.Clock})
	if deps.HTTP == nil {
		s.owned = newTransport(cfg.Upstream)
		deps.HTTP = s.owned
	}
	s.forward = newForwarder(cfg.Upstream, deps.HTTP, s.metrics, log, deps.Clock)
	if err := s.listen(log); err != nil {
		return nil, errors.Join(err, s.closeListeners())
	}
	if err := s.metrics.register(deps.Registerer); err != nil {
		return nil, errors.Join(err, s.closeListeners())
	}
	return s, nil
}

func (s *Server) listen(log *sample.Logger) error {
	var err error
	if s.public, err = s.bind(s.cfg.Listen, counted(s.newCallbacks(log).handler()), 5*time.Second); err != nil {
		return fmt.Errorf("listen for callbacks: %w", err)
	}
	s.public.net = &connections{Listener: s.public.net, most: int64(s.cfg.MaxConnections), metrics: s.metrics}
	if s.cfg.Internal == "" {
		return nil
	}
	auth, err := newBearer(s.cfg.API.Tokens)
	if err != nil {
		return err
	}
	api := s.newSubmissions(auth, log).handler()
	if s.internal, err = s.bind(s.cfg.Internal, api, s.cfg.API.BodyTimeout+5*time.Second); err != nil {
		return fmt.Errorf("listen for submissions: %w", err)
	}
	return nil
}

// bind makes a server whose every wait has an end: a client that sends one byte
// now and then must not hold a connection for ever.
func (s *Server) bind(addr string, h http.Handler, read time.Duration) (*listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{net: l, http: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 3 * time.Second,
		ReadTimeout:       read,
		WriteTimeout:      read + s.cfg.API.Timeout + 5*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		// What net/http itself has to say is noise of broken connections.
		ErrorLog:    slog.NewLogLogger(s.deps.Logger.Handler(), slog.LevelDebug),
		ConnContext: withConnection,
	}}, nil
}

func (s *Server) newCallbacks(log *sample.Logger) *callbacks {
	return &callbacks{
		cfg: s.cfg, dir: s.deps.Directory, events: s.deps.Publisher, dead: s.deps.DeadLetters, forward: s.forward,
		metrics: s.metrics, log: log, clock: s.deps.Clock, places: newLimit(s.cfg.MaxInFlight, s.cfg.MaxInFlight),
	}
}

func (s *Server) newSubmissions(auth *bearer, log *sample.Logger) *submissions {
	cfg := s.cfg.API
	return &submissions{
		cfg: cfg, source: s.cfg.Source, dir: s.deps.Directory, events: s.deps.Publisher, auth: auth,
		metrics: s.metrics, log: log, clock: s.deps.Clock, places: newLimit(cfg.MaxInFlight, cfg.MaxInFlight),
	}
}

// Addr returns the address of the public listener.
func (s *Server) Addr() net.Addr { return s.public.net.Addr() }

// InternalAddr returns the address of the internal listener, nil if there is none.
func (s *Server) InternalAddr() net.Addr {
	if s.internal == nil {
		return nil
	}
	return s.internal.net.Addr()
}

// WarnPlain logs every account that accepts unencrypted pushes. Call it at
// start, and after each [Directory.Replace].
func (s *Server) WarnPlain() {
	for _, appid := range s.deps.Directory.Plain() {
		s.deps.Logger.Warn("account accepts unencrypted callbacks, whose body is not signed: whoever sees one URL can forge results; "+
			"choose safe mode in WeChat's console and configure aes_keys", "appid", appid)
	}
}

// Run serves until ctx is cancelled, then finishes what is at work: requests
// first, then copies waiting for upstream, each bounded by Config.ShutdownTimeout.
// Publisher and DeadLetters must work until it returns. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	copies, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var forwarding sync.WaitGroup
	forwarding.Go(func() { s.forward.run(copies) })

	err := s.serve(ctx)

	s.forward.close()
	late := time.AfterFunc(s.cfg.ShutdownTimeout, giveUp)
	forwarding.Wait()
	late.Stop()
	return errors.Join(err, s.Close())
}

// serve returns when both listeners have ended, by ctx or by a fault of either.
func (s *Server) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	listeners := s.listeners()
	errs := make([]error, 2*len(listeners))
	for i, l := range listeners {
		wg.Go(func() {
			defer cancel()
			if err := l.http.Serve(l.net); !errors.Is(err, http.ErrServerClosed) {
				errs[2*i] = fmt.Errorf("serve %s: %w", l.net.Addr(), err)
			}
		})
		wg.Go(func() {
			<-ctx.Done()
			errs[2*i+1] = s.shutdown(l)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Server) shutdown(l *listener) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownTimeout)
	defer cancel()
	if err := l.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("shut down %s: %w", l.net.Addr(), err), l.http.Close())
	}
	return nil
}

func (s *Server) listeners() []*listener {
	var all []*listener
	for _, l := range []*listener{s.public, s.internal} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, l := range s.listeners() {
		if err := l.net.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close gives back listeners, connections and metrics. It is idempotent, and
// Run calls it at its end.
func (s *Server) Close() error {
	var err error
	s.release.Do(func() {
		err = s.closeListeners()
		s.metrics.unregister(s.deps.Registerer)
		if s.owned != nil {
			s.owned.CloseIdleConnections()
		}
	})
	return err
}
