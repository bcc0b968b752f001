package wechat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/wechat"
	"qunfa/internal/wechat/wechattest"
)

// The simulator writes by itself what this package reads, from the same facts about WeChat: where the
// two disagree, one of them misread those.

// receiver verifies, opens and reads every push, as ingest does.
type receiver struct {
	mu        sync.Mutex
	verifiers map[string]*wechat.Verifier // by the last part of the path that has one
	finished  map[string]wechat.MassSendJobFinish
	pushes    map[string]int // by mode, format and kind
	faults    []error
}

func newReceiver(t *testing.T, sim *wechattest.Simulator) *receiver {
	t.Helper()
	r := &receiver{verifiers: map[string]*wechat.Verifier{}, finished: map[string]wechat.MassSendJobFinish{}, pushes: map[string]int{}}
	add := func(appid string, k wechat.Keys) {
		v, err := wechat.NewVerifier(k)
		if err != nil {
			t.Fatal(err)
		}
		r.verifiers[appid] = v
	}
	for _, a := range sim.Accounts() {
		k := wechat.Keys{AppID: a.AppID, Tokens: []string{"another", a.Token}}
		if a.Mode != wechattest.Plain {
			k.AESKeys = []string{strings.Repeat("A", 43), a.AESKey}
		}
		add(a.AppID, k)
	}
	for _, c := range sim.Components() {
		add(c.AppID, wechat.Keys{AppID: c.AppID, Tokens: []string{c.Token}, AESKeys: []string{c.AESKey}})
	}
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	answer, err := r.receive(req)
	if err != nil {
		r.mu.Lock()
		r.faults = append(r.faults, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err))
		r.mu.Unlock()
		http.Error(w, "refused", http.StatusForbidden)
		return
	}
	io.WriteString(w, answer)
}

// receive takes a push to /callback/{appid} or /platform/{component}/callback/{appid}.
func (r *receiver) receive(req *http.Request) (string, error) {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	v := r.verifiers[parts[1]]
	if v == nil {
		return "", errors.New("nobody is at this path")
	}
	if req.Method == http.MethodGet {
		return v.VerifyURL(req.URL.Query())
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return "", err
	}
	p, err := v.Open(req.URL.Query(), req.Header.Get("Content-Type"), body)
	if err != nil {
		return "", err
	}
	head, err := wechat.ParsePush(p.Format, p.Body)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushes[p.Mode+" "+p.Format+" "+head.MsgType+head.InfoType+" "+head.Event]++
	if !head.IsMassSendJobFinish() {
		return "success", nil
	}
	m, err := wechat.ParseMassSendJobFinish(p.Format, p.Body)
	r.finished[fmt.Sprintf("%s/%d", parts[len(parts)-1], m.MsgID)] = m
	return "success", err
}

func start(t *testing.T, cfg wechattest.Config) *wechattest.Simulator {
	t.Helper()
	sim, err := wechattest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	sim.Start()
	return sim
}

func TestReadsWhatTheSimulatorPushes(t *testing.T) {
	cfg := wechattest.Config{Seed: 7, Scale: 100_000, Components: []wechattest.Component{{AppID: "wxc000000000000001"}}}
	for _, mode := range []wechattest.Mode{wechattest.Plain, wechattest.Compatible, wechattest.Safe} {
		for _, format := range []wechattest.Format{wechattest.XML, wechattest.JSON} {
			cfg.Accounts = append(cfg.Accounts, wechattest.Account{Mode: mode, Format: format, Fans: 5000})
		}
	}
	cfg.Accounts = append(cfg.Accounts, wechattest.Account{Fans: 90, Component: cfg.Components[0].AppID})
	sim := start(t, cfg)
	r := newReceiver(t, sim)
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	sim.PointAt(s.URL)

	plans := []wechattest.Plan{wechattest.Success(), wechattest.Partial(), wechattest.Filtered(), wechattest.Fail(), wechattest.Rejected(20001),
		wechattest.Rejected(20431), wechattest.Originality(30003), wechattest.Admin(40002), wechattest.Odd("尚未知道(new)"),
		wechattest.DeletedAfterSuccess(), wechattest.Success().OldForm(), wechattest.Success().Redelivered(1)}
	for _, shape := range []wechattest.ListShape{wechattest.ListOfItems, wechattest.ListBare, wechattest.ListSingle} {
		p := wechattest.Originality(30001)
		p.Style = &wechattest.Style{Quoted: true, Compact: true, List: shape}
		plans = append(plans, p)
	}
	for _, a := range sim.Accounts() {
		if err := sim.VerifyURL(t.Context(), a.AppID); err != nil {
			t.Errorf("%s: verify URL: %v", a.AppID, err)
		}
		if err := sim.Arrange(a.AppID, plans...); err != nil {
			t.Fatal(err)
		}
		for range plans {
			if _, err := sim.Submit(a.AppID, wechattest.Send{Audience: wechattest.All()}); err != nil {
				t.Fatal(err)
			}
		}
		push(t, sim.PushText(a.AppID, "hello <MASSSENDJOBFINISH> \x08 ]]> & \"quoted\""))
		push(t, sim.PushTemplateResult(a.AppID, "success"))
		push(t, sim.PushPublishResult(a.AppID, 0))
	}
	if err := sim.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.faults {
		t.Error(f)
	}
	checkAgainstLedger(t, sim.Ledger(), r.finished, len(plans)*len(cfg.Accounts))
	for _, kind := range []string{"plain xml", "plain json", "compatible xml", "compatible json", "safe xml", "safe json"} {
		for _, event := range []string{"text ", "event TEMPLATESENDJOBFINISH", "event PUBLISHJOBFINISH", "event MASSSENDJOBFINISH"} {
			if r.pushes[kind+" "+event] == 0 {
				t.Errorf("no push of kind %q among %v", kind+" "+event, r.pushes)
			}
		}
	}
}

func push(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkAgainstLedger(t *testing.T, l wechattest.Ledger, got map[string]wechat.MassSendJobFinish, n int) {
	t.Helper()
	if len(l.Entries) != n || len(got) != n {
		t.Errorf("%d messages were sent and %d results read, want %d", len(l.Entries), len(got), n)
	}
	original := map[string]string{}
	for _, a := range l.Accounts {
		original[a.AppID] = a.OriginalID
	}
	for _, e := range l.Entries {
		m, ok := got[fmt.Sprintf("%s/%d", e.AppID, e.MsgID)]
		if !ok {
			t.Errorf("%s/%d (%s) was not read", e.AppID, e.MsgID, e.Plan.Case)
			continue
		}
		type summary struct {
			To, Status string
			Time       int64
			Counts     wechattest.Counts
			Checks     []wechattest.Check
			URLs       []string
		}
		have := summary{m.ToUserName, m.Status, m.CreateTime, wechattest.Counts{Total: *m.TotalCount, Filter: *m.FilterCount, Sent: *m.SentCount, Error: *m.ErrorCount}, checks(m), urls(m)}
		want := summary{original[e.AppID], e.Plan.Status, e.EndsAt.Unix(), e.Counts, e.Plan.Checks, nil}
		if m.ArticleURLResult != nil {
			want.URLs = e.Articles
		}
		if diff := cmp.Diff(have, want); diff != "" || e.Plan.Old != (m.ArticleURLResult == nil) {
			t.Errorf("%s/%d (%s) (-read, +sent):\n%s", e.AppID, e.MsgID, e.Plan.Case, diff)
		}
	}
}

func checks(m wechat.MassSendJobFinish) []wechattest.Check {
	if m.CopyrightCheckResult == nil {
		return nil
	}
	var cs []wechattest.Check
	for _, i := range m.CopyrightCheckResult.ResultList {
		cs = append(cs, wechattest.Check{Article: *i.ArticleIdx, UserDeclareState: *i.UserDeclareState, AuditState: *i.AuditState,
			OriginalType: *i.OriginalArticleType, CanReprint: *i.CanReprint, NeedReplace: *i.NeedReplaceContent,
			NeedReprintSource: *i.NeedShowReprintSource})
	}
	return cs
}

func urls(m wechat.MassSendJobFinish) []string {
	if m.ArticleURLResult == nil {
		return nil
	}
	var us []string
	for _, i := range m.ArticleURLResult.ResultList {
		us = append(us, i.ArticleURL)
	}
	return us
}

// simulated is a client of a simulator with one account.
func simulated(t *testing.T) (*wechattest.Simulator, string, *wechat.Client, wechat.TokenSource) {
	t.Helper()
	sim := start(t, wechattest.Config{Seed: 7, Accounts: []wechattest.Account{{Fans: 5000}}})
	c, err := wechat.NewClient(wechat.Config{BaseURL: sim.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	a := sim.Accounts()[0]
	return sim, a.AppID, c, wechat.NewStableToken(c, a.AppID, a.Secret)
}

func TestAsksTheSimulator(t *testing.T) {
	sim, appid, c, ts := simulated(t)
	push(t, sim.Arrange(appid, wechattest.Success(), wechattest.Success().Ending(3600e9)))
	past, err := sim.Backdate(appid, wechattest.Send{Audience: wechattest.All()}, wechattest.Rejected(20001), sim.Ledger().At.AddDate(0, 0, -3))
	push(t, err)
	fresh, err := sim.Submit(appid, wechattest.Send{Audience: wechattest.All()})
	push(t, err)

	got, err := c.MassGet(t.Context(), ts, past.MsgID)
	if want := (wechat.MassStatus{MsgID: past.MsgID, Status: "SEND_FAIL"}); err != nil || got != want {
		t.Errorf("past message: %+v, %v; want %+v", got, err, want)
	}
	for _, id := range []int64{fresh.MsgID, 42} {
		if _, err := c.MassGet(t.Context(), ts, id); wechat.Classify(err) != wechat.ClassNotFound {
			t.Errorf("msg_id %d: %v", id, err)
		}
	}
	q, err := c.Quota(t.Context(), ts, "/cgi-bin/message/mass/get")
	if err != nil || q.DailyLimit != 1000 || q.Used+q.Remain != q.DailyLimit || q.Used == 0 {
		t.Errorf("Quota = %+v, %v", q, err)
	}
	ips, err := c.GetCallbackIP(t.Context(), ts)
	if err != nil || !slices.ContainsFunc(ips, func(p netip.Prefix) bool { return p.IsSingleIP() }) {
		t.Errorf("GetCallbackIP = %v, %v", ips, err)
	}
}

// Tokens that end, or are made invalid, cost nothing but a second request.
func TestRecoversFromTheSimulatorsTokenTroubles(t *testing.T) {
	sim, appid, c, ts := simulated(t)
	past, err := sim.Backdate(appid, wechattest.Send{Audience: wechattest.All()}, wechattest.Success(), sim.Ledger().At.AddDate(0, 0, -3))
	push(t, err)
	for name, trouble := range map[string]func(string){"expired": sim.ExpireTokens, "revoked": sim.RevokeTokens} {
		first, err := ts.Token(t.Context(), "")
		push(t, err)
		trouble(appid)
		if got, err := c.MassGet(t.Context(), ts, past.MsgID); err != nil || got.Status != "SEND_SUCCESS" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if second, err := ts.Token(t.Context(), ""); err != nil || second == first {
			t.Errorf("%s: the token is still the same, %v", name, err)
		}
	}
}

func TestClassifiesTheSimulatorsFaults(t *testing.T) {
	const massGet = "/cgi-bin/message/mass/get"
	for _, c := range []struct {
		name  string
		fault wechattest.Fault
		want  wechat.Class
	}{
		{"busy", wechattest.Fault{Path: massGet, ErrCode: -1}, wechat.ClassRetry},
		{"daily quota", wechattest.Fault{Path: massGet, ErrCode: 45009}, wechat.ClassQuota},
		{"rate limit", wechattest.Fault{Path: massGet, ErrCode: 45011}, wechat.ClassRateLimit},
		{"refused whatever the token", wechattest.Fault{Path: massGet, ErrCode: 40001}, wechat.ClassToken},
		{"wrong secret", wechattest.Fault{Path: "/cgi-bin/stable_token", ErrCode: 40125}, wechat.ClassConfig},
		{"bad gateway", wechattest.Fault{Broken: "502"}, wechat.ClassRetry},
		{"no JSON", wechattest.Fault{Broken: "garbage"}, wechat.ClassRetry},
		{"no answer", wechattest.Fault{Broken: "reset"}, wechat.ClassRetry},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim, appid, client, ts := simulated(t)
			push(t, sim.Inject(appid, c.fault))
			if _, err := client.MassGet(t.Context(), ts, 42); wechat.Classify(err) != c.want {
				t.Errorf("%v: class %s, want %s", err, wechat.Classify(err), c.want)
			}
		})
	}
	t.Run("address not allowed", func(t *testing.T) {
		sim, appid, client, ts := simulated(t)
		sim.DenyIP(appid, true)
		if _, err := client.MassGet(t.Context(), ts, 42); wechat.Classify(err) != wechat.ClassConfig {
			t.Errorf("%v: class %s", err, wechat.Classify(err))
		}
	})
	t.Run("wrong secret", func(t *testing.T) {
		_, appid, client, _ := simulated(t)
		token, err := wechat.NewStableToken(client, appid, "not the secret").Token(context.Background(), "")
		if token != "" || wechat.Classify(err) != wechat.ClassConfig {
			t.Errorf("%q, %v: class %s", token, err, wechat.Classify(err))
		}
	})
}
