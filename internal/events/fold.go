package events

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// Values of [Row.DecidedBy].
const (
	DecidedByCallback  = "callback"
	DecidedByPoll      = "poll"
	DecidedByAbandoned = "abandoned"
	DecidedByDeleted   = "deleted"
)

// Fold adds up all events of one message to its row, and names the days on
// which the row must not (or no longer) stand. Days are those of loc.
//
// It is pure, and the result depends on the set of events alone: their order,
// duplicates and how they were batched do not matter. Nothing else in qunfa
// decides what became of a message.
func Fold(evs []Event, loc *time.Location) (Row, []Tombstone) {
	h := newHistory(evs)
	if len(h.all) == 0 {
		return Row{}, nil
	}
	r := Row{Key: h.all[0].Key, Version: version(h.all), Day: dayOf(h.dayEvent().Time, loc)}
	h.describe(&r)
	h.describePolls(&r)
	h.describeDeletion(&r)
	h.decide(&r)
	r.First = h.firstReceived()
	return r, h.tombstones(r, loc)
}

// version grows with everything that can be known of a message: with each event,
// and with each new reading of an event that is known already. Who has read more
// of it has the higher version, so a stale writer never wins.
func version(all []Event) uint64 {
	v := uint64(len(all))
	for i := range all {
		v += uint64(all[i].Revision) << EventBits
	}
	return v
}

// EventBits is how many of the low bits of [Row.Version] count events.
const EventBits = 32

// occurrence is an event with its data already told apart.
type occurrence[D Data] struct {
	*Event
	data D
}

// history is a message's distinct events by kind, each list in the order of (time, id).
type history struct {
	all       []Event
	submitted []occurrence[*Submitted]
	finished  []occurrence[*Finished]
	polled    []occurrence[*Polled]
	deleted   []occurrence[*Deleted]
	abandoned []occurrence[*Abandoned]
}

func newHistory(evs []Event) history {
	h := history{all: distinct(evs)}
	for i := range h.all {
		e := &h.all[i]
		switch d := e.Data.(type) {
		case *Submitted:
			h.submitted = append(h.submitted, occurrence[*Submitted]{e, d})
		case *Finished:
			h.finished = append(h.finished, occurrence[*Finished]{e, d})
		case *Polled:
			h.polled = append(h.polled, occurrence[*Polled]{e, d})
		case *Deleted:
			h.deleted = append(h.deleted, occurrence[*Deleted]{e, d})
		case *Abandoned:
			h.abandoned = append(h.abandoned, occurrence[*Abandoned]{e, d})
		}
	}
	return h
}

// distinct drops copies and sorts by (time, id). Of copies the latest revision
// stays, else the one that the log had first: the events table keeps the same one.
func distinct(evs []Event) []Event {
	all := slices.Clone(evs)
	slices.SortFunc(all, func(a, b Event) int {
		return cmp.Or(
			bytes.Compare(a.ID[:], b.ID[:]),
			cmp.Compare(b.Revision, a.Revision),
			cmp.Compare(a.Position.Offset, b.Position.Offset),
			a.ReceivedAt.Compare(b.ReceivedAt),
			bytes.Compare(a.Body, b.Body),
		)
	})
	all = slices.CompactFunc(all, func(a, b Event) bool { return a.ID == b.ID })
	slices.SortFunc(all, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return all
}

// dayEvent is the event whose day the message stands on.
func (h *history) dayEvent() *Event {
	switch {
	case len(h.submitted) > 0:
		return h.submitted[0].Event
	case len(h.finished) > 0:
		return h.finished[0].Event
	case len(h.polled) > 0:
		return h.polled[0].Event
	}
	return &h.all[0]
}

func dayOf(t time.Time, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// tombstones covers every day on which fewer events may have put the row.
func (h *history) tombstones(r Row, loc *time.Location) []Tombstone {
	var ts []Tombstone
	seen := map[time.Time]bool{r.Day: true}
	for _, e := range h.all {
		if day := dayOf(e.Time, loc); !seen[day] {
			seen[day] = true
			ts = append(ts, Tombstone{Key: r.Key, Day: day, Version: r.Version})
		}
	}
	return ts
}

// describe takes from the submissions what the message is. Several recorders
// may each know a part: for each field the first one that knows it counts.
func (h *history) describe(r *Row) {
	r.Submissions = uint32(len(h.submitted))
	for _, s := range h.submitted {
		d := s.data
		if r.SubmittedAt == nil {
			r.SubmittedAt = ptr(s.Time)
		}
		r.Chase = r.Chase || d.Chase
		r.MsgDataID = cmp.Or(r.MsgDataID, d.MsgDataID)
		r.AudienceKind = cmp.Or(r.AudienceKind, d.Audience.Kind)
		r.TagID = cmp.Or(r.TagID, d.Audience.TagID)
		r.AudienceSize = cmp.Or(r.AudienceSize, d.Audience.Size)
		r.MsgType = cmp.Or(r.MsgType, d.MsgType)
		r.Label = cmp.Or(r.Label, d.Label)
		r.Campaign = cmp.Or(r.Campaign, d.Campaign)
		r.ClientMsgID = cmp.Or(r.ClientMsgID, d.ClientMsgID)
		r.Recorder = cmp.Or(r.Recorder, d.Recorder)
	}
}

func (h *history) describePolls(r *Row) {
	r.Polls = uint32(len(h.polled))
	if len(h.polled) == 0 {
		return
	}
	last := h.polled[len(h.polled)-1]
	r.LastPollAt = ptr(last.Time)
	r.LastPollStatus = last.data.Status
	if last.data.Error != nil {
		r.LastPollError = ptr(last.data.Error.Code)
	}
}

// describeDeletion keeps deletion apart from the outcome: it comes later, and
// may concern one article of several.
func (h *history) describeDeletion(r *Row) {
	for _, d := range h.deleted {
		r.DeletedAt = earliest(r.DeletedAt, d.Time)
		r.DeletedArticles = append(r.DeletedArticles, d.data.ArticleIdx)
	}
	for _, p := range h.polled {
		if p.data.Status == PollDelete {
			r.DeletedAt = earliest(r.DeletedAt, p.Time)
		}
	}
	slices.Sort(r.DeletedArticles)
	r.DeletedArticles = slices.Compact(r.DeletedArticles)
}

// decide finds the outcome. WeChat's callback is the best witness, whenever it
// comes; a poll knows no counts; giving up is not knowing.
func (h *history) decide(r *Row) {
	r.Finals = uint32(len(h.finished))
	if n := len(h.abandoned); n > 0 {
		last := h.abandoned[n-1]
		r.AbandonedAt, r.AbandonedReason, r.AbandonedDetail = ptr(last.Time), last.data.Reason, last.data.Detail
	}
	poll, polled := h.conclusivePoll()
	switch {
	case len(h.finished) > 0:
		h.decideByCallback(r)
	case polled:
		r.Outcome, r.Status, r.DecidedBy = pollOutcome(poll), poll, DecidedByPoll
	case len(h.abandoned) > 0:
		r.Outcome, r.DecidedBy = OutcomeMissing, DecidedByAbandoned
	case len(h.deleted) == len(h.all):
		r.Outcome, r.DecidedBy = OutcomeDeleted, DecidedByDeleted
	default:
		r.Outcome = OutcomePending
	}
}

// conclusivePoll returns the latest status that ends the matter. DELETE counts
// only when no poll knows what went before it.
func (h *history) conclusivePoll() (status string, ok bool) {
	for _, p := range h.polled {
		switch s := p.data.Status; s {
		case PollSuccess, PollFail:
			status, ok = s, true
		case PollDelete:
			if !ok {
				status, ok = s, true
			}
		}
	}
	return status, ok
}

func pollOutcome(status string) Outcome {
	switch status {
	case PollSuccess:
		return OutcomeSent
	case PollFail:
		return OutcomeFailed
	}
	return OutcomeDeleted
}

func (h *history) decideByCallback(r *Row) {
	last := h.finished[len(h.finished)-1]
	d := last.data
	// The status is read anew: a later version may understand what an earlier one could not.
	kind, code := ParseStatus(d.Status)
	r.Outcome, r.Status, r.DecidedBy, r.ErrCode = Outcome(kind), d.Status, DecidedByCallback, code
	r.FinishedAt, r.ReceivedAt = ptr(last.Time), ptr(last.ReceivedAt)
	c := countsOf(d)
	r.Total, r.Eligible, r.Filtered, r.Sent, r.Errors = c.total, c.eligible, c.filtered, c.sent, c.errors
	if d.Copyright != nil {
		r.CheckState = d.Copyright.CheckState
	}
	r.Articles = articlesOf(d)
}

type counts struct{ total, eligible, filtered, sent, errors *int64 }

// countsOf reads the counts of a callback: FilterCount is what remains after
// filtering. Every err(num) carries zeros, whatever the audience was, so there
// they say only that nobody got the message.
func countsOf(d *Finished) counts {
	c := counts{total: known(d.TotalCount), eligible: known(d.FilterCount), sent: known(d.SentCount), errors: known(d.ErrorCount)}
	kind, _ := ParseStatus(d.Status)
	if kind == StatusRejected && zero(c.total) && zero(c.eligible) && zero(c.sent) && zero(c.errors) {
		c.total, c.eligible = nil, nil
	}
	if c.total != nil && c.eligible != nil && *c.total >= *c.eligible {
		c.filtered = ptr(*c.total - *c.eligible)
	}
	return c
}

// known drops negative counts: no number of people is.
func known(n *int64) *int64 {
	if n == nil || *n < 0 {
		return nil
	}
	return n
}

func zero(n *int64) bool { return n == nil || *n == 0 }

// articlesOf joins what the callback says of each article: its address and its originality check.
func articlesOf(d *Finished) []Article {
	byIndex := map[int64]*Article{}
	at := func(i int64) *Article {
		if byIndex[i] == nil {
			byIndex[i] = &Article{Index: i}
		}
		return byIndex[i]
	}
	for _, l := range d.ArticleURLs {
		a := at(l.Index)
		a.URL = cmp.Or(a.URL, l.URL)
	}
	if d.Copyright != nil {
		for i := range d.Copyright.Articles {
			check := &d.Copyright.Articles[i]
			a := at(check.Index)
			a.Check = cmp.Or(a.Check, check)
		}
	}
	var articles []Article
	for _, a := range byIndex {
		articles = append(articles, *a)
	}
	slices.SortFunc(articles, func(a, b Article) int { return cmp.Compare(a.Index, b.Index) })
	return articles
}

// firstReceived finds the final event that reached us first.
func (h *history) firstReceived() *First {
	if len(h.finished) == 0 {
		return nil
	}
	f := slices.MinFunc(h.finished, func(a, b occurrence[*Finished]) int {
		return cmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), cmp.Compare(a.Position.Offset, b.Position.Offset), bytes.Compare(a.ID[:], b.ID[:]))
	})
	_, code := ParseStatus(f.data.Status)
	c := countsOf(f.data)
	return &First{ReceivedAt: f.ReceivedAt, CreatedAt: f.Time, ErrCode: code, Filtered: c.filtered, Sent: c.sent, Errors: c.errors}
}

func earliest(t *time.Time, u time.Time) *time.Time {
	if t == nil || u.Before(*t) {
		return &u
	}
	return t
}

func ptr[T any](v T) *T { return &v }
