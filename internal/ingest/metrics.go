package ingest

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// What became of a request to a callback URL, beside the reasons of [wechat.Reason].
const (
	resultURLVerified    = "url_verified"     // WeChat checked the URL
	resultURLRefused     = "url_refused"      // somebody checked the URL, but not with a token of ours
	resultFinished       = "finished"         // a result, durable, acknowledged
	resultDeadLetter     = "dead_letter"      // a result we cannot read, durable, acknowledged
	resultPassed         = "passed"           // another push, answered by upstream or with success
	resultUnknownAccount = "unknown_account"  // no such account in the directory
	resultMismatch       = "account_mismatch" // the body names another account
	resultWrongPath      = "wrong_path"       // no callback URL at all
	resultMethod         = "method"           // neither GET nor POST
	resultTooLarge       = "too_large"        // the body is over the limit
	resultUnread         = "unread"           // the body did not come, or not in time
	resultOverload       = "overload"         // too many at once, here or before the log
	resultUnavailable    = "unavailable"      // the log did not take it in time; WeChat repeats it
	resultRecordTooLarge = "record_too_large" // the log will never take it
	resultInternal       = "internal"         // a fault of ours
)

func callbackResults() []string {
	results := []string{resultURLVerified, resultURLRefused, resultFinished, resultDeadLetter, resultPassed, resultUnknownAccount,
		resultMismatch, resultWrongPath, resultMethod, resultTooLarge, resultUnread, resultOverload, resultUnavailable,
		resultRecordTooLarge, resultInternal}
	for _, r := range wechat.Reasons() {
		results = append(results, string(r))
	}
	return results
}

// How a push came to upstream.
const (
	kindAnswer = "answer" // WeChat waits for upstream's answer
	kindCopy   = "copy"   // ours, acknowledged before
)

// What became of passing a push on.
const (
	upstreamOK        = "ok"
	upstreamTimeout   = "timeout"
	upstreamError     = "error"      // could not be reached, or broke off
	upstreamBadStatus = "bad_status" // anything but 2xx
	upstreamTooLarge  = "too_large"  // the answer is over the limit
	upstreamDropped   = "dropped"    // too many were waiting
)

func upstreamResults() []string {
	return []string{upstreamOK, upstreamTimeout, upstreamError, upstreamBadStatus, upstreamTooLarge, upstreamDropped}
}

// What became of a call of the record API.
const (
	callOK           = "ok"           // every record accepted
	callPartial      = "partial"      // some records refused
	callRejected     = "rejected"     // every record refused
	callBadRequest   = "bad_request"  // not readable at all
	callUnauthorized = "unauthorized" // no valid bearer token
	callTooLarge     = "too_large"
	callOverload     = "overload"
	callUnavailable  = "unavailable" // the log did not take everything
	callInternal     = "internal"
)

func callResults() []string {
	return []string{callOK, callPartial, callRejected, callBadRequest, callUnauthorized, callTooLarge,
		callOverload, callUnavailable, callInternal}
}

// metrics are all metrics of the package. Every series is there from the start:
// one that is born with its first event has no increase to alert on.
type metrics struct {
	callbacks       *prometheus.CounterVec // result
	pushes          *prometheus.CounterVec // mode, format
	statuses        *prometheus.CounterVec // status
	ackSeconds      prometheus.Histogram
	skewed          prometheus.Counter
	mismatches      prometheus.Counter
	previousSecrets *prometheus.CounterVec // kind
	inFlight        prometheus.Gauge
	conns           *prometheus.CounterVec // result
	openConns       prometheus.Gauge

	upstream        *prometheus.CounterVec // kind, result
	upstreamSeconds prometheus.Histogram
	upstreamQueue   prometheus.Gauge

	submissions *prometheus.CounterVec // result
	calls       *prometheus.CounterVec // result
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.CounterOpts { return prometheus.CounterOpts{Name: name, Help: help} }
	m := &metrics{
		callbacks: prometheus.NewCounterVec(counter("qunfa_callbacks_total",
			"Requests to the callback listener, by what became of them."), []string{"result"}),
		pushes: prometheus.NewCounterVec(counter("qunfa_callback_pushes_total",
			"Authentic pushes of any kind, by protection and format."), []string{"mode", "format"}),
		statuses: prometheus.NewCounterVec(counter("qunfa_callback_statuses_total",
			"Acknowledged MASSSENDJOBFINISH pushes, by what their status means; redeliveries count again."), []string{"status"}),
		ackSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "qunfa_callback_ack_seconds", Help: "Time from the receipt of a MASSSENDJOBFINISH push until it is durable; WeChat hangs up after 5 s.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5},
		}),
		skewed: prometheus.NewCounter(counter("qunfa_callback_clock_skewed_total",
			"Encrypted pushes accepted although their timestamp is far from our clock.")),
		mismatches: prometheus.NewCounter(counter("qunfa_callback_original_id_mismatches_total",
			"Encrypted pushes accepted although they name another original id than the configuration.")),
		previousSecrets: prometheus.NewCounterVec(counter("qunfa_callback_previous_secrets_total",
			"Authentic pushes made with a token or key that is not the first in the configuration."), []string{"kind"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_callbacks_in_flight", Help: "Callbacks being read, checked or written to the log."}),
		conns: prometheus.NewCounterVec(counter("qunfa_callback_connections_total",
			"Connections to the callback listener that have ended, by how; no_request: too slow, too large, or not HTTP."), []string{"result"}),
		openConns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_callback_connections_open", Help: "Connections to the callback listener that are open."}),
		upstream: prometheus.NewCounterVec(counter("qunfa_upstream_requests_total",
			"Pushes passed on to upstream applications."), []string{"kind", "result"}),
		upstreamSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "qunfa_upstream_seconds", Help: "Time that upstream applications took to answer, or until they were given up.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5},
		}),
		upstreamQueue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_upstream_queue_length", Help: "Copies of acknowledged pushes that wait to be passed on, or are being passed on."}),
		submissions: prometheus.NewCounterVec(counter("qunfa_submissions_total",
			"Records given to the record API."), []string{"result"}),
		calls: prometheus.NewCounterVec(counter("qunfa_submission_calls_total",
			"Calls of the record API."), []string{"result"}),
	}
	m.bear()
	return m
}

// bear creates every labelled series at 0.
func (m *metrics) bear() {
	each(m.callbacks, callbackResults())
	each(m.conns, connResults())
	each(m.statuses, []string{events.StatusSent, events.StatusFailed, events.StatusRejected, events.StatusUnknown})
	each(m.previousSecrets, []string{"token", "aes_key"})
	each(m.submissions, []string{itemAccepted, itemRejected, itemUnavailable})
	each(m.calls, callResults())
	for _, kind := range []string{kindAnswer, kindCopy} {
		for _, result := range upstreamResults() {
			m.upstream.WithLabelValues(kind, result)
		}
	}
	for _, mode := range []string{wechat.ModePlain, wechat.ModeCompatible, wechat.ModeSafe} {
		for _, format := range []string{wechat.FormatXML, wechat.FormatJSON} {
			m.pushes.WithLabelValues(mode, format)
		}
	}
}

func each(v *prometheus.CounterVec, values []string) {
	for _, value := range values {
		v.WithLabelValues(value)
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.callbacks, m.pushes, m.statuses, m.ackSeconds, m.skewed, m.mismatches,
		m.previousSecrets, m.inFlight, m.conns, m.openConns, m.upstream, m.upstreamSeconds, m.upstreamQueue, m.submissions, m.calls}
}

// register adds every metric or none.
func (m *metrics) register(r prometheus.Registerer) error {
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				r.Unregister(done)
			}
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.collectors() {
		r.Unregister(c)
	}
}

// opened counts an authentic push. The format is taken as it is only if known.
func (m *metrics) opened(p wechat.Push) {
	if p.Format == wechat.FormatXML || p.Format == wechat.FormatJSON {
		m.pushes.WithLabelValues(p.Mode, p.Format).Inc()
	}
	if p.TokenIndex > 0 {
		m.previousSecrets.WithLabelValues("token").Inc()
	}
	if p.KeyIndex > 0 {
		m.previousSecrets.WithLabelValues("aes_key").Inc()
	}
}

// publishResult tells the errors of a publisher apart.
func publishResult(err error) string {
	switch {
	case errors.Is(err, ErrOverloaded):
		return resultOverload
	case errors.Is(err, ErrTooLarge):
		return resultRecordTooLarge
	}
	return resultUnavailable
}
