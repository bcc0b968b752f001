package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// TokenSource gives access tokens of one account. Implementations may be used by many goroutines at once.
type TokenSource interface {
	// Token returns a token that should be good. refused is normally empty; after
	// WeChat refused a token it is that token, and the answer is another one or
	// an error, which is [ErrTokenUnchanged] if there is no other.
	Token(ctx context.Context, refused string) (string, error)
}

// ErrTokenUnchanged says that WeChat refused an access token and that no other is to be had at the moment.
var ErrTokenUnchanged = errors.New("the access token that WeChat refused is still the only one")

const (
	// expiryMargin is how long before its end a token is replaced: WeChat's own stable token
	// changes 5 minutes before. Of a shorter life it is at most half.
	expiryMargin = 5 * time.Minute
	// longestLife bounds what a server may claim.
	longestLife = 30 * 24 * time.Hour
	// maxTokenLen is far above the 512 characters that WeChat asks to allow for.
	maxTokenLen = 4096
	// WeChat allows 20 forced refreshes a day, at least 30 s apart. The gap doubles with every
	// one, which keeps within both: 9 fit into the first 128 minutes, 19 into the first day.
	firstForceGap = 30 * time.Second
	lastForceGap  = 2 * time.Hour
)

// Why a token was obtained.
const (
	whyExpired = "expired"
	whyRefused = "refused"
	whyForced  = "forced"
)

// grant is a token as it was given.
type grant struct {
	token string
	life  time.Duration // 0 if not known
}

// NewStableToken returns the tokens of WeChat's cgi-bin/stable_token for an
// account. Any number of processes may use it side by side: WeChat gives them all the same token, and it
// does not disturb those that use cgi-bin/token.
//
// A token is kept until shortly before it expires. After a refusal WeChat is asked again, and
// only if it gives the same token it is made to give another, seldom enough to keep within its limits.
func NewStableToken(c *Client, appid, secret string) TokenSource {
	ask := func(ctx context.Context, force bool) (grant, error) {
		answer, err := c.do(ctx, request{
			api:    apiStableToken,
			method: http.MethodPost,
			path:   "/cgi-bin/stable_token",
			body: map[string]any{"grant_type": "client_credential", "appid": appid, "secret": secret,
				"force_refresh": force},
			secrets: []string{secret},
		})
		if err != nil {
			return grant{}, err
		}
		return parseGrant(apiStableToken, answer)
	}
	return newTokenCache(c, "stable_token of "+appid, ask, true)
}

// TokenURL says where an operator's own token server is.
type TokenURL struct {
	// Name says whose tokens they are, in logs; the appid.
	Name string
	// URL is asked with GET and answers {"access_token": …, "expires_in": seconds}. A
	// token without expires_in is used once.
	URL string
	// Bearer is sent as "Authorization: Bearer …" if not empty.
	Bearer string
}

// NewTokenURL returns the tokens of an operator's own token server, for those who have one
// and for third-party platforms, whose tokens only they can make. After a refusal
// the server is asked again; it cannot be made to give another token.
func NewTokenURL(c *Client, t TokenURL) (TokenSource, error) {
	u, err := checkURL("URL of the token server", t.URL)
	if err != nil {
		return nil, err
	}
	secrets := secretsOf(t, u)
	ask := func(ctx context.Context, _ bool) (grant, error) {
		answer, err := c.do(ctx, request{api: apiTokenURL, method: http.MethodGet, url: t.URL, bearer: t.Bearer, secrets: secrets})
		if err != nil {
			return grant{}, err
		}
		return parseGrant(apiTokenURL, answer)
	}
	return newTokenCache(c, "token server for "+t.Name, ask, false), nil
}

// secretsOf lists what a server might quote in an error and nobody should read. The URL
// may carry a key of the operator's; parts of it that are too short for one are left
// readable, or errors would be riddled.
func secretsOf(t TokenURL, u *url.URL) []string {
	const shortest = 8
	secrets := []string{t.Bearer, t.URL}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	password, _ := u.User.Password()
	return slices.DeleteFunc(append(secrets, password), func(s string) bool { return s != t.Bearer && len(s) < shortest })
}

// parseGrant reads the answer to a request for a token. Its errors do not quote the token.
func parseGrant(api string, answer *node) (grant, error) {
	g := grant{token: answer.word("access_token")}
	seconds, err := answer.integer("expires_in")
	switch {
	case err != nil:
	case g.token == "":
		err = errors.New("access_token is missing")
	case len(g.token) > maxTokenLen:
		err = fmt.Errorf("access_token has %d characters", len(g.token))
	case strings.ContainsFunc(g.token, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		err = errors.New("access_token has white space in it")
	case seconds != nil && *seconds > 0:
		g.life = time.Duration(min(*seconds, int64(longestLife/time.Second))) * time.Second
	}
	if err != nil {
		return grant{}, &answerError{api, err}
	}
	return g, nil
}

// tokenCache keeps the token of one account and lets one goroutine at a time ask for the next.
//
// Whoever asks does so under its own context. Those who wait meanwhile share the outcome: a token,
// or the error, so that a hundred waiting do not ask a hundred times while WeChat
// is out of order. But if the one who asked gave up by itself, the next asks.
type tokenCache struct {
	client   *Client
	name     string
	ask      func(ctx context.Context, force bool) (grant, error)
	canForce bool

	turn chan struct{} // holds one element: the right to ask

	mu      sync.Mutex
	token   string
	until   time.Time // when the token is replaced; zero if it is not kept
	round   uint64    // how often somebody has asked
	lastErr error     // of the last round, unless its context had ended

	// The following belong to whoever has the turn.
	forcedAt time.Time
	forceGap time.Duration // until the next forced refresh
}

func newTokenCache(c *Client, name string, ask func(context.Context, bool) (grant, error), canForce bool) *tokenCache {
	t := &tokenCache{client: c, name: name, ask: ask, canForce: canForce, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// Token implements [TokenSource].
func (t *tokenCache) Token(ctx context.Context, refused string) (string, error) {
	token, round := t.cached(refused)
	if token != "" {
		return token, nil
	}
	select {
	case <-t.turn:
		defer func() { t.turn <- struct{}{} }()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for %s: %w", t.name, ctx.Err())
	}
	if token, err := t.shared(refused, round); token != "" || err != nil {
		return token, err
	}
	return t.refresh(ctx, refused)
}

// cached returns the token that is kept, if it is good and not the refused one, and the present round.
func (t *tokenCache) cached(refused string) (string, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == refused || !t.client.cfg.Clock().Before(t.until) {
		return "", t.round
	}
	return t.token, t.round
}

// shared returns what others learned since round, while this goroutine waited for its turn.
func (t *tokenCache) shared(refused string, round uint64) (string, error) {
	if token, _ := t.cached(refused); token != "" {
		return token, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.round == round {
		return "", nil
	}
	return "", t.lastErr
}

// refresh asks for a token, and makes WeChat give another if that is the refused one.
func (t *tokenCache) refresh(ctx context.Context, refused string) (string, error) {
	why := whyExpired
	if refused != "" {
		why = whyRefused
	}
	g, err := t.ask(ctx, false)
	if err == nil && g.token == refused {
		why = whyForced
		g, err = t.force(ctx, refused)
	}
	t.keep(ctx, g, err)
	if err != nil {
		return "", fmt.Errorf("%s: %w", t.name, err)
	}
	t.client.metrics.tokens.WithLabelValues(why).Inc()
	t.client.cfg.Logger.InfoContext(ctx, "access token obtained", "source", t.name, "why", why, "expires_in", g.life)
	return g.token, nil
}

// force makes WeChat give another token, which ends the present one for everybody who shares it.
func (t *tokenCache) force(ctx context.Context, refused string) (grant, error) {
	now := t.client.cfg.Clock()
	if !t.canForce || now.Before(t.forcedAt.Add(t.forceGap)) {
		return grant{}, ErrTokenUnchanged
	}
	if now.Sub(t.forcedAt) > 24*time.Hour {
		t.forceGap = 0
	}
	t.forceGap = min(max(2*t.forceGap, firstForceGap), lastForceGap)
	t.forcedAt = now
	g, err := t.ask(ctx, true)
	if err == nil && g.token == refused {
		return grant{}, ErrTokenUnchanged
	}
	return g, err
}

// keep remembers the outcome of a round.
func (t *tokenCache) keep(ctx context.Context, g grant, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
	if t.lastErr = nil; err != nil {
		if ctx.Err() == nil {
			t.lastErr = fmt.Errorf("%s: %w", t.name, err)
		}
		return
	}
	t.token, t.until = g.token, time.Time{}
	if g.life > 0 {
		t.until = t.client.cfg.Clock().Add(g.life - min(expiryMargin, g.life/2))
	}
}
