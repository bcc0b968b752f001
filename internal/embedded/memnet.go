package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// memoryListener hands the connections that are dialed in this process to
// whoever accepts them. Nothing outside the process can reach it, which is
// what the broker needs: it trusts what it reads, and a few stray bytes from a
// port scanner would end the process.
type memoryListener struct {
	addr   memoryAddr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// memoryAddr is host:port as clients see it.
type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

func newMemoryListener(addr string) *memoryListener {
	return &memoryListener{addr: memoryAddr(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
}

// DialContext connects to the listener. Only its own address is known: a
// client that was given another broker's would otherwise talk to this one.
func (l *memoryListener) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if address != string(l.addr) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s is not the embedded broker (%s)", address, l.addr)}
	}
	client, server := net.Pipe()
	err := l.hand(ctx, server)
	if err != nil {
		_ = client.Close()
		_ = server.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Addr: l.addr, Err: err}
	}
	return client, nil
}

func (l *memoryListener) hand(ctx context.Context, server net.Conn) error {
	select {
	case <-l.closed: // even if somebody still accepts
		return errBrokerClosed
	default:
	}
	select {
	case l.conns <- server:
		return nil
	case <-l.closed:
		return errBrokerClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errBrokerClosed = errors.New("the embedded broker is closed")

// Accept returns the next connection.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and later dials. Connections stay.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is what clients dial.
func (l *memoryListener) Addr() net.Addr { return l.addr }
