package pipeline

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// wire connects services to a server, and can be cut.
type wire struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]struct{}
}

func newWire(dial func(context.Context, string, string) (net.Conn, error)) *wire {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &wire{dial: dial, conns: map[net.Conn]struct{}{}}
}

var errCut = errors.New("the test has cut the wire")

// Dial connects, unless the wire is cut.
func (w *wire) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := w.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.Join(errCut, c.Close())
	}
	own := &wired{Conn: c, wire: w}
	w.conns[own] = struct{}{}
	return own, nil
}

// Cut breaks every connection and lets none be made.
func (w *wire) Cut() {
	w.mu.Lock()
	w.cut = true
	var conns []net.Conn
	for c := range w.conns {
		conns = append(conns, c)
	}
	w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // whoever uses it finds out
	}
}

// Mend lets connections be made again.
func (w *wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

type wired struct {
	net.Conn
	wire *wire
}

func (c *wired) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

// proxy listens in front of a server that is known by address alone.
type proxy struct {
	*wire
	listener net.Listener
	server   string
	wg       sync.WaitGroup
}

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{wire: newWire(nil), listener: l, server: server}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := p.Dial(context.Background(), "tcp", p.server)
	if err != nil {
		return // the client sees an end of file
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}
