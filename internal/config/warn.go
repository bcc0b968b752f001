package config

import (
	"fmt"
	"net"
	"regexp"
)

// wechatToken is WeChat's rule for the token of a callback URL.
var wechatToken = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)

// maxSameWarning bounds how often the same is said about different accounts:
// 100,000 lines at every start hide the one that matters.
const maxSameWarning = 5

// warner collects warnings.
type warner struct {
	origin *origin
	list   []Warning
	count  map[string]int // of each message
	order  []string       // of the messages
}

func (w *warner) warn(path, message string) {
	if w.count[message]++; w.count[message] > maxSameWarning {
		return
	}
	if w.count[message] == 1 {
		w.order = append(w.order, message)
	}
	p := w.origin.place(path)
	p.Excerpt = ""
	w.list = append(w.list, Warning{Path: path, Message: message, Place: p})
}

// all is the list, with a line about what was left out of it.
func (w *warner) all() []Warning {
	for _, m := range w.order {
		if n := w.count[m] - maxSameWarning; n > 0 {
			w.list = append(w.list, Warning{Message: fmt.Sprintf("%d more: %s", n, m)})
		}
	}
	return w.list
}

// Warnings says what works but should be looked at.
func (c *Config) Warnings() []Warning {
	w := &warner{origin: c.origin, count: map[string]int{}}
	for _, l := range []struct{ path, addr, what string }{
		{"admin.listen", c.Admin.Listen, "metrics and health checks"},
		{"ingest.internal", c.Ingest.Internal, "the record API"},
	} {
		if host, _, err := net.SplitHostPort(l.addr); err == nil && !isLoopback(host) {
			w.warn(l.path, l.what+" can be reached from other machines; let only trusted ones through")
		}
	}
	w.accounts(c.Accounts)
	for i, p := range c.Platforms {
		w.tokens(fmt.Sprintf("platforms[%d]", i), p.Tokens)
	}
	return w.all()
}

func (w *warner) accounts(list []Account) {
	for i := range list {
		w.account(accountPath(&list[i], i), &list[i])
	}
}

func (w *warner) account(path string, a *Account) {
	w.tokens(path, a.Tokens)
	switch {
	case a.Platform != "":
	case len(a.Tokens) == 0:
		w.warn(path, "no tokens: callbacks of this account are refused")
	case len(a.AESKeys) == 0:
		w.warn(path, "plain mode: whoever sees one callback URL can forge others; give aes_keys and set the safe mode in WeChat's console")
	case a.AllowPlain:
		w.warn(path, "allow_plain: whoever sees one callback URL can forge unencrypted callbacks")
	}
	if a.Poll && !a.HasCredentials() {
		w.warn(path, "no app_secret and no token_url: messages whose callback never comes cannot be looked up, and end as missing")
	}
}

func (w *warner) tokens(path string, tokens []Secret) {
	for i, t := range tokens {
		if !wechatToken.MatchString(t.Reveal()) {
			w.warn(fmt.Sprintf("%s.tokens[%d]", path, i), "WeChat's console takes tokens of 3 to 32 letters and digits; this is none")
		}
	}
}
