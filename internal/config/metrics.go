package config

import "github.com/prometheus/client_golang/prometheus"

type watcherMetrics struct {
	reloads  *prometheus.CounterVec
	accounts prometheus.Gauge
	failing  prometheus.Gauge
}

func newWatcherMetrics(r prometheus.Registerer) *watcherMetrics {
	m := &watcherMetrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_accounts_reloads_total",
			Help: "Times that accounts_dir was read, by what came of it.",
		}, []string{"result"}),
		accounts: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_accounts",
			Help: "Accounts that are configured and in force.",
		}),
		failing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_accounts_reload_failing",
			Help: "1 while the content of accounts_dir is refused and older accounts are in force.",
		}),
	}
	for _, result := range []string{"applied", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(m.reloads, m.accounts, m.failing)
	}
	return m
}

func (m *watcherMetrics) count(err error, accounts int) {
	if err != nil {
		m.reloads.WithLabelValues("refused").Inc()
		m.failing.Set(1)
		return
	}
	m.reloads.WithLabelValues("applied").Inc()
	m.failing.Set(0)
	m.accounts.Set(float64(accounts))
}
