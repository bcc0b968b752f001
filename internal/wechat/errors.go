package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Class says what an error asks of the caller. It is a closed set, fit for a
// metric label.
type Class string

// The classes.
const (
	// ClassRetry: busy, or not reached at all. Ask again, with backoff.
	ClassRetry Class = "retry"
	// ClassToken: the access token was refused, and so was a fresh one.
	ClassToken Class = "token"
	// ClassRateLimit: too many calls in this minute. Wait for at least 60 s.
	ClassRateLimit Class = "rate_limit"
	// ClassQuota: too many calls today. Wait until tomorrow.
	ClassQuota Class = "quota"
	// ClassConfig: appid, secret or the caller's IP address is not accepted. Stop and alert: a person must
	// change the configuration, here or in WeChat's console.
	ClassConfig Class = "config"
	// ClassAccount: the account may not do this, or is limited or closed. Stop for this account.
	ClassAccount Class = "account"
	// ClassNotFound: WeChat does not know the msg_id. Also answered soon after a
	// send that succeeded, so it is not final.
	ClassNotFound Class = "not_found"
	// ClassConfirm: the account's administrator has not yet confirmed. Ask again later.
	ClassConfirm Class = "confirm"
	// ClassUnknown: anything else.
	ClassUnknown Class = "unknown"
)

// Classes lists every class.
func Classes() []Class {
	return []Class{ClassRetry, ClassToken, ClassRateLimit, ClassQuota, ClassConfig, ClassAccount,
		ClassNotFound, ClassConfirm, ClassUnknown}
}

// codes are the error codes of WeChat's APIs that mean something to this project.
// They are not the numbers in a callback's err(num): those overlap.
var codes = map[Class][]int64{
	ClassRetry: {
		-1,        // system busy
		42010,     // mass send too fast, retry
		45066,     // same clientmsgid again within a minute
		61005,     // component ticket expired: the next comes within 10 minutes
		61006,     // component ticket invalid
		9500001,   // system busy
		9500002,   // system busy
		268488001, // system busy
	},
	ClassToken: {
		40001, // not the latest token
		40014, // invalid token
		41001, // no token
		42001, // expired token
	},
	ClassRateLimit: {45011},
	ClassQuota: {
		45009, // calls of this API today
		45028, // mass sends
		48006, // clearings of the quota this month
	},
	ClassConfig: {
		40013, // appid invalid
		40125, // secret invalid
		40164, // IP address not on the whitelist; the message has the address
		40243, // secret frozen
		41002, // appid missing
		41004, // secret missing
		61004, // component's IP address not on the whitelist
		89503, // IP address waits for the administrator's confirmation
		89506, // IP address refused for a day
		89507, // IP address refused for an hour
	},
	ClassAccount: {
		42007, // authorisation lapsed with a changed password
		48001, // API not authorised
		48004, // API banned
		50002, // account limited or closed
		50004, // account restricted
		50007, // account frozen
		61003, // not authorised for the component
		61007, // permission set not granted to the component
		61023, // refresh token invalid
	},
	ClassNotFound: {40059},
	ClassConfirm: {
		89504, // waits for the administrator's confirmation
		89505, // confirmation under way
	},
}

// ClassOf returns the class of an error code of WeChat's APIs. The list of codes is open:
// those that are not known are ClassUnknown.
func ClassOf(code int64) Class {
	for _, class := range Classes() {
		if slices.Contains(codes[class], code) {
			return class
		}
	}
	return ClassUnknown
}

// APIError is an error answer of WeChat, which comes as HTTP 200. It holds neither
// tokens nor secrets.
type APIError struct {
	API     string // which API, e.g. mass_get
	Code    int64  // errcode
	Message string // errmsg, at most 512 bytes
	RID     string // WeChat's id of the request, which openapi/rid/get resolves for 7 days; may be empty
	// Class is ClassOf(Code), but 40001 in an answer to a request for a token is
	// ClassConfig: there it means a wrong secret.
	Class Class
}

func (e *APIError) Error() string {
	return fmt.Sprintf("wechat %s: errcode %d (%s): %s", e.API, e.Code, e.Class, e.Message)
}

// StatusError is an answer that is not HTTP 200: it comes from something between WeChat and us, or
// from a token server.
type StatusError struct {
	API    string
	Status int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("wechat %s: HTTP status %d %s", e.API, e.Status, http.StatusText(e.Status))
}

func (e *StatusError) class() Class {
	switch {
	case e.Status == http.StatusTooManyRequests:
		return ClassRateLimit
	case e.Status >= 500 || e.Status == http.StatusRequestTimeout:
		return ClassRetry
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return ClassConfig
	}
	return ClassUnknown
}

// transportError says that no usable answer came. The cause is kept only as far as
// it cannot hold what was sent: see redact.
type transportError struct {
	text  string
	cause error // nil, or an error without URL
}

func (e *transportError) Error() string { return e.text }
func (e *transportError) Unwrap() error { return e.cause }

// answerError says that an answer with HTTP 200 made no sense.
type answerError struct {
	api string
	err error
}

func (e *answerError) Error() string {
	return fmt.Sprintf("wechat %s: unusable answer: %v", e.api, e.err)
}
func (e *answerError) Unwrap() error { return e.err }

// Classify returns the class of any error of this package's API side; "" for nil.
// Everything that kept an answer from coming, a cancelled context included, is ClassRetry.
func Classify(err error) Class {
	var (
		api       *APIError
		status    *StatusError
		transport *transportError
		answer    *answerError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &api):
		return api.Class
	case errors.As(err, &status):
		return status.class()
	case errors.Is(err, ErrTokenUnchanged):
		return ClassToken
	case errors.As(err, &transport), errors.As(err, &answer),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ClassRetry
	}
	return ClassUnknown
}

var ridPattern = regexp.MustCompile(`\brid: *([0-9A-Za-z-]+)`)

// apiError returns the error that an answer reports, or nil.
func apiError(api string, answer *node, secrets []string) error {
	code, err := answer.integer("errcode")
	if err != nil {
		return &answerError{api, err}
	}
	if code == nil || *code == 0 {
		return nil
	}
	const most = 512
	e := &APIError{API: api, Code: *code, Class: ClassOf(*code)}
	if e.Class == ClassToken && (api == apiStableToken || api == apiTokenURL) {
		e.Class = ClassConfig
	}
	e.Message = strings.TrimSpace(scrub(answer.str("errmsg"), secrets))
	if m := ridPattern.FindStringSubmatch(e.Message); m != nil {
		e.RID = m[1]
	}
	if len(e.Message) > most {
		e.Message = strings.ToValidUTF8(e.Message[:most-len("…")], "") + "…"
	}
	return e
}
