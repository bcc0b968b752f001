package chaos

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// answerLimit is what WeChat waits for an answer to a callback.
const answerLimit = 5 * time.Second

// balancer is what stands before several ingests: it takes pushes in turn to
// each, and the repetition of a push to the next one. It knows nothing of their
// health. It notes how every push was answered.
type balancer struct {
	next    http.RoundTripper
	targets []string // host:port

	mu      sync.Mutex
	turn    int
	last    map[string]int // where a push went last, by its path and recipient
	answers []answer
	excuses []excuse
	stalls  []excuse // times in which this very process was not run
}

// answer is how one attempt to deliver a callback was answered.
type answer struct {
	target string
	at     time.Time
	took   time.Duration
	status int    // 0: not at all
	err    string // why not
}

// excuse is a time in which an ingest cannot be held to its promises.
type excuse struct {
	target   string
	from, to time.Time // to is zero while it lasts
	// refusals tells that only refusals are excused, not silence: the disk of
	// its spool is full.
	refusals bool
}

func newBalancer(next http.RoundTripper, targets ...string) *balancer {
	return &balancer{next: next, targets: targets, last: map[string]int{}}
}

// RoundTrip implements [http.RoundTripper].
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	target := b.choose(r.URL)
	out := r.Clone(r.Context())
	out.URL.Host, out.Host = target, target
	a := answer{target: target, at: time.Now()}
	resp, err := b.next.RoundTrip(out)
	a.took = time.Since(a.at)
	if err != nil {
		a.err = err.Error()
	} else {
		a.status = resp.StatusCode
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = append(b.answers, a)
	return resp, err
}

func (b *balancer) choose(u *url.URL) string {
	push := u.Path + u.Query().Get("openid")
	b.mu.Lock()
	defer b.mu.Unlock()
	i, again := b.last[push]
	if again {
		i = (i + 1) % len(b.targets)
	} else {
		i = b.turn % len(b.targets)
		b.turn++
	}
	b.last[push] = i
	return b.targets[i]
}

// excuse notes that a target is in trouble, until the function it returns is called.
func (b *balancer) excuse(target string, refusals bool) (over func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := len(b.excuses)
	b.excuses = append(b.excuses, excuse{target: target, from: time.Now(), refusals: refusals})
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.excuses[i].to = time.Now()
	}
}

// judge says how the attempts were answered by those who could.
func (b *balancer) judge() (wrong []string, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var slowest time.Duration
	var judged, excused, refused, stalled int
	for _, a := range b.answers {
		if covers(b.excuses, a, false) {
			excused++
			continue
		}
		if covers(b.stalls, a, false) {
			stalled++
			continue
		}
		judged++
		slowest = max(slowest, a.took)
		switch {
		case a.took > answerLimit:
			wrong = append(wrong, fmt.Sprintf("%s: %s took %s", a.at.Format(time.TimeOnly), a.target, a.took))
		case a.status == 0:
			wrong = append(wrong, fmt.Sprintf("%s: %s did not answer: %s", a.at.Format(time.TimeOnly), a.target, a.err))
		case a.status != http.StatusOK && covers(b.excuses, a, true):
			refused++
		case a.status != http.StatusOK:
			wrong = append(wrong, fmt.Sprintf("%s: %s answered %d", a.at.Format(time.TimeOnly), a.target, a.status))
		}
	}
	detail = fmt.Sprintf("%d answers, the slowest after %s; %d refused without room in the spool; %d attempts met an ingest that was down or frozen",
		judged, slowest.Round(time.Millisecond), refused, excused)
	if len(b.stalls) > 0 {
		detail += fmt.Sprintf("; %d not judged, since the whole machine stood still %d times", stalled, len(b.stalls))
	}
	if judged == 0 {
		wrong = append(wrong, "no attempt met an ingest that was well: nothing was shown")
	}
	return wrong, detail
}

// covers tells whether an answer falls into a time that is excused.
func covers(all []excuse, a answer, refusals bool) bool {
	end := a.at.Add(a.took)
	return slices.ContainsFunc(all, func(e excuse) bool {
		return (e.target == a.target || e.target == everybody) && e.refusals == refusals && !e.from.After(end) && (e.to.IsZero() || !e.to.Before(a.at))
	})
}

const (
	everybody = "everybody"
	heartbeat = 50 * time.Millisecond
	// missed is how late a heartbeat must be for the machine to be to blame for
	// answers that are late by as much. Nothing here waits for anything else.
	missed = time.Second
)

// beat notes that nothing ran between two heartbeats that lie too far apart.
func (b *balancer) beat(last, now time.Time) {
	if now.Sub(last) < missed {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stalls = append(b.stalls, excuse{target: everybody, from: last, to: now})
}

// count is how many attempts there were.
func (b *balancer) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.answers)
}
