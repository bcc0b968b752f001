package reconcile

import (
	"errors"
	"fmt"
	"time"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// Schedule says when to ask WeChat about a message, and when to stop. All
// durations count from the submission, but for Retry.
type Schedule struct {
	// First is when the first poll is due. Until 30 minutes after the submission
	// an administrator may still confirm it, and WeChat would only say SENDING.
	First time.Duration
	// Steps are the distances of the polls after the first; the last one repeats.
	Steps []time.Duration
	// Deadline is when a message is given up, after one last poll.
	Deadline time.Duration
	// Grace is how long after the deadline that last poll is still tried while
	// WeChat cannot be asked or refuses to answer. See [Schedule.Next].
	Grace time.Duration
	// Retry is how long after a poll that WeChat did not answer (busy, quota,
	// token, …) the next is due at the latest.
	Retry time.Duration
}

// DefaultSchedule asks after 45 minutes, then 15 and 30 minutes, 1, 2, 4, 8 and
// 24 hours later and every 24 hours, and gives up after 72 hours.
func DefaultSchedule() Schedule {
	return Schedule{
		First: 45 * time.Minute,
		Steps: []time.Duration{
			15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
			4 * time.Hour, 8 * time.Hour, 24 * time.Hour,
		},
		Deadline: 72 * time.Hour,
		Grace:    24 * time.Hour,
		Retry:    15 * time.Minute,
	}
}

// Scaled returns the schedule with every duration multiplied by factor: a demo
// plays three days in a minute.
func (s Schedule) Scaled(factor float64) Schedule {
	scale := func(d time.Duration) time.Duration { return max(time.Millisecond, time.Duration(float64(d)*factor)) }
	t := Schedule{First: scale(s.First), Deadline: scale(s.Deadline), Grace: scale(s.Grace), Retry: scale(s.Retry)}
	for _, d := range s.Steps {
		t.Steps = append(t.Steps, scale(d))
	}
	return t
}

func (s Schedule) isZero() bool {
	return s.First == 0 && len(s.Steps) == 0 && s.Deadline == 0 && s.Grace == 0 && s.Retry == 0
}

// Validate says what is wrong with a schedule.
func (s Schedule) Validate() error {
	var errs []error
	positive := func(name string, d time.Duration) {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("schedule: %s %s: want more than 0", name, d))
		}
	}
	positive("first poll", s.First)
	positive("deadline", s.Deadline)
	positive("grace", s.Grace)
	positive("retry", s.Retry)
	if len(s.Steps) == 0 {
		errs = append(errs, errors.New("schedule: steps: want at least one"))
	}
	for i, d := range s.Steps {
		positive(fmt.Sprintf("step %d", i+1), d)
	}
	if s.First > s.Deadline {
		errs = append(errs, fmt.Errorf("schedule: first poll %s: want it before the deadline %s", s.First, s.Deadline))
	}
	return errors.Join(errs...)
}

// Action is what a message needs next.
type Action int

// The actions.
const (
	Nothing Action = iota // for ever: it was never submitted, or it has ended
	Poll                  // ask WeChat
	Abandon               // publish that nobody will ask any more
)

func (a Action) String() string { return [...]string{"nothing", "poll", "abandon"}[a] }

// Step is what a message needs next, and when.
type Step struct {
	Do     Action
	At     time.Time // zero for Nothing
	Reason string    // for Abandon: one of the events.Reason constants
}

// Next says what a message needs next and from when on, given all that its
// events say. asks tells whether there are credentials for its account. since is
// when this replica became able to work: rounds succeed since then without a
// longer break.
//
// It depends on times and not on the number of polls, so that polls made twice,
// late or by another replica do not bend the schedule: a poll serves every
// planned one up to half a step ahead of it.
//
// A message is given up at the deadline if it is not chased, has no credentials,
// or WeChat answered a poll made at the deadline or later. Else that last poll
// is tried until [Schedule.Grace] later; where we only became able to work after
// the deadline (a long stop, a lagging sink), the grace counts from then, but
// ends 7 graces after the deadline, unless we have tried for less than a
// 24th of one.
func (s Schedule) Next(p Pending, asks bool, since, now time.Time) Step {
	if p.SubmittedAt == nil || conclusive(p.LastPollStatus) {
		return Step{}
	}
	deadline := p.SubmittedAt.Add(s.Deadline)
	switch {
	case !p.Chase:
		return Step{Abandon, deadline, events.ReasonNotChased}
	case !asks:
		return Step{Abandon, deadline, events.ReasonNoCredentials}
	case p.LastPollAt != nil && !p.LastPollAt.Before(deadline) && answered(p):
		return Step{Abandon, deadline, events.ReasonNoAnswer}
	}
	if end := s.giveUp(deadline, since); !now.Before(end) {
		return Step{Abandon, end, unanswered(p)}
	}
	return Step{Do: Poll, At: s.nextPoll(p, deadline)}
}

// unanswered is the reason for giving up on a message whose last poll never got an answer.
func unanswered(p Pending) string {
	if p.Polls == 0 {
		return events.ReasonNeverPolled
	}
	return events.ReasonNoAnswer
}

// giveUp is when the last poll is no longer tried.
func (s Schedule) giveUp(deadline, since time.Time) time.Time {
	end := deadline.Add(s.Grace)
	if since.After(deadline) {
		end = since.Add(s.Grace)
	}
	end = earlier(end, deadline.Add(7*s.Grace))
	return later(end, since.Add(s.settle()))
}

// settle is how long a replica must have been able to work before it gives up
// anything, and how long a break may be for it to count as none.
func (s Schedule) settle() time.Duration { return s.Grace / 24 }

func (s Schedule) nextPoll(p Pending, deadline time.Time) time.Time {
	if p.LastPollAt == nil {
		return earlier(p.SubmittedAt.Add(s.First), deadline)
	}
	retry := p.LastPollAt.Add(s.Retry)
	if !p.LastPollAt.Before(deadline) {
		return retry // the last poll was tried and not answered
	}
	next := p.SubmittedAt.Add(s.after(p.LastPollAt.Sub(*p.SubmittedAt)))
	if !answered(p) {
		next = earlier(next, retry)
	}
	return next
}

// after returns the age at which the first poll is planned that one at the
// given age, which is before the deadline, does not serve.
func (s Schedule) after(age time.Duration) time.Duration {
	at := s.First
	if age < at {
		return at
	}
	for i := 0; ; i++ {
		step := s.Steps[min(i, len(s.Steps)-1)]
		at += step
		if at >= s.Deadline {
			return s.Deadline
		}
		if at > age && at-age >= step/2 {
			return at
		}
	}
}

// conclusive tells whether a poll's status ends the matter. Any other, also one
// that we do not know, means that we ask again.
func conclusive(status string) bool {
	switch status {
	case events.PollSuccess, events.PollFail, events.PollDelete:
		return true
	}
	return false
}

// answered tells whether the last poll said something of the message. Errors
// that concern the account or WeChat as a whole did not. 40059 did: WeChat
// reports it for a while after a submission, but at the deadline it is an answer.
func answered(p Pending) bool {
	return p.LastPollError == nil || *p.LastPollError != 0 && aboutMessage(wechat.ClassOf(*p.LastPollError))
}

// aboutMessage tells errors that concern the message asked about from those that
// would come for any message. Unknown codes count as the former: one strange
// message must not stop its account.
func aboutMessage(c wechat.Class) bool {
	switch c {
	case wechat.ClassRetry, wechat.ClassToken, wechat.ClassRateLimit, wechat.ClassQuota, wechat.ClassConfig, wechat.ClassAccount:
		return false
	}
	return true
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
