package faults

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// drained is how long a service may take to stop under load: docs/operations.md says so.
const drained = 10 * time.Second

// TestRollingRestart restarts two sinks and two ingests, one after the other,
// under load. No callback that was answered with success may be missing, none
// may count twice, and whoever stops must be done in the time that is stated.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.start("ingest1", "ingest2", "sink1", "sink2")
	f.awaitReady()
	load := f.startLoad("ingest1", "ingest2")
	for _, name := range []string{"sink1", "ingest1", "sink2", "ingest2"} {
		load.more(20)
		load.leave(name)
		began := time.Now()
		f.services[name].stop()
		if took := time.Since(began); took > drained {
			t.Errorf("%s took %s to stop, want %s at most", name, took, drained)
		}
		load.more(20) // the other one has all the work
		f.start(name)
		f.awaitReady()
		load.join(name)
	}
	load.more(20)
	load.stop()
	f.settle()
	if load.taken < 180 {
		t.Errorf("%d callbacks are no load", load.taken)
	}
	for _, text := range []string{"service did not stop in time", "step of the shutdown", "queued records were given up"} {
		if n := f.log.count(text); n != 0 {
			t.Errorf("%q was logged %d times", text, n)
		}
	}
}

// load sends callbacks as fast as they are taken, to whichever ingest a load
// balancer would choose.
type load struct {
	f    *fault
	stop func()
	end  chan struct{}
	done chan struct{}

	mu    sync.Mutex
	addrs map[string]string
	taken int
}

func (f *fault) startLoad(names ...string) *load {
	l := &load{f: f, end: make(chan struct{}), done: make(chan struct{}), addrs: map[string]string{}}
	for _, name := range names {
		l.join(name)
	}
	l.stop = sync.OnceFunc(func() { close(l.end); <-l.done })
	go l.run()
	f.t.Cleanup(l.stop)
	return l
}

func (l *load) run() {
	defer close(l.done)
	for {
		id, r := l.f.next()
		for taken := false; !taken; {
			select {
			case <-l.end:
				return // this one is for settle to repeat
			default:
			}
			taken = l.send(r)
		}
		l.f.told[id] = true
		l.mu.Lock()
		l.taken++
		l.mu.Unlock()
	}
}

// send tries every ingest that the load balancer knows.
func (l *load) send(r request) bool {
	l.mu.Lock()
	var addrs []string
	for _, a := range l.addrs {
		addrs = append(addrs, a)
	}
	l.mu.Unlock()
	for _, a := range addrs {
		resp, err := l.f.http.Post("http://"+a+r.path, "text/xml", strings.NewReader(r.body))
		if err != nil {
			continue // it was about to stop
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
}

// join tells the load balancer of a service, if it is an ingest.
func (l *load) join(name string) {
	if in := l.f.services[name].Ingest(); in != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.addrs[name] = in.Addr()
	}
}

// leave is called when a service has already begun to stop in one case of two:
// load balancers notice late. What is refused then goes to the other.
func (l *load) leave(name string) {
	if name != "ingest1" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.addrs, name)
}

// more waits until so many more callbacks were taken.
func (l *load) more(n int) {
	l.f.t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.taken
	}
	want := count() + n
	l.f.until("more callbacks are taken", func() string {
		if have := count(); have < want {
			return fmt.Sprintf("%d of %d", have, want)
		}
		return ""
	})
}
