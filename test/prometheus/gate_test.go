//go:build prom

package prometheus

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// gate is the way to Kafka. While it is frozen nothing is refused and nothing
// gets through, as behind a firewall that has forgotten its connections.
type gate struct {
	mu     sync.Mutex
	frozen chan struct{} // closed by thaw; nil: open
}

func (g *gate) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen == nil {
		g.frozen = make(chan struct{})
	}
}

func (g *gate) thaw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen != nil {
		close(g.frozen)
		g.frozen = nil
	}
}

// wait returns when nothing is in the way any more. A frozen connection is a
// dead one then: what waited in it belongs to another time.
func (g *gate) wait(done <-chan struct{}, deadline func() time.Time) error {
	g.mu.Lock()
	frozen := g.frozen
	g.mu.Unlock()
	if frozen == nil {
		return nil
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-frozen:
			return net.ErrClosed
		case <-done:
			return net.ErrClosed
		case <-tick.C:
			if d := deadline(); !d.IsZero() && time.Now().After(d) {
				return os.ErrDeadlineExceeded
			}
		}
	}
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

func (g *gate) wrap(dial dialer) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := g.wait(ctx.Done(), func() time.Time { return time.Time{} }); err != nil {
			return nil, err
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &gated{Conn: c, gate: g, closed: make(chan struct{})}, nil
	}
}

// gated is a connection through the gate. What it reads it gives only while the
// gate is open.
type gated struct {
	net.Conn
	gate   *gate
	closed chan struct{}
	once   sync.Once

	mu          sync.Mutex
	read, write time.Time // deadlines
}

func (c *gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	return n, c.gate.wait(c.closed, func() time.Time { return c.deadline(&c.read) })
}

func (c *gated) Write(b []byte) (int, error) {
	if err := c.gate.wait(c.closed, func() time.Time { return c.deadline(&c.write) }); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *gated) deadline(d *time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *d
}

func (c *gated) SetDeadline(d time.Time) error {
	c.mu.Lock()
	c.read, c.write = d, d
	c.mu.Unlock()
	return c.Conn.SetDeadline(d)
}

func (c *gated) SetReadDeadline(d time.Time) error {
	c.mu.Lock()
	c.read = d
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(d)
}

func (c *gated) SetWriteDeadline(d time.Time) error {
	c.mu.Lock()
	c.write = d
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(d)
}

func (c *gated) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
