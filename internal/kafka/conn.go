package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// silence is how long a connection may take over an operation for which
// kafka-go set no deadline.
const silence = 15 * time.Second

// boundedConn is a connection on which nothing waits for ever. kafka-go sets no
// deadline while it authenticates (neither in Transport nor in Dialer): against
// a broker that accepts connections but is frozen, it would hang until the
// kernel gives up, which it does not do while the peer acknowledges.
type boundedConn struct{ net.Conn }

func newBoundedConn(c net.Conn) (net.Conn, error) {
	b := boundedConn{c}
	if err := b.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return b, nil
}

func bounded(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now().Add(silence)
	}
	return t
}

func (c boundedConn) SetDeadline(t time.Time) error     { return c.Conn.SetDeadline(bounded(t)) }
func (c boundedConn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(bounded(t)) }
func (c boundedConn) SetWriteDeadline(t time.Time) error {
	return c.Conn.SetWriteDeadline(bounded(t))
}

// dialFunc opens a connection.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// cutter hands out connections that can all be closed at once. kafka-go's
// ConsumerGroup cannot be interrupted while it waits for an answer; with its
// connections gone it has nothing left to wait for.
type cutter struct {
	dial dialFunc

	mu    sync.Mutex
	cut   bool
	conns map[*cutConn]struct{}
}

type cutConn struct {
	net.Conn
	owner *cutter
}

func newCutter(dial dialFunc) *cutter {
	return &cutter{dial: dial, conns: map[*cutConn]struct{}{}}
}

func (k *cutter) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if k.done() {
		return nil, net.ErrClosed
	}
	c, err := k.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	cc := &cutConn{Conn: c, owner: k}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	k.conns[cc] = struct{}{}
	return cc, nil
}

func (k *cutter) done() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cut
}

// Cut closes every connection and refuses new ones.
func (k *cutter) Cut() {
	k.mu.Lock()
	conns := k.conns
	k.cut, k.conns = true, nil
	k.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // it is being abandoned
	}
}

func (c *cutConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
