package doctor

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"qunfa/internal/config"
	"qunfa/internal/wechat"
)

// The forms in which WeChat gives out ids and secrets. Only the last two are
// documented; the others are how all that were ever seen look.
var (
	appIDForm      = regexp.MustCompile(`^wx[0-9a-f]{16}$`)
	originalIDForm = regexp.MustCompile(`^gh_[0-9a-f]{12}$`)
	secretForm     = regexp.MustCompile(`^[0-9a-f]{32}$`)
	tokenForm      = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)
	aesKeyForm     = regexp.MustCompile(`^[A-Za-z0-9]{43}$`)
)

const consolePage = "设置与开发 → 基本配置 (or 开发接口管理)"

func (d *Doctor) configChecks() []Check {
	return []Check{
		{Area: AreaConfig, ID: "config.accounts", What: "ids, tokens and keys have the form that WeChat gives them", Doc: docExample, Run: d.checkAccounts},
		{Area: AreaConfig, ID: "config.warnings", What: "settings that work but should be thought about", Doc: docExample, Run: d.checkWarnings},
	}
}

// checkAccounts looks at all chosen accounts; it asks nobody, so it can.
func (d *Doctor) checkAccounts(_ context.Context, r Result) {
	accounts := d.cfg.Settings.Accounts
	if len(d.cfg.Accounts) > 0 {
		accounts = d.accounts
	}
	if len(d.cfg.Settings.Accounts) == 0 {
		r.Fail("list the accounts in the configuration, or give accounts_dir", "no account is configured: every callback is refused")
		return
	}
	components := map[string]bool{}
	for i := range d.cfg.Settings.Platforms {
		p := &d.cfg.Settings.Platforms[i]
		components[p.ComponentAppID] = true
		checkCallbackKeys(r.About(p.ComponentAppID), p.ComponentAppID, p.Tokens, p.AESKeys)
	}
	for i := range accounts {
		checkAccount(r.About(accounts[i].AppID), &accounts[i], components)
	}
	d.checkTwins(r)
	if r.None() {
		r.OK("%s: all have the form that WeChat gives them", plural(len(accounts), "account"))
	}
}

func checkAccount(r Result, a *config.Account, components map[string]bool) {
	checkIDs(r, a, components)
	checkCallbackKeys(r, a.AppID, a.Tokens, a.AESKeys)
	if s := a.AppSecret.Reveal(); s != "" && !secretForm.MatchString(s) {
		what := fmt.Sprintf("it has %d characters", len(s))
		if aesKeyForm.MatchString(s) {
			what = "it looks like an EncodingAESKey"
		}
		r.Warn("copy the AppSecret (开发者密码) again from "+consolePage, "the app_secret is not 32 digits and small letters a to f: %s", what)
	}
}

func checkIDs(r Result, a *config.Account, components map[string]bool) {
	copyAgain := "copy it again from " + consolePage
	switch {
	case components[a.AppID]:
		r.Fail("give the account's own appid, and name the platform in its key platform", "the appid is that of a platform")
	case originalIDForm.MatchString(a.AppID):
		r.Fail("appid is 开发者ID(AppID), wx and 16 digits; this one belongs into original_id", "the appid is an original id")
	case !appIDForm.MatchString(a.AppID):
		r.Warn("compare it with 开发者ID(AppID) in "+consolePage, "the appid is not wx and 16 digits and small letters a to f")
	}
	switch {
	case a.OriginalID == "", originalIDForm.MatchString(a.OriginalID):
	case strings.HasPrefix(a.OriginalID, "wx"):
		r.Fail("original_id is 原始ID of the account's settings page, gh_ and 12 digits", "original_id %s is an appid: results in plain mode and of platforms are refused", a.OriginalID)
	default:
		r.Warn(copyAgain, "original_id %s is not gh_ and 12 digits and small letters a to f", a.OriginalID)
	}
}

func checkCallbackKeys(r Result, owner string, tokens, aesKeys []config.Secret) {
	if len(tokens) == 0 {
		return
	}
	remedy := "copy token and EncodingAESKey again from " + consolePage + " → 服务器配置"
	if _, err := wechat.NewVerifier(wechat.Keys{AppID: owner, Tokens: config.Reveal(tokens), AESKeys: config.Reveal(aesKeys)}); err != nil {
		r.Fail(remedy, "the keys cannot be used: %v", err)
		return
	}
	for i, t := range tokens {
		if !tokenForm.MatchString(t.Reveal()) {
			r.Warn(remedy, "tokens[%d] is none that WeChat's console takes: 3 to 32 letters and digits", i)
		}
	}
	for i, k := range aesKeys {
		if !aesKeyForm.MatchString(k.Reveal()) {
			r.Warn(remedy, "aes_keys[%d] has characters that WeChat's console does not make: 43 letters and digits", i)
		}
	}
}

// checkTwins looks for an original id that two accounts have: the callbacks of
// one of them would be taken for forgeries.
func (d *Doctor) checkTwins(r Result) {
	first := map[string]string{}
	for i := range d.cfg.Settings.Accounts {
		a := &d.cfg.Settings.Accounts[i]
		switch twin, ok := first[a.OriginalID]; {
		case a.OriginalID == "":
		case ok:
			r.About(a.AppID).Fail("copy 原始ID again from the settings page of both accounts", "original_id %s is also that of %s", a.OriginalID, twin)
		default:
			first[a.OriginalID] = a.AppID
		}
	}
}

// checkWarnings repeats what check-config warns of. Tokens have been looked at above.
func (d *Doctor) checkWarnings(_ context.Context, r Result) {
	for _, w := range d.cfg.Settings.Warnings() {
		if !strings.Contains(w.Message, "WeChat's console takes tokens") {
			r.About(d.named(w.Path)).Warn("what it means stands in "+docExample+"; if it is meant so, leave it", "%s", w.Message)
		}
	}
	if r.None() {
		r.OK("no warnings")
	}
}

// listed is how warnings name an account of the file.
var listed = regexp.MustCompile(`^accounts\[(\d+)\]`)

// named puts the appid in the place of a number that people would have to count to.
func (d *Doctor) named(path string) string {
	m := listed.FindStringSubmatch(path)
	if m == nil {
		return path
	}
	if i, err := strconv.Atoi(m[1]); err == nil && i < len(d.cfg.Settings.Accounts) {
		return d.cfg.Settings.Accounts[i].AppID
	}
	return path
}

// plural writes a number with what it counts.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
