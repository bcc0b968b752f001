package daemon

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// RegisterProcess registers qunfa_build_info and what the Go runtime and the
// operating system say about the process.
func RegisterProcess(r prometheus.Registerer, b Build) {
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "qunfa_build_info",
		Help: "Always 1; the labels say which build this is.",
	}, []string{"version", "revision", "goversion"})
	info.WithLabelValues(b.Version, b.Revision, b.Go).Set(1)
	r.MustRegister(info,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}
