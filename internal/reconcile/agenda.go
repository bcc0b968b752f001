package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"qunfa/internal/events"
)

// agenda is what a round has to do. Its size is bounded by the accounts that
// have something due, not by the number of pending messages.
type agenda struct {
	pending int       // messages seen in the owned accounts
	due     int       // of these, due now
	oldest  time.Time // since when the one that waits longest has been due; zero if none
	next    time.Time // when the earliest of the others is due; zero if none
	giveUps []giveUp  // at most Config.MaxAbandons
	jobs    []job     // at most Config.MaxPolls polls
}

// giveUp is a message to be abandoned.
type giveUp struct {
	Pending
	reason string
	held   hold // why the account is held back, if it is
}

// job is the messages of one account to be polled, most overdue first.
type job struct {
	appid string
	asks  []ask
}

type ask struct {
	Pending
	since time.Time // when it became due, or was last tried in vain: the order of polls
}

// clerk draws up an agenda from the pages of the pending messages.
type clerk struct {
	*Reconciler
	owned  map[int32]int64
	since  time.Time // see Schedule.Next
	now    time.Time
	agenda agenda
	polls  map[string][]ask
	cur    view // of the account of the message in hand: pages are sorted by account
}

// view is what a round needs to know of an account.
type view struct {
	appid string
	owned bool
	asks  bool      // there are credentials
	until time.Time // held back until then
	held  hold
	tried map[int64]time.Time
}

// draw reads all pending messages and sorts out what is due.
func (r *Reconciler) draw(ctx context.Context, owned map[int32]int64, since, now time.Time) (agenda, error) {
	c := clerk{Reconciler: r, owned: owned, since: since, now: now, polls: map[string][]ask{}}
	q := PendingQuery{SubmittedBefore: c.now.Add(-r.cfg.Schedule.First), Limit: r.cfg.PageSize}
	for {
		page, err := r.readPage(ctx, q)
		if err != nil {
			return agenda{}, err
		}
		for _, p := range page {
			c.file(p)
		}
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1].Key
	}
	c.agenda.jobs = fair(c.polls, r.cfg.MaxPolls)
	return c.agenda, nil
}

func (r *Reconciler) readPage(ctx context.Context, q PendingQuery) ([]Pending, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	page, err := r.store.Pending(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read the pending messages: %w", err)
	}
	if n := len(page); n > 0 && compareKeys(page[n-1].Key, q.After) <= 0 {
		// Going on would never end.
		return nil, fmt.Errorf("read the pending messages: page after %s ends with %s: not in order", q.After, page[n-1].Key)
	}
	return page, nil
}

// file puts one pending message where it belongs.
func (c *clerk) file(p Pending) {
	if c.cur.appid != p.Key.AppID {
		c.cur = c.look(p.Key.AppID)
	}
	if !c.cur.owned {
		return
	}
	c.agenda.pending++
	p, stale, ended := c.recent.correct(p)
	if stale {
		c.metrics.stale.Inc()
	}
	if ended {
		return
	}
	step := c.cfg.Schedule.Next(p, c.cur.asks, c.since, c.now)
	switch {
	case step.Do == Nothing:
	case step.Do == Poll && c.now.Before(later(step.At, c.cur.until)):
		c.agenda.wait(later(step.At, c.cur.until))
	case c.now.Before(step.At):
		c.agenda.wait(step.At)
	case step.Do == Poll:
		c.agenda.isDue(step.At)
		x := ask{p, later(step.At, c.cur.tried[p.Key.MsgID])}
		c.polls[p.Key.AppID] = mostOverdue(c.polls[p.Key.AppID], x, c.cfg.Burst)
	case step.Do == Abandon:
		c.agenda.isDue(step.At)
		if len(c.agenda.giveUps) < c.cfg.MaxAbandons {
			c.agenda.giveUps = append(c.agenda.giveUps, giveUp{p, step.Reason, c.cur.held})
		}
	}
}

// look finds out what concerns all messages of an account.
func (c *clerk) look(appid string) view {
	_, owned := c.owned[c.events.PartitionOf(appid)]
	v := view{appid: appid, owned: owned}
	if !owned {
		return v
	}
	err := c.asker.CanAsk(appid)
	v.asks = !errors.Is(err, ErrNoCredentials)
	if err != nil && v.asks {
		a := c.accounts.get(appid, c.now)
		if !a.breaker.open(c.now) {
			c.stop(a, holdConfig, err)
		}
	}
	if a := c.accounts.all[appid]; a != nil {
		v.held, v.tried = a.breaker.hold, a.tried
		if a.breaker.open(c.now) {
			v.until = a.breaker.until
		}
	}
	return v
}

func (g *agenda) wait(until time.Time) {
	if g.next.IsZero() || until.Before(g.next) {
		g.next = until
	}
}

func (g *agenda) isDue(since time.Time) {
	g.due++
	if g.oldest.IsZero() || since.Before(g.oldest) {
		g.oldest = since
	}
}

// mostOverdue adds x to a sorted list that holds at most n.
func mostOverdue(list []ask, x ask, n int) []ask {
	i, _ := slices.BinarySearchFunc(list, x, compareAsks)
	if i >= n {
		return list
	}
	list = slices.Insert(list, i, x)
	return list[:min(len(list), n)]
}

func compareAsks(a, b ask) int { return cmp.Or(a.since.Compare(b.since), compareKeys(a.Key, b.Key)) }

func compareKeys(a, b events.Key) int {
	return cmp.Or(strings.Compare(a.AppID, b.AppID), cmp.Compare(a.MsgID, b.MsgID))
}

// fair picks at most n polls: one of every account before the second of any,
// and the account that waits longest first.
func fair(polls map[string][]ask, n int) []job {
	jobs := make([]job, 0, len(polls))
	for appid, asks := range polls {
		jobs = append(jobs, job{appid, asks})
	}
	slices.SortFunc(jobs, func(a, b job) int { return compareAsks(a.asks[0], b.asks[0]) })
	take := make([]int, len(jobs))
	for turn, more := 0, true; more; turn++ {
		more = false
		for i := range jobs {
			if len(jobs[i].asks) > turn && n > 0 {
				take[i], n, more = turn+1, n-1, true
			}
		}
	}
	picked := jobs[:0]
	for i, j := range jobs {
		if take[i] > 0 {
			picked = append(picked, job{j.appid, j.asks[:take[i]]})
		}
	}
	return picked
}
