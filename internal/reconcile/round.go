package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// outcome is how a round ended.
type outcome struct {
	result string
	err    error     // nil for roundOK
	next   time.Time // when something is due again; zero: nothing is known
}

// round does once what Run does for ever.
func (r *Reconciler) round(ctx context.Context, owned map[int32]int64) outcome {
	if o := r.clockWrong(ctx); o != nil {
		return *o
	}
	if err := r.barrier(ctx, owned); err != nil {
		var behind *behindError
		if errors.As(err, &behind) {
			return outcome{result: roundBehind, err: err}
		}
		return outcome{result: roundLogFailed, err: err}
	}
	now := r.cfg.Clock()
	g, err := r.draw(ctx, owned, r.ableSince(now), now)
	if err != nil {
		return outcome{result: roundStoreFailed, err: err}
	}
	// The clock may have jumped before it was asked what is due: nothing of that is
	// done unless it is right afterwards, too.
	if o := r.clockWrong(ctx); o != nil {
		return *o
	}
	r.metrics.saw(&g, r.cfg.Clock())
	if err := r.giveUpAll(ctx, g.giveUps); err != nil {
		return outcome{result: roundPublishFailed, err: err}
	}
	reached, err := r.pollAll(ctx, g.jobs)
	if err != nil {
		return outcome{result: roundPublishFailed, err: err}
	}
	o := outcome{result: roundOK, next: g.next}
	if !reached {
		o.result, o.err = roundUnreachable, errors.New("no poll of the last round got an answer from WeChat")
	}
	if g.due > 0 {
		o.next = now // not all may have had their turn
	}
	return o
}

// clockWrong returns how a round ends whose clock cannot be trusted; nil: it can.
func (r *Reconciler) clockWrong(ctx context.Context) *outcome {
	err := r.checkClock(ctx)
	if err == nil {
		return nil
	}
	if wrong := (*clockError)(nil); errors.As(err, &wrong) {
		return &outcome{result: roundClock, err: err}
	}
	return &outcome{result: roundStoreFailed, err: err}
}

// giveUpAll publishes side by side, so that the log can take many at once.
func (r *Reconciler) giveUpAll(ctx context.Context, list []giveUp) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * r.cfg.Workers)
	for _, x := range list {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return r.abandon(ctx, x) })
	}
	return g.Wait()
}

// pollAll works on accounts side by side and on the messages of each one after
// the other. reached is false if there were polls and WeChat answered none.
func (r *Reconciler) pollAll(ctx context.Context, jobs []job) (reached bool, err error) {
	h := horizon{limit: r.cfg.Workers}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.cfg.Workers)
	now := r.cfg.Clock()
	for _, j := range jobs {
		if ctx.Err() != nil || h.dark() {
			break
		}
		a := r.accounts.get(j.appid, now)
		g.Go(func() error { return r.work(ctx, a, j.asks, &h) })
	}
	err = g.Wait()
	return h.reached(), err
}

// work polls messages of one account until its allowance is used up.
func (r *Reconciler) work(ctx context.Context, a *account, asks []ask, h *horizon) error {
	for _, x := range asks {
		if h.dark() || !r.admit(ctx, a) {
			return ctx.Err()
		}
		ans, more, err := r.poll(ctx, a, x.Pending)
		if err != nil {
			return err
		}
		h.saw(ans.result != resultUnreachable)
		if !more {
			return nil
		}
	}
	return nil
}

// horizon notices that WeChat as a whole cannot be reached: a timeout for every
// account in turn would hold up a round for hours.
type horizon struct {
	limit int // failures in a row

	mu       sync.Mutex
	row      int
	answered int
	failed   int
}

func (h *horizon) saw(answer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if answer {
		h.answered++
		h.row = 0
		return
	}
	h.failed++
	h.row++
}

func (h *horizon) dark() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.row >= h.limit
}

func (h *horizon) reached() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answered > 0 || h.failed == 0
}

// ableSince is since when rounds can be done, if one can be done now. After a
// break that was long enough to matter, the grace of what became overdue
// meanwhile starts anew.
func (r *Reconciler) ableSince(now time.Time) time.Time {
	if r.since.IsZero() || !r.broken.IsZero() && now.Sub(r.broken) >= r.cfg.Schedule.settle() {
		return now
	}
	return r.since
}

// interrupted notes that rounds cannot be done.
func (r *Reconciler) interrupted(now time.Time) {
	if r.broken.IsZero() {
		r.broken = now
	}
}

// pause is the time until the next round. Submissions that the last one did not see
// were too young to be due, which is why it may be longer where nothing else is.
func (r *Reconciler) pause(start, now time.Time, o outcome) time.Duration {
	at := start.Add(r.cfg.IdleInterval)
	switch {
	case o.err != nil:
		at = start
	case !o.next.IsZero():
		at = earlier(at, o.next)
	}
	wait := later(at, start.Add(r.cfg.RoundInterval)).Sub(now)
	return min(max(wait, 0), r.cfg.IdleInterval) // whatever the clock did meanwhile
}

// conclude reports a round in metrics, readiness and the log.
func (r *Reconciler) conclude(o outcome, now time.Time) {
	r.metrics.rounds.WithLabelValues(o.result).Inc()
	r.metrics.show(r.accounts, r.accounts.forget(now), now)
	r.recent.forget(now.Add(-r.cfg.ForgetAfter))
	switch o.result {
	case roundOK, roundUnreachable:
		r.since, r.broken = r.ableSince(now), time.Time{} // we can work, be WeChat there or not
	case roundClock:
		r.since, r.broken = time.Time{}, time.Time{} // the wrong clock does not tell since when
	default:
		r.interrupted(now)
	}
	if o.err == nil {
		r.metrics.lastRound.Set(float64(now.UnixMilli()) / 1000)
		r.setReady(nil)
		return
	}
	r.setReady(fmt.Errorf("the last round failed: %w", o.err))
	r.log.Warn("round failed; it is tried again", "result", o.result, "error", o.err)
}
