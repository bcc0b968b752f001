package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qunfa/internal/events"
)

const testApp = "wx0123456789abcdef"

func pending(submitted time.Time) Pending {
	return Pending{Key: events.Key{AppID: testApp, MsgID: 1}, SubmittedAt: &submitted, Chase: true}
}

// polled returns p after one more poll.
func polled(p Pending, at time.Time, status string, code int64) Pending {
	p.Polls++
	p.LastPollAt, p.LastPollStatus, p.LastPollError = &at, status, nil
	if status == "" {
		p.LastPollError = &code
	}
	return p
}

func TestScheduleIsTheDocumentedOne(t *testing.T) {
	s := DefaultSchedule()
	p := pending(epoch)
	var ages []string
	for {
		step := s.Next(p, true, epoch, epoch)
		if step.Do == Abandon {
			ages = append(ages, "abandon "+step.At.Sub(epoch).String()+" "+step.Reason)
			break
		}
		ages = append(ages, step.At.Sub(epoch).String())
		p = polled(p, step.At, events.PollSending, 0)
	}
	want := []string{
		"45m0s", "1h0m0s", "1h30m0s", "2h30m0s", "4h30m0s", "8h30m0s", "16h30m0s", "40h30m0s", "64h30m0s", "72h0m0s",
		"abandon 72h0m0s no_answer",
	}
	if diff := cmp.Diff(want, ages); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestScheduleNext(t *testing.T) {
	s := DefaultSchedule()
	at := func(h float64) time.Time { return epoch.Add(time.Duration(h * float64(time.Hour))) }
	sending := func(h float64) Pending { return polled(pending(epoch), at(h), events.PollSending, 0) }
	failed := func(h float64, code int64) Pending { return polled(pending(epoch), at(h), "", code) }
	imported := pending(epoch)
	imported.Chase = false
	unknown := pending(epoch)
	unknown.SubmittedAt = nil
	for _, c := range []struct {
		name  string
		p     Pending
		noKey bool
		since float64
		now   float64
		want  Step
	}{
		{name: "first", p: pending(epoch), want: Step{Do: Poll, At: at(0.75)}},
		{name: "never submitted", p: unknown, want: Step{}},
		{name: "already answered", p: polled(pending(epoch), at(1), events.PollFail, 0), want: Step{}},
		{name: "deleted", p: polled(pending(epoch), at(1), events.PollDelete, 0), want: Step{}},
		{name: "imported", p: imported, now: 500, want: Step{Abandon, at(72), events.ReasonNotChased}},
		{name: "no credentials", p: pending(epoch), noKey: true, want: Step{Abandon, at(72), events.ReasonNoCredentials}},
		{name: "credentials gone", p: sending(1), noKey: true, want: Step{Abandon, at(72), events.ReasonNoCredentials}},
		{name: "a late poll serves several", p: sending(3), want: Step{Do: Poll, At: at(4.5)}},
		{name: "a poll just before a planned one serves it", p: sending(2.25), want: Step{Do: Poll, At: at(4.5)}},
		{name: "a poll long before a planned one does not", p: sending(1.75), want: Step{Do: Poll, At: at(2.5)}},
		{name: "unknown status goes on", p: polled(pending(epoch), at(1), "REVIEWING", 0), want: Step{Do: Poll, At: at(1.5)}},
		{name: "40059 goes on", p: failed(16.5, 40059), want: Step{Do: Poll, At: at(40.5)}},
		{name: "awaiting confirmation goes on", p: failed(16.5, 89504), want: Step{Do: Poll, At: at(40.5)}},
		{name: "unknown code goes on", p: failed(16.5, 123456), want: Step{Do: Poll, At: at(40.5)}},
		{name: "busy is retried soon", p: failed(16.5, -1), want: Step{Do: Poll, At: at(16.75)}},
		{name: "token is retried soon", p: failed(16.5, 40001), want: Step{Do: Poll, At: at(16.75)}},
		{name: "last poll", p: sending(71.9), want: Step{Do: Poll, At: at(72)}},
		{name: "last poll answered", p: sending(72), now: 72, want: Step{Abandon, at(72), events.ReasonNoAnswer}},
		{name: "40059 answers the last poll", p: failed(72.5, 40059), now: 73, want: Step{Abandon, at(72), events.ReasonNoAnswer}},
		{name: "busy does not", p: failed(72.5, -1), now: 72.6, want: Step{Do: Poll, At: at(72.75)}},
		{name: "grace ends, polled", p: failed(95.9, -1), now: 96, want: Step{Abandon, at(96), events.ReasonNoAnswer}},
		{name: "grace ends, never polled", p: pending(epoch), now: 96, want: Step{Abandon, at(96), events.ReasonNeverPolled}},
		{name: "grace goes on", p: pending(epoch), now: 95.9, want: Step{Do: Poll, At: at(0.75)}},
		{name: "grace counts from when we could work", p: pending(epoch), since: 150, now: 173, want: Step{Do: Poll, At: at(0.75)}},
		{name: "and ends", p: pending(epoch), since: 150, now: 174, want: Step{Abandon, at(174), events.ReasonNeverPolled}},
		{name: "but not for ever", p: pending(epoch), since: 230, now: 240, want: Step{Abandon, at(240), events.ReasonNeverPolled}},
		{name: "nor before an hour", p: pending(epoch), since: 5000, now: 5000.9, want: Step{Do: Poll, At: at(0.75)}},
		{name: "of trying", p: pending(epoch), since: 5000, now: 5001, want: Step{Abandon, at(5001), events.ReasonNeverPolled}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.Next(c.p, !c.noKey, at(c.since), at(c.now))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func drawSchedule(t *rapid.T) Schedule {
	d := func(name string, most time.Duration) time.Duration {
		return time.Duration(rapid.Int64Range(int64(time.Second), int64(most)).Draw(t, name))
	}
	s := Schedule{First: d("first", time.Hour), Grace: d("grace", 48*time.Hour), Retry: d("retry", time.Hour)}
	for range rapid.IntRange(1, 6).Draw(t, "steps") {
		s.Steps = append(s.Steps, d("step", 24*time.Hour))
	}
	// At most so many steps that a property ends.
	s.Deadline = s.First + d("deadline", min(96*time.Hour, 200*s.Steps[len(s.Steps)-1]))
	return s
}

// Whatever WeChat answers and however late we ask, polls have a bounded number,
// none is before the first is planned or at the same time as another, and the
// message is given up not before its deadline and not after the grace.
func TestScheduleAlwaysEnds(t *testing.T) {
	codes := []int64{0, -1, 40001, 45009, 45011, 40164, 48001, 40059, 89504, 77777}
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		p, now := pending(epoch), epoch
		for polls := 0; ; polls++ {
			step := s.Next(p, true, epoch, now)
			if step.Do == Abandon {
				if step.At.Before(epoch.Add(s.Deadline)) || step.At.After(epoch.Add(s.Deadline+s.Grace)) {
					t.Fatalf("given up %s after the submission", step.At.Sub(epoch))
				}
				return
			}
			if step.Do != Poll {
				t.Fatalf("a pending message needs %v", step)
			}
			if step.At.Before(epoch.Add(s.First)) || p.LastPollAt != nil && !step.At.After(*p.LastPollAt) {
				t.Fatalf("poll at %s after one at %v", step.At, p.LastPollAt)
			}
			late := time.Duration(rapid.Int64Range(0, int64(s.Deadline/10)).Draw(t, "late"))
			now = later(now, step.At).Add(late)
			if now.After(epoch.Add(s.Deadline + s.Grace)) {
				continue // too late for a poll; the next step is the end
			}
			if rapid.Bool().Draw(t, "answered") {
				p = polled(p, now, rapid.SampledFrom([]string{events.PollSending, "NEW"}).Draw(t, "status"), 0)
			} else {
				p = polled(p, now, "", rapid.SampledFrom(codes).Draw(t, "code"))
			}
			if most := int((s.Deadline+s.Grace)/min(s.Retry, shortest(s.Steps))) + 3; polls > 2*most+10 {
				t.Fatalf("%d polls", polls)
			}
		}
	})
}

// A poll that another replica doubled changes nothing: the next one is due when
// it would have been.
func TestScheduleIgnoresDoubledPolls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSchedule()
		age := time.Duration(rapid.Int64Range(0, int64(s.Deadline)-1).Draw(t, "age"))
		once := polled(pending(epoch), epoch.Add(age), events.PollSending, 0)
		twice := polled(once, epoch.Add(age), events.PollSending, 0)
		if diff := cmp.Diff(s.Next(once, true, epoch, epoch), s.Next(twice, true, epoch, epoch)); diff != "" {
			t.Fatalf("(-once +twice)\n%s", diff)
		}
	})
}

// On time, every answer leads to the same ten polls; late polls never make more.
func TestScheduleLatenessNeverAddsPolls(t *testing.T) {
	s := DefaultSchedule()
	rapid.Check(t, func(t *rapid.T) {
		p, polls := pending(epoch), 0
		for step := s.Next(p, true, epoch, epoch); step.Do == Poll; step = s.Next(p, true, epoch, epoch) {
			late := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "late"))
			p = polled(p, step.At.Add(late), events.PollSending, 0)
			polls++
		}
		if polls > 10 {
			t.Fatalf("%d polls", polls)
		}
	})
}

func shortest(ds []time.Duration) time.Duration {
	m := ds[0]
	for _, d := range ds {
		m = min(m, d)
	}
	return m
}

func TestScheduleScaled(t *testing.T) {
	s := DefaultSchedule().Scaled(1.0 / 3600)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if got, want := s.Deadline, 72*time.Second; got != want {
		t.Errorf("deadline %s, want %s", got, want)
	}
	if got, want := s.Next(pending(epoch), true, epoch, epoch).At, epoch.Add(750*time.Millisecond); !got.Equal(want) {
		t.Errorf("first poll at %s, want %s", got, want)
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Schedule)
		want   string
	}{
		{func(s *Schedule) { s.First = 0 }, "first poll"},
		{func(s *Schedule) { s.First = 100 * time.Hour }, "before the deadline"},
		{func(s *Schedule) { s.Steps = nil }, "steps"},
		{func(s *Schedule) { s.Steps[2] = -1 }, "step 3"},
		{func(s *Schedule) { s.Deadline = 0 }, "deadline"},
		{func(s *Schedule) { s.Grace = 0 }, "grace"},
		{func(s *Schedule) { s.Retry = 0 }, "retry"},
	} {
		s := DefaultSchedule()
		c.change(&s)
		err := s.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v", c.want, err)
		}
	}
	if err := DefaultSchedule().Validate(); err != nil {
		t.Error(err)
	}
}
