package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// socketProxy lets other processes of the same user reach the embedded broker.
type socketProxy struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
	path     string
	dir      string // made for the socket alone; empty if there is none

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// maxSocketPath is how long the name of a Unix socket may be.
const maxSocketPath = 104

// listenSocket makes the socket in dir, which is closed to other users. A
// directory with a long name gets one in the system's temporary directory.
func listenSocket(dir string, dial func(context.Context) (net.Conn, error)) (*socketProxy, error) {
	p := &socketProxy{dial: dial, path: filepath.Join(dir, "kafka.sock"), conns: map[net.Conn]struct{}{}}
	if len(p.path) > maxSocketPath {
		var err error
		if p.dir, err = os.MkdirTemp("", "qunfa-"); err != nil {
			return nil, err
		}
		p.path = filepath.Join(p.dir, "kafka.sock")
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o177) // never open to others, not even for a moment
	l, err := net.Listen("unix", p.path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("make the socket of the broker: %w", err)
	}
	p.listener = l
	return p, nil
}

// Run serves until ctx ends.
func (p *socketProxy) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	defer p.wg.Wait()
	for {
		c, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("socket of the broker: %w", err)
		}
		p.wg.Go(func() { p.serve(ctx, c) })
	}
}

func (p *socketProxy) serve(ctx context.Context, client net.Conn) {
	broker, err := p.dial(ctx)
	if err != nil {
		_ = client.Close() // the client sees an end of file and tries again
		return
	}
	p.keep(client, broker)
	defer p.drop(client, broker)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{broker, client}, {client, broker}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // either end may go at any time
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

func (p *socketProxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
}

func (p *socketProxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

func (p *socketProxy) close() {
	_ = p.listener.Close() // also removes the file
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}
