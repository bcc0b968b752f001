package ingest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// seen is a request as upstream got it.
type seen struct {
	method, path, query, body string
	header                    http.Header
}

// app is an upstream application.
type app struct {
	server *httptest.Server
	mu     sync.Mutex
	got    []seen
}

func newApp(t *testing.T, answer http.HandlerFunc) *app {
	a := &app{}
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.got = append(a.got, seen{r.Method, r.URL.Path, r.URL.RawQuery, string(body), r.Header})
		a.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(a.server.Close)
	return a
}

func (a *app) all() []seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]seen(nil), a.got...)
}

// hangUntil waits for release, or for whoever asked to give up.
func hangUntil(release <-chan struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
}

// behind makes every account pass its pushes on to raw, which is a URL below the application.
func behind(t *testing.T, raw string) option {
	return func(_ *Config, _ *Deps, f *fixture) {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.accounts {
			f.accounts[i].Upstream = u
		}
		for i := range f.platforms {
			f.platforms[i].Upstream = u
		}
	}
}

func answering(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Query and body reach upstream as they came: it has signatures of its own to
// check. Its answer goes back as it is.
func TestOtherPushesAreAnsweredByUpstream(t *testing.T) {
	const reply = "<xml><Encrypt>answer</Encrypt></xml>"
	a := newApp(t, answering(200, "application/xml", reply))
	b := start(t, behind(t, a.server.URL+"/old/$APPID$?own=1"))
	for _, p := range []sent{plainPush(chat), safePush(chat), platformPush(chat)} {
		q, body := p.build(t)
		// An order and an escaping that url.Values would not give back.
		raw := "z=%7e&" + q.Encode() + "&a=+b"
		r := b.post(p.path+"?"+raw, body)
		if r.status != 200 || r.body != reply || r.header.Get("Content-Type") != "application/xml" {
			t.Errorf("got %d %q %s", r.status, r.body, r.header)
		}
		got := a.all()[len(a.all())-1]
		appid, _ := pathAccount(p)
		want := seen{method: "POST", path: "/old/" + appid, query: "own=1&" + raw, body: body}
		got.header = nil
		if diff := cmp.Diff(got, want, cmp.AllowUnexported(seen{})); diff != "" {
			t.Errorf("(-got, +want)\n%s", diff)
		}
	}
	b.wantCount("qunfa_callbacks_total", map[string]string{"result": resultPassed}, 3)
	b.wantCount("qunfa_upstream_requests_total", map[string]string{"kind": kindAnswer, "result": upstreamOK}, 3)
	if len(b.events.all()) != 0 {
		t.Error("a chat became an event")
	}
}

func TestHeadersForUpstream(t *testing.T) {
	a := newApp(t, answering(200, "text/plain", ""))
	b := start(t, behind(t, strings.Replace(a.server.URL, "http://", "http://me:UpstreamPassword@", 1)))
	p := plainPush(chat)
	q, body := p.build(t)
	req, _ := http.NewRequest(http.MethodPost, b.url(p.path+"?"+q.Encode()), strings.NewReader(body))
	req.Header.Set("Content-Type", "text/xml; charset=gbk")
	req.Header.Set("User-Agent", "Mozilla/4.0")
	req.Header.Set("X-Forwarded-For", "101.226.103.1")
	req.Header.Set("Cookie", "not=yours")
	req.Header.Set("Authorization", "Bearer not-yours")
	if r := b.do(req); r.status != 200 || r.body != "" {
		t.Errorf("an empty answer came back as %d %q", r.status, r.body)
	}
	h := a.all()[0].header
	for name, want := range map[string]string{
		"Content-Type": "text/xml; charset=gbk", "User-Agent": "Mozilla/4.0", "Cookie": "",
		"X-Forwarded-For": "101.226.103.1, 127.0.0.1", "X-Forwarded-Host": b.server.Addr().String(),
		"Authorization": "Basic bWU6VXBzdHJlYW1QYXNzd29yZA==",
	} {
		if got := strings.Join(h.Values(name), ", "); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestWithoutUpstreamTheAnswerIsSuccess(t *testing.T) {
	b := start(t)
	for _, p := range []sent{plainPush(chat), safePush(chat), safePush("no document at all"),
		platformPush("<xml><AppId>" + component + "</AppId><InfoType>component_verify_ticket</InfoType></xml>")} {
		b.wantSuccess(b.push(p))
	}
	if len(b.events.all())+len(b.dead.all()) != 0 {
		t.Error("something was recorded")
	}
}

// Whatever is wrong behind us: after repeated failures WeChat suspends the whole URL.
func TestFaultyUpstreamIsHiddenFromWeChat(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		result string
	}{
		"500":      {answering(500, "text/plain", "broken"), upstreamBadStatus},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }, upstreamBadStatus},
		"slow":     {hangUntil(hang), upstreamTimeout},
		"slow body": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			hangUntil(hang)(w, r)
		}, upstreamTimeout},
		"large":    {answering(200, "text/plain", strings.Repeat("x", 2001)), upstreamTooLarge},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, upstreamError},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, c.answer)
			t.Cleanup(a.server.CloseClientConnections)
			b := start(t, behind(t, a.server.URL), func(c *Config, _ *Deps, _ *fixture) {
				c.Upstream.Timeout, c.Upstream.AnswerLimit = 200*time.Millisecond, 2000
			})
			b.wantSuccess(b.push(plainPush(chat)))
			b.wantCount("qunfa_upstream_requests_total", map[string]string{"kind": kindAnswer, "result": c.result}, 1)
			b.wantCount("qunfa_upstream_seconds", nil, 1)
			if n := len(a.all()); n != 1 {
				t.Errorf("asked %d times", n)
			}
			if logs := b.logs.String(); strings.Contains(logs, "signature=") || !strings.Contains(logs, "push not passed on") {
				t.Errorf("log:\n%s", logs)
			}
		})
	}
}

func TestUpstreamThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	b := start(t, behind(t, "http://"+l.Addr().String()))
	b.wantSuccess(b.push(plainPush(chat)))
	b.wantCount("qunfa_upstream_requests_total", map[string]string{"kind": kindAnswer, "result": upstreamError}, 1)
}

// Our own push is durable, acknowledged and then copied, whatever upstream does.
func TestMassPushDoesNotWaitForUpstream(t *testing.T) {
	hang := make(chan struct{})
	a := newApp(t, hangUntil(hang))
	b := start(t, behind(t, a.server.URL+"/x"))
	p := safePush(massXML("gh_safe", 7, "send success"))
	q, body := p.build(t)
	b.wantSuccess(b.post(p.path+"?"+q.Encode(), body)) // upstream still hangs
	eventually(t, "the copy arrives", func() bool { return len(a.all()) == 1 })
	got := a.all()[0]
	if got.query != q.Encode() || got.body != body || got.path != "/x" {
		t.Errorf("copy %+v", got)
	}
	b.wantCount("qunfa_upstream_queue_length", nil, 1)
	close(hang)
	eventually(t, "the copy is counted", func() bool {
		return b.value("qunfa_upstream_requests_total", map[string]string{"kind": kindCopy, "result": upstreamOK}) == 1
	})
	eventually(t, "the queue is empty", func() bool { return b.value("qunfa_upstream_queue_length", nil) == 0 })
}

func TestDeadLetterIsCopiedToo(t *testing.T) {
	a := newApp(t, answering(200, "", "success"))
	b := start(t, behind(t, a.server.URL))
	b.wantSuccess(b.push(safePush("<xml><Event>MASSSENDJOBFINISH</Event></xml>")))
	eventually(t, "the copy arrives", func() bool { return len(a.all()) == 1 })
}

func TestNoCopyBeforeTheAckOrWhenTurnedOff(t *testing.T) {
	a := newApp(t, answering(200, "", "success"))
	b := start(t, behind(t, a.server.URL), func(_ *Config, _ *Deps, f *fixture) { f.accounts[0].UpstreamMass = false })
	b.wantSuccess(b.push(plainPush(massXML("gh_plain", 7, "send success"))))
	b.events.set(errors.New("down"))
	if r := b.push(safePush(massXML("gh_safe", 7, "send success"))); r.status != 503 {
		t.Errorf("got %d", r.status)
	}
	b.stop() // what was queued would have been passed on by now
	if got := a.all(); len(got) != 0 {
		t.Errorf("copies: %+v", got)
	}
}

// WeChat has our success and repeats nothing, so we do.
func TestCopiesAreTriedAgain(t *testing.T) {
	var n atomic.Int32
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	b := start(t, behind(t, a.server.URL))
	b.wantSuccess(b.push(safePush(massXML("gh_safe", 7, "send success"))))
	eventually(t, "the third attempt succeeds", func() bool {
		return b.value("qunfa_upstream_requests_total", map[string]string{"kind": kindCopy, "result": upstreamOK}) == 1
	})
	n.Store(-10)
	b.wantSuccess(b.push(safePush(massXML("gh_safe", 8, "send success"))))
	eventually(t, "it is given up", func() bool {
		return b.value("qunfa_upstream_requests_total", map[string]string{"kind": kindCopy, "result": upstreamBadStatus}) == 1
	})
	if got := len(a.all()); got != 6 {
		t.Errorf("%d attempts, want 3 and 3", got)
	}
}

func TestFullQueueDropsCopiesNotEvents(t *testing.T) {
	for name, limit := range map[string]func(*UpstreamConfig){
		"by number": func(u *UpstreamConfig) { u.Queue, u.Workers = 1, 1 },
		"by bytes":  func(u *UpstreamConfig) { u.QueueBytes = 5000 },
	} {
		t.Run(name, func(t *testing.T) {
			hang := make(chan struct{})
			a := newApp(t, hangUntil(hang))
			b := start(t, behind(t, a.server.URL), func(c *Config, _ *Deps, _ *fixture) { limit(&c.Upstream) })
			for i := range 10 {
				b.wantSuccess(b.push(safePush(massXML("gh_safe", int64(i+1), "send success"))))
			}
			if n := len(b.events.all()); n != 10 {
				t.Errorf("%d events", n)
			}
			dropped := b.value("qunfa_upstream_requests_total", map[string]string{"kind": kindCopy, "result": upstreamDropped})
			if dropped < 7 || dropped > 9 {
				t.Errorf("%v dropped", dropped)
			}
			close(hang)
			b.stop()
			if n := float64(len(a.all())); n != 10-dropped {
				t.Errorf("%v arrived, %v dropped", n, dropped)
			}
		})
	}
}

// One dead upstream leaves room for the others, and for our own results.
func TestDeadUpstreamLeavesRoom(t *testing.T) {
	hang := make(chan struct{})
	slow := newApp(t, hangUntil(hang))
	quick := newApp(t, answering(200, "text/plain", "quick"))
	b := start(t, func(c *Config, _ *Deps, f *fixture) {
		c.MaxInFlight, c.Upstream.MaxPerHost = 2, 3
		f.accounts[0].Upstream, _ = url.Parse(slow.server.URL)
		f.accounts[1].Upstream, _ = url.Parse(quick.server.URL)
	})
	var waiting sync.WaitGroup
	for range 3 {
		q, body := plainPush(chat).build(t)
		waiting.Go(func() {
			if r := b.post("/callback/"+plainApp+"?"+q.Encode(), body); r.status != 200 {
				t.Errorf("got %d", r.status)
			}
		})
	}
	eventually(t, "three wait", func() bool { return len(slow.all()) == 3 })
	b.wantSuccess(b.push(plainPush(chat))) // no place: at once
	b.wantCount("qunfa_upstream_requests_total", map[string]string{"kind": kindAnswer, "result": upstreamDropped}, 1)
	if r := b.push(safePush(chat)); r.body != "quick" {
		t.Errorf("got %d %q", r.status, r.body)
	}
	b.wantSuccess(b.push(plainPush(massXML("gh_plain", 7, "send success"))))
	close(hang)
	waiting.Wait()
}

// At the end, copies that wait are still passed on; those that cannot be are given up in time.
func TestShutdownDrainsCopies(t *testing.T) {
	release := make(chan struct{})
	a := newApp(t, hangUntil(release))
	b := start(t, behind(t, a.server.URL), func(c *Config, _ *Deps, _ *fixture) { c.Upstream.Workers = 1 })
	for i := range 5 {
		b.wantSuccess(b.push(safePush(massXML("gh_safe", int64(i+1), "send success"))))
	}
	close(release)
	b.stop()
	if n := len(a.all()); n != 5 {
		t.Errorf("%d copies, want 5", n)
	}
}

func TestShutdownGivesCopiesUp(t *testing.T) {
	hang := make(chan struct{})
	a := newApp(t, hangUntil(hang))
	defer close(hang)
	b := start(t, behind(t, a.server.URL), func(c *Config, _ *Deps, _ *fixture) {
		c.ShutdownTimeout, c.Upstream.Workers = 50*time.Millisecond, 1
	})
	for i := range 5 {
		b.wantSuccess(b.push(safePush(massXML("gh_safe", int64(i+1), "send success"))))
	}
	begun := time.Now()
	b.stop()
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err    error
		result string
	}{
		{context.DeadlineExceeded, upstreamTimeout},
		{&url.Error{Op: "Post", URL: "http://h/?signature=abc", Err: context.DeadlineExceeded}, upstreamTimeout},
		{&url.Error{Op: "Post", URL: "http://h/?signature=abc", Err: io.ErrUnexpectedEOF}, upstreamError},
		{io.EOF, upstreamError},
	} {
		var fault *upstreamFault
		if err := classify(c.err); !errors.As(err, &fault) || fault.result != c.result || strings.Contains(err.Error(), "signature") {
			t.Errorf("%v became %v", c.err, err)
		}
	}
}
