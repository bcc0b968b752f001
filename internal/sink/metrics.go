package sink

import (
	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
)

// Metrics are the sink's. They can be made before the sink, so that they are
// there from the start, while it waits for its database.
type Metrics struct {
	events     *prometheus.CounterVec
	foreign    prometheus.Counter
	dead       *prometheus.CounterVec
	trimmed    prometheus.Counter
	batches    prometheus.Counter
	batchSize  prometheus.Histogram
	batchTime  prometheus.Histogram
	failures   *prometheus.CounterVec
	paused     prometheus.Gauge
	lastCommit prometheus.Gauge
	rewinds    prometheus.Counter
	drift      prometheus.Counter
}

var classNames = map[Class]string{ClassRetry: "retry", ClassPause: "pause", ClassRow: "row"}

// NewMetrics makes and registers the metrics; nil: they are shown nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		events:  vec("qunfa_sink_events_total", "Events written to ClickHouse, by type; repeated ones count again.", "type"),
		foreign: counter("qunfa_sink_foreign_records_total", "Records in the topic that are not events of qunfa."),
		dead:    vec("qunfa_sink_dead_letters_total", "Records that were set aside in the dead-letter topic, by reason.", "reason"),
		trimmed: counter("qunfa_sink_trimmed_records_total", "Offsets that were gone from the topic before they could be read."),
		batches: counter("qunfa_sink_batches_total", "Batches that were written and committed."),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "qunfa_sink_batch_records",
			Help: "Records in a batch.", Buckets: prometheus.ExponentialBuckets(1, 10, 5)}),
		batchTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "qunfa_sink_batch_seconds",
			Help: "Time from the start of a batch to its commit, in seconds.", Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30}}),
		failures: vec("qunfa_sink_failures_total", "Failed attempts to write a batch, by step and by class of error.", "step", "class"),
		paused:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "qunfa_sink_paused", Help: "1 while the sink waits for somebody to repair something."}),
		lastCommit: prometheus.NewGauge(prometheus.GaugeOpts{Name: "qunfa_sink_last_commit_timestamp_seconds",
			Help: "Unix time of the last committed batch."}),
		rewinds: counter("qunfa_sink_rewinds_total", "Times that ClickHouse was found behind the committed offsets, so that records were read again."),
		drift:   counter("qunfa_sink_count_drift_total", "Callbacks whose FilterCount exceeds their TotalCount, so that nobody knows how many were filtered."),
	}
	m.init()
	if r != nil {
		r.MustRegister(m.events, m.foreign, m.dead, m.trimmed, m.batches, m.batchSize, m.batchTime, m.failures, m.paused, m.lastCommit, m.rewinds, m.drift)
	}
	return m
}

func (m *Metrics) init() {
	for _, t := range events.Types() {
		m.events.WithLabelValues(string(t))
	}
	for _, r := range events.DeadReasons() {
		m.dead.WithLabelValues(r)
	}
	for _, s := range steps() {
		for _, c := range classNames {
			m.failures.WithLabelValues(s, c)
		}
	}
}
