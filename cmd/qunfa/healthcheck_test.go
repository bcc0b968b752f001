package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheckFailsWhenNotReady(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"status":"what the service says"}`))
	}))
	if r := runWith(t, "", "healthcheck", s.URL); r.code != 0 || !strings.Contains(r.stdout, "what the service says") {
		t.Errorf("ready: exit %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	status = http.StatusServiceUnavailable
	if r := runWith(t, "", "healthcheck", s.URL); r.code != 1 || !strings.Contains(r.stdout, "what the service says") || !strings.Contains(r.stderr, "503") {
		t.Errorf("not ready: exit %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	s.Close()
	if r := runWith(t, "", "healthcheck", s.URL); r.code != 1 {
		t.Errorf("nothing listens: exit %d, %q", r.code, r.stderr)
	}
}
