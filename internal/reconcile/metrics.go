package reconcile

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// Results of a poll, the values of the label of qunfa_polls_total.
const (
	resultSent          = "sent"
	resultFailed        = "failed"
	resultDeleted       = "deleted"
	resultSending       = "sending"
	resultUnknownStatus = "unknown_status"
	resultNotFound      = "not_found"
	resultConfirm       = "confirm"
	resultBusy          = "busy"
	resultToken         = "token"
	resultRateLimit     = "rate_limit"
	resultQuota         = "quota"
	resultConfig        = "config"
	resultAccount       = "account"
	resultUnknownError  = "unknown_error"
	resultUnreachable   = "unreachable"
)

func pollResults() []string {
	return []string{
		resultSent, resultFailed, resultDeleted, resultSending, resultUnknownStatus, resultNotFound, resultConfirm, resultBusy,
		resultToken, resultRateLimit, resultQuota, resultConfig, resultAccount, resultUnknownError, resultUnreachable,
	}
}

// Results of a round, the values of the label of qunfa_reconcile_rounds_total.
const (
	roundOK            = "ok"
	roundClock         = "clock_wrong"
	roundBehind        = "sink_behind"
	roundLogFailed     = "log_failed"
	roundStoreFailed   = "store_failed"
	roundPublishFailed = "publish_failed"
	roundUnreachable   = "wechat_unreachable"
	roundLost          = "partitions_lost"
)

func roundResults() []string {
	return []string{roundOK, roundClock, roundBehind, roundLogFailed, roundStoreFailed, roundPublishFailed, roundUnreachable, roundLost}
}

func reasons() []string {
	return []string{events.ReasonNoAnswer, events.ReasonNeverPolled, events.ReasonNoCredentials, events.ReasonNotChased}
}

// metrics are all metrics of the package.
type metrics struct {
	polls       *prometheus.CounterVec // result
	abandoned   *prometheus.CounterVec // reason
	rounds      *prometheus.CounterVec // result
	lastRound   prometheus.Gauge
	skew        prometheus.Gauge
	barrierWait prometheus.Histogram
	pending     prometheus.Gauge
	due         prometheus.Gauge
	oldest      prometheus.Gauge
	stale       prometheus.Counter
	unmade      prometheus.Counter
	accounts    prometheus.Gauge
	blocked     *prometheus.GaugeVec // class
	quotaReads  struct{ ok, failed prometheus.Counter }
	quota       boundedGauge
}

func newMetrics(reg prometheus.Registerer, most int) (*metrics, error) {
	m := &metrics{
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_polls_total", Help: "Polls of mass/get by what came back; unreachable: no usable answer.",
		}, []string{"result"}),
		abandoned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_abandoned_total", Help: "Messages given up without an answer, by reason.",
		}, []string{"reason"}),
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_reconcile_rounds_total", Help: "Rounds by how they ended. Rounds that ended with clock_wrong, sink_behind, log_failed or store_failed polled and gave up nothing.",
		}, []string{"result"}),
		lastRound: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_reconcile_last_ok_timestamp_seconds", Help: "When the last round ended well, as Unix time; 0 before the first.",
		}),
		skew: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_reconcile_clock_skew_seconds", Help: "How far the clock of this machine is ahead of ClickHouse's. Beyond 300 either way nothing is polled or given up.",
		}),
		barrierWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "qunfa_reconcile_barrier_wait_seconds", Help: "How long a round waited for the sink to reach the end of the log.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_reconcile_pending_messages", Help: "Pending messages that the last round saw in the accounts this replica owns, without those too young to be due.",
		}),
		due: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_reconcile_due_messages", Help: "Of the pending messages, those that were due for a poll or for being given up.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_reconcile_overdue_seconds", Help: "For how long the message that waits longest had been due in the last round.",
		}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qunfa_reconcile_stale_rows_total", Help: "Times that the projection did not show an event of ours although the sink had committed it: a lagging database replica or a dead letter.",
		}),
		unmade: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qunfa_reconcile_event_errors_total", Help: "Events that could not be made because the projection holds nonsense about a message.",
		}),
		accounts: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "qunfa_reconcile_accounts", Help: "Accounts asked about lately, whose limits are kept in memory.",
		}),
		blocked: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qunfa_reconcile_account_blocked", Help: "Accounts held back after an error, by its class. Classes config and account need people.",
		}, []string{"class"}),
	}
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "qunfa_quota_reads_total", Help: "Readings of the daily quota of mass/get by result.",
	}, []string{"result"})
	m.quotaReads.ok, m.quotaReads.failed = reads.WithLabelValues("ok"), reads.WithLabelValues("failed")
	m.quota = boundedGauge{most: most, has: map[string]bool{}, vec: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "qunfa_quota_remaining", Help: "Calls of mass/get left today by account, as WeChat last said, less those made since. Only accounts polled lately, and only so many as configured.",
	}, []string{"appid"})}
	born(m.polls, pollResults())
	born(m.abandoned, reasons())
	born(m.rounds, roundResults())
	for _, h := range holds() {
		m.blocked.WithLabelValues(string(h))
	}
	for _, c := range []prometheus.Collector{
		m.polls, m.abandoned, m.rounds, m.lastRound, m.skew, m.barrierWait, m.pending, m.due, m.oldest,
		m.stale, m.unmade, m.accounts, m.blocked, reads, m.quota.vec,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func born(v *prometheus.CounterVec, values []string) {
	for _, s := range values {
		v.WithLabelValues(s)
	}
}

// saw shows what a round found.
func (m *metrics) saw(g *agenda, now time.Time) {
	m.pending.Set(float64(g.pending))
	m.due.Set(float64(g.due))
	overdue := time.Duration(0)
	if !g.oldest.IsZero() {
		overdue = now.Sub(g.oldest)
	}
	m.oldest.Set(overdue.Seconds())
}

// show shows the state of the accounts after a round.
func (m *metrics) show(as *accounts, gone []string, now time.Time) {
	count := map[hold]int{}
	for appid, a := range as.all {
		// What only people can mend stays shown between two tries.
		if a.breaker.open(now) || a.breaker.hold.needsPeople() {
			count[a.breaker.hold]++
		}
		if a.quota.known {
			m.quota.set(appid, float64(a.quota.remain))
		}
	}
	for _, h := range holds() {
		m.blocked.WithLabelValues(string(h)).Set(float64(count[h]))
	}
	for _, appid := range gone {
		m.quota.drop(appid)
	}
	m.accounts.Set(float64(len(as.all)))
}

// released clears what concerns partitions that are no longer ours.
func (m *metrics) released() {
	m.pending.Set(0)
	m.due.Set(0)
	m.oldest.Set(0)
}

// boundedGauge is a gauge by account with a bounded number of series.
type boundedGauge struct {
	vec  *prometheus.GaugeVec
	has  map[string]bool
	most int
}

func (g *boundedGauge) set(appid string, v float64) {
	if !g.has[appid] && len(g.has) >= g.most {
		return
	}
	g.has[appid] = true
	g.vec.WithLabelValues(appid).Set(v)
}

func (g *boundedGauge) drop(appid string) {
	if g.has[appid] {
		delete(g.has, appid)
		g.vec.DeleteLabelValues(appid)
	}
}

func resultOf(c wechat.Class) string {
	switch c {
	case wechat.ClassRetry:
		return resultBusy
	case wechat.ClassToken:
		return resultToken
	case wechat.ClassRateLimit:
		return resultRateLimit
	case wechat.ClassQuota:
		return resultQuota
	case wechat.ClassConfig:
		return resultConfig
	case wechat.ClassAccount:
		return resultAccount
	case wechat.ClassNotFound:
		return resultNotFound
	case wechat.ClassConfirm:
		return resultConfirm
	}
	return resultUnknownError
}

func resultOfStatus(status string) string {
	switch status {
	case events.PollSuccess:
		return resultSent
	case events.PollFail:
		return resultFailed
	case events.PollDelete:
		return resultDeleted
	case events.PollSending:
		return resultSending
	}
	return resultUnknownStatus
}
