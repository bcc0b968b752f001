package wechattest

import "time"

// Call is a submission that asks for a plan.
type Call struct {
	AppID    string
	Ordinal  int64 // of this account's submissions, from 1
	Audience Audience
	MsgType  string
}

// Mix is a seeded scenario generator: it gives every send a plan by weights.
// Use its Plan method as [Config.Plans].
type Mix struct {
	Seed uint64
	// Weights of the cases, by any scale. The zero value takes [DefaultWeights].
	Weights Weights
	// After bounds the time from submission to the end of a job. Scaled.
	// Default 30 s to 5 min.
	After [2]time.Duration
}

// Weights of the cases of a [Mix].
type Weights struct {
	Success, Partial, Filtered, Fail         float64
	Rejected, Originality, Admin, Unknown    float64 // Unknown: undocumented codes
	Deleted                                  float64
	Never, Late, Redelivered, Twice, OldForm float64 // callbacks, drawn apart from the outcome: fractions of 1
}

// DefaultWeights is a lively account: one send in six goes wrong in some way.
func DefaultWeights() Weights {
	return Weights{
		Success: 78, Partial: 4, Filtered: 3, Fail: 2,
		Rejected: 6, Originality: 2.5, Admin: 2, Unknown: 1, Deleted: 1.5,
		Never: 0.04, Late: 0.04, Redelivered: 0.08, Twice: 0.03, OldForm: 0.05,
	}
}

// Plan returns the plan of a call; the same seed and call give the same plan.
func (m Mix) Plan(c Call) Plan {
	w := m.Weights
	if w == (Weights{}) {
		w = DefaultWeights()
	}
	after := m.After
	if after == [2]time.Duration{} {
		after = [2]time.Duration{30 * time.Second, 5 * time.Minute}
	}
	d := draw(m.Seed, "mix", c.AppID, c.Ordinal)
	p := w.outcome(d)
	if !p.Confirm {
		p.After = time.Duration(d.between(int64(after[0]), int64(after[1])))
	}
	return w.callback(d, p)
}

func (w Weights) outcome(d drawer) Plan {
	cases := []struct {
		weight float64
		plan   func() Plan
	}{
		{w.Success, Success},
		{w.Partial, Partial},
		{w.Filtered, Filtered},
		{w.Fail, Fail},
		{w.Rejected, func() Plan { return Rejected(pick(d, ReviewCodes())) }},
		{w.Originality, func() Plan { return Originality(pick(d, OriginalityCodes())) }},
		{w.Admin, func() Plan { return Admin(pick(d, AdminCodes())) }},
		{w.Unknown, func() Plan { return Rejected(pick(d, UndocumentedCodes())).As("undocumented code") }},
		{w.Deleted, DeletedAfterSuccess},
	}
	var sum float64
	for _, c := range cases {
		sum += c.weight
	}
	at := d.Float64() * sum
	for _, c := range cases {
		if at < c.weight {
			return c.plan()
		}
		at -= c.weight
	}
	return Success()
}

func (w Weights) callback(d drawer, p Plan) Plan {
	never, late, again, twice, old := d.Float64(), d.Float64(), d.Float64(), d.Float64(), d.Float64()
	if old < w.OldForm {
		p = p.OldForm()
	}
	if never < w.Never {
		return p.Never()
	}
	if late < w.Late {
		p = p.Late(time.Duration(d.between(int64(time.Hour), int64(5*time.Hour))))
	}
	if again < w.Redelivered {
		p = p.Redelivered(int(d.between(1, 2)))
	}
	if twice < w.Twice {
		p = p.Twice()
	}
	return p
}

func pick[T any](d drawer, from []T) T { return from[d.IntN(len(from))] }
