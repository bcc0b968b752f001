package faults

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// wire is a way to a server that can be cut.
type wire struct {
	dial dialFunc

	mu    sync.Mutex
	cut   bool
	conns map[*wired]struct{}
}

func newWire(dial dialFunc) *wire {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &wire{dial: dial, conns: map[*wired]struct{}{}}
}

var errCut = errors.New("the test has cut the wire")

// Dial connects, unless the wire is cut.
func (w *wire) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := w.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.Join(errCut, conn.Close())
	}
	c := &wired{Conn: conn, wire: w}
	w.conns[c] = struct{}{}
	return c, nil
}

// Break ends the connections that there are; new ones can be made.
func (w *wire) Break() {
	w.mu.Lock()
	conns := w.conns
	w.conns = map[*wired]struct{}{}
	w.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // whoever uses it finds out
	}
}

// Cut ends the connections and lets none be made.
func (w *wire) Cut() { w.set(true); w.Break() }

// Mend lets connections be made again.
func (w *wire) Mend() { w.set(false) }

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
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

// proxy listens where a server seems to be. What is behind it can be changed.
type proxy struct {
	*wire
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	server string
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
		_ = p.listener.Close() // a listener that is closed twice is closed
		p.Cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// leadTo puts another server behind the proxy.
func (p *proxy) leadTo(server string) {
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	p.Break()
}

func (p *proxy) behind() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

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
	server, err := p.Dial(context.Background(), "tcp", p.behind())
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
