package ingest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"qunfa/internal/wechat"
)

// Every series of every counter is there before anything happens.
func TestMetricsAreBornAtZero(t *testing.T) {
	b := start(t)
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			series[f.GetName()]++
			if m.GetCounter().GetValue() != 0 || m.GetGauge().GetValue() != 0 || m.GetHistogram().GetSampleCount() != 0 {
				t.Errorf("%s is not 0", f.GetName())
			}
		}
	}
	want := map[string]int{
		"qunfa_callbacks_total": 22, "qunfa_callback_connections_total": 3, "qunfa_callback_connections_open": 1, "qunfa_callback_pushes_total": 6, "qunfa_callback_statuses_total": 4,
		"qunfa_callback_ack_seconds": 1, "qunfa_callback_clock_skewed_total": 1, "qunfa_callback_original_id_mismatches_total": 1,
		"qunfa_callback_previous_secrets_total": 2, "qunfa_callbacks_in_flight": 1, "qunfa_upstream_requests_total": 12,
		"qunfa_upstream_seconds": 1, "qunfa_upstream_queue_length": 1, "qunfa_submissions_total": 3, "qunfa_submission_calls_total": 9,
	}
	for name, n := range want {
		if series[name] != n {
			t.Errorf("%s has %d series, want %d", name, series[name], n)
		}
	}
	if len(series) != len(want) {
		t.Errorf("%d families, want %d", len(series), len(want))
	}
	lintMetrics(t, b.reg)
}

// A whole family after traffic: no counter that nobody increments, and none for what did not happen.
func TestWholeFamily(t *testing.T) {
	b := start(t)
	b.push(safePush(massXML("gh_safe", 1, "send success")))
	b.push(safePush(massXML("gh_safe", 2, "err(1)")))
	b.push(plainPush(massXML("gh_plain", 3, "send fail")))
	want := `
# HELP qunfa_callback_statuses_total Acknowledged MASSSENDJOBFINISH pushes, by what their status means; redeliveries count again.
# TYPE qunfa_callback_statuses_total counter
qunfa_callback_statuses_total{status="failed"} 1
qunfa_callback_statuses_total{status="rejected"} 1
qunfa_callback_statuses_total{status="sent"} 1
qunfa_callback_statuses_total{status="unknown"} 0
`
	if err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), "qunfa_callback_statuses_total"); err != nil {
		t.Error(err)
	}
}

func TestTwoServersInOneProcess(t *testing.T) {
	a, b := start(t), start(t)
	a.wantSuccess(a.push(safePush(massXML("gh_safe", 1, "send success"))))
	if len(a.events.all()) != 1 || len(b.events.all()) != 0 {
		t.Error("they share something")
	}
}

// New leaves nothing behind when it fails, so that it can be tried again.
func TestNewRollsBack(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir, err := NewDirectory(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	free := freeAddr(t)
	good := Config{Listen: free, Internal: "127.0.0.1:0", API: APIConfig{Tokens: []string{apiToken}}}
	deps := Deps{Directory: dir, Publisher: &fakeLog{}, DeadLetters: &fakeLog{}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	for name, change := range map[string]func(*Config, *Deps){
		"public taken":   func(c *Config, _ *Deps) { c.Listen = taken.Addr().String() },
		"internal taken": func(c *Config, _ *Deps) { c.Internal = taken.Addr().String() },
		"no token":       func(c *Config, _ *Deps) { c.API.Tokens = nil },
		"metrics taken": func(_ *Config, d *Deps) {
			reg := prometheus.NewRegistry()
			reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "qunfa_upstream_queue_length", Help: "other"}))
			d.Registerer = reg
		},
		"no publisher": func(_ *Config, d *Deps) { d.Publisher = nil },
	} {
		c, d := good, deps
		change(&c, &d)
		if _, err := New(c, d); err == nil {
			t.Errorf("%s: no error", name)
		}
		s, err := New(good, deps)
		if err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestWithoutInternalListener(t *testing.T) {
	b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.Internal, c.API.Tokens = "", nil })
	if b.server.InternalAddr() != nil {
		t.Error("there is one")
	}
	b.wantSuccess(b.push(safePush(massXML("gh_safe", 1, "send success"))))
}

// The record API is not on the public listener, nor callbacks on the internal one.
func TestListenersAreApart(t *testing.T) {
	b := start(t)
	req, _ := http.NewRequest(http.MethodPost, b.url("/v1/submissions"), strings.NewReader("{}"))
	req.Header.Set("Authorization", "Bearer "+apiToken)
	if r := b.do(req); r.status != 404 {
		t.Errorf("submissions on the public listener: %d", r.status)
	}
	q, body := safePush(massXML("gh_safe", 1, "send success")).build(t)
	req, _ = http.NewRequest(http.MethodPost, "http://"+b.server.InternalAddr().String()+"/callback/"+safeApp+"?"+q.Encode(), strings.NewReader(body))
	if r := b.do(req); r.status != 401 {
		t.Errorf("callback on the internal listener: %d", r.status)
	}
}

// Shutting down waits for what is at work.
func TestShutdownFinishesRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	b := start(t, func(_ *Config, d *Deps, _ *fixture) {
		d.Publisher.(*fakeLog).hook = func(context.Context) error { close(entered); <-release; return nil }
	})
	p := safePush(massXML("gh_safe", 1, "send success"))
	q, body := p.build(t)
	answered := make(chan response, 1)
	go func() { answered <- b.post(p.path+"?"+q.Encode(), body) }()
	<-entered
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	eventually(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", b.server.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case <-stopped:
		t.Error("stopped with a request at work")
	default:
	}
	close(release)
	b.wantSuccess(<-answered)
	<-stopped
}

func TestStopBeforeItHasBegun(t *testing.T) {
	s, _ := newServer(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestAFailedListenerEndsTheService(t *testing.T) {
	s, _ := newServer(t)
	s.public.net.Close()
	if err := s.Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// Who sends a byte now and then holds neither a connection nor a place at work for long.
func TestSlowBody(t *testing.T) {
	b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.BodyTimeout, c.MaxInFlight = 50*time.Millisecond, 1 })
	conn, err := net.Dial("tcp", b.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /callback/%s?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", plainApp)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d", resp.StatusCode)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("the connection goes on with %d bytes", n)
	}
	b.wantCount("qunfa_callbacks_total", map[string]string{"result": resultUnread}, 1)
	b.wantSuccess(b.push(safePush(massXML("gh_safe", 1, "send success"))))
}

func TestEveryWaitHasAnEnd(t *testing.T) {
	s, _ := newServer(t)
	defer s.Close()
	for _, l := range s.listeners() {
		h := l.http
		if h.ReadHeaderTimeout <= 0 || h.ReadTimeout <= 0 || h.WriteTimeout <= 0 || h.IdleTimeout <= 0 || h.MaxHeaderBytes <= 0 {
			t.Errorf("%s: %+v", l.net.Addr(), h)
		}
	}
}

func TestPlainAccountsAreFlagged(t *testing.T) {
	b := start(t)
	b.server.WarnPlain()
	logs := b.logs.String()
	if !strings.Contains(logs, "level=WARN") || !strings.Contains(logs, plainApp) || strings.Contains(logs, safeApp) {
		t.Errorf("log:\n%s", logs)
	}
}

func TestDirectoryFaults(t *testing.T) {
	v := verifier(t, wechat.Keys{AppID: "wx1", Tokens: []string{"t"}})
	for name, c := range map[string]struct {
		accounts  []Account
		platforms []Platform
		want      string
	}{
		"twice":               {[]Account{{AppID: "wx1", Verifier: v}, {AppID: "wx1", Verifier: v}}, nil, "twice"},
		"bad appid":           {[]Account{{AppID: "wx/1", Verifier: v}}, nil, "appid"},
		"platform twice":      {nil, []Platform{{ComponentAppID: "wxc", Verifier: v}, {ComponentAppID: "wxc", Verifier: v}}, "twice"},
		"no original id":      {nil, []Platform{{ComponentAppID: "wxc", Verifier: v, Accounts: map[string]string{"wx1": ""}}}, "original_id"},
		"bad child":           {nil, []Platform{{ComponentAppID: "wxc", Verifier: v, Accounts: map[string]string{"": "gh"}}}, "appid"},
		"platform, no secret": {nil, []Platform{{ComponentAppID: "wxc"}}, "no verifier"},
		"upstream":            {[]Account{{AppID: "wx1", Verifier: v, Upstream: &url.URL{Scheme: "ftp", Host: "h"}}}, nil, "http or https"},
	} {
		if _, err := NewDirectory(c.accounts, c.platforms); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Its sends can be recorded and chased; there is nobody to check its callbacks with.
func TestAccountWithoutCallback(t *testing.T) {
	b := start(t, func(_ *Config, _ *Deps, f *fixture) {
		f.accounts = append(f.accounts, Account{AppID: "wxpolled", Plain: true})
	})
	if status, got := b.call("", record("wxpolled", 1)); status != 200 {
		t.Errorf("status %d, %+v", status, got)
	}
	p := plainPush(massXML("gh_x", 7, "send success"))
	p.path = "/callback/wxpolled"
	b.wantFailure(b.push(p), 404, resultUnknownAccount)
	if plain := b.server.deps.Directory.Plain(); len(plain) != 1 {
		t.Errorf("flagged: %v", plain)
	}
}

func TestFailedReplaceChangesNothing(t *testing.T) {
	f := newFixture(t)
	d, err := NewDirectory(f.accounts, f.platforms)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Replace([]Account{{AppID: "wxnew"}, {AppID: ""}}, nil); err == nil {
		t.Fatal("taken")
	}
	for appid, want := range map[string]bool{plainApp: true, childApp: true, "wxnew": false, component: false} {
		if d.Known(appid) != want {
			t.Errorf("%s known: %v", appid, !want)
		}
	}
}

func TestLimit(t *testing.T) {
	l := newLimit(3, 2)
	for i, c := range []struct {
		key  string
		want bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"b", false}, {"c", false}} {
		if got := l.enter(c.key); got != c.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	l.leave("a")
	if !l.enter("c") || l.total != 3 {
		t.Error("a place that was given back is not there")
	}
	for _, key := range []string{"a", "b", "c"} {
		l.leave(key)
	}
	if l.total != 0 || len(l.per) != 0 {
		t.Errorf("left over: %d, %v", l.total, l.per)
	}
}
