package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Error is an error with what the client may know of it. Err, if there is one,
// is only logged.
type Error struct {
	Status int    // the HTTP status
	Public string // shown to the client; empty: the status's own text
	Err    error  // the cause; may be nil
}

// Errorf makes an [Error] whose public text is formatted and whose cause is err.
func Errorf(status int, err error, format string, args ...any) *Error {
	return &Error{Status: status, Public: fmt.Sprintf(format, args...), Err: err}
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%d %s", e.Status, e.public())
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) public() string {
	if e.Public == "" {
		return http.StatusText(e.Status)
	}
	return e.Public
}

// HandlerFunc answers a request, or returns an error and has written nothing.
// If it has written something, the error is logged and counted, but the client
// keeps what it got.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// Handlers makes http.Handlers of functions that return errors.
type Handlers struct {
	Logger *slog.Logger
	// JSON answers errors as {"error": "…"} rather than as text.
	JSON bool

	errors *prometheus.CounterVec
}

// NewHandlers registers qunfa_http_errors_total{listener, class}. Register one
// per listener.
func NewHandlers(listener string, l *slog.Logger, r prometheus.Registerer) *Handlers {
	h := &Handlers{Logger: l, errors: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name:        "qunfa_http_errors_total",
		Help:        "Requests that were answered with an error, by the first digit of its status.",
		ConstLabels: prometheus.Labels{"listener": listener},
	}, []string{"class"})}
	for _, class := range []string{"4xx", "5xx"} {
		h.errors.WithLabelValues(class)
	}
	r.MustRegister(h.errors)
	return h
}

// Handle wraps f.
func (h *Handlers) Handle(f HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		if err := f(rec, r); err != nil {
			h.fail(rec, r, err)
		}
	})
}

// fail is the one place where errors are answered, logged and counted.
func (h *Handlers) fail(w *recorder, r *http.Request, err error) {
	he, ok := errors.AsType[*Error](err)
	switch {
	case ok:
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		he = &Error{Status: 499, Public: "the client has left", Err: err}
	default:
		if mb, ok := errors.AsType[*http.MaxBytesError](err); ok {
			he = Errorf(http.StatusRequestEntityTooLarge, err, "the body is larger than %d bytes", mb.Limit)
		} else {
			he = &Error{Status: http.StatusInternalServerError, Err: err}
		}
	}
	class, level := "4xx", slog.LevelInfo
	if he.Status >= 500 {
		class, level = "5xx", slog.LevelError
	}
	h.errors.WithLabelValues(class).Inc()
	// The path only: WeChat's query strings sign the request.
	h.Logger.Log(r.Context(), level, "request failed", "method", r.Method, "path", r.URL.Path, "status", he.Status, "error", err)
	if !w.wrote {
		h.answer(w, he)
	}
}

func (h *Handlers) answer(w http.ResponseWriter, e *Error) {
	body, contentType := []byte(e.public()+"\n"), "text/plain; charset=utf-8"
	if h.JSON {
		body, _ = json.Marshal(map[string]string{"error": e.public()}) // strings always marshal
		body, contentType = append(body, '\n'), "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if e.Status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // a client that has left needs no answer
}

// recorder knows whether an answer was begun.
type recorder struct {
	http.ResponseWriter
	wrote bool
}

func (r *recorder) WriteHeader(code int) {
	r.wrote = true
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
