package doctor

import (
	"testing"

	"qunfa/internal/config"
)

func TestAccountsAreInForm(t *testing.T) {
	want(t, look(t, newDoctor(t), "config.accounts"), OK, "1 account")
	account := func(change func(*config.Account)) func(*Config) {
		return func(c *Config) { change(&c.Settings.Accounts[0]) }
	}
	for name, test := range map[string]struct {
		change func(*Config)
		s      Severity
		words  []string
	}{
		"no account":            {func(c *Config) { c.Settings.Accounts = nil }, Failure, []string{"no account"}},
		"appid is original id":  {account(func(a *config.Account) { a.AppID = "gh_0123456789ab" }), Failure, []string{"appid is an original id"}},
		"appid is odd":          {account(func(a *config.Account) { a.AppID = "wx0123" }), Warning, []string{"wx0123", "开发者ID"}},
		"appid of the platform": {func(c *Config) { c.Settings.Platforms = platform(testApp) }, Failure, []string{"that of a platform"}},
		"original id is appid":  {account(func(a *config.Account) { a.OriginalID = testOther }), Failure, []string{"is an appid", "原始ID"}},
		"original id is odd":    {account(func(a *config.Account) { a.OriginalID = "gh_x" }), Warning, []string{"gh_x"}},
		"token is odd":          {account(func(a *config.Account) { a.Tokens = secrets("with-dash") }), Warning, []string{"tokens[0]", "3 to 32"}},
		"token is too long":     {account(func(a *config.Account) { a.Tokens = secrets("ok1", testKey) }), Warning, []string{"tokens[1]"}},
		"token has white space": {account(func(a *config.Account) { a.Tokens = secrets("with space") }), Failure, []string{"tokens[0]", "white space"}},
		"key is short":          {account(func(a *config.Account) { a.AESKeys = secrets(testKey[:42]) }), Failure, []string{"aes_keys[0]"}},
		"key is no base64":      {account(func(a *config.Account) { a.AESKeys = secrets(testKey[:42] + "!") }), Failure, []string{"aes_keys[0]"}},
		"key is odd":            {account(func(a *config.Account) { a.AESKeys = secrets("+" + testKey[1:]) }), Warning, []string{"aes_keys[0]", "43 letters"}},
		"secret is a key":       {account(func(a *config.Account) { a.AppSecret = config.NewSecret(testKey2) }), Warning, []string{"looks like an EncodingAESKey"}},
		"secret is odd":         {account(func(a *config.Account) { a.AppSecret = config.NewSecret("short") }), Warning, []string{"5 characters", "AppSecret"}},
		"two with one id": {func(c *Config) {
			c.Settings.Accounts = append(c.Settings.Accounts, config.Account{AppID: testOther, OriginalID: "gh_0123456789ab"})
		}, Failure, []string{testOther, "also that of " + testApp}},
		"the keys of a platform": {func(c *Config) {
			c.Settings.Platforms = platform(testOther)
			c.Settings.Platforms[0].AESKeys = secrets("short")
		}, Failure, []string{testOther, "aes_keys[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, look(t, newDoctor(t, test.change), "config.accounts"), test.s, test.words...)
		})
	}
}

func platform(component string) []config.Platform {
	return []config.Platform{{ComponentAppID: component, Tokens: secrets("tokenOfThePlatform"), AESKeys: secrets(testKey2)}}
}

func TestWarningsOfTheConfiguration(t *testing.T) {
	want(t, look(t, newDoctor(t), "config.warnings"), OK)
	plain := func(c *Config) { c.Settings.Accounts[0].AESKeys = nil }
	want(t, look(t, newDoctor(t, plain), "config.warnings"), Warning, testApp, "plain mode")
}
