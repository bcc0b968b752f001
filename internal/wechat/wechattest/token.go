package wechattest

import (
	"encoding/json"
	"net/http"
	"time"
)

// token is an access token somebody was given. Guarded by the simulator's lock.
type token struct {
	appid   string
	expires time.Time
	revoked bool
	stale   time.Time // when a newer one was minted: good for a grace period only
}

// stableToken is the one that stable_token hands out until shortly before its end.
type stableToken struct {
	value    string
	expires  time.Time
	forcedAt time.Time
}

// tokenGrace is how long before its end stable_token hands out a new token, and
// how long a token of cgi-bin/token outlives its successor: 5 minutes of 7200 s,
// and in proportion for shorter lives.
func (c Config) tokenGrace() time.Duration { return min(5*time.Minute, c.TokenLife/24) }

// RevokeTokens makes every access token of an account invalid at once: 40001.
func (s *Simulator) RevokeTokens(appid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tokens {
		if t.appid == appid {
			t.revoked = true
		}
	}
	if a, ok := s.accounts[appid]; ok {
		a.stable.value = ""
	}
}

// ExpireTokens lets every access token of an account come to its end: 42001.
func (s *Simulator) ExpireTokens(appid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Clock()
	for _, t := range s.tokens {
		if t.appid == appid && t.expires.After(now) {
			t.expires = now
		}
	}
	if a, ok := s.accounts[appid]; ok {
		a.stable.value = ""
	}
}

// DenyIP takes callers off the account's IP allow-list, or puts them back: 40164.
func (s *Simulator) DenyIP(appid string, denied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.accounts[appid]; ok {
		a.denied = denied
	}
}

// Token mints a good access token without a call, for tests of other endpoints.
func (s *Simulator) Token(appid string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return "", err
	}
	return s.mint(a, "given"), nil
}

// tokenRequest is the body of stable_token; cgi-bin/token has the same in its query.
type tokenRequest struct {
	GrantType string `json:"grant_type"`
	AppID     string `json:"appid"`
	Secret    string `json:"secret"`
	Force     bool   `json:"force_refresh"`
}

func (s *Simulator) handleStableToken(r *http.Request) (any, *APIError) {
	if r.Method != http.MethodPost {
		return nil, refusal(43002)
	}
	var q tokenRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, refusal(47001)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, refused := s.authenticate(r, q, pathStable)
	if refused != nil {
		return nil, refused
	}
	now := s.cfg.Clock()
	if q.Force {
		if refused := a.force(s.cfg.Limits, now); refused != nil {
			return nil, refused
		}
		if old := s.tokens[a.stable.value]; old != nil {
			old.revoked = true
		}
		a.stable.value = ""
	}
	if a.stable.value == "" || !now.Before(a.stable.expires.Add(-s.cfg.tokenGrace())) {
		a.stable.value = s.mint(a, "stable")
		a.stable.expires = now.Add(s.cfg.TokenLife)
	}
	return tokenAnswer(a.stable.value, a.stable.expires.Sub(now)), nil
}

// force counts a forced refresh: 20 a day, 30 s apart. Which codes WeChat
// answers beyond that is not documented; these are its usual ones.
func (a *account) force(l Limits, now time.Time) *APIError {
	a.usage.at(now)
	if a.usage.forced >= l.Force {
		return refusal(45009)
	}
	if !a.stable.forcedAt.IsZero() && now.Sub(a.stable.forcedAt) < 30*time.Second {
		return refusal(45011)
	}
	a.usage.forced++
	a.stable.forcedAt = now
	return nil
}

func (s *Simulator) handleToken(r *http.Request) (any, *APIError) {
	v := r.URL.Query()
	q := tokenRequest{GrantType: v.Get("grant_type"), AppID: v.Get("appid"), Secret: v.Get("secret")}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, refused := s.authenticate(r, q, pathToken)
	if refused != nil {
		return nil, refused
	}
	now := s.cfg.Clock()
	if refused := a.charge(s.cfg.Limits, pathToken, now); refused != nil {
		return nil, refused
	}
	value := s.mint(a, "plain")
	for v, t := range s.tokens {
		// The two kinds of tokens do not touch each other.
		if t.appid == a.AppID && v != value && v != a.stable.value && t.stale.IsZero() {
			t.stale = now
		}
	}
	return tokenAnswer(value, s.cfg.TokenLife), nil
}

func tokenAnswer(value string, life time.Duration) any {
	return map[string]any{"access_token": value, "expires_in": int64(life / time.Second)}
}

// authenticate checks the credentials of a token call. The lock is held.
func (s *Simulator) authenticate(r *http.Request, q tokenRequest, path string) (*account, *APIError) {
	switch {
	case q.GrantType != "client_credential":
		return nil, refusal(40002)
	case q.AppID == "":
		return nil, refusal(41002)
	case q.Secret == "":
		return nil, refusal(41004)
	}
	a, ok := s.accounts[q.AppID]
	if !ok {
		return nil, refusal(40013)
	}
	if q.Secret != a.Secret {
		return nil, refusal(40125)
	}
	if a.denied {
		return nil, deniedIP(r)
	}
	return a, a.fault(path)
}

// mint makes a token of an account. The lock is held.
func (s *Simulator) mint(a *account, use string) string {
	a.plainNo++
	value := "98_" + draw(s.cfg.Seed, "token", a.AppID, use, a.plainNo).from(urlSafe, 133)
	s.tokens[value] = &token{appid: a.AppID, expires: s.cfg.Clock().Add(s.cfg.TokenLife)}
	return value
}

// bearer finds the account of a call's access token. The lock is held.
func (s *Simulator) bearer(r *http.Request) (*account, *APIError) {
	value := r.URL.Query().Get("access_token")
	if value == "" {
		return nil, refusal(41001)
	}
	t, ok := s.tokens[value]
	now := s.cfg.Clock()
	switch {
	case !ok:
		return nil, refusal(40014)
	case t.revoked, !t.stale.IsZero() && now.Sub(t.stale) > s.cfg.tokenGrace():
		return nil, refusal(40001)
	case !now.Before(t.expires):
		return nil, refusal(42001)
	}
	a := s.accounts[t.appid]
	if a.denied {
		return nil, deniedIP(r)
	}
	return a, nil
}
