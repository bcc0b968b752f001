package embeddedtest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Link listens in front of a server, and can be cut.
type Link struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	server string // where it leads; empty: nowhere yet
	cut    bool
	conns  map[net.Conn]struct{}
}

// newLink listens on a port that is known before the server is.
func newLink(t testing.TB) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{listener: listener, conns: map[net.Conn]struct{}{}}
	l.wg.Go(l.accept)
	t.Cleanup(func() {
		_ = l.listener.Close()
		l.Cut()
		l.wg.Wait()
	})
	return l
}

// NewLink listens in front of a server, until the test ends.
func NewLink(t testing.TB, server string) *Link {
	t.Helper()
	l := newLink(t)
	l.leadTo(server)
	return l
}

// Addr is host:port to connect to.
func (l *Link) Addr() string { return l.listener.Addr().String() }

func (l *Link) leadTo(server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = server
}

// Cut breaks every connection and lets none be made.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		_ = c.Close() // whoever uses it finds out
	}
}

// Mend lets connections be made again.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.wg.Go(func() { l.serve(client) })
	}
}

func (l *Link) serve(client net.Conn) {
	defer client.Close()
	l.mu.Lock()
	server := l.server
	l.mu.Unlock()
	conn, err := net.Dial("tcp", server)
	if err != nil {
		return // the client sees an end of file
	}
	defer conn.Close()
	if !l.hold(client, conn) {
		return
	}
	defer l.release(client, conn)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, conn)
		_ = client.Close()
	})
	_, _ = io.Copy(conn, client)
	_ = conn.Close()
	back.Wait()
}

// hold notes the two ends of a connection, unless the link is cut.
func (l *Link) hold(ends ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range ends {
		l.conns[c] = struct{}{}
	}
	return !l.cut
}

func (l *Link) release(ends ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range ends {
		delete(l.conns, c)
	}
}
