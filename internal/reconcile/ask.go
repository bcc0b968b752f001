package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// answer is what a poll came to.
type answer struct {
	result string // of qunfa_polls_total
	status string
	err    *events.APIError // nil after a status
	hold   hold             // set if the account must not be asked on
	cause  error            // of hold
}

// interpret sorts out what came back from WeChat.
func interpret(st wechat.MassStatus, err error) answer {
	if err == nil && st.Status == "" {
		err = errors.New("the answer holds no status")
	}
	if err == nil {
		return answer{result: resultOfStatus(st.Status), status: st.Status}
	}
	var api *wechat.APIError
	if !errors.As(err, &api) {
		return answer{result: resultUnreachable, hold: holdOfSilence(err), cause: err}
	}
	return answer{
		result: resultOf(api.Class),
		err:    &events.APIError{Code: api.Code, Message: api.Message, RID: api.RID, Class: string(api.Class)},
		hold:   holdOf(api.Class),
		cause:  err,
	}
}

// poll asks WeChat about one message and publishes the answer. more tells
// whether the account may be asked on. An error means that the answer could not
// be published, or that ctx has ended: the round is over.
func (r *Reconciler) poll(ctx context.Context, a *account, p Pending) (ans answer, more bool, err error) {
	ask, cancel := context.WithTimeout(ctx, r.cfg.AskTimeout)
	st, err := r.asker.MassGet(ask, a.appid, p.Key.MsgID)
	cancel()
	if ctx.Err() != nil {
		return answer{}, false, ctx.Err()
	}
	now := r.now()
	a.used = now
	ans = interpret(st, err)
	r.metrics.polls.WithLabelValues(ans.result).Inc()
	r.remark(p.Key, ans)
	if ans.hold == holdNone {
		a.heard()
	} else {
		r.stop(a, ans.hold, ans.cause)
	}
	if ans.result == resultUnreachable {
		a.silent(p.Key.MsgID, now)
		return ans, false, nil // there is no answer to record
	}
	return ans, ans.hold == holdNone, r.record(ctx, p, ans, now)
}

// remark logs answers that people should look at.
func (r *Reconciler) remark(k events.Key, ans answer) {
	switch ans.result {
	case resultUnknownStatus:
		r.log.Warn("mass/get gave a status that is not known; the message is asked about again", "message", k.String(), "status", clip(ans.status))
	case resultUnknownError:
		r.log.Warn("mass/get gave an error that is not known; the message is asked about again", "message", k.String(), "error", ans.cause)
	}
}

// record publishes an answer. Also an error that concerns the whole account is
// an answer to the one message that was asked about.
func (r *Reconciler) record(ctx context.Context, p Pending, ans answer, now time.Time) error {
	err := r.publish(ctx, now, &events.Polled{
		AppID:    p.Key.AppID,
		MsgID:    p.Key.MsgID,
		PolledAt: now,
		Attempt:  int64(p.Polls) + 1,
		Status:   ans.status,
		Error:    ans.err,
		Instance: r.cfg.Instance,
	})
	if err != nil {
		return err
	}
	n := memo{at: now, status: ans.status}
	if ans.err != nil {
		n.code = &ans.err.Code
	}
	r.recent.note(p.Key, n)
	return nil
}

// abandon publishes that nobody will ask about a message any more.
func (r *Reconciler) abandon(ctx context.Context, g giveUp) error {
	now := r.now()
	err := r.publish(ctx, now, &events.Abandoned{
		AppID:       g.Key.AppID,
		MsgID:       g.Key.MsgID,
		AbandonedAt: now,
		Reason:      g.reason,
		Detail:      g.detail(now),
		Polls:       int64(g.Polls),
		Instance:    r.cfg.Instance,
	})
	if err != nil {
		return err
	}
	r.metrics.abandoned.WithLabelValues(g.reason).Inc()
	r.recent.note(g.Key, memo{at: now, ended: true})
	return nil
}

// publish appends an event to the log. One that cannot be made, as from a row that
// holds nonsense, costs only itself.
func (r *Reconciler) publish(ctx context.Context, now time.Time, d events.Data) error {
	rec, err := encode(now, d)
	if err != nil {
		r.metrics.unmade.Inc()
		r.log.Error("event cannot be made; this message is left alone for now", "message", d.Message().String(), "error", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.PublishTimeout)
	defer cancel()
	if err := r.publisher.Publish(ctx, rec); err != nil {
		return fmt.Errorf("publish %s of %s: %w", d.Type(), d.Message(), err)
	}
	return nil
}

func encode(now time.Time, d events.Data) (events.Record, error) {
	e, err := events.New(source, d)
	if err != nil {
		return events.Record{}, err
	}
	e.ReceivedAt = now
	return events.Encode(e)
}

// source is the CloudEvents source of all our events.
const source = "qunfa/reconcile"

// detail says in words why a message was given up.
func (g giveUp) detail(now time.Time) string {
	asked := fmt.Sprintf("WeChat was asked %s", times(int64(g.Polls)))
	held := ""
	if g.held != holdNone {
		held = fmt.Sprintf("; the account is held back (%s)", g.held)
	}
	switch g.reason {
	case events.ReasonNotChased:
		return "imported history: WeChat is not asked about it"
	case events.ReasonNoCredentials:
		if g.Polls == 0 {
			return ErrNoCredentials.Error() + ", so WeChat could not be asked"
		}
		return ErrNoCredentials.Error() + " any more; before, " + asked + ", and " + g.last()
	case events.ReasonNeverPolled:
		return fmt.Sprintf("WeChat could not be asked within %s of the submission%s", words(now.Sub(*g.SubmittedAt)), held)
	}
	return fmt.Sprintf("%s within %s of the submission, and %s%s", asked, words(now.Sub(*g.SubmittedAt)), g.last(), held)
}

// last says what came of the last poll.
func (g giveUp) last() string {
	switch {
	case g.LastPollError == nil:
		return "the last answer was " + clip(g.LastPollStatus)
	case wechat.ClassOf(*g.LastPollError) == wechat.ClassNotFound:
		return fmt.Sprintf("the last answer was errcode %d: it does not know the message", *g.LastPollError)
	case wechat.ClassOf(*g.LastPollError) == wechat.ClassConfirm:
		return fmt.Sprintf("the last answer was errcode %d: an administrator had still to confirm", *g.LastPollError)
	}
	return fmt.Sprintf("the last answer was errcode %d (%s)", *g.LastPollError, wechat.ClassOf(*g.LastPollError))
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// words prints a duration as people say it: hours where it is long.
func words(d time.Duration) string {
	switch {
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}

func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
