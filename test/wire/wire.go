// Package wire is for tests: ways from services to a server that can be cut and
// mended, in process and as a proxy that listens on loopback.
package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// DialFunc is how a client of a server connects.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Wire is a way to a server that can be cut.
type Wire struct {
	dial DialFunc

	mu    sync.Mutex
	cut   bool
	conns map[*wired]struct{}
}

// New returns a wire over dial; nil is the network.
func New(dial DialFunc) *Wire {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &Wire{dial: dial, conns: map[*wired]struct{}{}}
}

var errCut = errors.New("the test has cut the wire")

// Dial connects, unless the wire is cut.
func (w *Wire) Dial(ctx context.Context, network, address string) (net.Conn, error) {
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
func (w *Wire) Break() {
	w.mu.Lock()
	conns := w.conns
	w.conns = map[*wired]struct{}{}
	w.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // whoever uses it finds out
	}
}

// Cut ends the connections and lets none be made.
func (w *Wire) Cut() { w.set(true); w.Break() }

// Mend lets connections be made again.
func (w *Wire) Mend() { w.set(false) }

func (w *Wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

type wired struct {
	net.Conn
	wire *Wire
}

func (c *wired) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

// Proxy listens where a server seems to be. What is behind it can be changed.
type Proxy struct {
	*Wire
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	server string
}

// NewProxy returns a proxy in front of the server at an address, until the test ends.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Wire: New(nil), listener: l, server: server}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close() // a listener that is closed twice is closed
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Addr is where the server seems to be.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// LeadTo puts another server behind the proxy.
func (p *Proxy) LeadTo(server string) {
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	p.Break()
}

func (p *Proxy) behind() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
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
