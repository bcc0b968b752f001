package config

import (
	"fmt"
	"net"
	"regexp"
)

// wechatToken is WeChat's rule for the token of a callback URL.
var wechatToken = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)

// Warnings says what works but should be looked at.
func (c *Config) Warnings() []Warning {
	var ws []Warning
	warn := func(path, format string, args ...any) {
		p := c.origin.place(path)
		p.Excerpt = ""
		ws = append(ws, Warning{Path: path, Message: fmt.Sprintf(format, args...), Place: p})
	}
	for _, l := range []struct{ path, addr, what string }{
		{"admin.listen", c.Admin.Listen, "metrics and health checks"},
		{"ingest.internal", c.Ingest.Internal, "the record API"},
	} {
		if host, _, err := net.SplitHostPort(l.addr); err == nil && !isLoopback(host) {
			warn(l.path, "%s can be reached from other machines; let only trusted ones through", l.what)
		}
	}
	for i := range c.Accounts {
		c.Accounts[i].warnings(accountPath(&c.Accounts[i], i), len(c.Platforms) > 0, warn)
	}
	for i, p := range c.Platforms {
		warnTokens(fmt.Sprintf("platforms[%d]", i), p.Tokens, warn)
	}
	return ws
}

func (a *Account) warnings(path string, platforms bool, warn func(path, format string, args ...any)) {
	warnTokens(path, a.Tokens, warn)
	switch {
	case len(a.Tokens) == 0 && !platforms:
		warn(path, "no tokens: callbacks of this account are refused")
	case len(a.Tokens) > 0 && len(a.AESKeys) == 0:
		warn(path, "plain mode: whoever sees one callback URL can forge others; give aes_keys and set the safe mode in WeChat's console")
	case a.AllowPlain:
		warn(path, "allow_plain: whoever sees one callback URL can forge unencrypted callbacks")
	}
	if a.Poll && !a.HasCredentials() {
		warn(path, "no app_secret and no token_url: messages whose callback never comes cannot be looked up, and end as missing")
	}
}

func warnTokens(path string, tokens []Secret, warn func(path, format string, args ...any)) {
	for i, t := range tokens {
		if !wechatToken.MatchString(t.Reveal()) {
			warn(fmt.Sprintf("%s.tokens[%d]", path, i), "WeChat's console takes tokens of 3 to 32 letters and digits; this is none")
		}
	}
}
