package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// ServerConfig configures a [Server].
type ServerConfig struct {
	Name    string // for logs and errors
	Listen  string // host:port; port 0: any free one
	Handler http.Handler
	Logger  *slog.Logger // nil: no logging

	// ReadTimeout bounds reading a request, WriteTimeout answering it, each
	// from its beginning. Defaults 15 s and 60 s.
	ReadTimeout, WriteTimeout time.Duration
	// ShutdownTimeout bounds the wait for requests in work. Default 5 s.
	ShutdownTimeout time.Duration
	// MaxHeaderBytes bounds a request's header. Default 32 KiB: WeChat's is
	// well below 1 KiB.
	MaxHeaderBytes int
}

// Server is an HTTP server whose listener is bound from the beginning, whose
// clients cannot hold it open, and whose shutdown is bounded.
type Server struct {
	cfg      ServerConfig
	listener net.Listener
	http     *http.Server
	inWork   atomic.Int64 // requests
}

// NewServer binds the listener. Connections wait until Run.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg.Logger = loggerOrNone(cfg.Logger)
	setDefault(&cfg.ReadTimeout, 15*time.Second)
	setDefault(&cfg.WriteTimeout, time.Minute)
	setDefault(&cfg.ShutdownTimeout, 5*time.Second)
	setDefault(&cfg.MaxHeaderBytes, 32<<10)
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("%s listener: %w", cfg.Name, err)
	}
	s := &Server{cfg: cfg, listener: l}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: min(5*time.Second, cfg.ReadTimeout),
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.With("listener", cfg.Name).Handler(), slog.LevelWarn),
	}
	return s, nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.inWork.Add(1)
	defer s.inWork.Add(-1)
	s.cfg.Handler.ServeHTTP(w, r)
}

// Addr is the address that the listener is bound to.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, and then lets the requests in work end. It does
// not pass ctx on to them: a request that was accepted is finished.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		if errors.Is(err, http.ErrServerClosed) { // by Close
			return nil
		}
		return fmt.Errorf("%s listener: %w", s.cfg.Name, err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownTimeout)
	defer cancel()
	err := s.Close(ctx)
	<-served
	return err
}

// Close stops the server, bounded by ctx; requests in work are cut off at its
// end. A server that never ran only gives up its listener. Closing again is
// harmless.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		// A connection on which nothing was sent yet holds Shutdown up for 5 s.
		// Only cutting off a request is worth an error.
		n := s.inWork.Load()
		if err = s.http.Close(); n > 0 {
			err = errors.Join(fmt.Errorf("%s listener: %d requests were cut off", s.cfg.Name, n), err)
		}
	}
	// A server that never served does not know its listener.
	if cerr := s.listener.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("%s listener: %w", s.cfg.Name, cerr))
	}
	return err
}
