package embedded

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// collectors are registered and unregistered together.
type collectors []prometheus.Collector

// register registers all or none; a nil registerer registers none.
func (c collectors) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	for i, collector := range c {
		if err := reg.Register(collector); err != nil {
			c[:i].unregister(reg)
			return err
		}
	}
	return nil
}

func (c collectors) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, collector := range c {
		reg.Unregister(collector)
	}
}

// engineMetrics are the metrics of an [Engine].
type engineMetrics struct {
	collectors
	restarts prometheus.Counter
	up       prometheus.Gauge
}

func newEngineMetrics() *engineMetrics {
	m := &engineMetrics{
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qunfa_embedded_engine_restarts_total",
			Help: "Times the local ClickHouse was started again after it ended by itself.",
		}),
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_embedded_engine_up",
			Help: "1 while the local ClickHouse answers, 0 while it is being restarted.",
		}),
	}
	m.collectors = collectors{m.restarts, m.up}
	return m
}

// brokerMetrics are the metrics of a [Broker].
type brokerMetrics struct {
	collectors
	warnings  prometheus.Counter
	logBytes  prometheus.Gauge
	capBytes  prometheus.Gauge
	warnCount atomic.Uint64 // of warnings, for Broker.Warnings
}

func newBrokerMetrics() *brokerMetrics {
	m := &brokerMetrics{
		warnings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qunfa_embedded_broker_warnings_total",
			Help: "Warnings and errors that the embedded broker logged. Failures of its disk show here.",
		}),
		logBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_embedded_broker_log_bytes",
			Help: "Size of the log of the embedded broker.",
		}),
		capBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_embedded_broker_log_cap_bytes",
			Help: "Size of the log of the embedded broker above which it is trimmed and warned about.",
		}),
	}
	m.collectors = collectors{m.warnings, m.logBytes, m.capBytes}
	return m
}

func (m *brokerMetrics) warned() {
	m.warnings.Inc()
	m.warnCount.Add(1)
}
