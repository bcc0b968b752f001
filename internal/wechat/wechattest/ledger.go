package wechattest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Outcomes of a message as a receiving system should name them.
const (
	OutcomeSent     = "sent"
	OutcomeFailed   = "failed"
	OutcomeRejected = "rejected" // any err(num)
	OutcomeUnknown  = "unknown"  // a final status that nobody knows
	OutcomeDeleted  = "deleted"  // all that is known
	OutcomeMissing  = "missing"  // nobody can find out
	OutcomeUnseen   = "unseen"   // not recorded and no callback: nobody can know that it exists
)

// Ledger is the truth about everything that was sent, at one moment.
type Ledger struct {
	Seed     uint64    `json:"seed"`
	At       time.Time `json:"at"`
	Accounts []Account `json:"accounts"`
	Entries  []Entry   `json:"messages"` // by account as configured, then by submission
	Others   []Other   `json:"others,omitempty"`
}

// Entry is the truth about one message.
type Entry struct {
	Receipt
	Ordinal   int64     `json:"ordinal"` // of the account's submissions, from 1
	Console   bool      `json:"console,omitempty"`
	Backdated bool      `json:"backdated,omitempty"`
	Plan      Plan      `json:"plan"`
	EndsAt    time.Time `json:"ends_at"` // of the job: CreateTime of the push
	// Counts are what the push says; zeros for err(num), where nobody knows better.
	Counts   Counts   `json:"counts"`
	ErrCode  *int64   `json:"err_code,omitempty"`
	Articles []string `json:"articles,omitempty"`

	Callback PushState `json:"callback"` // the best of its pushes
	// Taken means that the receiver said success at least once, whether or not
	// the answer reached us.
	Taken bool `json:"taken"`
	// Uncertain means that it never said so, but may have taken a push all the
	// same: the answer was cut off, or was a 5xx after a deadline of its own.
	Uncertain   bool       `json:"uncertain,omitempty"`
	TakenAt     *time.Time `json:"taken_at,omitempty"`
	Pushes      int        `json:"pushes"`
	Attempts    int        `json:"attempts"`
	Answered    int        `json:"answered"` // attempts answered with success
	Poll        string     `json:"poll"`     // what mass/get says in the end; "40059" for never
	Polls       int64      `json:"polls"`    // how often it was asked
	Expectation `json:"expect"`
}

// Expectation is what a receiving system should find out about a message, with
// what it was told and could ask. Nil figures cannot be known; they are not zero.
type Expectation struct {
	Outcome   string `json:"outcome"`
	DecidedBy string `json:"decided_by"` // callback, poll or empty
	Status    string `json:"status,omitempty"`
	Total     *int64 `json:"total,omitempty"`
	Eligible  *int64 `json:"eligible,omitempty"` // WeChat's FilterCount
	Filtered  *int64 `json:"filtered,omitempty"` // total − eligible
	Sent      *int64 `json:"sent,omitempty"`
	Errors    *int64 `json:"errors,omitempty"`
}

// Other is a push that reports no mass send.
type Other struct {
	AppID    string    `json:"appid"`
	Kind     string    `json:"kind"`
	ID       int64     `json:"id"` // MsgId, MsgID or publish_id
	State    PushState `json:"state"`
	Attempts []Attempt `json:"attempts,omitempty"`
}

// Ledger returns the truth as of now. Take it after [Simulator.Drain]; a push
// that is still due counts as if it will be delivered.
func (s *Simulator) Ledger() Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := Ledger{Seed: s.cfg.Seed, At: s.cfg.Clock()}
	for _, appid := range s.order {
		a := s.accounts[appid]
		l.Accounts = append(l.Accounts, a.Account)
		for _, m := range a.sent {
			l.Entries = append(l.Entries, m.entry())
		}
	}
	for _, p := range s.pushes {
		if p.kind != massFinished {
			l.Others = append(l.Others, Other{
				AppID: p.appid, Kind: p.kind, ID: p.msgID, State: p.state, Attempts: slices.Clone(p.attempts),
			})
		}
	}
	return l
}

// entry is the truth about a message. The lock is held.
func (m *message) entry() Entry {
	e := Entry{
		Receipt: m.Receipt, Ordinal: m.ordinal, Console: m.console, Backdated: m.backdated,
		Plan: m.plan, EndsAt: m.endsAt, Counts: m.counts, Articles: slices.Clone(m.articles),
		Callback: PushNever, Polls: m.polls, Poll: m.plan.poll(),
	}
	if code, ok := m.plan.errCode(); ok {
		e.ErrCode = ptr(int64(code))
	}
	if !m.deletedAt.IsZero() && m.plan.Poll != "40059" {
		e.Poll = PollDelete
	}
	for _, p := range m.pushes {
		e.count(p)
	}
	e.Uncertain = e.Uncertain && !e.Taken
	e.Expectation = e.expect()
	return e
}

// count adds what became of a push.
func (e *Entry) count(p *push) {
	e.Pushes++
	if rank(p.state) > rank(e.Callback) {
		e.Callback = p.state
	}
	for _, a := range p.attempts {
		e.Attempts++
		switch {
		case a.Success:
			e.Answered++
			e.Taken = true
			if at := a.At.Add(a.Took); e.TakenAt == nil || at.Before(*e.TakenAt) {
				e.TakenAt = &at
			}
		case a.Written && (a.Status == 0 || a.Status >= 500):
			e.Uncertain = true
		}
	}
}

func rank(s PushState) int {
	return slices.Index([]PushState{PushNever, PushGivenUp, PushHeld, PushDue, PushDelivered}, s)
}

// expect says what can be known: by the callback, else by polling, else nothing.
func (e Entry) expect() Expectation {
	if e.Taken || e.Callback == PushDue {
		return e.byCallback()
	}
	switch e.Record {
	case Unrecorded:
		return Expectation{Outcome: OutcomeUnseen}
	case History:
		return Expectation{Outcome: OutcomeMissing}
	}
	switch e.Poll {
	case PollSuccess:
		return Expectation{Outcome: OutcomeSent, DecidedBy: "poll", Status: e.Poll}
	case PollFail:
		return Expectation{Outcome: OutcomeFailed, DecidedBy: "poll", Status: e.Poll}
	case PollDelete:
		return Expectation{Outcome: OutcomeDeleted, DecidedBy: "poll", Status: e.Poll}
	}
	return Expectation{Outcome: OutcomeMissing}
}

// IfTaken is what is to be expected of an uncertain message if its push was
// taken after all.
func (e Entry) IfTaken() Expectation { return e.byCallback() }

func (e Entry) byCallback() Expectation {
	x := Expectation{
		DecidedBy: "callback", Status: e.Plan.Status,
		Total: ptr(e.Counts.Total), Eligible: ptr(e.Counts.Filter), Sent: ptr(e.Counts.Sent), Errors: ptr(e.Counts.Error),
	}
	// More people left than there were is drift of WeChat's figures, not a
	// number of filtered people.
	if filtered := e.Counts.Total - e.Counts.Filter; filtered >= 0 {
		x.Filtered = &filtered
	}
	switch {
	case e.ErrCode != nil:
		x.Outcome = OutcomeRejected
		if e.Counts == (Counts{}) {
			x.Total, x.Eligible, x.Filtered = nil, nil, nil
		}
	case e.Plan.Status == StatusSuccess:
		x.Outcome = OutcomeSent
	case e.Plan.Status == StatusFail:
		x.Outcome = OutcomeFailed
	default:
		x.Outcome = OutcomeUnknown
	}
	return x
}

// Summary adds up what should be known about some messages. Figures that cannot
// be known add nothing.
type Summary struct {
	Messages int            `json:"messages"` // without the unseen
	Unseen   int            `json:"unseen"`
	Total    int64          `json:"total"`
	Eligible int64          `json:"eligible"`
	Filtered int64          `json:"filtered"`
	Sent     int64          `json:"sent"`
	Errors   int64          `json:"errors"`
	Unknown  int            `json:"unknown_counts"` // messages whose total cannot be known
	ByPoll   int            `json:"by_poll"`        // decided by mass/get alone
	Outcomes map[string]int `json:"outcomes"`
	ErrCodes map[string]int `json:"err_codes"` // by the number in err(num), of callbacks that came
	// Callbacks are those that came; Redelivered those that came more than once.
	Callbacks   int `json:"callbacks"`
	Redelivered int `json:"redelivered"`
	Uncertain   int `json:"uncertain"`
}

// Summarize adds up the entries that satisfy a condition; nil takes all.
func (l Ledger) Summarize(which func(Entry) bool) Summary {
	s := Summary{Outcomes: make(map[string]int), ErrCodes: make(map[string]int)}
	for _, e := range l.Entries {
		if which == nil || which(e) {
			s.add(e)
		}
	}
	return s
}

// PerAccount adds up by appid.
func (l Ledger) PerAccount() map[string]Summary {
	all := make(map[string]Summary, len(l.Accounts))
	for _, a := range l.Accounts {
		all[a.AppID] = l.Summarize(func(e Entry) bool { return e.AppID == a.AppID })
	}
	return all
}

func (s *Summary) add(e Entry) {
	if e.Uncertain {
		s.Uncertain++
	}
	if e.Outcome == OutcomeUnseen {
		s.Unseen++
		return
	}
	s.Messages++
	s.Outcomes[e.Outcome]++
	s.Total += value(e.Total)
	s.Eligible += value(e.Eligible)
	s.Filtered += value(e.Filtered)
	s.Sent += value(e.Sent)
	s.Errors += value(e.Errors)
	if e.Total == nil {
		s.Unknown++
	}
	switch e.DecidedBy {
	case "poll":
		s.ByPoll++
	case "callback":
		s.Callbacks++
		if e.ErrCode != nil {
			s.ErrCodes[strconv.FormatInt(*e.ErrCode, 10)]++
		}
	}
	if e.Answered > 1 {
		s.Redelivered++
	}
}

// Find returns the entry of a message.
func (l Ledger) Find(appid string, msgID int64) (Entry, bool) {
	for _, e := range l.Entries {
		if e.AppID == appid && e.MsgID == msgID {
			return e, true
		}
	}
	return Entry{}, false
}

// Codes lists the err(num) numbers whose callbacks came, in order.
func (s Summary) Codes() []string { return slices.Sorted(maps.Keys(s.ErrCodes)) }

// WriteJSON writes the ledger with its summaries. Secrets are not in it.
func (l Ledger) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	err := e.Encode(struct {
		Ledger
		All        Summary            `json:"all"`
		PerAccount map[string]Summary `json:"per_account"`
	}{l, l.Summarize(nil), l.PerAccount()})
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

func ptr(n int64) *int64 { return &n }

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
