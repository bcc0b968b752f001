package wechattest

import (
	"errors"
	"fmt"
	"net/url"
)

// APIError is an error answer of the API: HTTP 200 with errcode and errmsg.
type APIError struct {
	Code    int64
	Message string // without the rid
}

// Error tells code and message.
func (e *APIError) Error() string { return fmt.Sprintf("errcode %d: %s", e.Code, e.Message) }

// messages of errcodes, in WeChat's own wording as far as it is known.
var errorMessages = map[int64]string{
	-1:    "system error",
	40001: "invalid credential, access_token is invalid or not latest",
	40002: "invalid grant_type",
	40003: "invalid openid",
	40008: "invalid message type",
	40013: "invalid appid",
	40014: "invalid access_token",
	40059: "invalid msg id",
	40125: "invalid appsecret",
	40130: "invalid openid list size, at least two openid",
	40152: "invalid tagid",
	40164: "invalid ip",
	40201: "invalid url",
	40202: "invalid action",
	40203: "invalid check_operator",
	40243: "AppSecret was frozen",
	41001: "access_token missing",
	41002: "appid missing",
	41004: "appsecret missing",
	42001: "access_token expired",
	42010: "masssend fast, retry again",
	43002: "require POST method",
	45009: "reach max api daily quota limit",
	45011: "api minute-quota reach limit, must slower, retry next minute",
	45028: "has no masssend quota",
	45065: "clientmsgid exist",
	45066: "same clientmsgid retry too fast",
	45067: "clientmsgid size out of limit",
	47001: "data format error",
	48001: "api unauthorized",
	48004: "api forbidden for irregularities",
	48006: "forbid to clear quota because of reaching the limit",
	50002: "user limited",
	76003: "invalid cgi_path",
	89504: "wait for the administrator to confirm",
	89505: "the administrator has to confirm again",
}

// refusal is the error answer with a code.
func refusal(code int64) *APIError {
	message, ok := errorMessages[code]
	if !ok {
		message = "error"
	}
	return &APIError{Code: code, Message: message}
}

// withoutURL takes the URL out of an error of net/http: it carries a signature.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
