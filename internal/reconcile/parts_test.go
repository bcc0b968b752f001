package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

func TestMostBehind(t *testing.T) {
	all := owned{0: 0, 1: 0, 2: 0}
	for _, c := range []struct {
		name            string
		owned           owned
		ends, committed map[int32]int64
		want            *behindError
	}{
		{"empty log", all, nil, nil, nil},
		{"all there", all, map[int32]int64{0: 5, 1: 7}, map[int32]int64{0: 5, 1: 7, 2: -1}, nil},
		{"ahead", all, map[int32]int64{0: 5}, map[int32]int64{0: 6}, nil},
		{"never committed", all, map[int32]int64{0: 5}, map[int32]int64{0: -1}, &behindError{partition: 0, end: 5}},
		{"left out", all, map[int32]int64{0: 5}, nil, &behindError{partition: 0, end: 5}},
		{"worst of two", all, map[int32]int64{0: 5, 1: 9}, map[int32]int64{0: 4, 1: 2}, &behindError{partition: 1, committed: 2, end: 9, more: 1}},
		{"only what is owned", owned{2: 0}, map[int32]int64{0: 5, 2: 1}, map[int32]int64{2: 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mostBehind(c.owned, c.ends, c.committed)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(behindError{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestBehindErrorSaysWhatIsWrong(t *testing.T) {
	err := &behindError{partition: 3, committed: 10, end: 25, more: 2, waited: time.Minute}
	want := "the sink did not reach the end of the log within 1m0s: partition 3 (and 2 more partitions) is at 10 of 25; nothing is polled or given up before it does"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

// The pick never exceeds its bound, wastes nothing of it, serves one of every
// account before the second of any, and each account from its most overdue on.
func TestFairPick(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		polls := map[string][]ask{}
		total := 0
		for i := range rapid.IntRange(0, 8).Draw(t, "accounts") {
			appid := fmt.Sprintf("wx%d", i)
			for id := range rapid.IntRange(1, 7).Draw(t, "messages") {
				since := epoch.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "since")) * time.Second)
				x := ask{Pending{Key: events.Key{AppID: appid, MsgID: int64(id + 1)}}, since}
				polls[appid] = mostOverdue(polls[appid], x, 5)
			}
			total += len(polls[appid])
		}
		n := rapid.IntRange(1, 40).Draw(t, "bound")
		jobs := fair(polls, n)
		picked, least, most := 0, 1<<30, 0
		for _, j := range jobs {
			all := polls[j.appid]
			picked += len(j.asks)
			most = max(most, len(j.asks))
			if len(j.asks) < len(all) {
				least = min(least, len(j.asks))
			}
			if !slices.IsSortedFunc(all, compareAsks) || compareAsks(all[0], j.asks[0]) != 0 {
				t.Fatalf("%s is not served from its most overdue on", j.appid)
			}
		}
		if picked != min(n, total) {
			t.Fatalf("picked %d of %d with a bound of %d", picked, total, n)
		}
		if len(jobs) < len(polls) && most > 1 {
			t.Fatalf("%d polls of one account, and none of another", most)
		}
		if most > least+1 {
			t.Fatalf("%d polls of one account, %d of one that has more", most, least)
		}
	})
}

func TestMostOverdueKeepsTheOldest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ages := rapid.SliceOf(rapid.IntRange(0, 50)).Draw(t, "ages")
		n := rapid.IntRange(1, 6).Draw(t, "n")
		var got, want []ask
		for i, a := range ages {
			x := ask{Pending{Key: events.Key{AppID: "wx", MsgID: int64(i + 1)}}, epoch.Add(-time.Duration(a) * time.Second)}
			got = mostOverdue(got, x, n)
			want = append(want, x)
		}
		slices.SortFunc(want, compareAsks)
		if diff := cmp.Diff(want[:min(n, len(want))], got, cmp.AllowUnexported(ask{})); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func TestErrorsThatAreNoAnswer(t *testing.T) {
	for _, c := range []struct {
		err  error
		want hold
	}{
		{errors.New("anything"), holdUnreachable},
		{&wechat.StatusError{API: "mass_get", Status: 502}, holdUnreachable},
		{&wechat.StatusError{API: "token_url", Status: 401}, holdConfig},
		{&wechat.StatusError{API: "token_url", Status: 429}, holdRateLimit},
		{fmt.Errorf("another token: %w", wechat.ErrTokenUnchanged), holdToken},
	} {
		ans := interpret(wechat.MassStatus{}, c.err)
		if ans.result != resultUnreachable || ans.hold != c.want || ans.err != nil {
			t.Errorf("%v: %+v, want the hold %q", c.err, ans, c.want)
		}
	}
	if ans := interpret(wechat.MassStatus{MsgID: 1}, nil); ans.result != resultUnreachable {
		t.Errorf("an answer without status is taken for one: %+v", ans)
	}
}

func TestBackoffGrowsAndIsCapped(t *testing.T) {
	cfg := DefaultConfig()
	var b breaker
	now, last := epoch, time.Duration(0)
	for i := range 20 {
		b.trip(holdBusy, now, &cfg)
		wait := b.until.Sub(now)
		if i < 6 && wait <= last {
			t.Errorf("wait %d is %s after %s", i+1, wait, last)
		}
		if wait > cfg.RetryBackoff.Max*6/5 {
			t.Errorf("wait %d is %s", i+1, wait)
		}
		last = wait
	}
	b.trip(holdToken, now, &cfg)
	if wait := b.until.Sub(now); wait > 2*cfg.TokenBackoff.Initial {
		t.Errorf("another error begins with a wait of %s", wait)
	}
}

func TestTomorrowIsChinas(t *testing.T) {
	cfg := DefaultConfig()
	var b breaker
	now := time.Date(2026, 3, 1, 15, 59, 0, 0, time.UTC) // a minute to midnight there
	b.trip(holdQuota, now, &cfg)
	if got, want := b.until.UTC(), time.Date(2026, 3, 1, 16, 10, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("held back until %s, want %s", got, want)
	}
}

func TestDetails(t *testing.T) {
	sub := epoch
	code := func(n int64) *int64 { return &n }
	base := Pending{SubmittedAt: &sub, Polls: 3}
	with := func(status string, err *int64) Pending {
		p := base
		p.LastPollStatus, p.LastPollError = status, err
		return p
	}
	never := Pending{SubmittedAt: &sub}
	once := with(events.PollSending, nil)
	once.Polls = 1
	for want, g := range map[string]giveUp{
		"imported history: WeChat is not asked about it":                                                                                                {never, events.ReasonNotChased, ""},
		"the configuration has no credentials for this account, so WeChat could not be asked":                                                           {never, events.ReasonNoCredentials, ""},
		"the configuration has no credentials for this account any more; before, WeChat was asked once, and the last answer was SENDING":                {once, events.ReasonNoCredentials, ""},
		"WeChat could not be asked within 96 hours of the submission; the account is held back (config)":                                                {never, events.ReasonNeverPolled, holdConfig},
		"WeChat was asked 3 times within 96 hours of the submission, and the last answer was errcode 40059: it does not know the message":               {with("", code(40059)), events.ReasonNoAnswer, ""},
		"WeChat was asked 3 times within 96 hours of the submission, and the last answer was errcode 89504: an administrator had still to confirm":      {with("", code(89504)), events.ReasonNoAnswer, ""},
		"WeChat was asked 3 times within 96 hours of the submission, and the last answer was errcode 40164 (config); the account is held back (config)": {with("", code(40164)), events.ReasonNoAnswer, holdConfig},
	} {
		if got := g.detail(epoch.Add(96 * time.Hour)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestRecentIsBounded(t *testing.T) {
	m := newRecent(2)
	key := func(id int64) events.Key { return events.Key{AppID: appA, MsgID: id} }
	for id := range int64(5) {
		m.note(key(id), memo{at: epoch})
	}
	m.note(key(1), memo{at: epoch.Add(time.Hour), ended: true})
	if len(m.memo) != 2 {
		t.Errorf("%d remembered, want 2", len(m.memo))
	}
	if _, _, ended := m.correct(Pending{Key: key(1)}); !ended {
		t.Error("what is remembered is not updated when the memory is full")
	}
	newer := epoch.Add(time.Minute)
	if p, stale, _ := m.correct(Pending{Key: key(0), Polls: 4, LastPollAt: &newer}); stale || p.Polls != 4 {
		t.Error("an older memory overrides the projection")
	}
	m.forget(epoch.Add(time.Minute))
	if len(m.memo) != 1 {
		t.Errorf("%d remembered, want 1", len(m.memo))
	}
}

// One round's decisions over a million pending messages of 100,000 accounts.
func BenchmarkFile(b *testing.B) {
	w := &world{partitions: 12}
	r, err := New(Config{Instance: "a"}, w, w, w, asker{w, "a"})
	if err != nil {
		b.Fatal(err)
	}
	sub, poll := epoch, epoch.Add(2*time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		c := clerk{Reconciler: r, owned: w.all(), since: epoch, now: epoch.Add(4 * time.Hour), polls: map[string][]ask{}}
		for i := range 100_000 {
			appid := fmt.Sprintf("wx%016d", i)
			for id := range int64(10) {
				c.file(Pending{Key: events.Key{AppID: appid, MsgID: id}, SubmittedAt: &sub, Chase: true, Polls: 3, LastPollAt: &poll, LastPollStatus: events.PollSending})
			}
		}
		if jobs := fair(c.polls, 2000); len(jobs) != 2000 || c.agenda.pending != 1_000_000 {
			b.Fatalf("%d accounts, %d pending", len(jobs), c.agenda.pending)
		}
	}
}
