package app

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// Results of recipients: values of the label "result".
const (
	resultSent     = "sent"
	resultError    = "error"
	resultFiltered = "filtered"
)

// codeOther stands for every code that is not in the list that WeChat publishes:
// SQL tells which it was. It exists at 0 before any of them was ever seen.
const codeOther = "other"

// deliveryStore computes the figures; see [clickhouse.Delivery].
type deliveryStore interface {
	Delivery(ctx context.Context, now time.Time, accounts []string) (*clickhouse.Delivery, error)
}

// delivery serves /metrics/delivery: figures that come from the database, so
// that duplicates, restarts and replays cannot bend them. Every sink shows the
// same ones, and Prometheus scrapes one of them.
type delivery struct {
	store    deliveryStore
	behind   func(context.Context) error
	accounts atomic.Pointer[[]string]
	clock    func() time.Time
	log      *slog.Logger
	cache    cached[*clickhouse.Delivery]
}

// deliveryTTL bounds the age of the figures that are shown.
const deliveryTTL = 10 * time.Second

func newDelivery(store deliveryStore, behind func(context.Context) error, accounts []string, clock func() time.Time, log *slog.Logger) *delivery {
	d := &delivery{store: store, behind: behind, clock: clock, log: log}
	d.cache = cached[*clickhouse.Delivery]{ttl: deliveryTTL, clock: clock}
	d.setAccounts(accounts)
	return d
}

func (d *delivery) setAccounts(appids []string) { d.accounts.Store(&appids) }

// ServeHTTP answers 503 rather than half a truth: a counter that starts low and
// climbs would look like a burst of rejections.
func (d *delivery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := d.behind(r.Context()); err != nil {
		http.Error(w, "not now: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	figures, err := d.cache.get(r.Context(), func(ctx context.Context) (*clickhouse.Delivery, error) {
		return d.store.Delivery(ctx, d.clock(), *d.accounts.Load())
	})
	if err != nil {
		d.log.Warn("the delivery figures cannot be computed", "error", err)
		http.Error(w, "not now: ClickHouse did not answer; the log of this service says why", http.StatusServiceUnavailable)
		return
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(figuresOf{figures})
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// figuresOf shows the figures as metrics.
type figuresOf struct{ *clickhouse.Delivery }

var (
	descRecipients = prometheus.NewDesc("qunfa_recipients_total",
		"People, by what became of them: counted once per message, from its first received callback, since the start of the month (UTC).", []string{"result"}, nil)
	descFailures = prometheus.NewDesc("qunfa_audit_failures_total",
		"Messages that were rejected, by the num of err(num): counted once per message since the start of the month (UTC); other: not in WeChat's list.", []string{"err_code"}, nil)
	descAccountRecipients = prometheus.NewDesc("qunfa_account_recipients_total",
		"The same as qunfa_recipients_total, by account.", []string{"appid", "result"}, nil)
	descAccountFailures = prometheus.NewDesc("qunfa_account_audit_failures_total",
		"The same as qunfa_audit_failures_total, by account.", []string{"appid", "err_code"}, nil)
	descMessages = prometheus.NewDesc("qunfa_messages",
		"Messages of the last 30 days by outcome.", []string{"outcome"}, nil)
	descPending = prometheus.NewDesc("qunfa_pending_messages",
		"Messages of any age of which nobody knows yet what became of them.", nil, nil)
	descOldest = prometheus.NewDesc("qunfa_oldest_pending_submission_timestamp_seconds",
		"Unix time of the submission of the oldest pending message; absent if none is pending.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (f figuresOf) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, ch) }

// Collect implements [prometheus.Collector].
func (f figuresOf) Collect(ch chan<- prometheus.Metric) {
	counts(ch, f.All, descRecipients, descFailures)
	for appid, c := range f.Accounts {
		counts(ch, c, descAccountRecipients, descAccountFailures, appid)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, o := range events.Outcomes() {
		gauge(descMessages, float64(f.Outcomes[o]), string(o))
	}
	gauge(descPending, float64(f.Pending))
	if !f.OldestPending.IsZero() {
		gauge(descOldest, float64(f.OldestPending.UnixMilli())/1000)
	}
}

func counts(ch chan<- prometheus.Metric, c clickhouse.DeliveryCounts, recipients, failures *prometheus.Desc, labels ...string) {
	counter := func(d *prometheus.Desc, n int64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append(slices.Clone(labels), label)...)
	}
	counter(recipients, c.Sent, resultSent)
	counter(recipients, c.Errors, resultError)
	counter(recipients, c.Filtered, resultFiltered)
	for code, n := range byKnownCode(c.AuditFailures) {
		counter(failures, n, code)
	}
}

// byKnownCode has every known code and other, whether they happened or not:
// increase() does not see a counter that is born at 1.
func byKnownCode(failures map[int64]int64) map[string]int64 {
	named := map[string]int64{codeOther: 0}
	for _, code := range clickhouse.KnownErrCodes() {
		named[strconv.FormatInt(code, 10)] = 0
	}
	for code, n := range failures {
		name := strconv.FormatInt(code, 10)
		if _, known := named[name]; !known {
			name = codeOther
		}
		named[name] += n
	}
	return named
}
