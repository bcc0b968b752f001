package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

const (
	appA = "wxaaaaaaaaaaaaaaaa"
	appB = "wxbbbbbbbbbbbbbbbb"
)

// planned are the ages of the default schedule's polls.
var planned = []time.Duration{
	45 * time.Minute, time.Hour, 90 * time.Minute, 150 * time.Minute, 270 * time.Minute, 510 * time.Minute,
	990 * time.Minute, 2430 * time.Minute, 3870 * time.Minute, 72 * time.Hour,
}

// wantAges checks that polls came when they were planned, or within a round of it.
func wantAges(t *testing.T, got, want []time.Duration) {
	t.Helper()
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && got[i] >= want[i] && got[i] < want[i]+2*time.Minute
	}
	if !ok {
		t.Errorf("polled at the ages\n%v, want\n%v", got, want)
	}
}

func TestPollsBySchedulesThenGivesUp(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		start := time.Now()
		k := w.submit(appA, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(74 * time.Hour)
		wantAges(t, w.ages(k, start), planned)
		row := w.row(k)
		if row.Outcome != events.OutcomeMissing || row.AbandonedReason != events.ReasonNoAnswer || row.Polls != 10 {
			t.Errorf("row %+v", row)
		}
		if got, want := row.AbandonedDetail, "WeChat was asked 10 times within 72 hours of the submission, and the last answer was SENDING"; got != want {
			t.Errorf("detail %q, want %q", got, want)
		}
		for i, d := range data[*events.Polled](w) {
			if d.Attempt != int64(i+1) || d.Instance != "a" || d.Status != events.PollSending {
				t.Errorf("poll %d: %+v", i+1, d)
			}
		}
		if n := len(data[*events.Abandoned](w)); n != 1 {
			t.Errorf("%d events abandoned, want 1", n)
		}
	})
}

func TestConclusiveAnswersEndTheMatter(t *testing.T) {
	for status, want := range map[string]events.Outcome{
		events.PollSuccess: events.OutcomeSent,
		events.PollFail:    events.OutcomeFailed,
		events.PollDelete:  events.OutcomeDeleted,
	} {
		t.Run(status, func(t *testing.T) {
			during(t, func(t *testing.T, w *world) {
				w.answer = func(_ events.Key, n int) (string, error) {
					if n < 3 {
						return events.PollSending, nil
					}
					return status, nil
				}
				k := w.submit(appA, 1)
				start := time.Now()
				rep := w.start("a", w.all())
				defer rep.stop()
				<-time.After(100 * time.Hour)
				wantAges(t, w.ages(k, start), planned[:3])
				row := w.row(k)
				if row.Outcome != want || row.Sent != nil || row.Polls != 3 {
					t.Errorf("row %+v", row)
				}
			})
		})
	}
}

func TestCallbackEndsPolling(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		early, late, never := w.submit(appA, 1), w.submit(appA, 2), w.submit(appA, 3)
		start := time.Now()
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(10 * time.Minute)
		w.finish(early)
		<-time.After(70 * time.Minute)
		w.finish(late)
		<-time.After(80 * time.Hour)
		w.finish(never) // after it was given up: the callback still wins
		<-time.After(time.Hour)
		wantAges(t, w.ages(early, start), nil)
		wantAges(t, w.ages(late, start), planned[:2])
		wantAges(t, w.ages(never, start), planned)
		for _, k := range []events.Key{early, late, never} {
			if row := w.row(k); row.Outcome != events.OutcomeSent || row.DecidedBy != events.DecidedByCallback {
				t.Errorf("%s: %+v", k, row)
			}
		}
	})
}

func TestImportedHistoryIsNeverPolled(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		old := events.Key{AppID: appA, MsgID: 1}
		w.append(&events.Submitted{AppID: appA, MsgID: 1, SubmittedAt: time.Now().Add(-1000 * time.Hour), Recorder: "import"})
		fresh := events.Key{AppID: appA, MsgID: 2}
		w.append(&events.Submitted{AppID: appA, MsgID: 2, SubmittedAt: time.Now(), Recorder: "import"})
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(2 * time.Minute)
		if row := w.row(old); row.Outcome != events.OutcomeMissing || row.AbandonedReason != events.ReasonNotChased {
			t.Errorf("old: %+v", row)
		}
		if row := w.row(fresh); row.Outcome != events.OutcomePending {
			t.Errorf("fresh: %+v", row)
		}
		<-time.After(72 * time.Hour)
		if row := w.row(fresh); row.Outcome != events.OutcomeMissing || row.AbandonedReason != events.ReasonNotChased {
			t.Errorf("fresh: %+v", row)
		}
		if n := len(w.asks()); n != 0 {
			t.Errorf("%d polls, want none", n)
		}
	})
}

func TestNoCredentials(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.noSecret[appA] = true
		k, other := w.submit(appA, 1), w.submit(appB, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(72*time.Hour - time.Minute)
		if row := w.row(k); row.Outcome != events.OutcomePending {
			t.Errorf("before its time: %+v", row)
		}
		<-time.After(3 * time.Minute)
		row := w.row(k)
		if row.Outcome != events.OutcomeMissing || row.AbandonedReason != events.ReasonNoCredentials || row.Polls != 0 {
			t.Errorf("row %+v", row)
		}
		if !strings.Contains(row.AbandonedDetail, "no credentials") {
			t.Errorf("detail %q", row.AbandonedDetail)
		}
		if n := len(timesOf(w.asks(), k)); n != 0 {
			t.Errorf("%d polls, want none", n)
		}
		if n := len(timesOf(w.asks(), other)); n != 10 {
			t.Errorf("%d polls of the other account, want 10", n)
		}
	})
}

// The sink stands still: nothing is polled and nothing given up, however long
// that lasts, and afterwards every message still gets its last poll.
func TestLaggingSinkSkipsRounds(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		k := w.submit(appA, 1)
		rep := w.start("a", w.all(), func(c *Config) { c.BarrierPoll = 5 * time.Second })
		defer rep.stop()
		<-time.After(30 * time.Minute)
		w.set(func() { w.stalled = true })
		finished := w.submit(appA, 2)
		w.finish(finished)
		<-time.After(200 * time.Hour)
		if n := len(w.asks()); n != 0 {
			t.Errorf("%d polls behind a sink that stands still", n)
		}
		if n := len(data[*events.Abandoned](w)); n != 0 {
			t.Errorf("%d messages given up behind a sink that stands still", n)
		}
		if rep.rounds(t, roundBehind) == 0 {
			t.Error("no round is counted as skipped")
		}
		err := rep.Ready()
		if err == nil || !strings.Contains(err.Error(), "the sink did not reach the end of the log within 1m0s: partition") {
			t.Errorf("ready: %v", err)
		}
		w.set(func() { w.stalled = false })
		<-time.After(5 * time.Minute)
		if err := rep.Ready(); err != nil {
			t.Errorf("not ready again: %v", err)
		}
		if row := w.row(k); row.Polls != 1 || row.AbandonedReason != events.ReasonNoAnswer {
			t.Errorf("row %+v", row)
		}
		if row := w.row(finished); row.Outcome != events.OutcomeSent || row.Polls != 0 {
			t.Errorf("the message whose callback waited in the log: %+v", row)
		}
	})
}

// A sink that is slow, but within the limit, doubles nothing.
func TestSlowSinkDoublesNothing(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.lag = 50 * time.Second
		k := w.submit(appA, 1)
		start := time.Now()
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(73 * time.Hour)
		wantAges(t, w.ages(k, start), planned)
		if n := rep.rounds(t, roundBehind); n != 0 {
			t.Errorf("%v rounds skipped", n)
		}
	})
}

func TestRestartsForgetAndDoubleNothing(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		k := w.submit(appA, 1)
		start := time.Now()
		for i := 0; time.Since(start) < 74*time.Hour; i++ {
			rep := w.start(fmt.Sprintf("a%d", i), w.all())
			<-time.After(7*time.Minute + time.Duration(i%13)*time.Second)
			rep.stop()
		}
		wantAges(t, w.ages(k, start), planned)
		if row := w.row(k); row.AbandonedReason != events.ReasonNoAnswer || row.Polls != 10 {
			t.Errorf("row %+v", row)
		}
	})
}

func TestReplicasShareByPartition(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		start := time.Now()
		var keys []events.Key
		for i := range 20 {
			keys = append(keys, w.submit(fmt.Sprintf("wx%016d", i), 7))
		}
		a, b := w.start("a", owned{0: 0, 1: 0}), w.start("b", owned{2: 0, 3: 0})
		<-time.After(5 * time.Hour)
		b.stop() // it dies, and what it owned moves
		a.stop()
		<-time.After(20 * time.Second)
		a.resume(t, owned{0: 0, 1: 0, 2: 0})
		defer a.stop()
		c := w.start("c", owned{3: 0})
		defer c.stop()
		<-time.After(70 * time.Hour)
		for _, k := range keys {
			wantAges(t, w.ages(k, start), planned)
			if row := w.row(k); row.AbandonedReason != events.ReasonNoAnswer {
				t.Errorf("%s: %+v", k, row)
			}
		}
		if n := len(data[*events.Abandoned](w)); n != len(keys) {
			t.Errorf("%d messages given up, want %d", n, len(keys))
		}
		for _, x := range w.asks() {
			if early := x.At.Sub(start) < 5*time.Hour; early && (x.By == "a") != (w.PartitionOf(x.Key.AppID) < 2) {
				t.Errorf("%s polled %s, which it does not own", x.By, x.Key)
			}
		}
	})
}

func TestReplicaWithoutPartitionsIsReady(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		rep := w.start("a", owned{})
		synctest.Wait()
		if err := rep.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		rep.stop()
		if rep.Ready() == nil {
			t.Error("ready without a generation")
		}
	})
}

func TestRateLimitAndFairness(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(events.Key, int) (string, error) { return events.PollSuccess, nil }
		start := time.Now()
		for i := range 300 {
			w.submit(appA, int64(i+1))
		}
		small := w.submit(appB, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(2 * time.Hour)
		asks := w.asks()
		if len(asks) != 301 {
			t.Fatalf("%d polls, want 301", len(asks))
		}
		wantAges(t, w.ages(small, start), planned[:1])
		var of []time.Time
		for _, x := range asks {
			if x.Key.AppID == appA {
				of = append(of, x.At)
			}
		}
		for i := range of {
			n := 0
			for _, at := range of[i:] {
				if at.Sub(of[i]) < time.Minute {
					n++
				}
			}
			if n > 25 {
				t.Fatalf("%d polls of one account within a minute from %s on", n, of[i].Sub(start))
			}
		}
		if took := of[len(of)-1].Sub(of[0]); took > 16*time.Minute {
			t.Errorf("300 polls took %s: more than 20 a minute allow", took)
		}
	})
}

// Rebalances in quick succession begin round after round. The account's limit holds across them.
func TestRateLimitHoldsAcrossGenerations(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		for i := range 300 {
			w.submit(appA, int64(i+1))
		}
		<-time.After(time.Hour)
		rep := w.start("a", w.all())
		for range 60 {
			<-time.After(2 * time.Second)
			rep.stop()
			rep.resume(t, w.all())
		}
		rep.stop()
		if n := len(w.asks()); n < 30 || n > 45 {
			t.Errorf("%d polls of one account in two minutes, want about 40 and a burst", n)
		}
	})
}

func TestQuotaReserveStopsUntilTomorrow(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(events.Key, int) (string, error) { return events.PollSuccess, nil }
		w.quotas[appA] = wechat.Quota{DailyLimit: 100, Used: 70, Remain: 30}
		for i := range 50 {
			w.submit(appA, int64(i+1))
		}
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(3 * time.Hour) // 15:00 UTC, 23:00 in China
		if n := len(w.asks()); n != 20 {
			t.Errorf("%d polls with 30 calls left, want 20", n)
		}
		if n := rep.counter(t, "qunfa_reconcile_account_blocked", "class", "quota"); n != 1 {
			t.Errorf("%v accounts blocked by quota, want 1", n)
		}
		if n := w.quotaReads(appA); n != 1 {
			t.Errorf("quota read %d times, want once", n)
		}
		w.set(func() { w.quotas[appA] = wechat.Quota{DailyLimit: 100, Remain: 100} })
		<-time.After(time.Hour)
		if n := len(w.asks()); n != 20 {
			t.Errorf("%d polls before tomorrow, want still 20", n)
		}
		<-time.After(30 * time.Minute)
		if n := len(w.asks()); n != 50 {
			t.Errorf("%d polls after midnight in China, want 50", n)
		}
		if n := rep.counter(t, "qunfa_quota_remaining", "appid", appA); n < 70 || n > 100 {
			t.Errorf("quota left by the metric: %v", n)
		}
	})
}

func TestBreaker(t *testing.T) {
	for _, c := range []struct {
		name      string
		err       error
		hold      hold
		least     time.Duration // between two polls of the account
		polls     [2]int        // in 3 hours from the first on
		published bool
	}{
		{"token", apiError(40001), holdToken, 45 * time.Second, [2]int{5, 10}, true},
		{"per minute", apiError(45011), holdRateLimit, time.Minute, [2]int{10, 20}, true},
		{"per day", apiError(45009), holdQuota, 3 * time.Hour, [2]int{1, 1}, true},
		{"whitelist", apiError(40164), holdConfig, time.Hour, [2]int{3, 3}, true},
		{"account", apiError(48001), holdAccount, time.Hour, [2]int{3, 3}, true},
		{"busy", apiError(-1), holdBusy, 4 * time.Second, [2]int{15, 35}, true},
		{"unreachable", errors.New("dial tcp: connection refused"), holdUnreachable, 4 * time.Second, [2]int{15, 35}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			during(t, func(t *testing.T, w *world) {
				healthy := false
				w.answer = func(events.Key, int) (string, error) {
					if healthy {
						return events.PollSuccess, nil
					}
					return "", c.err
				}
				for i := range 40 {
					w.submit(appA, int64(i+1))
				}
				rep := w.start("a", w.all())
				defer rep.stop()
				<-time.After(45*time.Minute + 3*time.Hour)
				asks := w.asks()
				if len(asks) < c.polls[0] || len(asks) > c.polls[1] {
					t.Errorf("%d polls in 3 hours, want %v", len(asks), c.polls)
				}
				for i := 1; i < len(asks); i++ {
					if d := asks[i].At.Sub(asks[i-1].At); d < c.least {
						t.Errorf("poll %d came %s after the one before, want at least %s", i+1, d, c.least)
					}
				}
				if n := rep.counter(t, "qunfa_reconcile_account_blocked", "class", string(c.hold)); n != 1 {
					t.Errorf("%v accounts shown as blocked, want 1", n)
				}
				published := data[*events.Polled](w)
				if c.published && len(published) != len(asks) || !c.published && len(published) != 0 {
					t.Errorf("%d polls published of %d", len(published), len(asks))
				}
				if c.published && (published[0].Error == nil || published[0].Error.RID != "1-2-3" || published[0].Error.Class == "") {
					t.Errorf("published %+v", published[0])
				}
				w.set(func() { healthy = true })
				<-time.After(20 * time.Hour)
				for i := range 40 {
					if row := w.row(events.Key{AppID: appA, MsgID: int64(i + 1)}); row.Outcome != events.OutcomeSent {
						t.Fatalf("after it was mended: %+v", row)
					}
				}
				if n := rep.counter(t, "qunfa_reconcile_account_blocked", "class", string(c.hold)); n != 0 {
					t.Errorf("%v accounts shown as blocked after it was mended", n)
				}
			})
		})
	}
}

func TestOneBrokenAccountDoesNotHinderOthers(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(k events.Key, _ int) (string, error) {
			if k.AppID == appA {
				return "", apiError(40164)
			}
			return events.PollSuccess, nil
		}
		start := time.Now()
		w.submit(appA, 1)
		k := w.submit(appB, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(2 * time.Hour)
		wantAges(t, w.ages(k, start), planned[:1])
		if !strings.Contains(rep.logs.String(), "until people mend this") || !strings.Contains(rep.logs.String(), appA) {
			t.Errorf("the log does not name the account that people must mend:\n%s", rep.logs)
		}
		if n := strings.Count(rep.logs.String(), "until people mend this"); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
		w.set(func() { w.answer = func(events.Key, int) (string, error) { return events.PollSuccess, nil } })
		<-time.After(50 * time.Minute)
		if n := rep.counter(t, "qunfa_reconcile_account_blocked", "class", "config"); n != 0 {
			t.Errorf("%v accounts shown as blocked after the first answer", n)
		}
	})
}

// Accounts that are held back take no part in sharing out a round.
func TestHeldAccountsTakeNoTurns(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(k events.Key, _ int) (string, error) {
			if k.AppID == appA {
				return "", apiError(40164)
			}
			return events.PollSuccess, nil
		}
		for i := range 5 {
			w.submit(appA, int64(i+1))
		}
		<-time.After(time.Second)
		k := w.submit(appB, 1)
		rep := w.start("a", w.all(), func(c *Config) { c.MaxPolls = 1 })
		defer rep.stop()
		<-time.After(48 * time.Minute)
		if row := w.row(k); row.Outcome != events.OutcomeSent {
			t.Errorf("row %+v", row)
		}
	})
}

func TestCredentialsThatCannotBeUsed(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.badSecret[appA] = errors.New("app_secret_file: permission denied")
		k := w.submit(appA, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(3 * time.Hour)
		if n := rep.counter(t, "qunfa_reconcile_account_blocked", "class", "config"); n != 1 {
			t.Errorf("%v accounts shown as blocked, want 1", n)
		}
		w.set(func() { delete(w.badSecret, appA) })
		<-time.After(time.Hour + 2*time.Minute)
		if row := w.row(k); row.Polls != 1 {
			t.Errorf("row %+v", row)
		}
	})
}

func TestUnknownAnswersGoOnAndAreSaid(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(k events.Key, _ int) (string, error) {
			if k.MsgID == 1 {
				return "REVIEWING", nil
			}
			return "", apiError(77777)
		}
		start := time.Now()
		status, code := w.submit(appA, 1), w.submit(appA, 2)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(73 * time.Hour)
		for _, k := range []events.Key{status, code} {
			wantAges(t, w.ages(k, start), planned)
			if row := w.row(k); row.AbandonedReason != events.ReasonNoAnswer {
				t.Errorf("%s: %+v", k, row)
			}
		}
		for _, result := range []string{resultUnknownStatus, resultUnknownError} {
			if n := rep.counter(t, "qunfa_polls_total", "result", result); n != 10 {
				t.Errorf("%v polls counted as %s, want 10", n, result)
			}
		}
		for _, want := range []string{"REVIEWING", "77777"} {
			if !strings.Contains(rep.logs.String(), want) {
				t.Errorf("the log does not say %s", want)
			}
		}
	})
}

func TestLastPollBeforeGivingUp(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		down := true
		w.answer = func(events.Key, int) (string, error) {
			if down {
				return "", errors.New("no route to host")
			}
			return events.PollSuccess, nil
		}
		k := w.submit(appA, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(80 * time.Hour)
		if row := w.row(k); row.Outcome != events.OutcomePending || row.Polls != 0 {
			t.Errorf("while WeChat cannot be reached: %+v", row)
		}
		if rep.Ready() == nil && rep.rounds(t, roundUnreachable) == 0 {
			t.Error("nobody is told that WeChat cannot be reached")
		}
		w.set(func() { down = false })
		<-time.After(15 * time.Minute)
		if row := w.row(k); row.Outcome != events.OutcomeSent || row.AbandonedAt != nil {
			t.Errorf("row %+v", row)
		}
	})
}

func TestNeverReachedEndsAfterTheGrace(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(events.Key, int) (string, error) { return "", errors.New("no route to host") }
		start := time.Now()
		k := w.submit(appA, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(time.Hour)
		w.set(func() { w.storeDown = true }) // a break that was long over
		<-time.After(2 * time.Hour)
		w.set(func() { w.storeDown = false })
		<-time.After(time.Until(start.Add(96*time.Hour - time.Minute)))
		if row := w.row(k); row.Outcome != events.OutcomePending {
			t.Errorf("within the grace: %+v", row)
		}
		<-time.After(3 * time.Minute)
		row := w.row(k)
		if row.Outcome != events.OutcomeMissing || row.AbandonedReason != events.ReasonNeverPolled {
			t.Errorf("row %+v", row)
		}
		if want := "WeChat could not be asked within 96 hours of the submission; the account is held back (unreachable)"; row.AbandonedDetail != want {
			t.Errorf("detail %q, want %q", row.AbandonedDetail, want)
		}
	})
}

// After a long stop everything is overdue. It is polled first, though the grace
// counted from the submission has long ended.
func TestLongStopStillPollsFirst(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		down := true
		w.answer = func(events.Key, int) (string, error) {
			if down {
				return "", errors.New("network is unreachable")
			}
			return events.PollSuccess, nil
		}
		k := w.submit(appA, 1)
		<-time.After(140 * time.Hour)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(30 * time.Minute) // the machine's network comes up late
		w.set(func() { down = false })
		<-time.After(time.Hour)
		if row := w.row(k); row.Outcome != events.OutcomeSent {
			t.Errorf("row %+v", row)
		}
	})
}

// The same when only the partitions were gone for long.
func TestLongTimeWithoutPartitionsStillPollsFirst(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		down := true
		w.answer = func(events.Key, int) (string, error) {
			if down {
				return "", errors.New("network is unreachable")
			}
			return events.PollSuccess, nil
		}
		rep := w.start("a", w.all())
		<-time.After(time.Minute)
		rep.stop()
		k := w.submit(appA, 1)
		<-time.After(140 * time.Hour)
		rep.resume(t, w.all())
		defer rep.stop()
		<-time.After(30 * time.Minute)
		w.set(func() { down = false })
		<-time.After(time.Hour)
		if row := w.row(k); row.Outcome != events.OutcomeSent {
			t.Errorf("row %+v", row)
		}
	})
}

func TestLostGenerationStopsAtOnce(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		asking := make(chan struct{}, 1)
		w.onAsk = func(ctx context.Context) {
			asking <- struct{}{}
			<-ctx.Done()
		}
		k := w.submit(appA, 1)
		rep := w.start("a", w.all(), func(c *Config) { c.AskTimeout = time.Hour })
		<-asking
		at := time.Now()
		rep.stop()
		if took := time.Since(at); took != 0 {
			t.Errorf("Run took %s to end", took)
		}
		if row := w.row(k); row.Version != 1 {
			t.Errorf("an interrupted poll left events: %+v", row)
		}
		if n := rep.counter(t, "qunfa_polls_total", "result", resultUnreachable); n != 0 {
			t.Errorf("%v polls counted as unreachable, but nobody waited for the answer", n)
		}
		if n := rep.rounds(t, roundLost); n != 1 {
			t.Errorf("%v rounds counted as lost, want 1", n)
		}
		w.set(func() { w.onAsk = nil })
		rep.resume(t, w.all())
		defer rep.stop()
		<-time.After(time.Minute)
		if row := w.row(k); row.Polls != 1 {
			t.Errorf("after the partitions came back: %+v", row)
		}
	})
}

func TestFailuresAroundAreTriedAgain(t *testing.T) {
	for what, broken := range map[string]func(*world, bool){
		roundStoreFailed:             func(w *world, b bool) { w.storeDown = b },
		roundStoreFailed + ", clock": func(w *world, b bool) { w.clockDown = b },
		roundLogFailed:               func(w *world, b bool) { w.logDown = b },
	} {
		t.Run(what, func(t *testing.T) {
			name, _, _ := strings.Cut(what, ",")
			during(t, func(t *testing.T, w *world) {
				w.answer = func(events.Key, int) (string, error) { return events.PollSuccess, nil }
				k := w.submit(appA, 1)
				broken(w, true)
				rep := w.start("a", w.all())
				defer rep.stop()
				<-time.After(100 * time.Hour)
				if n := rep.rounds(t, name); n < 4*60*100 || n > 4*60*100+1 || rep.Ready() == nil {
					t.Errorf("%v rounds counted as failed, want 4 a minute; ready: %v", n, rep.Ready())
				}
				w.set(func() { broken(w, false) })
				<-time.After(2 * time.Minute)
				if row := w.row(k); row.Outcome != events.OutcomeSent {
					t.Errorf("row %+v", row)
				}
				if err := rep.Ready(); err != nil {
					t.Errorf("not ready again: %v", err)
				}
			})
		})
	}
}

func TestAnswerThatCannotBePublishedIsAskedForAgain(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(events.Key, int) (string, error) {
			w.logDown = len(w.asked) == 1 // fails between the first answer and its event
			return events.PollSuccess, nil
		}
		k := w.submit(appA, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(47 * time.Minute)
		if n := rep.rounds(t, roundPublishFailed); n != 1 {
			t.Errorf("%v rounds counted as %s, want 1", n, roundPublishFailed)
		}
		w.set(func() { w.logDown = false })
		<-time.After(2 * time.Minute)
		if row := w.row(k); row.Outcome != events.OutcomeSent || len(w.asks()) != 2 {
			t.Errorf("%d polls, row %+v", len(w.asks()), row)
		}
	})
}

// The sink commits, but the projection shows nothing of it: a database replica
// that lags, or a dead letter. The schedule is kept all the same.
func TestStaleProjectionCausesNoStorm(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		k := w.submit(appA, 1)
		start := time.Now()
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(44 * time.Minute)
		w.set(func() { w.frozen = true })
		<-time.After(50 * time.Minute)
		wantAges(t, w.ages(k, start), planned[:3])
		if rep.counterValue(t, "qunfa_reconcile_stale_rows_total") == 0 {
			t.Error("nobody is told that the projection is stale")
		}
	})
}

func TestRoundsAreBounded(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(events.Key, int) (string, error) { return events.PollSuccess, nil }
		for i := range 1000 {
			appid := fmt.Sprintf("wx%016d", i)
			w.submit(appid, 1)
			w.append(&events.Submitted{AppID: appid, MsgID: 2, SubmittedAt: time.Now().Add(-100 * time.Hour), Recorder: "import"})
		}
		rep := w.start("a", w.all(), func(c *Config) { c.MaxPolls, c.MaxAbandons, c.PageSize = 100, 200, 64 })
		defer rep.stop()
		<-time.After(30 * time.Second)
		if n := len(data[*events.Abandoned](w)); n == 0 || n > 600 {
			t.Errorf("%d messages given up in the first rounds, want at most 200 in each", n)
		}
		<-time.After(45 * time.Minute)
		if n := len(w.asks()); n == 0 || n > 500 {
			t.Errorf("%d polls in the first rounds, want at most 100 in each", n)
		}
		<-time.After(10 * time.Minute)
		if n := len(w.asks()); n != 1000 {
			t.Errorf("%d polls, want 1000", n)
		}
		if n := len(data[*events.Abandoned](w)); n != 1000 {
			t.Errorf("%d messages given up, want 1000", n)
		}
		if n := rep.counterValue(t, "qunfa_reconcile_accounts"); n != 1000 {
			t.Errorf("%v accounts remembered, want 1000", n)
		}
		<-time.After(2 * time.Hour)
		if n := rep.counterValue(t, "qunfa_reconcile_accounts"); n != 0 {
			t.Errorf("%v idle accounts remembered, want none", n)
		}
	})
}

// An unreachable WeChat must not hold up a round for a timeout per account.
func TestUnreachableEndsTheRound(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		for i := range 500 {
			w.submit(fmt.Sprintf("wx%016d", i), 1)
		}
		w.onAsk = func(ctx context.Context) { <-ctx.Done() }
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(48 * time.Minute)
		if n := rep.rounds(t, roundUnreachable); n < 2 {
			t.Errorf("%v rounds ended in 2 minutes of timeouts, want at least 2", n)
		}
		if err := rep.Ready(); err == nil || !strings.Contains(err.Error(), "WeChat") {
			t.Errorf("ready: %v", err)
		}
		w.set(func() {
			w.onAsk = nil
			w.answer = func(events.Key, int) (string, error) { return events.PollSuccess, nil }
		})
		<-time.After(20 * time.Minute)
		if n := len(w.asks()); n != 500 {
			t.Errorf("%d polls answered, want 500", n)
		}
	})
}

// reply is one answer that the property draws.
type reply struct {
	status string
	code   int64 // 0: no answer at all
}

func (r reply) give() (string, error) {
	switch {
	case r.status != "":
		return r.status, nil
	case r.code == 0:
		return "", errors.New("connection reset")
	}
	return "", apiError(r.code)
}

// life is what a property draws: what WeChat answers about each message in turn,
// when callbacks come, and how long replicas run before they are restarted.
type life struct {
	answers   map[int64][]reply
	callbacks map[int64]int // after so many hours; 0: never
	uptime    time.Duration // 0: never restarted
}

func drawLife(t *rapid.T) life {
	replies := []reply{
		{status: events.PollSending}, {status: "REVIEWING"}, {code: -1}, {code: 40001}, {code: 45011}, {code: 45009}, {code: 40164},
		{code: 48001}, {code: 40059}, {code: 89504}, {code: 77777}, {},
		{status: events.PollSuccess}, {status: events.PollFail}, {status: events.PollDelete},
	}
	if rapid.Bool().Draw(t, "never conclusive") {
		replies = replies[:len(replies)-3]
	}
	l := life{answers: map[int64][]reply{}, callbacks: map[int64]int{}}
	for id := range rapid.Int64Range(1, 6).Draw(t, "messages") {
		l.answers[id+1] = rapid.SliceOfN(rapid.SampledFrom(replies), 1, 12).Draw(t, "answers")
		if rapid.Bool().Draw(t, "callback") {
			l.callbacks[id+1] = rapid.IntRange(1, 96).Draw(t, "after hours")
		}
	}
	if rapid.Bool().Draw(t, "restarts") {
		l.uptime = time.Duration(rapid.IntRange(2, 30).Draw(t, "uptime")) * time.Hour
	}
	return l
}

// Whatever WeChat answers, whenever replicas restart, and whether or not a
// callback comes, every recorded message leaves pending in time; a callback
// always wins; and nothing is given up without a try.
func TestEveryMessageEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := drawLife(rt)
		var problems []string
		during(t, func(t *testing.T, w *world) { problems = l.live(w) })
		if len(problems) > 0 {
			rt.Fatalf("%s", strings.Join(problems, "\n"))
		}
	})
}

// live plays a life, and returns which messages did not end well.
func (l life) live(w *world) (problems []string) {
	w.answer = func(k events.Key, n int) (string, error) {
		list := l.answers[k.MsgID]
		return list[(n-1)%len(list)].give()
	}
	start := time.Now()
	var keys []events.Key
	for id := range l.answers {
		keys = append(keys, w.submit([]string{appA, appB}[id%2], id))
	}
	slices.SortFunc(keys, compareKeys)
	slow := func(c *Config) { c.IdleInterval = 5 * time.Minute }
	rep := w.start("r", w.all(), slow)
	up := start
	// The promise is 72 hours and a grace of 24. Where replicas are restarted
	// while WeChat cannot be asked, it is 7 graces; see Schedule.Next.
	promise := 96 * time.Hour
	if l.uptime > 0 {
		promise = 72*time.Hour + 7*24*time.Hour
	}
	for hour := 1; time.Since(start) <= promise; hour++ {
		<-time.After(time.Until(start.Add(time.Duration(hour)*time.Hour + 10*time.Minute)))
		if l.uptime > 0 && time.Since(up) >= l.uptime {
			rep.stop()
			rep, up = w.start("r", w.all(), slow), time.Now()
		}
		for _, k := range keys {
			if l.callbacks[k.MsgID] == hour {
				w.finish(k)
			}
		}
	}
	<-time.After(2 * time.Hour) // if the last restart was just now, it must have settled
	defer rep.stop()
	for _, k := range keys {
		row, asked := w.row(k), len(timesOf(w.asks(), k))
		switch {
		case row.Outcome == events.OutcomePending:
			problems = append(problems, fmt.Sprintf("%s is pending: %+v", k, row))
		case l.callbacks[k.MsgID] > 0 && row.DecidedBy != events.DecidedByCallback:
			problems = append(problems, fmt.Sprintf("%s: the callback did not win: %+v", k, row))
		case row.Outcome == events.OutcomeMissing && asked == 0 && l.askable():
			problems = append(problems, fmt.Sprintf("%s was given up without a try: %+v", k, row))
		}
	}
	return problems
}

// askable tells whether WeChat never held up an account for so long that some of
// its messages could not have their turn.
func (l life) askable() bool {
	for _, list := range l.answers {
		for _, r := range list {
			if r.code == 45009 {
				return false
			}
		}
	}
	return true
}

// Two replicas believe that they own the same partitions, as for a moment after a
// rebalance: polls may double, but that bends neither schedule nor outcome.
func TestZombieDoublesHarmlessly(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		k := w.submit(appA, 1)
		start := time.Now()
		a, b := w.start("a", w.all()), w.start("b", w.all())
		defer a.stop()
		defer b.stop()
		<-time.After(74 * time.Hour)
		ages := w.ages(k, start)
		if len(ages) < len(planned) || len(ages) > 2*len(planned) {
			t.Errorf("%d polls by two replicas, want at most two for each of %d planned", len(ages), len(planned))
		}
		for i, age := range ages {
			near := slices.ContainsFunc(planned, func(p time.Duration) bool { return age >= p && age < p+2*time.Minute })
			if !near {
				t.Errorf("poll %d at the age %s is not one that was planned", i+1, age)
			}
		}
		if row := w.row(k); row.AbandonedReason != events.ReasonNoAnswer || int(row.Polls) != len(ages) {
			t.Errorf("%d polls, row %+v", len(ages), row)
		}
	})
}

// Answers about one message are never usable. The account's others are asked
// about all the same.
func TestStrangeMessageDoesNotBlockItsAccount(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(k events.Key, _ int) (string, error) {
			if k.MsgID == 1 {
				return "", errors.New("unusable answer")
			}
			return events.PollSuccess, nil
		}
		for id := range int64(30) {
			w.submit(appA, id+1)
			<-time.After(time.Second)
		}
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(time.Hour)
		for id := range int64(29) {
			if row := w.row(events.Key{AppID: appA, MsgID: id + 2}); row.Outcome != events.OutcomeSent {
				t.Fatalf("message %d: %+v", id+2, row)
			}
		}
	})
}

// A row that no event can be made of must not end the round for all others.
func TestNonsenseCostsOnlyItself(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		at := time.Now().Add(-100 * time.Hour)
		bad := events.Key{AppID: appA, MsgID: -7}
		w.rows[bad] = events.Row{Key: bad, Outcome: events.OutcomePending, SubmittedAt: &at}
		k := w.submit(appA, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(2 * time.Hour)
		if row := w.row(k); row.Polls != 3 {
			t.Errorf("row %+v", row)
		}
		if n := rep.counterValue(t, "qunfa_reconcile_event_errors_total"); n == 0 || n > 3 {
			t.Errorf("%v events counted that could not be made, want one an hour", n)
		}
	})
}

func TestQuotaIsReadOnceAnHour(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.quotas[appA] = wechat.Quota{DailyLimit: 1000, Remain: 900}
		for i := range 3 {
			w.submit(appA, int64(i+1))
		}
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(100 * time.Minute) // polls after 45, 60 and 90 minutes
		if n := w.quotaReads(appA); n != 1 {
			t.Errorf("read %d times, want once", n)
		}
		if n := rep.counter(t, "qunfa_quota_remaining", "appid", appA); n != 900-9 {
			t.Errorf("%v left after 9 polls, want 891", n)
		}
		<-time.After(time.Hour) // and after 150
		if n := w.quotaReads(appA); n != 2 {
			t.Errorf("read %d times, want twice", n)
		}
	})
}

func TestSmallQuotaIsStillUsed(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.quotas[appA] = wechat.Quota{DailyLimit: 10, Remain: 10}
		w.quotas[appB] = wechat.Quota{} // no such limit
		a, b := w.submit(appA, 1), w.submit(appB, 1)
		rep := w.start("a", w.all())
		defer rep.stop()
		<-time.After(50 * time.Minute)
		for _, k := range []events.Key{a, b} {
			if row := w.row(k); row.Polls != 1 {
				t.Errorf("%s: %+v", k, row)
			}
		}
	})
}

func TestConfigScaled(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.lag = 50 * time.Millisecond
		k, done := w.submit(appA, 1), w.submit(appB, 1)
		w.answer = func(k events.Key, n int) (string, error) {
			if k == done && n == 2 {
				return events.PollSuccess, nil
			}
			return events.PollSending, nil
		}
		rep := w.start("demo", w.all(), func(c *Config) { *c = c.Scaled(1.0 / 3600) })
		defer rep.stop()
		<-time.After(10 * time.Second)
		if row := w.row(done); row.Outcome != events.OutcomeSent || row.Polls != 2 {
			t.Errorf("row %+v", row)
		}
		<-time.After(65 * time.Second)
		if row := w.row(k); row.AbandonedReason != events.ReasonNoAnswer || row.Polls < 6 || row.Polls > 10 {
			t.Errorf("row %+v", row)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Instance = "" }, "instance"},
		{func(c *Config) { c.Workers = -1 }, "workers"},
		{func(c *Config) { c.IdleInterval = time.Second }, "idle interval"},
		{func(c *Config) { c.BarrierPoll = -1 }, "barrier poll"},
		{func(c *Config) { c.PollsPerMinute = -1 }, "polls per minute"},
		{func(c *Config) { c.Schedule.Retry = time.Second }, "schedule"},
	} {
		cfg := Config{Instance: "a"}
		c.change(&cfg)
		_, err := New(cfg, nil, nil, nil, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v", c.want, err)
		}
	}
	if err := (Config{Instance: "a"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestZeroConfigIsTheDefault(t *testing.T) {
	got, want := Config{}.withDefaults(), DefaultConfig()
	got.Logger, got.Registerer, got.Clock = nil, nil, nil
	want.Logger, want.Registerer, want.Clock = nil, nil, nil
	opts := cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
