package wechat

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The APIs by their names in metrics and errors.
const (
	apiMassGet       = "mass_get"
	apiQuota         = "quota_get"
	apiCallbackIP    = "callback_ip"
	apiCallbackCheck = "callback_check"
	apiStableToken   = "stable_token"
	apiTokenURL      = "token_url"
)

func apis() []string {
	return []string{apiMassGet, apiQuota, apiCallbackIP, apiCallbackCheck, apiStableToken, apiTokenURL}
}

// resultOK is the result of a request that was answered without an error; other results
// are the classes.
const resultOK = "ok"

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	tokens   *prometheus.CounterVec
}

// newMetrics makes the metrics of this package with every label value at 0, and registers them.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_wechat_requests_total",
			Help: "Requests to WeChat's APIs and to token servers, by API and by result: ok, or the class of the error.",
		}, []string{"api", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "qunfa_wechat_request_duration_seconds",
			Help:    "How long requests to WeChat's APIs and to token servers took, whatever their result.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"api"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_wechat_token_refreshes_total",
			Help: "Access tokens obtained, by why: none was at hand (expired), WeChat refused the last (refused), or it had to be forced to give another (forced).",
		}, []string{"why"}),
	}
	for _, api := range apis() {
		m.seconds.WithLabelValues(api)
		m.requests.WithLabelValues(api, resultOK)
		for _, c := range Classes() {
			m.requests.WithLabelValues(api, string(c))
		}
	}
	for _, why := range []string{whyExpired, whyRefused, whyForced} {
		m.tokens.WithLabelValues(why)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.tokens} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(api string, took time.Duration, err error) {
	result := resultOK
	if err != nil {
		result = string(Classify(err))
	}
	m.requests.WithLabelValues(api, result).Inc()
	m.seconds.WithLabelValues(api).Observe(took.Seconds())
}
