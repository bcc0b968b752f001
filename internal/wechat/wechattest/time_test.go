package wechattest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// idleListener is a listener that nobody connects to: it blocks in a way that
// lets the time of a synctest bubble go on.
type idleListener struct {
	closed chan struct{}
	once   sync.Once
}

func newIdleListener() *idleListener { return &idleListener{closed: make(chan struct{})} }

func (l *idleListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *idleListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *idleListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// In WeChat's own time: the job ends after a minute, every attempt may take 5 s,
// and the pauses between attempts are those configured.
func TestTimesInWeChatsTime(t *testing.T) {
	for _, v := range []struct {
		scale float64
		want  []time.Duration // of the attempts, since the submission
	}{
		{1, []time.Duration{60 * time.Second, 67 * time.Second, 82 * time.Second}},
		// Scaled: the pauses shrink, the limit of an attempt does not.
		{10, []time.Duration{6 * time.Second, 11200 * time.Millisecond, 17200 * time.Millisecond}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Duration
			began := time.Now()
			s, err := New(Config{
				Accounts: []Account{{CallbackURL: "http://receiver/"}}, Listener: newIdleListener(), Scale: v.scale,
				Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
					at = append(at, time.Since(began))
					<-r.Context().Done()
					return nil, context.Cause(r.Context())
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			submit(t, s, s.Accounts()[0].AppID, Send{Audience: All()})
			if err := s.Drain(context.Background()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.want, at); diff != "" {
				t.Errorf("attempts (-want +got):\n%s", diff)
			}
			for _, a := range s.pushes[0].attempts {
				if a.Took != 5*time.Second {
					t.Errorf("an attempt took %v", a.Took)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Pushes go out in the order in which they fall due, not that of submission.
func TestDueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		order := make(chan string, 3)
		s, err := New(Config{
			Accounts: []Account{{CallbackURL: "http://receiver/", Mode: Plain}}, Listener: newIdleListener(),
			Transport: handlerTransport{http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { order <- time.Now().Format(time.TimeOnly) })},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		appid := s.Accounts()[0].AppID
		arrange(t, s, appid, Success().Ending(3*time.Hour), Success().Ending(time.Hour), Success().Ending(time.Hour).Late(time.Hour))
		for range 3 {
			submit(t, s, appid, Send{Audience: All()})
		}
		if err := s.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		for i := 1; i <= 3; i++ {
			if got, want := <-order, start.Add(time.Duration(i)*time.Hour).Format(time.TimeOnly); got != want {
				t.Errorf("push %d at %s, want %s", i, got, want)
			}
		}
		// CreateTime is the end of the job, also of a push that comes late.
		if e := s.Ledger().Entries[2]; e.EndsAt.Sub(e.SubmittedAt) != time.Hour || e.TakenAt.Sub(e.SubmittedAt) != 2*time.Hour {
			t.Errorf("ended %v, taken %v", e.EndsAt, e.TakenAt)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDeliveriesAreBounded(t *testing.T) {
	var now, most atomic.Int64
	arrived := make(chan struct{}, 100)
	release := make(chan struct{})
	s := start(t, Config{Accounts: []Account{{}}, Deliveries: 3})
	newReceiver(t, s, func(_ int, w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		arrived <- struct{}{}
		<-release
	})
	for range 20 {
		if _, err := s.Backdate(s.Accounts()[0].AppID, Send{Audience: All()}, Success(), time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		<-arrived
	}
	if got := s.Stats(); got.Messages != 20 || got.Due != 20 {
		t.Errorf("stats %+v", got)
	}
	close(release)
	drain(t, s)
	if most.Load() != 3 {
		t.Errorf("%d attempts at a time, want 3", most.Load())
	}
	if diff := cmp.Diff(Stats{Messages: 20, Delivered: 20, Attempts: 20}, s.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}
