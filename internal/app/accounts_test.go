package app

import (
	"errors"
	"strings"
	"testing"

	"qunfa/internal/config"
	"qunfa/internal/reconcile"
	"qunfa/internal/wechat"
)

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, _, err := config.Loader{}.Parse("qunfa.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const twoAccounts = `
accounts:
  - {appid: wx1, tokens: [token1], app_secret: secret1}
  - {appid: wx2, tokens: [token2], app_secret: secret2}
  - {appid: wx3, tokens: [token3]}
  - {appid: wx4, tokens: [token4], app_secret: secret4, poll: false}
`

func TestAskerKeepsTokensOverAReload(t *testing.T) {
	client, err := wechat.NewClient(wechat.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	a, err := newAsker(client, parse(t, twoAccounts))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := a.lookup("wx1")
	second, _ := a.lookup("wx2")
	for _, appid := range []string{"wx3", "wx4", "wx9"} {
		if err := a.CanAsk(appid); !errors.Is(err, reconcile.ErrNoCredentials) {
			t.Errorf("%s: %v", appid, err)
		}
		if _, err := a.MassGet(t.Context(), appid, 1); !errors.Is(err, reconcile.ErrNoCredentials) {
			t.Errorf("%s was asked: %v", appid, err)
		}
	}
	if err := a.reload(parse(t, strings.ReplaceAll(twoAccounts, "secret2", "another"))); err != nil {
		t.Fatal(err)
	}
	if now, _ := a.lookup("wx1"); now.source != first.source {
		t.Error("an account that did not change lost its token")
	}
	if now, _ := a.lookup("wx2"); now.source == second.source {
		t.Error("an account with another secret kept the old token")
	}
	if err := a.reload(parse(t, "accounts: [{appid: wx2, tokens: [token2], app_secret: s2}]")); err != nil {
		t.Fatal(err)
	}
	if err := a.CanAsk("wx1"); !errors.Is(err, reconcile.ErrNoCredentials) {
		t.Errorf("an account that was removed can still be asked: %v", err)
	}
}

func TestDirectoryOfConfiguration(t *testing.T) {
	cfg := parse(t, `
platforms:
  - {component_appid: wxcomponent, tokens: [tokenP], aes_keys: [abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG]}
accounts:
  - {appid: wx1, tokens: [token1], upstream: "https://example.com/wechat/$APPID$"}
  - {appid: wx2, platform: wxcomponent, original_id: gh_2}
`)
	accounts, platforms, err := directoryOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(accounts) != 2 || accounts[1].Verifier != nil || accounts[0].AppID != "wx1" || !accounts[0].Plain || accounts[0].Upstream.Host != "example.com" || !accounts[0].UpstreamMass {
		t.Errorf("accounts %+v", accounts)
	}
	if len(platforms) != 1 || platforms[0].Accounts["wx2"] != "gh_2" {
		t.Errorf("platforms %+v", platforms)
	}
	if stored := storedAccounts(cfg); len(stored) != 2 {
		t.Errorf("stored %+v", stored)
	}
	if got := appids(cfg, 1); len(got) != 1 {
		t.Errorf("at most one account has series of its own, got %v", got)
	}
}
