package wechattest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// play runs a scenario to its end and returns the ledger, what was recorded,
// and every document pushed.
func play(t *testing.T, sc Scenario, clock func() time.Time) (Ledger, []Receipt, []string) {
	t.Helper()
	s := start(t, Config{Seed: 7, Accounts: sc.Accounts, Clock: clock})
	r := newReceiver(t, s, nil)
	var recorded []Receipt
	steps := 0
	op := Operator{
		Record: func(_ context.Context, receipts []Receipt) error {
			recorded = append(recorded, receipts...)
			return nil
		},
		Progress: func(int, int, string, error) { steps++ },
	}
	if err := errors.Join(s.PlayHistory(t.Context(), sc, op), s.Play(t.Context(), sc, op)); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if steps != len(sc.History)+len(sc.Live) {
		t.Errorf("progress told %d times", steps)
	}
	var documents []string
	for _, p := range r.all() {
		documents = append(documents, string(p.clear))
	}
	slices.Sort(documents)
	return s.Ledger(), recorded, slices.Compact(documents)
}

// With the same seed, calls and clock everything is the same, whatever the
// goroutines did.
func TestDemoIsDeterministic(t *testing.T) {
	fixed := time.Date(2026, 5, 6, 12, 0, 0, 0, beijing)
	clock := func() time.Time { return fixed }
	if diff := cmp.Diff(Demo(7), Demo(7)); diff != "" {
		t.Fatalf("scenario differs:\n%s", diff)
	}
	one, recordedOne, documentsOne := play(t, Demo(7), clock)
	two, recordedTwo, documentsTwo := play(t, Demo(7), clock)
	ignore := cmp.Options{
		cmpopts.IgnoreFields(Account{}, "CallbackURL"), cmpopts.IgnoreFields(Entry{}, "TakenAt", "Attempts", "Uncertain"),
		cmpopts.IgnoreFields(Attempt{}, "Took"),
	}
	if diff := cmp.Diff(one, two, ignore); diff != "" {
		t.Errorf("ledger differs:\n%s", diff)
	}
	if diff := cmp.Diff(recordedOne, recordedTwo); diff != "" {
		t.Errorf("receipts differ:\n%s", diff)
	}
	if diff := cmp.Diff(documentsOne, documentsTwo); diff != "" {
		t.Errorf("documents differ:\n%s", diff)
	}
	other, _, _ := play(t, Demo(8), clock)
	if cmp.Equal(one.Summarize(nil), other.Summarize(nil)) {
		t.Error("another seed gives the same figures")
	}
}

// The demo shows everything that it promises.
func TestDemoCoversEveryCase(t *testing.T) {
	l, recorded, documents := play(t, Demo(1), nil)
	sum := l.Summarize(nil)
	for _, outcome := range []string{OutcomeSent, OutcomeFailed, OutcomeRejected, OutcomeUnknown, OutcomeDeleted, OutcomeMissing} {
		if sum.Outcomes[outcome] == 0 {
			t.Errorf("no message is %s", outcome)
		}
	}
	if sum.ErrCodes["20431"] == 0 || sum.ErrCodes["29999"] == 0 || len(sum.ErrCodes) < 12 {
		t.Errorf("err codes %v", sum.ErrCodes)
	}
	if sum.Messages < 250 || sum.Messages > 600 || sum.Unseen == 0 || sum.ByPoll < 5 || sum.Redelivered < 10 || sum.Uncertain != 0 {
		t.Errorf("summary %+v", sum)
	}
	unrecorded := len(l.Entries) - len(recorded)
	if unrecorded < 5 {
		t.Errorf("%d sends unrecorded", unrecorded)
	}
	ids := make(map[int64]int)
	modes := make(map[string]bool)
	for _, e := range l.Entries {
		ids[e.MsgID]++
	}
	if ids[1_000_000_001] != len(l.Accounts) || ids[3_147_483_649] != len(l.Accounts)-1 {
		t.Errorf("first ids are used %d and %d times", ids[1_000_000_001], ids[3_147_483_649])
	}
	for _, a := range l.Accounts {
		modes[string(a.Mode)+" "+string(a.Format)] = true
	}
	if len(modes) != 5 {
		t.Errorf("modes %v", modes)
	}
	if len(documents) < sum.Callbacks {
		t.Errorf("%d documents for %d callbacks", len(documents), sum.Callbacks)
	}
	campaign := l.Summarize(func(e Entry) bool { return e.Campaign == "会员日" })
	if campaign.Messages != 5 || campaign.Total != 46_412 {
		t.Errorf("campaign %+v", campaign)
	}
}

// History lies in the past, in order, and its pushes carry the time of then.
func TestHistory(t *testing.T) {
	now := time.Date(2026, 5, 6, 1, 0, 0, 0, time.UTC)
	sc := Demo(2)
	sc.Live = nil
	l, recorded, _ := play(t, sc, func() time.Time { return now })
	if len(l.Entries) != len(sc.History) || len(sc.History) < 200 {
		t.Fatalf("%d messages of %d", len(l.Entries), len(sc.History))
	}
	last := make(map[string]time.Time)
	for _, e := range l.Entries {
		age := now.Sub(e.SubmittedAt)
		if age < 0 || age > 31*24*time.Hour || e.EndsAt.Before(e.SubmittedAt) || e.EndsAt.Sub(e.SubmittedAt) > time.Hour || e.SubmittedAt.Before(last[e.AppID]) {
			t.Errorf("submitted %v, ended %v", e.SubmittedAt, e.EndsAt)
		}
		last[e.AppID] = e.SubmittedAt
		if !e.Backdated || e.Chase || e.DecidedBy == "poll" {
			t.Errorf("%s %d: chased", e.AppID, e.MsgID)
		}
	}
	for _, r := range recorded {
		if r.Chase || r.Record != History {
			t.Errorf("recorded %+v", r)
		}
	}
}

func TestPlayStopsWithItsContext(t *testing.T) {
	s := start(t, Config{Accounts: Demo(1).Accounts, Scale: 1})
	ctx, cancel := context.WithCancel(t.Context())
	op := Operator{Progress: func(done, _ int, _ string, _ error) {
		if done == 2 {
			cancel()
		}
	}}
	if err := s.Play(ctx, Demo(1), op); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	broken := errors.New("record API is down")
	op = Operator{Record: func(context.Context, []Receipt) error { return broken }}
	if err := s.Play(t.Context(), Demo(1), op); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// Sends of several accounts at once get the ids that they get one after another.
func TestConcurrentAccountsDoNotDisturbEachOther(t *testing.T) {
	ids := func(concurrent bool) map[string][]Counts {
		s := start(t, Config{Seed: 5, Accounts: make([]Account, 8), Plans: Mix{Seed: 5}.Plan})
		newReceiver(t, s, nil)
		var wg sync.WaitGroup
		for _, a := range s.Accounts() {
			send := func() {
				for i := range 20 {
					if _, err := s.Submit(a.AppID, Send{Audience: Tag(2), ClientMsgID: fmt.Sprint(i)}); err != nil {
						t.Error(err)
					}
				}
			}
			if concurrent {
				wg.Go(send)
			} else {
				send()
			}
		}
		wg.Wait()
		all := make(map[string][]Counts)
		for _, e := range s.Ledger().Entries {
			all[e.AppID] = append(all[e.AppID], e.Counts)
		}
		return all
	}
	if diff := cmp.Diff(ids(false), ids(true)); diff != "" {
		t.Errorf("counts differ:\n%s", diff)
	}
}

// A mix gives what its weights say, near enough.
func TestMixFollowsItsWeights(t *testing.T) {
	const n = 20_000
	m := Mix{Seed: 1}
	cases := make(map[string]int)
	never := 0
	for i := range n {
		p := m.Plan(Call{AppID: "wx", Ordinal: int64(i)})
		if p.Callback.Never {
			never++
		}
		if code, ok := p.errCode(); ok {
			cases[fmt.Sprintf("%dxxxx", code/10_000)]++
		}
	}
	share := func(k int) float64 { return float64(k) / n }
	if got := share(never); got < 0.035 || got > 0.045 {
		t.Errorf("%.3f without a callback, want 0.04", got)
	}
	if got := share(cases["3xxxx"]); got < 0.021 || got > 0.029 {
		t.Errorf("%.3f fail the originality check, want 0.025", got)
	}
	only := Mix{Seed: 1, Weights: Weights{Rejected: 1, OldForm: 1}}.Plan(Call{AppID: "wx", Ordinal: 3})
	if !only.Old || only.Status == StatusSuccess {
		t.Errorf("plan %+v", only)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no accounts":       {},
		"same appid twice":  {Accounts: []Account{{AppID: "wx1"}, {AppID: "wx1"}}},
		"short key":         {Accounts: []Account{{AESKey: "abc"}}},
		"mode":              {Accounts: []Account{{Mode: "open"}}},
		"format":            {Accounts: []Account{{Format: "yaml"}}},
		"unknown component": {Accounts: []Account{{Component: "wxc"}}},
		"component's key":   {Accounts: []Account{{}}, Components: []Component{{AESKey: "x"}}},
		"negative scale":    {Accounts: []Account{{}}, Scale: -1},
	} {
		if s, err := New(cfg); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
	s := start(t, Config{Accounts: []Account{{}}})
	if _, err := s.Submit("wx0", Send{Audience: All()}); err == nil {
		t.Error("sent for an unknown account")
	}
	var refused *APIError
	if _, err := s.Submit(s.Accounts()[0].AppID, Send{Audience: OpenIDs(1)}); !errors.As(err, &refused) || refused.Code != 40130 {
		t.Errorf("error %v", err)
	}
}
