package reconcile

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"qunfa/internal/wechat"
)

// account is what we remember of an account that we asked about: only things
// that make us slower, so that forgetting them is harmless. One goroutine uses
// it at a time.
type account struct {
	appid   string
	limiter *rate.Limiter
	breaker breaker
	quota   quota
	used    time.Time
	// tried holds the messages that were asked about in vain since the last
	// answer. Others come first next time: one message that never gets a usable
	// answer must not stand in the way of the account's others.
	tried map[int64]time.Time
}

// breaker holds an account back after an error that any other message of the
// account would meet as well.
type breaker struct {
	hold  hold // none: closed
	until time.Time
	wait  *backoff.ExponentialBackOff
}

// hold is why an account is held back.
type hold string

const (
	holdNone        hold = ""
	holdBusy        hold = "busy"        // WeChat answered that it is busy
	holdUnreachable hold = "unreachable" // no answer at all
	holdToken       hold = "token"       // the access token is refused even after a refresh
	holdRateLimit   hold = "rate_limit"  // per-minute limit
	holdQuota       hold = "quota"       // daily limit, WeChat's or the reserve we leave
	holdConfig      hold = "config"      // appid, secret or IP whitelist are wrong: people must act
	holdAccount     hold = "account"     // the account is restricted or not authorised: people must act
)

func holds() []hold {
	return []hold{holdBusy, holdUnreachable, holdToken, holdRateLimit, holdQuota, holdConfig, holdAccount}
}

// needsPeople tells whether waiting alone will not help.
func (h hold) needsPeople() bool { return h == holdConfig || h == holdAccount }

func holdOf(c wechat.Class) hold {
	switch c {
	case wechat.ClassRetry:
		return holdBusy
	case wechat.ClassToken:
		return holdToken
	case wechat.ClassRateLimit:
		return holdRateLimit
	case wechat.ClassQuota:
		return holdQuota
	case wechat.ClassConfig:
		return holdConfig
	case wechat.ClassAccount:
		return holdAccount
	}
	return holdNone
}

// holdOfSilence is for errors that are no answer of WeChat: without one, no
// message of the account can be asked about.
func holdOfSilence(err error) hold {
	switch h := holdOf(wechat.Classify(err)); h {
	case holdNone, holdBusy:
		return holdUnreachable
	default:
		return h
	}
}

// open tells whether the account is held back now.
func (b *breaker) open(now time.Time) bool { return now.Before(b.until) }

// trip holds the account back for as long as its reason asks for.
func (b *breaker) trip(h hold, now time.Time, c *Config) {
	if b.hold != h {
		b.hold, b.wait = h, newBackoff(h, c)
	}
	switch {
	case h == holdQuota:
		b.until = nextMidnight(now, c.QuotaZone).Add(quotaMargin)
	case b.wait == nil:
		b.until = now.Add(c.BlockedRetry)
	case h == holdRateLimit:
		// WeChat's limit is one of a minute: less would only waste calls.
		b.until = now.Add(max(c.RateBackoff.Initial, b.wait.NextBackOff()))
	default:
		b.until = now.Add(b.wait.NextBackOff())
	}
}

// heard notes an answer about a message: all is well with the account.
func (a *account) heard() { a.breaker, a.tried = breaker{}, nil }

// silent notes that a poll got no usable answer.
func (a *account) silent(msgID int64, now time.Time) {
	if a.tried == nil {
		a.tried = map[int64]time.Time{}
	}
	a.tried[msgID] = now
}

// newBackoff returns nil where the wait does not grow.
func newBackoff(h hold, c *Config) *backoff.ExponentialBackOff {
	var d Backoff
	switch h {
	case holdBusy, holdUnreachable:
		d = c.RetryBackoff
	case holdToken:
		d = c.TokenBackoff
	case holdRateLimit:
		d = c.RateBackoff
	default:
		return nil
	}
	return &backoff.ExponentialBackOff{
		InitialInterval: d.Initial, MaxInterval: max(d.Initial, d.Max), Multiplier: 2, RandomizationFactor: 0.2,
	}
}

// quotaMargin keeps a clock that is ahead of WeChat's from reading yesterday's
// quota and stopping for one more day.
const quotaMargin = 10 * time.Minute

func nextMidnight(now time.Time, zone *time.Location) time.Time {
	y, m, d := now.In(zone).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, zone)
}

// quota is how many calls WeChat will still take today, by its last reading and
// what we spent since.
type quota struct {
	readAt time.Time // zero: never tried
	known  bool      // the reading at readAt succeeded
	remain int64
	floor  int64 // of remain, to be left to others
}

func (q *quota) spent() bool { return q.known && q.remain <= q.floor }

func (q *quota) spend() {
	if q.known {
		q.remain--
	}
}

// readQuota asks WeChat for the quota if the last reading is too old. It is
// advice: where it cannot be had, the polls themselves say when it is used up.
func (r *Reconciler) readQuota(ctx context.Context, a *account) {
	now := r.cfg.Clock()
	if !a.quota.readAt.IsZero() && now.Sub(a.quota.readAt) < r.cfg.QuotaInterval {
		return
	}
	a.quota.readAt, a.quota.known = now, false
	ask, cancel := context.WithTimeout(ctx, r.cfg.AskTimeout)
	defer cancel()
	q, err := r.asker.Quota(ask, a.appid)
	if ctx.Err() != nil {
		a.quota.readAt = time.Time{}
		return
	}
	if err != nil {
		r.metrics.quotaReads.failed.Inc()
		r.log.Debug("quota of mass/get cannot be read; polling goes on without it", "appid", a.appid, "error", err)
		return
	}
	r.metrics.quotaReads.ok.Inc()
	if q.DailyLimit <= 0 {
		return // nothing is known of such a limit
	}
	a.quota.known, a.quota.remain = true, q.Remain
	a.quota.floor = min(max(r.cfg.QuotaFloor, int64(r.cfg.QuotaReserve*float64(q.DailyLimit))), q.DailyLimit/2)
}

// admit tells whether one more poll of the account is allowed now, and takes it
// from the account's allowance.
func (r *Reconciler) admit(ctx context.Context, a *account) bool {
	if a.breaker.open(r.cfg.Clock()) {
		return false
	}
	r.readQuota(ctx, a)
	if ctx.Err() != nil {
		return false
	}
	now := r.cfg.Clock()
	if a.quota.spent() {
		r.stop(a, holdQuota, errors.New("what is left of the daily quota of mass/get is reserved for others"))
		return false
	}
	if !a.limiter.AllowN(now, 1) {
		return false
	}
	a.used = now
	a.quota.spend()
	return true
}

// stop holds an account back and says so, once per reason.
func (r *Reconciler) stop(a *account, h hold, cause error) {
	now := r.cfg.Clock()
	news := a.breaker.hold != h
	a.breaker.trip(h, now, &r.cfg)
	a.used = now
	if h == holdQuota {
		a.quota = quota{} // tomorrow has a quota of its own
	}
	if !news {
		return
	}
	log := r.log.With("appid", a.appid, "class", string(h), "until", a.breaker.until, "error", cause)
	if h.needsPeople() {
		log.Error("account is not asked about until people mend this; it is tried again from time to time")
		return
	}
	log.Warn("account is held back")
}

// accounts holds the accounts that were asked about lately. Only the goroutine
// of the round uses the map itself.
type accounts struct {
	cfg *Config
	all map[string]*account
}

func (as *accounts) get(appid string, now time.Time) *account {
	a := as.all[appid]
	if a == nil {
		a = &account{appid: appid, limiter: rate.NewLimiter(rate.Limit(as.cfg.PollsPerMinute/60), as.cfg.Burst), used: now}
		as.all[appid] = a
	}
	return a
}

// forget drops accounts that nobody asked about for a while and that are not
// held back, and returns their appids. By then the limiter is full again, so
// that a new one is the same.
func (as *accounts) forget(now time.Time) []string {
	return as.drop(func(a *account) bool {
		return now.Sub(a.used) > as.cfg.ForgetAfter && now.Sub(a.breaker.until) > as.cfg.ForgetAfter
	})
}

// drop removes the accounts that which picks, and returns their appids.
func (as *accounts) drop(which func(*account) bool) []string {
	var gone []string
	for appid, a := range as.all {
		if which(a) {
			gone = append(gone, appid)
			delete(as.all, appid)
		}
	}
	return gone
}
