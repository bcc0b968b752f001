package embeddedtest

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
)

// tunnel listens on loopback and connects to a server that speaks TLS.
type tunnel struct {
	listener net.Listener
	to       string
	tls      *tls.Config
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newTunnel(to string, cfg *tls.Config) (*tunnel, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tunnel{listener: l, to: to, tls: cfg, conns: map[net.Conn]struct{}{}}
	// A wrong certificate is better said here than by each of a hundred tests.
	probe, err := tls.Dial("tcp", to, cfg)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("connect to %s with TLS: %w", to, err)
	}
	_ = probe.Close()
	t.wg.Go(t.accept)
	return t, nil
}

// Addr is where tests connect.
func (t *tunnel) Addr() string { return t.listener.Addr().String() }

// Close ends every connection and waits.
func (t *tunnel) Close() error {
	err := t.listener.Close()
	t.mu.Lock()
	for c := range t.conns {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return err
}

func (t *tunnel) accept() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			return
		}
		t.wg.Go(func() { t.carry(c) })
	}
}

func (t *tunnel) carry(near net.Conn) {
	far, err := tls.Dial("tcp", t.to, t.tls)
	if err != nil {
		_ = near.Close()
		return
	}
	t.mu.Lock()
	t.conns[near], t.conns[far] = struct{}{}, struct{}{}
	t.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // either end may hang up
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
	t.mu.Lock()
	delete(t.conns, near)
	delete(t.conns, far)
	t.mu.Unlock()
}
