package ingest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// How a connection to the callback listener ended.
const (
	connServed    = "served"     // after one request or more
	connNoRequest = "no_request" // without a whole request: it was too slow, too large or none at all
	connRefused   = "refused"    // at once: too many were open
)

func connResults() []string { return []string{connServed, connNoRequest, connRefused} }

// connections is a listener with a bound on how many are open at once, so that
// memory has one as well. It never waits: who comes too late is turned away.
type connections struct {
	net.Listener
	most    int64
	open    atomic.Int64
	metrics *metrics
}

// Accept implements [net.Listener].
func (l *connections) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			l.metrics.openConns.Inc()
			return &connection{Conn: c, listener: l}, nil
		}
		l.open.Add(-1)
		l.metrics.conns.WithLabelValues(connRefused).Inc()
		_ = c.Close()
	}
}

// connection counts its requests.
type connection struct {
	net.Conn
	listener *connections
	requests atomic.Int64
	end      sync.Once
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.end.Do(func() {
		c.listener.open.Add(-1)
		c.listener.metrics.openConns.Dec()
		result := connServed
		if c.requests.Load() == 0 {
			result = connNoRequest
		}
		c.listener.metrics.conns.WithLabelValues(result).Inc()
	})
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer in order, although the client still sends.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type connectionKey struct{}

// withConnection lets handlers find the connection of a request.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// counted notes on the connection that a whole request has come.
func counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
			c.requests.Add(1)
		}
		next.ServeHTTP(w, r)
	})
}
