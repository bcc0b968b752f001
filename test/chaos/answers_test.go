package chaos

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fixed answers as it is told, without a network.
type fixed func(*http.Request) (int, error)

func (f fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	status, err := f(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: http.NoBody}, nil
}

func push(t *testing.T, b *balancer, openid string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://balancer/callback/wx1?openid="+openid, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := b.RoundTrip(r); err == nil {
		_ = resp.Body.Close()
	}
}

func TestBalancerTakesRepetitionsToTheNext(t *testing.T) {
	var hosts []string
	b := newBalancer(fixed(func(r *http.Request) (int, error) {
		hosts = append(hosts, r.URL.Host)
		return http.StatusOK, nil
	}), "a:1", "b:1")
	for _, openid := range []string{"1", "2", "1", "1", "3"} {
		push(t, b, openid)
	}
	if got := strings.Join(hosts, " "); got != "a:1 b:1 b:1 a:1 a:1" {
		t.Errorf("went to %s", got)
	}
}

func TestJudge(t *testing.T) {
	now := time.Now()
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	down := excuse{target: "a", from: at(10), to: at(20)}
	full := excuse{target: "a", from: at(10), to: at(20), refusals: true}
	open := excuse{target: "a", from: at(10)}
	for name, c := range map[string]struct {
		answer  answer
		excuses []excuse
		wrong   string
	}{
		"well":                         {answer{"a", at(0), time.Second, 200, ""}, nil, ""},
		"late":                         {answer{"a", at(0), 6 * time.Second, 200, ""}, nil, "took 6s"},
		"silent":                       {answer{"a", at(0), time.Second, 0, "reset"}, nil, "did not answer: reset"},
		"refused":                      {answer{"a", at(0), time.Second, 503, ""}, nil, "answered 503"},
		"refused without room":         {answer{"a", at(12), time.Second, 503, ""}, []excuse{full}, ""},
		"silent without room":          {answer{"a", at(12), time.Second, 0, "reset"}, []excuse{full}, "did not answer"},
		"refused when there was room":  {answer{"a", at(21), time.Second, 503, ""}, []excuse{full}, "answered 503"},
		"silent while it was down":     {answer{"a", at(12), time.Second, 0, "refused"}, []excuse{down}, ""},
		"silent when it went down":     {answer{"a", at(8), 3 * time.Second, 0, "reset"}, []excuse{down}, ""},
		"silent before it went down":   {answer{"a", at(8), time.Second, 0, "reset"}, []excuse{down}, "did not answer"},
		"silent after it was down":     {answer{"a", at(21), time.Second, 0, "reset"}, []excuse{down}, "did not answer"},
		"silent while it is down":      {answer{"a", at(99), time.Second, 0, "reset"}, []excuse{open}, ""},
		"silent while another is down": {answer{"b", at(12), time.Second, 0, "reset"}, []excuse{down}, "did not answer"},
	} {
		b := newBalancer(nil)
		b.answers = []answer{c.answer, {"c", at(0), time.Second, 200, ""}}
		b.excuses = c.excuses
		wrong, _ := b.judge()
		if got := strings.Join(wrong, "\n"); (c.wrong == "") != (got == "") || !strings.Contains(got, c.wrong) {
			t.Errorf("%s: %q, want %q", name, got, c.wrong)
		}
	}
	if wrong, _ := newBalancer(nil).judge(); len(wrong) == 0 {
		t.Error("no answer at all was found well")
	}
}

func TestBalancerNotesAnswersAndExcuses(t *testing.T) {
	fail := errors.New("connection refused")
	b := newBalancer(fixed(func(*http.Request) (int, error) { return 0, fail }), "a:1")
	push(t, b, "1")
	if wrong, _ := b.judge(); len(wrong) != 1 {
		t.Errorf("a refused connection: %v", wrong)
	}
	b = newBalancer(fixed(func(*http.Request) (int, error) { return 0, fail }), "a:1")
	over := b.excuse("a:1", false)
	push(t, b, "1")
	over()
	b.next = fixed(func(*http.Request) (int, error) { return 200, nil })
	push(t, b, "2")
	wrong, detail := b.judge()
	if len(wrong) > 0 || b.count() != 2 || !strings.Contains(detail, "1 attempts met an ingest that was down") {
		t.Errorf("%v, %s", wrong, detail)
	}
}

func TestAMachineThatStandsStillExcusesEverybody(t *testing.T) {
	now := time.Now()
	b := newBalancer(nil)
	b.answers = []answer{{"a", now, 6 * time.Second, 200, ""}, {"c", now, time.Second, 200, ""}}
	b.beat(now.Add(2*time.Second), now.Add(2*time.Second+heartbeat))
	if wrong, _ := b.judge(); len(wrong) != 1 {
		t.Errorf("while the machine ran: %v", wrong)
	}
	b.beat(now.Add(2*time.Second), now.Add(4*time.Second))
	wrong, detail := b.judge()
	if len(wrong) > 0 || !strings.Contains(detail, "1 not judged") {
		t.Errorf("while it stood still: %v, %s", wrong, detail)
	}
}
