package kafka

import (
	"errors"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Every metric of the package is made here. Those of a producer carry the label
// topic, those of a group the labels group and topic. Two producers of one topic
// (or two members of one group) in one process share their series.

type producerMetrics struct {
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
	queued  prometheus.Gauge
	batches prometheus.Counter
	records prometheus.Counter
	bytes   prometheus.Counter
	down    prometheus.Gauge
}

func newProducerMetrics(reg prometheus.Registerer, topic string) (*producerMetrics, error) {
	reg = labelled(reg, prometheus.Labels{"topic": topic})
	r := registration{reg: reg}
	m := &producerMetrics{
		seconds: add(&r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "qunfa_kafka_produce_seconds",
			Help:    "Time until the broker answered one produce request with acks=all, by result.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2.5},
		}, []string{"result"})),
		errors: add(&r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_kafka_produce_errors_total",
			Help: "Failed produce requests and records refused before any request, by class of error.",
		}, []string{"class"})),
		queued: add(&r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_kafka_produce_queue_records",
			Help: "Records that wait for the broker's acknowledgement.",
		})),
		batches: add(&r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qunfa_kafka_produce_batches_total",
			Help: "Acknowledged batches of records.",
		})),
		records: add(&r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qunfa_kafka_produce_records_total",
			Help: "Acknowledged records.",
		})),
		bytes: add(&r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qunfa_kafka_produce_bytes_total",
			Help: "Acknowledged bytes, before compression.",
		})),
		down: add(&r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_kafka_produce_failing_lanes",
			Help: "Lanes (partitions) whose last produce request failed.",
		})),
	}
	for _, result := range []string{resultOK, resultError} {
		m.seconds.WithLabelValues(result)
	}
	for _, c := range Classes() {
		m.errors.WithLabelValues(string(c))
	}
	return m, r.err
}

const (
	resultOK    = "ok"
	resultError = "error"
)

func (m *producerMetrics) failed(err error) { m.errors.WithLabelValues(string(ClassOf(err))).Inc() }

type groupMetrics struct {
	generations prometheus.Counter
	joinErrors  *prometheus.CounterVec
	fetchErrors *prometheus.CounterVec
	commits     prometheus.Counter
	commitErrs  *prometheus.CounterVec
	records     prometheus.Counter
	bytes       prometheus.Counter
	trimmed     prometheus.Counter
	prefetched  prometheus.Gauge
	lag         *lagCollector
}

func newGroupMetrics(reg prometheus.Registerer, group, topic string) (*groupMetrics, error) {
	reg = labelled(reg, prometheus.Labels{"group": group, "topic": topic})
	r := registration{reg: reg}
	classes := func(name, help string) *prometheus.CounterVec {
		v := add(&r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"class"}))
		for _, c := range Classes() {
			v.WithLabelValues(string(c))
		}
		return v
	}
	count := func(name, help string) prometheus.Counter {
		return add(&r, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	m := &groupMetrics{
		generations: count("qunfa_kafka_generations_total", "Generations of the consumer group that this member took part in."),
		joinErrors:  classes("qunfa_kafka_join_errors_total", "Failed attempts to take part in the consumer group, by class of error."),
		fetchErrors: classes("qunfa_kafka_fetch_errors_total", "Failed fetches, by class of error."),
		commits:     count("qunfa_kafka_commits_total", "Successful commits of offsets."),
		commitErrs:  classes("qunfa_kafka_commit_errors_total", "Failed attempts to commit offsets, by class of error."),
		records:     count("qunfa_kafka_fetch_records_total", "Records read from the topic."),
		bytes:       count("qunfa_kafka_fetch_bytes_total", "Bytes of records read from the topic, after decompression."),
		trimmed:     count("qunfa_kafka_trimmed_records_total", "Records that were deleted from the topic before this group read them."),
		prefetched: add(&r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_kafka_prefetched_bytes", Help: "Bytes of records that were read and not yet taken by the handler.",
		})),
		lag: add(&r, newLagCollector()),
	}
	return m, r.err
}

// lagCollector computes lag when it is asked, so that the partitions that are
// no longer owned have no series and an idle topic needs no ticker.
type lagCollector struct {
	records, seconds *prometheus.Desc

	mu      sync.Mutex
	members map[*Group]struct{}
}

func newLagCollector() *lagCollector {
	return &lagCollector{
		records: prometheus.NewDesc("qunfa_kafka_lag_records",
			"Records of the partition that this group has not committed. Only partitions of this member.", []string{"partition"}, nil),
		seconds: prometheus.NewDesc("qunfa_kafka_lag_seconds",
			"Age of the oldest record of the partition that this group has not committed, by the record's time; 0 if there is none.", []string{"partition"}, nil),
		members: map[*Group]struct{}{},
	}
}

func (c *lagCollector) add(g *Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[g] = struct{}{}
}

func (c *lagCollector) remove(g *Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.members, g)
}

func (c *lagCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.records
	ch <- c.seconds
}

func (c *lagCollector) Collect(ch chan<- prometheus.Metric) {
	for p, l := range c.lags() {
		partition := strconv.Itoa(int(p))
		ch <- prometheus.MustNewConstMetric(c.records, prometheus.GaugeValue, float64(l.Records), partition)
		ch <- prometheus.MustNewConstMetric(c.seconds, prometheus.GaugeValue, l.Age.Seconds(), partition)
	}
}

// lags merges the members: while a partition changes hands two of them may
// believe that they own it, and a page with a series twice is refused as a whole.
func (c *lagCollector) lags() map[int32]Lag {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[int32]Lag{}
	for g := range c.members {
		for p, l := range g.Lag() {
			if have, twice := all[p]; !twice || l.Records < have.Records {
				all[p] = l
			}
		}
	}
	return all
}

func labelled(reg prometheus.Registerer, labels prometheus.Labels) prometheus.Registerer {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	return prometheus.WrapRegistererWith(labels, reg)
}

// registration collects the errors of several registrations.
type registration struct {
	reg prometheus.Registerer
	err error
}

// add registers a collector, or returns the one that is registered already.
func add[C prometheus.Collector](r *registration, c C) C {
	err := r.reg.Register(c)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) {
		if have, ok := twice.ExistingCollector.(C); ok {
			return have
		}
	}
	r.err = errors.Join(r.err, err)
	return c
}
