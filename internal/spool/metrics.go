package spool

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label op.
const (
	opOpen    = "open"    // the file is damaged, or was
	opWrite   = "write"   // records could not be made durable
	opRead    = "read"    // records could not be read back
	opRemove  = "remove"  // drained records could not be removed: they may be repeated
	opPublish = "publish" // the log did not take a spooled record
)

// metrics are all metrics of the package.
type metrics struct {
	records, bytes, maxBytes, oldest prometheus.GaugeFunc

	written  prometheus.Counter
	drained  prometheus.Counter
	setAside prometheus.Counter
	salvaged prometheus.Counter
	errors   *prometheus.CounterVec // op
	kept     prometheus.Gauge       // damaged files
	aside    prometheus.GaugeFunc
}

func newMetrics(s *Spool) *metrics {
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		records: gauge("qunfa_spool_records", "Records that wait on the disk for the log.", func() float64 {
			n, _, _ := s.Depth()
			return float64(n)
		}),
		bytes: gauge("qunfa_spool_bytes", "Bytes of records on the disk, counted against qunfa_spool_max_bytes.", func() float64 {
			_, n, _ := s.Depth()
			return float64(n)
		}),
		maxBytes: gauge("qunfa_spool_max_bytes", "Bytes of records that the spool takes; beyond, callbacks are answered with 503.", func() float64 {
			return float64(s.cfg.MaxBytes)
		}),
		oldest: gauge("qunfa_spool_oldest_timestamp_seconds", "Time of receipt of the oldest record that waits on the disk; 0 if there is none.", func() float64 {
			if _, _, at := s.Depth(); !at.IsZero() {
				return float64(at.UnixMilli()) / 1000
			}
			return 0
		}),
		aside: gauge("qunfa_spool_set_aside_records", "Records in the spool's file that the log refuses for good or that cannot be read back; a restart offers them again.", func() float64 {
			return float64(s.aside.Load())
		}),
		written:  counter("qunfa_spool_written_total", "Records made durable on the disk."),
		drained:  counter("qunfa_spool_drained_total", "Records of the spool that the log has acknowledged."),
		setAside: counter("qunfa_spool_set_aside_total", "Records set aside since the start, because the log refuses them for good or they cannot be read back."),
		salvaged: counter("qunfa_spool_salvaged_total", "Records taken over from a damaged file."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_spool_errors_total", Help: "Failures of the spool, by what it was doing."}, []string{"op"}),
		kept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_spool_damaged_files", Help: "Damaged files that lie renamed in the spool's directory, until somebody removes them."}),
	}
	for _, op := range []string{opOpen, opWrite, opRead, opRemove, opPublish} {
		m.errors.WithLabelValues(op)
	}
	return m
}

func (m *metrics) failed(op string) { m.errors.WithLabelValues(op).Inc() }

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.bytes, m.maxBytes, m.oldest, m.aside, m.written, m.drained, m.setAside, m.salvaged, m.errors, m.kept}
}

// register adds every metric or none.
func (m *metrics) register(r prometheus.Registerer) error {
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				r.Unregister(done)
			}
			return fmt.Errorf("spool: register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.collectors() {
		r.Unregister(c)
	}
}
