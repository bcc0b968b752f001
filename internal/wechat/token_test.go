package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stable is WeChat's stable_token as documented: the same token until it is forced, or until
// 5 minutes before its end.
type stable struct {
	mu    sync.Mutex
	n     int
	until time.Time
	asks  []string // "normal" or "forced", with the time since start
	start time.Time
	delay time.Duration // before an answer
	life  time.Duration
}

func (s *stable) fake() *fake {
	s.start = time.Now()
	if s.life == 0 {
		s.life = 2 * time.Hour
	}
	return &fake{answer: func(_ int, c call) (int, string) {
		<-time.After(s.delay) // under synctest only: the duration of a request
		return 200, s.grant(c.body["force_refresh"] == true)
	}}
}

func (s *stable) grant(force bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "normal"
	if force {
		kind = "forced"
	}
	now := time.Now()
	s.asks = append(s.asks, fmt.Sprintf("%s at %v", kind, now.Sub(s.start)))
	if force || now.After(s.until.Add(-5*time.Minute)) {
		s.n, s.until = s.n+1, now.Add(s.life)
	}
	return fmt.Sprintf(`{"access_token":"T%d","expires_in":%d}`, s.n, int(s.until.Sub(now).Seconds()))
}

func wantToken(t *testing.T, ts TokenSource, refused, want string) {
	t.Helper()
	got, err := ts.Token(t.Context(), refused)
	if err != nil || got != want {
		t.Errorf("Token(%q) = %q, %v; want %q", refused, got, err, want)
	}
}

func TestStableTokenRequest(t *testing.T) {
	f := always(`{"access_token":"T1","expires_in":7200}`)
	wantToken(t, NewStableToken(f.client(t), "wx1", "the secret"), "", "T1")
	want := []call{{method: "POST", path: "/cgi-bin/stable_token", contentType: "application/json", body: map[string]any{
		"grant_type": "client_credential", "appid": "wx1", "secret": "the secret", "force_refresh": false}}}
	if diff := cmp.Diff(f.seen(), want, cmp.AllowUnexported(call{})); diff != "" {
		t.Errorf("requests (-got, +want):\n%s", diff)
	}
}

// A token is asked for when it is needed, 5 minutes before the end of the last.
func TestStableTokenExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stable{}
		ts := NewStableToken(s.fake().client(t), "wx1", "shh")
		wantToken(t, ts, "", "T1")
		<-time.After(115*time.Minute - time.Nanosecond)
		wantToken(t, ts, "", "T1")
		if len(s.asks) != 1 {
			t.Errorf("asked %v", s.asks)
		}
		<-time.After(2 * time.Nanosecond)
		wantToken(t, ts, "", "T2")
		wantToken(t, ts, "", "T2")
		if len(s.asks) != 2 {
			t.Errorf("asked %v", s.asks)
		}
	})
}

// Whoever asks in the middle of a token's life hears a short expires_in and must believe it; of
// a life under 10 minutes half is used, and one that is not told is used once.
func TestTokenLives(t *testing.T) {
	for expires, want := range map[string]time.Duration{
		`7200`: 115 * time.Minute, `"7200"`: 115 * time.Minute, `601`: 301 * time.Second, `600`: 5 * time.Minute, `300`: 150 * time.Second,
		`1`: 500 * time.Millisecond, `0`: 0, `-5`: 0, `null`: 0, `""`: 0, `9223372036854775807`: 30*24*time.Hour - 5*time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{answer: func(n int, _ call) (int, string) {
				return 200, fmt.Sprintf(`{"access_token":"T%d","expires_in":%s}`, n+1, expires)
			}}
			ts := NewStableToken(f.client(t), "wx1", "shh")
			wantToken(t, ts, "", "T1")
			if want > 0 {
				<-time.After(want - time.Nanosecond)
				wantToken(t, ts, "", "T1")
				<-time.After(time.Nanosecond)
			}
			wantToken(t, ts, "", "T2")
		})
	}
}

// A hundred goroutines that need a token make one request, also when it fails.
func TestTokenIsAskedForOnceByMany(t *testing.T) {
	many := func(t *testing.T, ts TokenSource, refused string) map[string]int {
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := map[string]int{}
		for range 100 {
			wg.Go(func() {
				token, err := ts.Token(t.Context(), refused)
				mu.Lock()
				defer mu.Unlock()
				got[fmt.Sprintf("%s %v", token, err)]++
			})
		}
		wg.Wait()
		return got
	}
	synctest.Test(t, func(t *testing.T) {
		s := &stable{delay: time.Second}
		ts := NewStableToken(s.fake().client(t), "wx1", "shh")
		if diff := cmp.Diff(many(t, ts, ""), map[string]int{"T1 <nil>": 100}); diff != "" || len(s.asks) != 1 {
			t.Errorf("asked %v (-got, +want):\n%s", s.asks, diff)
		}
		if diff := cmp.Diff(many(t, ts, "T1"), map[string]int{"T2 <nil>": 100}); diff != "" || len(s.asks) != 3 {
			t.Errorf("asked %v (-got, +want):\n%s", s.asks, diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: func(int, call) (int, string) { <-time.After(time.Second); return 0, "" }}
		ts := NewStableToken(f.client(t), "wx1", "shh")
		want := map[string]int{" stable_token of wx1: wechat stable_token: network is down": 100}
		if diff := cmp.Diff(many(t, ts, ""), want); diff != "" || len(f.seen()) != 1 {
			t.Errorf("%d requests (-got, +want):\n%s", len(f.seen()), diff)
		}
		// A failure is shared by those who waited for it, and remembered by nobody.
		if many(t, ts, ""); len(f.seen()) != 2 {
			t.Errorf("%d requests after the second failure", len(f.seen()))
		}
	})
}

// One who gives up while asking does not make the others fail; one who gives up while
// waiting is let go.
func TestTokenWaitersSurviveTheOneWhoAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		f := &fake{}
		hang := func(r *http.Request) error {
			select {
			case <-r.Context().Done():
				return r.Context().Err()
			case <-gate:
				return nil
			}
		}
		f.answer = func(int, call) (int, string) { return 200, `{"access_token":"T1","expires_in":7200}` }
		c := mustClient(t, Config{HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if err := hang(r); err != nil {
				return nil, err
			}
			return f.RoundTrip(r)
		})}})
		ts := NewStableToken(c, "wx1", "shh")
		type outcome struct {
			token string
			err   error
		}
		start := func() (context.CancelFunc, chan outcome) {
			ctx, cancel := context.WithCancel(t.Context())
			out := make(chan outcome, 1)
			go func() {
				token, err := ts.Token(ctx, "")
				out <- outcome{token, err}
			}()
			synctest.Wait() // until it asks, or waits for its turn
			return cancel, out
		}
		cancel1, asker := start()
		cancel2, waiter := start()
		cancel3, patient := start()
		defer cancel3()
		cancel2()
		if o := <-waiter; !errors.Is(o.err, context.Canceled) {
			t.Errorf("the one who stopped waiting: %+v", o)
		}
		cancel1()
		if o := <-asker; !errors.Is(o.err, context.Canceled) {
			t.Errorf("the one who stopped asking: %+v", o)
		}
		close(gate)
		if o := <-patient; o.err != nil || o.token != "T1" {
			t.Errorf("the patient one: %+v", o)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// After a refusal WeChat is asked first, and forced only if it gives the refused token again.
func TestRefusedStableToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stable{}
		ts := NewStableToken(s.fake().client(t), "wx1", "shh")
		wantToken(t, ts, "", "T1")
		s.grant(true) // another process forces: T2
		<-time.After(time.Minute)
		wantToken(t, ts, "T1", "T2")
		wantToken(t, ts, "T1", "T2") // a late refusal of T1: T2 is at hand
		wantToken(t, ts, "T2", "T3")
		want := []string{"normal at 0s", "forced at 0s", "normal at 1m0s", "normal at 1m0s", "forced at 1m0s"}
		if diff := cmp.Diff(s.asks, want); diff != "" {
			t.Errorf("(-got, +want):\n%s", diff)
		}
		// Not again within 30 s.
		<-time.After(29 * time.Second)
		if _, err := ts.Token(t.Context(), "T3"); !errors.Is(err, ErrTokenUnchanged) || Classify(err) != ClassToken {
			t.Errorf("error %v (%s)", err, Classify(err))
		}
		<-time.After(time.Second)
		wantToken(t, ts, "T3", "T4")
		wantToken(t, ts, "", "T4")
	})
}

// However long WeChat refuses whatever it gives, forcing stays under 20 a day and 30 s apart.
func TestForcedRefreshesStayWithinTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stable{life: 100 * 24 * time.Hour}
		ts := NewStableToken(s.fake().client(t), "wx1", "shh")
		var forced []time.Duration
		token, err := ts.Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for time.Since(start) < 72*time.Hour {
			if fresh, err := ts.Token(t.Context(), token); err == nil {
				token = fresh
				forced = append(forced, time.Since(start))
			} else if !errors.Is(err, ErrTokenUnchanged) {
				t.Fatal(err)
			}
			<-time.After(7 * time.Second)
		}
		for i := range forced {
			if i > 0 && forced[i]-forced[i-1] < 30*time.Second {
				t.Errorf("forced at %v and %v", forced[i-1], forced[i])
			}
			if i >= 20 && forced[i]-forced[i-20] < 24*time.Hour {
				t.Errorf("forced more than 20 times from %v to %v", forced[i-20], forced[i])
			}
		}
		if len(forced) < 30 {
			t.Errorf("forced %d times in 3 days: %v", len(forced), forced)
		}
		// After a quiet day the first one is quick again.
		<-time.After(30 * time.Hour)
		wantToken(t, ts, token, fmt.Sprintf("T%d", s.n+1))
		<-time.After(30 * time.Second)
		wantToken(t, ts, fmt.Sprintf("T%d", s.n), fmt.Sprintf("T%d", s.n+1))
	})
}

func TestStableTokenErrors(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   Class
	}{
		{200, refusal(40001), ClassConfig}, // a wrong secret; there is no token to refuse
		{200, refusal(40125), ClassConfig},
		{200, refusal(40164), ClassConfig},
		{200, refusal(45011), ClassRateLimit},
		{200, refusal(-1), ClassRetry},
		{200, `{"expires_in":7200}`, ClassRetry},
		{200, `{"access_token":"a b","expires_in":7200}`, ClassRetry},
		{200, `{"access_token":"` + strings.Repeat("a", 4097) + `","expires_in":7200}`, ClassRetry},
		{200, `{"access_token":"a","expires_in":"soon"}`, ClassRetry},
		{200, `[]`, ClassRetry},
		{502, ``, ClassRetry},
		{0, ``, ClassRetry},
	} {
		f := &fake{answer: func(int, call) (int, string) { return c.status, c.body }}
		token, err := NewStableToken(f.client(t), "wx1", "shh").Token(t.Context(), "")
		if token != "" || Classify(err) != c.want || len(f.seen()) != 1 || !strings.Contains(err.Error(), "stable_token of wx1") {
			t.Errorf("answer %.60q: %q, %v (%s, want %s) after %d requests", c.body, token, err, Classify(err), c.want, len(f.seen()))
		}
	}
	t.Run("512 characters", func(t *testing.T) {
		long := strings.Repeat("a", 512)
		wantToken(t, NewStableToken(always(`{"access_token":"`+long+`","expires_in":7200}`).client(t), "wx1", "shh"), "", long)
	})
	t.Run("forcing fails", func(t *testing.T) {
		f := &fake{answer: func(_ int, c call) (int, string) {
			if c.body["force_refresh"] == true {
				return 200, refusal(45009)
			}
			return 200, `{"access_token":"T1","expires_in":7200}`
		}}
		ts := NewStableToken(f.client(t), "wx1", "shh")
		if _, err := ts.Token(t.Context(), "T1"); Classify(err) != ClassQuota {
			t.Errorf("error %v", err)
		}
	})
}

func TestTokenURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inTurn(`{"access_token":"T1","expires_in":7200}`, `{"access_token":"T1","expires_in":7100}`, `{"access_token":"T2","expires_in":7200}`)
		ts, err := NewTokenURL(f.client(t), TokenURL{Name: "wx1", URL: "https://tokens.example/wx1?access_token=x", Bearer: "B"})
		if err != nil {
			t.Fatal(err)
		}
		wantToken(t, ts, "", "T1")
		wantToken(t, ts, "", "T1")
		if _, err := ts.Token(t.Context(), "T1"); !errors.Is(err, ErrTokenUnchanged) {
			t.Errorf("error %v", err)
		}
		wantToken(t, ts, "T1", "T2")
		want := call{method: "GET", path: "/wx1", token: "x", auth: "Bearer B"}
		for _, got := range f.seen() {
			if diff := cmp.Diff(got, want, cmp.AllowUnexported(call{})); diff != "" {
				t.Errorf("request (-got, +want):\n%s", diff)
			}
		}
		if n := len(f.seen()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
	for _, u := range []string{"", "tokens.example/a", "ftp://a/topsecret", "https://u:topsecret\x00@h/"} {
		if _, err := NewTokenURL(always("{}").client(t), TokenURL{URL: u}); err == nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("URL %q: %v", u, err)
		}
	}
}

// The whole way: a call finds its cached token refused, gets another and succeeds, and
// so does everybody else at that moment, with one refresh among them.
func TestConcurrentCallsRecoverFromARefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stable{delay: 100 * time.Millisecond}
		grants := s.fake()
		f := &fake{}
		f.answer = func(n int, c call) (int, string) {
			if c.path == "/cgi-bin/stable_token" {
				return grants.answer(n, c)
			}
			<-time.After(10 * time.Millisecond)
			if c.token == "T1" {
				return 200, refusal(42001)
			}
			return 200, `{"msg_status":"SENDING"}`
		}
		client := f.client(t)
		ts := NewStableToken(client, "wx1", "shh")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := client.MassGet(t.Context(), ts, 7); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		want := []string{"normal at 100ms", "normal at 210ms", "forced at 310ms"}
		if diff := cmp.Diff(s.asks, want); diff != "" {
			t.Errorf("asked for tokens (-got, +want):\n%s", diff)
		}
	})
}
