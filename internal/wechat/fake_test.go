package wechat

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// fake stands in for WeChat inside the process, without a network, so that it
// works under synctest's clock too. It records every request.
type fake struct {
	answer func(n int, r call) (status int, body string) // n counts from 0

	mu    sync.Mutex
	calls []call
}

// call is a request as the fake saw it.
type call struct {
	method, path, token, auth, contentType string
	body                                   map[string]any
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	c := call{method: r.Method, path: r.URL.Path, token: r.URL.Query().Get("access_token"),
		auth: r.Header.Get("Authorization"), contentType: r.Header.Get("Content-Type")}
	if r.Body != nil {
		if err := json.NewDecoder(r.Body).Decode(&c.body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	f.mu.Lock()
	n := len(f.calls)
	f.calls = append(f.calls, c)
	f.mu.Unlock()
	status, body := f.answer(n, c)
	if status == 0 {
		return nil, fmt.Errorf("network is down")
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (f *fake) seen() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]call(nil), f.calls...)
}

// client returns a client that talks to the fake.
func (f *fake) client(t testing.TB, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{HTTP: &http.Client{Transport: f}}
	for _, c := range change {
		c(&cfg)
	}
	return mustClient(t, cfg)
}

func mustClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatalf("NewClient: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// always answers every request alike.
func always(body string) *fake {
	return &fake{answer: func(int, call) (int, string) { return 200, body }}
}

// inTurn answers the first request with the first body and so on; the last is repeated.
func inTurn(bodies ...string) *fake {
	return &fake{answer: func(n int, _ call) (int, string) { return 200, bodies[min(n, len(bodies)-1)] }}
}

// tokens is a TokenSource that gives its elements one after the other: the next
// whenever one was refused.
type tokens struct {
	mu   sync.Mutex
	list []string
	err  error // instead of what comes after the last
}

func (t *tokens) Token(_ context.Context, refused string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) > 0 && t.list[0] == refused {
		t.list = t.list[1:]
	}
	if len(t.list) == 0 {
		return "", t.err
	}
	return t.list[0], nil
}

func refusal(code int) string {
	return fmt.Sprintf(`{"errcode":%d,"errmsg":"no rid: 66aa-bb-cc"}`, code)
}
