package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"testing"
)

func TestRedact(t *testing.T) {
	in := func(cause error) error {
		inner := &url.Error{Op: "Get", URL: "https://proxy/?t=" + secretToken, Err: cause}
		return fmt.Errorf("outer: %w", &url.Error{Op: "Post", URL: "https://a/?t=" + secretToken, Err: inner})
	}
	for _, c := range []struct {
		name  string
		cause error
		want  string
		is    error // what the result must still be; nil for nothing
	}{
		{"nothing to hide", io.ErrUnexpectedEOF, "wechat x: unexpected EOF", io.ErrUnexpectedEOF},
		{"secret in the cause", fmt.Errorf("proxy dislikes %s: %w", secretToken, context.DeadlineExceeded),
			"wechat x: proxy dislikes <secret>: context deadline exceeded", context.DeadlineExceeded},
		{"escaped secret", fmt.Errorf("proxy dislikes %s: %w", url.QueryEscape(secretToken), context.Canceled),
			"wechat x: proxy dislikes <secret>: context canceled", context.Canceled},
		{"quotation", fmt.Errorf("malformed status %q: %w", "TOK", context.Canceled), "wechat x: malformed status", context.Canceled},
		{"quotation without context", fmt.Errorf("malformed status %q", "TOK"), "wechat x: malformed status", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := redact("x", in(c.cause), []string{"", secretToken})
			var ue *url.Error
			if err.Error() != c.want || errors.As(err, &ue) || Classify(err) != ClassRetry {
				t.Errorf("redact = %q (%s), want %q", err, Classify(err), c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is no longer %v", err, c.is)
			}
			if cause := errors.Unwrap(err); c.is == nil && cause != nil {
				t.Errorf("cause %v is still there", cause)
			}
		})
	}
}
