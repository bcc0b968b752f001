package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMassGet(t *testing.T) {
	for name, body := range map[string]string{
		"as WeChat answers":        `{"msg_id":3147483655,"msg_status":"SEND_SUCCESS"}`,
		"as documented":            `{"msg_id":"3147483655","msg_status":"SEND_SUCCESS"}`,
		"with errcode and news":    `{"errcode":0,"errmsg":"ok","msg_id":3147483655,"msg_status":"SEND_SUCCESS","new":{"a":[1]}}`,
		"without msg_id, with BOM": "\xef\xbb\xbf" + `{"msg_status":"SEND_SUCCESS"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := always(body)
			got, err := f.client(t).MassGet(t.Context(), &tokens{list: []string{"T 1+/"}}, 3147483655)
			if want := (MassStatus{3147483655, "SEND_SUCCESS"}); err != nil || got != want {
				t.Errorf("MassGet = %+v, %v; want %+v", got, err, want)
			}
			want := []call{{method: "POST", path: "/cgi-bin/message/mass/get", token: "T 1+/", contentType: "application/json",
				body: map[string]any{"msg_id": "3147483655"}}}
			if diff := cmp.Diff(f.seen(), want, cmp.AllowUnexported(call{})); diff != "" {
				t.Errorf("requests (-got, +want):\n%s", diff)
			}
		})
	}
}

func TestMassGetUnusableAnswers(t *testing.T) {
	for body, want := range map[string]string{
		`{"msg_id":8,"msg_status":"SENDING"}`:   "asked about msg_id 7, answered about 8",
		`{"msg_id":7}`:                          "msg_status is missing",
		`{}`:                                    "msg_status is missing",
		`{"msg_id":"x","msg_status":"SENDING"}`: `msg_id holds "x"`,
		`{"errcode":"many"}`:                    `errcode holds "many"`,
		`<html>`:                                "6 bytes that are no JSON object",
		``:                                      "0 bytes that are no JSON object",
		`"ok"`:                                  "no JSON object",
		`{"msg_status":"` + strings.Repeat("x", MaxBody): "larger than",
	} {
		got, err := always(body).client(t).MassGet(t.Context(), &tokens{list: []string{"T"}}, 7)
		if err == nil || !strings.Contains(err.Error(), want) || got != (MassStatus{}) || Classify(err) != ClassRetry {
			t.Errorf("answer %.60q: %+v, %v (%s); want an error with %q", body, got, err, Classify(err), want)
		}
	}
}

// endless is an answer that never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += len(p)
	return len(p), nil
}

func (*endless) Close() error { return nil }

func TestEndlessAnswersAreCutOff(t *testing.T) {
	body := &endless{}
	c := mustClient(t, Config{HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: &stopper{body, t}, Request: r}, nil
	})}})
	if _, err := c.MassGet(t.Context(), deaf("T"), 7); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("error %v", err)
	}
}

// stopper ends an endless answer for the test's sake when somebody reads on and on.
type stopper struct {
	*endless
	t *testing.T
}

func (s *stopper) Read(p []byte) (int, error) {
	if s.read > 4*MaxBody {
		s.t.Errorf("%d bytes of the answer were read", s.read)
		return 0, io.EOF
	}
	return s.endless.Read(p)
}

func TestQuota(t *testing.T) {
	f := always(`{"errcode":0,"errmsg":"ok","quota":{"daily_limit":1000,"used":3,"remain":"997"},"rate_limit":{"call_count":10}}`)
	got, err := f.client(t).Quota(t.Context(), &tokens{list: []string{"T"}}, "/cgi-bin/message/mass/get")
	if want := (Quota{1000, 3, 997}); err != nil || got != want {
		t.Errorf("Quota = %+v, %v; want %+v", got, err, want)
	}
	c := f.seen()[0]
	if c.path != "/cgi-bin/openapi/quota/get" || c.body["cgi_path"] != "/cgi-bin/message/mass/get" {
		t.Errorf("request %+v", c)
	}
	for body, want := range map[string]string{
		`{"errcode":0}`:                                      "daily_limit is missing",
		`{"quota":{"daily_limit":1,"used":2}}`:               "remain is missing",
		`{"quota":{"daily_limit":1,"used":{},"remain":1.5}}`: "used is missing",
	} {
		if _, err := always(body).client(t).Quota(t.Context(), &tokens{list: []string{"T"}}, "/a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("answer %s: error %v, want one with %q", body, err, want)
		}
	}
	if _, err := f.client(t).Quota(t.Context(), &tokens{list: []string{"T"}}, "https://api.weixin.qq.com/cgi-bin"); err == nil || len(f.seen()) != 1 {
		t.Errorf("a path with a host: %v, %d requests", err, len(f.seen()))
	}
}

func TestGetCallbackIP(t *testing.T) {
	f := always(`{"ip_list":["127.0.0.1","101.226.103.9/25"," 240e::1 "]}`)
	got, err := f.client(t).GetCallbackIP(t.Context(), &tokens{list: []string{"T"}})
	want := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("101.226.103.0/25"), netip.MustParsePrefix("240e::1/128")}
	if diff := cmp.Diff(got, want, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v (-got, +want):\n%s", err, diff)
	}
	if c := f.seen()[0]; c.method != "GET" || c.path != "/cgi-bin/getcallbackip" || c.token != "T" {
		t.Errorf("request %+v", c)
	}
	for body, want := range map[string]string{
		`{"ip_list":["127.0.0.1","10.0.0.1-10.0.0.9"]}`: `holds "10.0.0.1-10.0.0.9"`,
		`{"ip_list":["fe80::1%eth0"]}`:                  "holds",
		`{"ip_list":[]}`:                                "missing or empty",
		`{}`:                                            "missing or empty",
	} {
		if _, err := always(body).client(t).GetCallbackIP(t.Context(), &tokens{list: []string{"T"}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("answer %s: error %v, want one with %q", body, err, want)
		}
	}
}

func TestCheckCallback(t *testing.T) {
	f := always(`{"dns":[{"ip":"203.0.113.5","real_operator":"UNICOM"},{"ip":"203.0.113.6","real_operator":"CAP"}],
		"ping":[{"ip":"203.0.113.5","from_operator":"CAP","package_loss":"0%","time":"23.079ms"},{"ip":"203.0.113.6","from_operator":"CAP","package_loss":"100%","time":""}]}`)
	got, err := f.client(t).CheckCallback(t.Context(), &tokens{list: []string{"T"}})
	up, down := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("203.0.113.6")
	want := CallbackCheck{Addresses: []netip.Addr{up, down}, Silent: []netip.Addr{down}}
	if diff := cmp.Diff(got, want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v (-got, +want):\n%s", err, diff)
	}
	if c := f.seen()[0]; c.method != "POST" || c.path != "/cgi-bin/callback/check" || c.token != "T" || c.body["action"] != "all" || c.body["check_operator"] != "DEFAULT" {
		t.Errorf("request %+v", c)
	}
	_, err = always(refusal(NoCallbackURL)).client(t).CheckCallback(t.Context(), &tokens{list: []string{"T"}})
	var e *APIError
	if !errors.As(err, &e) || e.Code != NoCallbackURL {
		t.Errorf("no URL: %v", err)
	}
	if _, err := always(`{"dns":[{"ip":"nowhere"}]}`).client(t).CheckCallback(t.Context(), &tokens{list: []string{"T"}}); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("no address: %v", err)
	}
}

// A token that WeChat refuses is replaced once, whatever code it refuses with.
func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	const ok = `{"msg_id":7,"msg_status":"SENDING"}`
	for _, code := range []int{40001, 40014, 41001, 42001} {
		f := inTurn(refusal(code), ok)
		got, err := f.client(t).MassGet(t.Context(), &tokens{list: []string{"T1", "T2"}}, 7)
		if err != nil || got.Status != "SENDING" {
			t.Errorf("%d: %+v, %v", code, got, err)
		}
		if used := tokensUsed(f); used != "T1 T2" {
			t.Errorf("%d: tokens used: %s", code, used)
		}
	}
	t.Run("but not twice", func(t *testing.T) {
		f := inTurn(refusal(42001), refusal(40001), ok)
		_, err := f.client(t).MassGet(t.Context(), &tokens{list: []string{"T1", "T2", "T3"}}, 7)
		var e *APIError
		if !errors.As(err, &e) || e.Code != 40001 || Classify(err) != ClassToken || tokensUsed(f) != "T1 T2" {
			t.Errorf("error %v (%s) after tokens %s", err, Classify(err), tokensUsed(f))
		}
	})
	t.Run("not for other errors", func(t *testing.T) {
		f := inTurn(refusal(45009), ok)
		_, err := f.client(t).MassGet(t.Context(), &tokens{list: []string{"T1", "T2"}}, 7)
		if Classify(err) != ClassQuota || tokensUsed(f) != "T1" {
			t.Errorf("error %v after tokens %s", err, tokensUsed(f))
		}
	})
	t.Run("not with the same token", func(t *testing.T) {
		for name, ts := range map[string]TokenSource{
			"source says so": &tokens{list: []string{"T1"}, err: ErrTokenUnchanged},
			"source is deaf": deaf("T1"),
		} {
			f := inTurn(refusal(40001), ok)
			_, err := f.client(t).MassGet(t.Context(), ts, 7)
			var e *APIError
			if !errors.As(err, &e) || e.Code != 40001 || Classify(err) != ClassToken || tokensUsed(f) != "T1" {
				t.Errorf("%s: error %v after tokens %s", name, err, tokensUsed(f))
			}
		}
	})
	t.Run("source fails", func(t *testing.T) {
		cause := &APIError{API: apiStableToken, Code: 40125, Class: ClassConfig}
		_, err := inTurn(refusal(40001)).client(t).MassGet(t.Context(), &tokens{list: []string{"T1"}, err: cause}, 7)
		if !errors.Is(err, cause) || Classify(err) != ClassConfig {
			t.Errorf("error %v (%s)", err, Classify(err))
		}
		f := always(ok)
		if _, err := f.client(t).MassGet(t.Context(), &tokens{err: cause}, 7); !errors.Is(err, cause) || len(f.seen()) != 0 {
			t.Errorf("error %v after %d requests", err, len(f.seen()))
		}
	})
}

type deaf string

func (d deaf) Token(context.Context, string) (string, error) { return string(d), nil }

func tokensUsed(f *fake) string {
	var used []string
	for _, c := range f.seen() {
		used = append(used, c.token)
	}
	return strings.Join(used, " ")
}

func TestAPIErrors(t *testing.T) {
	long := strings.Repeat("错", 400)
	for _, c := range []struct {
		body string
		want APIError
	}{
		{`{"errcode":40059,"errmsg":"invalid msg id rid: 66b2-1a-3c"}`, APIError{apiMassGet, 40059, "invalid msg id rid: 66b2-1a-3c", "66b2-1a-3c", ClassNotFound}},
		{`{"errcode":"-1","errmsg":"system error"}`, APIError{apiMassGet, -1, "system error", "", ClassRetry}},
		{`{"errcode":40164,"errmsg":"invalid ip 1.2.3.4, not in whitelist hint: [a.b]"}`, APIError{apiMassGet, 40164, "invalid ip 1.2.3.4, not in whitelist hint: [a.b]", "", ClassConfig}},
		{`{"errcode":99999}`, APIError{apiMassGet, 99999, "", "", ClassUnknown}},
		{"{\"errcode\":48001,\"errmsg\":\"a\nb\"}", APIError{apiMassGet, 48001, "a b", "", ClassAccount}},
		{`{"errcode":1,"errmsg":"` + long + `"}`, APIError{apiMassGet, 1, long[:507] + "…", "", ClassUnknown}},
	} {
		_, err := always(c.body).client(t).MassGet(t.Context(), &tokens{list: []string{"T-secret"}}, 7)
		var got *APIError
		if !errors.As(err, &got) {
			t.Errorf("answer %.60s: error %v", c.body, err)
			continue
		}
		if diff := cmp.Diff(*got, c.want); diff != "" {
			t.Errorf("answer %.60s (-got, +want):\n%s", c.body, diff)
		}
	}
}

func TestClassOf(t *testing.T) {
	// Written out a second time, so that a change of a class is a change on purpose.
	want := map[Class][]int64{
		ClassRetry:     {-1, 42010, 45066, 61005, 61006, 9500001, 9500002, 268488001},
		ClassToken:     {40001, 40014, 41001, 42001},
		ClassRateLimit: {45011},
		ClassQuota:     {45009, 45028, 48006},
		ClassConfig:    {40013, 40125, 40164, 40243, 41002, 41004, 61004, 89503, 89506, 89507},
		ClassAccount:   {42007, 48001, 48004, 50002, 50004, 50007, 61003, 61007, 61023},
		ClassNotFound:  {40059},
		ClassConfirm:   {89504, 89505},
		ClassUnknown:   {0, 1, 10001, 20431, 43002, 45065},
	}
	for class, codes := range want {
		for _, code := range codes {
			if got := ClassOf(code); got != class {
				t.Errorf("ClassOf(%d) = %s, want %s", code, got, class)
			}
		}
	}
	var listed []Class
	for class := range want {
		listed = append(listed, class)
	}
	if diff := cmp.Diff(Classes(), listed, cmpopts.SortSlices(func(a, b Class) bool { return a < b })); diff != "" {
		t.Errorf("Classes() (-got, +want):\n%s", diff)
	}
}

func TestClassify(t *testing.T) {
	status := func(code int) error { return fmt.Errorf("wrapped: %w", &StatusError{apiMassGet, code}) }
	for _, c := range []struct {
		err  error
		want Class
	}{
		{nil, ""},
		{status(500), ClassRetry}, {status(503), ClassRetry}, {status(408), ClassRetry}, {status(429), ClassRateLimit},
		{status(401), ClassConfig}, {status(403), ClassConfig}, {status(404), ClassUnknown}, {status(302), ClassUnknown},
		{context.Canceled, ClassRetry}, {fmt.Errorf("a: %w", context.DeadlineExceeded), ClassRetry},
		{ErrTokenUnchanged, ClassToken}, {errors.New("else"), ClassUnknown},
	} {
		if got := Classify(c.err); got != c.want {
			t.Errorf("Classify(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

func TestNewClientRefusesBadBaseURLs(t *testing.T) {
	for _, u := range []string{"api.weixin.qq.com", "ftp://a", "https://", "https://a/?key=topsecret", "https://a/#b", "https://a:topsecret\x7f@b"} {
		if _, err := NewClient(Config{BaseURL: u}); err == nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("base URL %q: %v", u, err)
		}
	}
	f := always(`{"msg_status":"SENDING"}`)
	c := f.client(t, func(c *Config) { c.BaseURL = "http://proxy/wechat/" })
	if _, err := c.MassGet(t.Context(), deaf("T"), 7); err != nil || f.seen()[0].path != "/wechat/cgi-bin/message/mass/get" {
		t.Errorf("behind a proxy with a path: %v, %+v", err, f.seen())
	}
}

// secretServer answers as the worst proxy would: it quotes what it was sent.
func secretServer(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return mustClient(t, Config{BaseURL: s.URL})
}

const (
	secretToken  = "TOKEN+very/secret=="
	secretSecret = "SECRET&of the app"
	secretBearer = "BEARER-123"
	secretKey    = "KEY+in+the+URL"
)

// No way to fail puts a token, a secret, a bearer or a key into an error, at any depth of
// wrapping, and *url.Error with the URL in it is not among what errors.As finds.
func TestErrorsHoldNoSecrets(t *testing.T) {
	quote := func(status int, format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, format, jsonString(allOf(r)))
		}
	}
	raw := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			carried := allOf(r)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, answer, carried)
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"errmsg quotes": quote(200, `{"errcode":40013,"errmsg":%s}`),
		"refused token": quote(200, `{"errcode":40001,"errmsg":%s}`),
		"not JSON":      quote(200, `<html>%s`),
		"broken JSON":   quote(200, `{"access_token":%s,]`),
		"bad token":     quote(200, `{"access_token":%s,"expires_in":1}`),
		"status 500":    quote(500, `%s`),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1"+r.URL.String(), http.StatusTemporaryRedirect)
		},
		"connection cut":       raw("%.0s"),
		"malformed answer":     raw("%s\r\n\r\n"),
		"malformed header":     raw("HTTP/1.1 200 OK\r\n%s\r\n\r\n"),
		"malformed status":     raw("HTTP/1.1 %s OK\r\n\r\n"),
		"answer cut":           raw("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n%s"),
		"unsupported encoding": raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n"),
		"no answer in time": func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // the server notices only then that the client is gone
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := secretServer(t, h)
			ctx := t.Context()
			if name == "no answer in time" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			checkNoSecrets(ctx, t, c)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		checkNoSecrets(t.Context(), t, mustClient(t, Config{BaseURL: "http://127.0.0.1:1"}))
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := mustClient(t, Config{BaseURL: "http://127.0.0.1:1"})
		checkNoSecrets(ctx, t, c)
		if _, err := c.MassGet(ctx, deaf(secretToken), 7); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v does not say that it was cancelled", err)
		}
	})
}

// allOf returns everything that a request carried.
func allOf(r *http.Request) string {
	body, _ := io.ReadAll(r.Body)
	q := r.URL.Query()
	return strings.Join([]string{q.Get("access_token") + "x" + q.Get("key"), r.URL.String(), r.Header.Get("Authorization"), string(body)}, " ")
}

func checkNoSecrets(ctx context.Context, t *testing.T, c *Client) {
	t.Helper()
	tokenURL, err := NewTokenURL(c, TokenURL{Name: "wx1", URL: c.cfg.BaseURL + "/token?key=" + url.QueryEscape(secretKey), Bearer: secretBearer})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.MassGet(ctx, deaf(secretToken), 7)
	checkNoSecretsIn(t, err, secretToken)
	_, err = NewStableToken(c, "wx1", secretSecret).Token(ctx, "")
	checkNoSecretsIn(t, err, secretSecret)
	_, err = tokenURL.Token(ctx, "")
	checkNoSecretsIn(t, err, secretBearer, secretKey)
}

func checkNoSecretsIn(t *testing.T, err error, secrets ...string) {
	t.Helper()
	if err == nil || Classify(err) == "" {
		t.Fatalf("error %v of class %q", err, Classify(err))
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		t.Errorf("*url.Error can be had: %v", ue)
	}
	for ; err != nil; err = errors.Unwrap(err) {
		for _, s := range secrets {
			for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), strings.Trim(jsonString(s), `"`), s[:6]} {
				if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, form) {
					t.Errorf("error holds %q: %s", form, text)
				}
			}
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	c := secretServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.MassGet(t.Context(), deaf(secretToken), 7)
	var e *StatusError
	if !errors.As(err, &e) || e.Status != 307 || elsewhere != 0 {
		t.Errorf("error %v, %d requests elsewhere", err, elsewhere)
	}
}

func TestRequestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	f := inTurn(`{"msg_status":"SENDING"}`, refusal(45011), refusal(40001), refusal(40001), `{"access_token":"T1","expires_in":7200}`, `<`)
	c := f.client(t, func(c *Config) { c.Registerer = reg })
	if n := testutil.CollectAndCount(c.metrics.requests); n != len(apis())*(1+len(Classes())) {
		t.Errorf("%d series before anything happened", n)
	}
	for range 3 {
		c.MassGet(t.Context(), &tokens{list: []string{"T1", "T2"}}, 7)
	}
	ts := NewStableToken(c, "wx1", "s")
	for range 2 {
		if _, err := ts.Token(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	c.Quota(t.Context(), ts, "/a")
	want := map[string]float64{"mass_get ok": 1, "mass_get rate_limit": 1, "mass_get token": 2, "stable_token ok": 1, "quota_get retry": 1}
	if diff := cmp.Diff(nonZero(t, reg, "qunfa_wechat_requests_total"), want); diff != "" {
		t.Errorf("requests (-got, +want):\n%s", diff)
	}
	if diff := cmp.Diff(nonZero(t, reg, "qunfa_wechat_token_refreshes_total"), map[string]float64{"expired": 1}); diff != "" {
		t.Errorf("refreshes (-got, +want):\n%s", diff)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if _, err := NewClient(Config{Registerer: reg}); err == nil {
		t.Error("metrics are registered twice")
	}
}

// nonZero returns the series of a counter that are not 0, by their label values.
func nonZero(t *testing.T, g prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if v := m.GetCounter().GetValue(); v != 0 {
				got[strings.Join(labels, " ")] = v
			}
		}
	}
	return got
}
