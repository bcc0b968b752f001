package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"qunfa/internal/config"
	"qunfa/internal/wechat"
)

// massGetPath is how quota/get names the API that is polled.
const massGetPath = "/cgi-bin/message/mass/get"

func (d *Doctor) apiChecks() []Check {
	checks := []Check{{Area: AreaAPI, ID: "api.reach", What: "WeChat's API answers, and its clock is ours", Doc: runbook + "qunfapollsfailing", Run: d.checkAPI}}
	for i := range d.accounts {
		a := &d.accounts[i]
		checks = append(checks, Check{Area: AreaAPI, ID: "api.access", Subject: a.AppID, What: "WeChat's API lets us in, for this account", Doc: runbook + "qunfaaccountblocked",
			Run: func(ctx context.Context, r Result) { d.checkAccess(ctx, r, a) }})
	}
	return checks
}

// gentle gives the token that is there. It never has WeChat make another one:
// that would end the present one for everybody who uses it.
type gentle struct{ wechat.TokenSource }

func (g gentle) Token(ctx context.Context, refused string) (string, error) {
	if refused != "" {
		return "", wechat.ErrTokenUnchanged
	}
	return g.TokenSource.Token(ctx, "")
}

func (d *Doctor) tokens(a *config.Account) (wechat.TokenSource, error) {
	if a.TokenURL.IsZero() {
		return gentle{wechat.NewStableToken(d.api, a.AppID, a.AppSecret.Reveal())}, nil
	}
	ts, err := wechat.NewTokenURL(d.api, wechat.TokenURL{Name: a.AppID, URL: a.TokenURL.Raw(), Bearer: a.TokenURLBearer.Reveal()})
	return gentle{ts}, err
}

// checkAccess asks for a token, then for what only a good one is told.
func (d *Doctor) checkAccess(ctx context.Context, r Result, a *config.Account) {
	switch {
	case !a.Poll:
		r.Unchecked("", "poll is off: messages whose callback never comes end as missing")
		return
	case !a.HasCredentials():
		r.Unchecked("give app_secret_file, or token_url if a server of yours has the tokens", "no app_secret and no token_url: messages whose callback never comes cannot be looked up")
		return
	}
	ts, err := d.tokens(a)
	if err == nil && !a.TokenURL.IsZero() {
		_, err = ts.Token(ctx, "")
	}
	if err != nil {
		d.explainTokenServer(r.See(runbook+"qunfatokenfailing"), err)
		return
	}
	if d.apiDate(ctx).err != nil {
		r.Unchecked("see api.reach", "WeChat's API does not answer")
		return
	}
	if _, err := ts.Token(ctx, ""); err != nil {
		d.explainAPI(r.See(runbook+"qunfatokenfailing"), err)
		return
	}
	quota, err := d.api.Quota(ctx, ts, massGetPath)
	if err != nil {
		d.explainAPI(r, err)
		return
	}
	judgeQuota(r, quota)
	if !d.noCallback(a) {
		d.checkFromWeChat(ctx, r, ts, a)
	}
}

func judgeQuota(r Result, q wechat.Quota) {
	const remedy = "find out who else calls mass/get with this account; it is renewed at midnight in China"
	r = r.See(runbook + "qunfaquotalow")
	switch {
	case q.Remain <= 0:
		r.Fail(remedy, "a token is given, but the calls of mass/get are used up for today: %d of %d", q.Used, q.DailyLimit)
	case q.Remain*5 < q.DailyLimit:
		r.Warn(remedy, "a token is given; calls of mass/get left today: %d of %d", q.Remain, q.DailyLimit)
	default:
		r.OK("a token is given; calls of mass/get left today: %d of %d", q.Remain, q.DailyLimit)
	}
}

// noCallback tells accounts that have no callback URL of their own.
func (d *Doctor) noCallback(a *config.Account) bool { return a.Platform != "" || len(a.Tokens) == 0 }

// checkFromWeChat has WeChat look at the host of the URL that is entered in its console.
func (d *Doctor) checkFromWeChat(ctx context.Context, r Result, ts wechat.TokenSource, a *config.Account) {
	r = r.See(runbook + "qunfanocallbacks")
	seen, err := d.api.CheckCallback(ctx, ts)
	var refused *wechat.APIError
	switch {
	case errors.As(err, &refused) && refused.Code == wechat.NoCallbackURL:
		r.Fail("enter it: "+consolePage+" → 服务器配置 → 启用", "WeChat has no callback URL for the account: no callback will ever come")
	case err != nil:
		r.Unchecked("", "WeChat was asked to look at the callback URL, and did not: %v", err)
	case len(seen.Addresses) == 0:
		r.Fail("see callback.address: WeChat's name servers must know the host as well", "for WeChat the host of the callback URL in its console has no address")
	default:
		d.compareAddresses(ctx, r, seen, a.AppID)
	}
}

// compareAddresses notices a URL in the console that is another than ours.
func (d *Doctor) compareAddresses(ctx context.Context, r Result, seen wechat.CallbackCheck, appid string) {
	text := joined(seen.Addresses)
	if !d.public() {
		r.OK("for WeChat the host of the callback URL has the address %s", text)
		return
	}
	u, err := d.publicURL(appid, appid)
	if err != nil {
		return // said elsewhere
	}
	ours, err := d.cfg.Network.Resolve(ctx, u.Hostname())
	if err != nil || len(ours) == 0 {
		return // said elsewhere
	}
	for _, o := range ours {
		if slices.Contains(seen.Addresses, o.Unmap()) {
			r.OK("for WeChat, too, the host of the callback URL has the address %s", text)
			return
		}
	}
	r.Warn("compare the URL in WeChat's console with "+u.String()+"; a name that leads to different places by where one asks is no fault",
		"for WeChat the host of the callback URL in its console has the address %s; %s has %s", text, u.Hostname(), joined(ours))
}

func joined(list []netip.Addr) string {
	var names []string
	for _, a := range list {
		names = append(names, a.Unmap().String())
	}
	return strings.Join(names, ", ")
}

// remedies say what people can do about an error code of WeChat's API.
var remedies = map[int64]string{
	40001:     "the app_secret is wrong, or the token server hands out an old token: copy the AppSecret again, or look at the token server",
	40013:     "compare the appid with 开发者ID(AppID) in WeChat's console",
	40125:     "the app_secret is wrong: if it was reset in WeChat's console, give the new one",
	40243:     "the AppSecret is frozen: unfreeze it in WeChat's console (开发接口管理 → AppSecret 解冻)",
	41002:     "give the account's appid",
	41004:     "give app_secret_file",
	45009:     "the calls of today are used up: wait until midnight in China, and find out who else calls",
	45011:     "too many calls in this minute: wait, and lower reconcile.rate_per_minute if it happens often",
	48001:     "the account may not use this API: only verified accounts (已认证) may; a platform needs the permission set 7 (群发与通知)",
	48004:     "WeChat has banned the account from this API: look for a notice in its console",
	50002:     "the account is limited or closed: look for a notice in its console",
	50004:     "the account is restricted: look for a notice in its console",
	50007:     "the account is frozen: look for a notice in its console",
	61003:     "the account has not authorised the platform, or not any more: authorise it again",
	61004:     "enter the address in the platform's list of addresses (开放平台 → 第三方平台 → 白名单IP地址列表)",
	61007:     "the account has not given the platform the permission set 7 (群发与通知): authorise it again with it",
	61023:     "the platform's refresh token is dead: authorise the account again",
	42007:     "the account's password was changed, which ended the authorisation: authorise the account again",
	89503:     "the account's administrator has to confirm the address, by the message that WeChat sent",
	89506:     "the administrator refused the address for a day: agree on it, and try again tomorrow",
	89507:     "the administrator refused the address for an hour: agree on it, and try again then",
	-1:        "WeChat is busy: try again in a minute",
	268488001: "WeChat is busy: try again in a minute",
	40164:     "enter that address: " + consolePage + " → IP白名单. It is this machine's; if reconcile runs on another, enter that one's as well",
}

var addressForm = regexp.MustCompile(`[0-9A-Fa-f.:]{3,}`)

// explainAPI says what an error of WeChat's API means.
func (d *Doctor) explainAPI(r Result, err error) {
	var api *wechat.APIError
	var status *wechat.StatusError
	switch {
	case errors.As(err, &api):
		explainCode(r, api)
	case errors.As(err, &status):
		r.Fail("see what answers at wechat.base_url, "+d.cfg.Settings.WeChat.BaseURL.String()+": a proxy perhaps", "%v", err)
	default:
		r.Fail("try again; if it stays, see what is between this machine and wechat.base_url, "+d.cfg.Settings.WeChat.BaseURL.String(), "%v", err)
	}
}

// explainTokenServer says what an error of a token server means.
func (d *Doctor) explainTokenServer(r Result, err error) {
	var api *wechat.APIError
	var status *wechat.StatusError
	switch {
	case errors.As(err, &api):
		explainCode(r, api)
	case errors.As(err, &status) && (status.Status == http.StatusUnauthorized || status.Status == http.StatusForbidden):
		r.Fail("correct token_url_bearer, or what token_url has for a key", "the token server refuses us: %v", err)
	case errors.As(err, &status):
		r.Fail("see the log of the token server", "%v", err)
	default:
		r.Fail("see whether the token server runs, and whether token_url is right", "no token from the token server: %v", err)
	}
}

func explainCode(r Result, e *wechat.APIError) {
	remedy, known := remedies[e.Code]
	if !known {
		remedy = "look the code up in WeChat's list of error codes (全局返回码)"
	}
	found := fmt.Sprintf("errcode %d from %s: %s", e.Code, e.API, e.Message)
	if e.Code == 40164 || e.Code == 61004 {
		r.Fail(remedy, "the API's allow-list does not have our address%s (%s)", addressIn(e.Message), found)
		return
	}
	if e.Class == wechat.ClassRetry || e.Class == wechat.ClassRateLimit {
		r.Warn(remedy, "%s", found)
		return
	}
	r.Fail(remedy, "%s", found)
}

// addressIn finds the address that WeChat saw in the text of its refusal.
func addressIn(message string) string {
	for _, word := range addressForm.FindAllString(message, -1) {
		if a, err := netip.ParseAddr(strings.TrimRight(word, ".:")); err == nil {
			return " " + a.Unmap().String()
		}
	}
	return ""
}

// clockWarn is how far a clock may be off before people should look. Plain mode
// refuses pushes from Ingest.TimestampWindow on.
const clockWarn = 10 * time.Second

// dated is an answer's date, with the readings of our clock around it.
type dated struct {
	before, after time.Time
	header        string
	err           error
}

// apiDate asks WeChat's API for nothing, once, to see whether it answers.
func (d *Doctor) apiDate(ctx context.Context) dated {
	got, err := d.apiAnswer.get(func() (dated, error) {
		client := d.cfg.Network.API
		if client == nil {
			client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
			defer client.CloseIdleConnections()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, d.cfg.Settings.WeChat.BaseURL.Raw(), nil)
		if err != nil {
			return dated{}, err
		}
		got := dated{before: d.cfg.Clock()}
		res, err := client.Do(req)
		if err != nil {
			return dated{}, err
		}
		defer res.Body.Close()
		got.after, got.header = d.cfg.Clock(), res.Header.Get("Date")
		return got, nil
	})
	got.err = err
	return got
}

func (d *Doctor) checkAPI(ctx context.Context, r Result) {
	d.leftOut(r)
	got := d.apiDate(ctx)
	if got.err != nil {
		r.Fail("let this machine, and reconcile's, call it (https, port 443); if that needs a proxy, HTTPS_PROXY in the environment names it", "%s does not answer: %s", d.cfg.Settings.WeChat.BaseURL, cause(got.err, ""))
		return
	}
	d.judgeClock(r.See(runbook+"qunfaclockoff"), got.before, got.after, got.header, "WeChat's")
}

// judgeClock compares our clock with the date that was given between two of its
// readings. Such dates have whole seconds.
func (d *Doctor) judgeClock(r Result, before, after time.Time, header, whose string) {
	theirs, err := http.ParseTime(header)
	if err != nil {
		r.Unchecked("", "the answer has no date")
		return
	}
	off := time.Duration(0)
	switch {
	case theirs.Add(time.Second).Before(before):
		off = before.Sub(theirs)
	case theirs.After(after):
		off = after.Sub(theirs)
	}
	d.judgeSkew(r, off, whose)
}

func (d *Doctor) judgeSkew(r Result, off time.Duration, whose string) {
	const remedy = "let the machines take their time from a server (NTP, chrony), and see why they do not"
	way := "ahead of"
	if off < 0 {
		way = "behind"
	}
	switch window := d.cfg.Settings.Ingest.TimestampWindow; {
	case off.Abs() >= window:
		r.Fail(remedy, "our clock is %s %s %s: in plain mode callbacks more than %s off are refused", days(off.Abs()), way, whose, days(window))
	case off.Abs() >= clockWarn:
		r.Warn(remedy, "our clock is %s %s %s", days(off.Abs()), way, whose)
	default:
		r.OK("less than %s from %s", clockWarn, whose)
	}
}
