package doctor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"qunfa/internal/config"
	"qunfa/internal/wechat/wechattest"
)

// withWeChat is a simulated WeChat that knows the test's account.
func withWeChat(t *testing.T, change ...func(*wechattest.Config)) (*wechattest.Simulator, func(*Config)) {
	t.Helper()
	cfg := wechattest.Config{Accounts: []wechattest.Account{{AppID: testApp, Secret: testSecret, CallbackURL: "http://203.0.113.5/callback"}}}
	for _, f := range change {
		f(&cfg)
	}
	s, err := wechattest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, at(s.URL())
}

func at(url string) func(*Config) {
	return func(c *Config) { c.Settings.WeChat.BaseURL = config.MustURL(url) }
}

func TestAPIAccess(t *testing.T) {
	_, known := withWeChat(t)
	d := newDoctor(t, known)
	want(t, look(t, d, "api.reach"), OK, "less than 10s")
	findings := look(t, d, "api.access")
	want(t, findings, OK, "calls of mass/get left today: 1000 of 1000")
	want(t, findings, OK, "the address 203.0.113.5")
}

func TestAPIReach(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	d := newDoctor(t, at(gone.URL))
	want(t, look(t, d, "api.reach"), Failure, "does not answer", "HTTPS_PROXY")
	want(t, look(t, d, "api.access"), Unchecked, "see api.reach")
}

func TestClockAgainstWeChat(t *testing.T) {
	for off, s := range map[time.Duration]Severity{
		0: OK, 5 * time.Second: OK, 30 * time.Second: Warning, -30 * time.Second: Warning, 6 * time.Minute: Failure, -6 * time.Minute: Failure,
	} {
		_, known := withWeChat(t)
		skewed := func(c *Config) { c.Clock = func() time.Time { return time.Now().Add(off) } }
		words := []string{}
		if s != OK {
			words = append(words, map[bool]string{true: "ahead of WeChat's", false: "behind WeChat's"}[off > 0], "NTP")
		}
		want(t, look(t, newDoctor(t, known, skewed), "api.reach"), s, words...)
	}
}

// Every code is answered by the simulator, and has a remedy of its own.
func TestAPIRefusals(t *testing.T) {
	const quota, stable = "/cgi-bin/openapi/quota/get", "/cgi-bin/stable_token"
	for code, test := range map[int64]struct {
		path  string
		s     Severity
		words []string
	}{
		-1:    {stable, Warning, []string{"busy"}},
		40001: {stable, Failure, []string{"app_secret is wrong"}},
		40013: {stable, Failure, []string{"开发者ID"}},
		40125: {stable, Failure, []string{"app_secret is wrong", "reset"}},
		40243: {stable, Failure, []string{"frozen", "AppSecret 解冻"}},
		45009: {stable, Failure, []string{"used up"}},
		45011: {stable, Warning, []string{"this minute"}},
		48001: {quota, Failure, []string{"已认证"}},
		48004: {quota, Failure, []string{"banned"}},
		50002: {quota, Failure, []string{"limited or closed"}},
		50007: {quota, Failure, []string{"frozen"}},
		61004: {quota, Failure, []string{"白名单IP地址列表"}},
		61007: {quota, Failure, []string{"permission set 7"}},
		89503: {stable, Failure, []string{"confirm the address"}},
		12345: {quota, Failure, []string{"12345", "全局返回码"}},
	} {
		s, known := withWeChat(t)
		if err := s.Inject(testApp, wechattest.Fault{Path: test.path, ErrCode: code}); err != nil {
			t.Fatal(err)
		}
		want(t, look(t, newDoctor(t, known), "api.access"), test.s, append(test.words, "rid")...)
	}
}

func TestAPIAllowList(t *testing.T) {
	s, known := withWeChat(t)
	s.DenyIP(testApp, true)
	want(t, look(t, newDoctor(t, known), "api.access"), Failure, "allow-list does not have our address 127.0.0.1", "IP白名单", "40164", "reconcile")
	s.DenyIP(testApp, false)
	want(t, look(t, newDoctor(t, known), "api.access"), OK)
	for message, address := range map[string]string{
		"invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: 1-2-3": " 203.0.113.9",
		"invalid ip 2001:db8::7, not in whitelist":                                    " 2001:db8::7",
		"not in whitelist": "",
	} {
		if got := addressIn(message); got != address {
			t.Errorf("%q: found %q, want %q", message, got, address)
		}
	}
}

func TestAPIAccountsWithoutCredentials(t *testing.T) {
	want(t, look(t, newDoctor(t, func(c *Config) { c.Settings.Accounts[0].Poll = false }), "api.access"), Unchecked, "poll is off")
	none := func(c *Config) { c.Settings.Accounts[0].AppSecret = config.Secret{} }
	want(t, look(t, newDoctor(t, none), "api.access"), Unchecked, "app_secret_file")
	wrong := func(c *Config) { c.Settings.Accounts[0].AppSecret = config.NewSecret(strings.Repeat("f", 32)) }
	_, known := withWeChat(t)
	want(t, look(t, newDoctor(t, known, wrong), "api.access"), Failure, "40125", "app_secret is wrong")
}

func TestAPIQuota(t *testing.T) {
	for used, s := range map[int]Severity{0: OK, 7: OK, 9: Warning, 10: Failure} {
		sim, known := withWeChat(t, func(c *wechattest.Config) { c.Limits.GetPerDay = 10 })
		token, err := sim.Token(testApp)
		if err != nil {
			t.Fatal(err)
		}
		for range used {
			res, err := http.Post(sim.URL()+"/cgi-bin/message/mass/get?access_token="+token, "application/json", strings.NewReader(`{"msg_id":"1"}`))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
		http.DefaultClient.CloseIdleConnections()
		words := map[Severity][]string{Warning: {"left today: 1 of 10", "midnight"}, Failure: {"used up", "10 of 10"}}[s]
		want(t, look(t, newDoctor(t, known), "api.access"), s, words...)
	}
}

// A refused token must not make the doctor ask for another: it would be
// everybody's. So it never says force_refresh.
func TestTokensAreNeverForced(t *testing.T) {
	s, _ := withWeChat(t)
	var mu sync.Mutex
	var asked []bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cgi-bin/stable_token":
			var q struct {
				Force bool `json:"force_refresh"`
			}
			_ = json.NewDecoder(r.Body).Decode(&q)
			mu.Lock()
			asked = append(asked, q.Force)
			mu.Unlock()
			say(w, 200, `{"access_token":"old","expires_in":7200}`)
		default:
			s.ServeHTTP(w, r)
		}
	}))
	defer front.Close()
	want(t, look(t, newDoctor(t, at(front.URL)), "api.access"), Failure, "40014")
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 1 || asked[0] {
		t.Errorf("tokens were asked for %v", asked)
	}
}

func TestTokenServer(t *testing.T) {
	s, known := withWeChat(t)
	token, err := s.Token(testApp)
	if err != nil {
		t.Fatal(err)
	}
	serverFor := func(handler http.HandlerFunc) func(*Config) {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return func(c *Config) {
			a := &c.Settings.Accounts[0]
			a.AppSecret, a.TokenURL, a.TokenURLBearer = config.Secret{}, config.MustURL(server.URL+"/token?key=0123456789"), config.NewSecret(testSecret)
		}
	}
	gives := func(token string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			say(w, 200, `{"access_token":"`+token+`","expires_in":7200}`)
		}
	}
	refuses := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { say(w, status, "no") }
	}
	want(t, look(t, newDoctor(t, known, serverFor(gives(token))), "api.access"), OK, "a token is given")
	want(t, look(t, newDoctor(t, known, serverFor(gives("stale"))), "api.access"), Failure, "40014")
	want(t, look(t, newDoctor(t, known, serverFor(refuses(401))), "api.access"), Failure, "token server refuses us", "token_url_bearer")
	want(t, look(t, newDoctor(t, known, serverFor(refuses(500))), "api.access"), Failure, "log of the token server")
	gone := httptest.NewServer(nil)
	gone.Close()
	lost := func(c *Config) {
		c.Settings.Accounts[0].AppSecret, c.Settings.Accounts[0].TokenURL = config.Secret{}, config.MustURL(gone.URL)
	}
	want(t, look(t, newDoctor(t, known, lost), "api.access"), Failure, "no token from the token server", "token_url is right")
}

func TestWhatWeChatSees(t *testing.T) {
	_, none := withWeChat(t, func(c *wechattest.Config) { c.Accounts[0].CallbackURL = "" })
	want(t, look(t, newDoctor(t, none), "api.access"), Failure, "no callback URL for the account", "服务器配置")
	_, elsewhere := withWeChat(t, func(c *wechattest.Config) { c.Accounts[0].CallbackURL = "http://198.51.100.7/wechat" })
	d := newDoctor(t, wired(t, receiverOf(t, goodKeys())), elsewhere)
	want(t, look(t, d, "api.access"), Warning, "198.51.100.7", publicHost+" has 203.0.113.5", "compare the URL")
	_, same := withWeChat(t)
	d = newDoctor(t, wired(t, receiverOf(t, goodKeys())), same)
	want(t, look(t, d, "api.access"), OK, "for WeChat, too")
	busy, known := withWeChat(t)
	if err := busy.Inject(testApp, wechattest.Fault{Path: "/cgi-bin/callback/check", ErrCode: -1}); err != nil {
		t.Fatal(err)
	}
	want(t, look(t, newDoctor(t, known), "api.access"), Unchecked, "was asked to look")
}
