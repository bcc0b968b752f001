package httpx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func newHandlers(log io.Writer) (*Handlers, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	return NewHandlers("callback", slog.New(slog.NewTextHandler(log, nil)), reg), reg
}

func TestErrorsBecomeAnswers(t *testing.T) {
	cause := errors.New("password=hunter2")
	for _, tc := range []struct {
		name string
		err  error
		code int
		body string
	}{
		{"public text", Errorf(403, cause, "signature does not match"), 403, "signature does not match\n"},
		{"no public text", &Error{Status: 404, Err: cause}, 404, "Not Found\n"},
		{"wrapped", fmt.Errorf("around: %w", Errorf(400, cause, "bad")), 400, "bad\n"},
		{"any other error", cause, 500, "Internal Server Error\n"},
		{"too large", &http.MaxBytesError{Limit: 10}, 413, "the body is larger than 10 bytes\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			h, _ := newHandlers(&log)
			w := httptest.NewRecorder()
			h.Handle(func(http.ResponseWriter, *http.Request) error { return tc.err }).
				ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/callback/wx1?signature=abc", nil))
			if w.Code != tc.code || w.Body.String() != tc.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body.String(), tc.code, tc.body)
			}
			if errors.Is(tc.err, cause) && !strings.Contains(log.String(), cause.Error()) {
				t.Errorf("the cause is not in the log: %s", log.String())
			}
			if strings.Contains(log.String(), "signature=abc") {
				t.Errorf("the query is in the log: %s", log.String())
			}
		})
	}
}

func TestJSONErrors(t *testing.T) {
	h, _ := newHandlers(io.Discard)
	h.JSON = true
	w := httptest.NewRecorder()
	h.Handle(func(http.ResponseWriter, *http.Request) error { return &Error{Status: 503, Public: `say "when"`} }).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Body.String() != `{"error":"say \"when\""}`+"\n" || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%q %v", w.Body.String(), w.Header())
	}
}

func TestAnswerThatWasBegunIsKept(t *testing.T) {
	h, reg := newHandlers(io.Discard)
	w := httptest.NewRecorder()
	h.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "half")
		return errors.New("broken")
	}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 200 || w.Body.String() != "half" {
		t.Errorf("%d %q", w.Code, w.Body.String())
	}
	wantCounts(t, reg, 0, 1)
}

func TestCounts(t *testing.T) {
	h, reg := newHandlers(io.Discard)
	wantCounts(t, reg, 0, 0) // born at 0
	for _, err := range []error{nil, &Error{Status: 400}, &Error{Status: 404}, errors.New("x")} {
		h.Handle(func(http.ResponseWriter, *http.Request) error { return err }).
			ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
	wantCounts(t, reg, 2, 1)
}

// A client that leaves is no fault of ours.
func TestClientThatLeft(t *testing.T) {
	h, reg := newHandlers(io.Discard)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	h.Handle(func(_ http.ResponseWriter, r *http.Request) error { return r.Context().Err() }).ServeHTTP(httptest.NewRecorder(), r)
	wantCounts(t, reg, 1, 0)
}

func TestErrorText(t *testing.T) {
	cause := errors.New("cause")
	if err := Errorf(502, cause, "upstream"); err.Error() != "502 upstream: cause" || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if err := (&Error{Status: 400}); err.Error() != "400 Bad Request" {
		t.Errorf("%v", err)
	}
}

func wantCounts(t *testing.T, reg *prometheus.Registry, c4, c5 int) {
	t.Helper()
	want := fmt.Sprintf(`# HELP qunfa_http_errors_total Requests that were answered with an error, by the first digit of its status.
# TYPE qunfa_http_errors_total counter
qunfa_http_errors_total{class="4xx",listener="callback"} %d
qunfa_http_errors_total{class="5xx",listener="callback"} %d
`, c4, c5)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "qunfa_http_errors_total"); err != nil {
		t.Error(err)
	}
}
