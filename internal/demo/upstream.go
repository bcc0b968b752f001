package demo

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// upstream is the application that had the callback URL before: it must still
// get every push that is not ours.
type upstream struct {
	server   *http.Server
	listener net.Listener
	pushes   atomic.Int64
	wg       sync.WaitGroup
}

func startUpstream() (*upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{listener: l}
	u.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		u.pushes.Add(1)
		_, _ = w.Write([]byte("success")) // a client that is gone asks again
	})}
	u.wg.Go(func() { _ = u.server.Serve(l) }) // ends with ErrServerClosed
	return u, nil
}

func (u *upstream) url() string { return "http://" + u.listener.Addr().String() + "/wechat" }

func (u *upstream) close() error {
	err := u.server.Close()
	u.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
