package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// startAdmin runs an admin listener for as long as the test.
func startAdmin(t *testing.T, cfg AdminConfig) *Admin {
	t.Helper()
	a, err := NewAdmin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a
}

func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(header) == 2 {
		req.Header.Set(header[0], header[1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestReadyz(t *testing.T) {
	ok := func(context.Context) error { return nil }
	spool := func(context.Context) error { return Degradedf("%d events wait for Kafka", 3) }
	down := func(context.Context) error {
		return errors.Join(errors.New("connection refused"), errors.New("host db1"))
	}
	for _, tc := range []struct {
		name   string
		checks map[string]Check
		code   int
		text   string
	}{
		{"nothing to check", nil, 200, "ready\n"},
		{"ready", map[string]Check{"kafka": ok}, 200, "ready\nkafka: ok\n"},
		{"degraded", map[string]Check{"spool": spool}, 200, "ready, but degraded\nspool: degraded: 3 events wait for Kafka\n"},
		{"degraded by another package", map[string]Check{"accounts": func(context.Context) error { return fmt.Errorf("around: %w", otherDegraded{}) }}, 200, "ready, but degraded\naccounts: degraded: around: old ones\n"},
		{"not ready", map[string]Check{"clickhouse": down}, 503, "not ready\nclickhouse: not ready: connection refused host db1\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := startAdmin(t, AdminConfig{})
			for name, c := range tc.checks {
				a.AddCheck(name, c)
			}
			code, body := get(t, "http://"+a.Addr()+"/readyz")
			if code != tc.code || body != tc.text {
				t.Errorf("%d %q, want %d %q", code, body, tc.code, tc.text)
			}
		})
	}
}

type otherDegraded struct{}

func (otherDegraded) Error() string  { return "old ones" }
func (otherDegraded) Degraded() bool { return true }

func TestReadyzJSON(t *testing.T) {
	a := startAdmin(t, AdminConfig{})
	a.AddCheck("kafka", func(context.Context) error { return nil })
	a.AddCheck("clickhouse", func(context.Context) error { return errors.New("schema is missing; run qunfa migrate") })
	want := map[string]any{"status": "not_ready", "checks": []any{
		map[string]any{"name": "kafka", "status": "ok"},
		map[string]any{"name": "clickhouse", "status": "not_ready", "reason": "schema is missing; run qunfa migrate"},
	}}
	for _, header := range [][]string{{"Accept", "application/json"}, {"X-None", ""}} {
		url := "http://" + a.Addr() + "/readyz"
		if header[0] != "Accept" {
			url += "?format=json"
		}
		code, body := get(t, url, header...)
		var got map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want); diff != "" || code != 503 {
			t.Errorf("%d (-got +want)\n%s", code, diff)
		}
	}
}

// A check that hangs must neither hang /readyz nor pile up.
func TestHangingCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		var wg sync.WaitGroup
		release := make(chan struct{})
		n := &namedCheck{name: "kafka", timeout: 2 * time.Second, check: func(context.Context) error {
			calls.Add(1)
			<-release
			return nil
		}}
		began := time.Now()
		for range 3 {
			if r := n.result(&wg); r.Status != StatusNotReady || r.Reason != "no answer within 2s" {
				t.Errorf("got %+v", r)
			}
		}
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("took %s", took)
		}
		if calls.Load() != 1 {
			t.Errorf("%d calls at the same time", calls.Load())
		}
		close(release)
		wg.Wait()
		if r := n.result(&wg); r.Status != StatusOK {
			t.Errorf("it does not recover: %+v", r)
		}
		wg.Wait()
	})
}

func TestChecksRunAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Admin{cfg: AdminConfig{CheckTimeout: 2 * time.Second}}
		for _, name := range []string{"a", "b", "c"} {
			a.AddCheck(name, func(context.Context) error { <-time.After(time.Second); return nil })
		}
		began := time.Now()
		if s, _ := a.Ready(); s != StatusOK || time.Since(began) != time.Second {
			t.Errorf("%s after %s", s, time.Since(began))
		}
		a.calls.Wait()
	})
}

func TestAdminPages(t *testing.T) {
	reg := prometheus.NewRegistry()
	RegisterProcess(reg, Build{Version: "v1", Revision: "abc", Go: "go1"})
	a := startAdmin(t, AdminConfig{Gatherer: reg, Pprof: true})
	a.Handle("/metrics/delivery", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeText(w, 200, "delivery") }))
	for path, want := range map[string]string{
		"/":                 "/debug/pprof/\n/healthz\n/metrics\n/metrics/delivery\n/readyz\n",
		"/healthz":          "ok\n",
		"/metrics":          `qunfa_build_info{goversion="go1",revision="abc",version="v1"} 1`,
		"/metrics/delivery": "delivery\n",
		"/debug/pprof/":     "goroutine",
	} {
		if code, body := get(t, "http://"+a.Addr()+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

func TestPprofIsOffByDefault(t *testing.T) {
	a := startAdmin(t, AdminConfig{})
	for _, path := range []string{"/debug/pprof/", "/metrics", "/nothing"} {
		if code, _ := get(t, "http://"+a.Addr()+path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestOccupiedAddressIsAnError(t *testing.T) {
	a := startAdmin(t, AdminConfig{})
	if _, err := NewAdmin(AdminConfig{Listen: a.Addr()}); err == nil || !strings.Contains(err.Error(), "admin listener") {
		t.Errorf("error %v", err)
	}
}

func TestServerThatNeverRanGivesUpItsListener(t *testing.T) {
	s, err := NewServer(ServerConfig{Name: "x", Listen: "127.0.0.1:0", Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if c, err := net.DialTimeout("tcp", s.Addr(), time.Second); err == nil {
		c.Close()
		t.Error("the address is still bound")
	}
}

// A request in work is finished; one that hangs is cut off, and said.
func TestServerShutdown(t *testing.T) {
	for _, tc := range []struct {
		name    string
		hang    bool
		wantErr string
	}{{"finishes", false, ""}, {"cuts off", true, "x listener: 1 requests were cut off"}} {
		t.Run(tc.name, func(t *testing.T) {
			entered, release := make(chan struct{}), make(chan struct{})
			s, err := NewServer(ServerConfig{Name: "x", Listen: "127.0.0.1:0", ShutdownTimeout: 50 * time.Millisecond,
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(entered)
					<-release
					writeText(w, 200, "done")
				})})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			answered := make(chan error, 1)
			go func() {
				tr := &http.Transport{DisableKeepAlives: true}
				resp, err := (&http.Client{Transport: tr}).Get("http://" + s.Addr())
				if err == nil {
					resp.Body.Close()
				}
				answered <- err
			}()
			<-entered
			if !tc.hang {
				close(release)
			}
			cancel()
			err = <-ran
			if tc.hang {
				close(release)
			}
			if got := errText(err); got != tc.wantErr {
				t.Errorf("error %q, want %q", got, tc.wantErr)
			}
			if err := <-answered; (err != nil) != tc.hang {
				t.Errorf("the client got %v", err)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
