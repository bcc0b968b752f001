package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
)

// WeChat wants access tokens and secrets in query strings, and net/http quotes URLs in
// its errors. So no error of net/http leaves this package: its text is taken over
// without the URL, and what remains is searched for the secrets of the request.

const hidden = "<secret>"

// redact turns an error of net/http into one that is safe to log: what was asked and why it
// failed. Of an answer that is no HTTP, net/http quotes pieces; what stands from the
// first quotation mark on is left out, since half a token is still found by nobody who
// searches for it. errors.Is and errors.As reach the cause inside *url.Error unless something
// had to be left out, and then only whether a context ended it.
func redact(api string, err error, secrets []string) error {
	for {
		var ue *url.Error
		if !errors.As(err, &ue) {
			break
		}
		err = ue.Err
	}
	text := err.Error()
	unquoted, _, _ := strings.Cut(text, `"`)
	clean := strings.TrimSpace(scrub(unquoted, secrets))
	e := &transportError{text: "wechat " + api + ": " + clean, cause: err}
	if clean != text {
		e.cause = contextCause(err)
	}
	return e
}

// contextCause keeps of an error only whether a context ended it.
func contextCause(err error) error {
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, c) {
			return c
		}
	}
	return nil
}

// scrub replaces secrets in s, as they are or escaped for a URL or for JSON. It does so in
// one pass, so that it never searches what it wrote itself.
func scrub(s string, secrets []string) string {
	var pairs []string
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), escapeJSON(secret)} {
			pairs = append(pairs, form, hidden)
		}
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

func escapeJSON(s string) string {
	b, _ := json.Marshal(s) // a string never fails
	return string(b[1 : len(b)-1])
}
