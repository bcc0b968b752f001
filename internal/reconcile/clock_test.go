package reconcile

import (
	"strings"
	"testing"
	"time"

	"qunfa/internal/events"
)

// jump sets the reconciler's clock, and not the world's.
func (w *world) jump(by time.Duration) { w.set(func() { w.skew = by }) }

// clock is the reconciler's: the world's, and the skew.
func (w *world) clock(c *Config) {
	c.Clock = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return time.Now().Add(w.skew)
	}
}

// A clock that jumps by days, ahead or back, makes nothing overdue: nobody is
// asked, nothing is given up, and once it is right everything goes on as planned.
func TestWrongClockPollsAndGivesUpNothing(t *testing.T) {
	for _, skew := range []time.Duration{6 * time.Minute, 3 * time.Hour, 73 * time.Hour, 10 * 24 * time.Hour, -6 * time.Minute, -73 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			during(t, func(t *testing.T, w *world) {
				begun := time.Now()
				k := w.submit(appA, 1)
				rep := w.start("a", w.all(), w.clock)
				defer rep.stop()
				<-time.After(time.Minute)
				w.jump(skew)
				<-time.After(40 * time.Minute)
				if n := len(w.asks()); n != 0 {
					t.Errorf("%d polls with a wrong clock, want none", n)
				}
				if n := rep.rounds(t, roundClock); n < 100 {
					t.Errorf("%v rounds were ended by the clock, want 4 a minute", n)
				}
				if err := rep.Ready(); err == nil || !strings.Contains(err.Error(), "set the clock that is wrong") {
					t.Errorf("ready: %v", err)
				}
				if got := rep.counterValue(t, "qunfa_reconcile_clock_skew_seconds"); got != skew.Seconds() {
					t.Errorf("the metric says %v", got)
				}
				w.jump(0)
				<-time.After(100 * time.Hour)
				if err := rep.Ready(); err != nil {
					t.Errorf("not ready again: %v", err)
				}
				w.asPlanned(k, begun)
			})
		})
	}
}

// asPlanned checks that a message that WeChat never finished was asked about as
// the schedule says, and given up when it was time.
func (w *world) asPlanned(k events.Key, begun time.Time) {
	w.t.Helper()
	planned := []time.Duration{45 * time.Minute, time.Hour, 90 * time.Minute, 150 * time.Minute, 270 * time.Minute, 510 * time.Minute, 990 * time.Minute, 2430 * time.Minute, 3870 * time.Minute, 72 * time.Hour}
	ages := w.ages(k, begun)
	if len(ages) != len(planned) {
		w.t.Fatalf("polled at %v, want %v", ages, planned)
	}
	for i := range ages {
		if late := ages[i] - planned[i]; late < 0 || late > 2*time.Minute {
			w.t.Errorf("poll %d at %s, want %s", i+1, ages[i], planned[i])
		}
	}
	if row := w.row(k); row.Outcome != events.OutcomeMissing || row.Polls != uint32(len(planned)) {
		w.t.Errorf("row %+v", row)
	}
}

// A small difference is everyday life.
func TestClockThatIsAlmostRight(t *testing.T) {
	during(t, func(t *testing.T, w *world) {
		w.answer = func(events.Key, int) (string, error) { return events.PollSuccess, nil }
		k := w.submit(appA, 1)
		w.jump(4 * time.Minute)
		rep := w.start("a", w.all(), w.clock)
		defer rep.stop()
		<-time.After(time.Hour)
		if row := w.row(k); row.Outcome != events.OutcomeSent {
			t.Errorf("row %+v", row)
		}
	})
}

// The clock jumps between the start of a round and its end.
func TestPauseSurvivesAJump(t *testing.T) {
	r := &Reconciler{cfg: DefaultConfig()}
	for _, jump := range []time.Duration{-72 * time.Hour, 0, 72 * time.Hour} {
		if got := r.pause(epoch, epoch.Add(jump), outcome{}); got < 0 || got > r.cfg.IdleInterval {
			t.Errorf("after a jump of %s the next round comes in %s", jump, got)
		}
	}
}
