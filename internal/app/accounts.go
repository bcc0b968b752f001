package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/ingest"
	"qunfa/internal/reconcile"
	"qunfa/internal/wechat"
)

// directoryOf turns the accounts of the configuration into what ingest verifies pushes with.
func directoryOf(cfg *config.Config) ([]ingest.Account, []ingest.Platform, error) {
	var accounts []ingest.Account
	var errs []error
	for i := range cfg.Accounts {
		a := &cfg.Accounts[i]
		account, err := directoryEntry(a)
		if err != nil {
			errs = append(errs, fmt.Errorf("account %s: %w", a.AppID, err))
			continue
		}
		accounts = append(accounts, account)
	}
	var platforms []ingest.Platform
	for i := range cfg.Platforms {
		p, err := directoryPlatform(&cfg.Platforms[i], cfg.Accounts)
		if err != nil {
			errs = append(errs, fmt.Errorf("platform %s: %w", cfg.Platforms[i].ComponentAppID, err))
			continue
		}
		platforms = append(platforms, p)
	}
	return accounts, platforms, errors.Join(errs...)
}

func directoryEntry(a *config.Account) (ingest.Account, error) {
	if len(a.Tokens) == 0 { // its pushes come through a platform, or its sends are only recorded
		return ingest.Account{AppID: a.AppID, OriginalID: a.OriginalID, Name: a.Name}, nil
	}
	v, err := wechat.NewVerifier(wechat.Keys{AppID: a.AppID, Tokens: config.Reveal(a.Tokens), AESKeys: config.Reveal(a.AESKeys), AllowPlain: a.AllowPlain})
	if err != nil {
		return ingest.Account{}, err
	}
	upstream, err := parseUpstream(a.Upstream)
	return ingest.Account{
		AppID: a.AppID, OriginalID: a.OriginalID, Name: a.Name, Verifier: v,
		Plain: len(a.AESKeys) == 0 || a.AllowPlain, Upstream: upstream, UpstreamMass: a.UpstreamMass,
	}, err
}

// directoryPlatform lets a platform speak for the accounts that name it.
func directoryPlatform(p *config.Platform, all []config.Account) (ingest.Platform, error) {
	v, err := wechat.NewVerifier(wechat.Keys{AppID: p.ComponentAppID, Tokens: config.Reveal(p.Tokens), AESKeys: config.Reveal(p.AESKeys)})
	if err != nil {
		return ingest.Platform{}, err
	}
	accounts := map[string]string{}
	for i := range all {
		if a := &all[i]; a.Platform == p.ComponentAppID {
			accounts[a.AppID] = a.OriginalID
		}
	}
	upstream, err := parseUpstream(p.Upstream)
	return ingest.Platform{ComponentAppID: p.ComponentAppID, Verifier: v, Accounts: accounts, Upstream: upstream, UpstreamMass: p.UpstreamMass}, err
}

func parseUpstream(u config.URL) (*url.URL, error) {
	if u.IsZero() {
		return nil, nil
	}
	parsed, err := url.Parse(u.Raw())
	if err != nil {
		return nil, errors.New("upstream is not a URL")
	}
	return parsed, nil
}

// storedAccounts is what the database keeps of the accounts: never a secret.
func storedAccounts(cfg *config.Config) []clickhouse.Account {
	var accounts []clickhouse.Account
	for _, a := range cfg.Accounts {
		accounts = append(accounts, clickhouse.Account{AppID: a.AppID, OriginalID: a.OriginalID, Name: a.Name})
	}
	return accounts
}

func appids(cfg *config.Config, most int) []string {
	var ids []string
	for _, a := range cfg.Accounts {
		if len(ids) == most {
			break
		}
		ids = append(ids, a.AppID)
	}
	return ids
}

// asker asks WeChat with the credentials of the configuration.
type asker struct {
	client *wechat.Client

	mu       sync.RWMutex
	accounts map[string]credentials
}

// credentials are an account's way to an access token.
type credentials struct {
	from   config.Account // what source was made of
	source wechat.TokenSource
}

func newAsker(client *wechat.Client, cfg *config.Config) (*asker, error) {
	a := &asker{client: client, accounts: map[string]credentials{}}
	return a, a.reload(cfg)
}

// reload keeps the token of every account whose credentials are the same.
func (a *asker) reload(cfg *config.Config) error {
	next := make(map[string]credentials, len(cfg.Accounts))
	var errs []error
	for i := range cfg.Accounts {
		c := &cfg.Accounts[i]
		if !c.HasCredentials() || !c.Poll {
			continue
		}
		old, ok := a.lookup(c.AppID)
		if !ok || !sameCredentials(&old.from, c) {
			source, err := a.tokenSource(c)
			if err != nil {
				errs = append(errs, fmt.Errorf("account %s: %w", c.AppID, err))
				continue
			}
			old = credentials{from: *c, source: source}
		}
		next[c.AppID] = old
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accounts = next
	return nil
}

func sameCredentials(a, b *config.Account) bool {
	return a.AppSecret.Equal(b.AppSecret) && a.TokenURL.Equal(b.TokenURL) && a.TokenURLBearer.Equal(b.TokenURLBearer)
}

func (a *asker) tokenSource(c *config.Account) (wechat.TokenSource, error) {
	if !c.TokenURL.IsZero() {
		return wechat.NewTokenURL(a.client, wechat.TokenURL{Name: c.AppID, URL: c.TokenURL.Raw(), Bearer: c.TokenURLBearer.Reveal()})
	}
	return wechat.NewStableToken(a.client, c.AppID, c.AppSecret.Reveal()), nil
}

func (a *asker) lookup(appid string) (credentials, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	c, ok := a.accounts[appid]
	return c, ok
}

// CanAsk implements [reconcile.Asker].
func (a *asker) CanAsk(appid string) error {
	if _, ok := a.lookup(appid); !ok {
		return reconcile.ErrNoCredentials
	}
	return nil
}

// MassGet implements [reconcile.Asker].
func (a *asker) MassGet(ctx context.Context, appid string, msgID int64) (wechat.MassStatus, error) {
	c, ok := a.lookup(appid)
	if !ok {
		return wechat.MassStatus{}, reconcile.ErrNoCredentials
	}
	return a.client.MassGet(ctx, c.source, msgID)
}

// Quota implements [reconcile.Asker].
func (a *asker) Quota(ctx context.Context, appid string) (wechat.Quota, error) {
	c, ok := a.lookup(appid)
	if !ok {
		return wechat.Quota{}, reconcile.ErrNoCredentials
	}
	return a.client.Quota(ctx, c.source, massGetPath)
}

// massGetPath is how quota/get names the API that is polled.
const massGetPath = "/cgi-bin/message/mass/get"
