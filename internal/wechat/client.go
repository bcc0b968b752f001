package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Client asks WeChat's APIs. It limits neither rate nor quota and repeats nothing but a
// call whose token was refused: when to ask again is the caller's to decide, by [Classify].
// It may be used by many goroutines at once.
//
// Errors are *[APIError], *[StatusError], those of the [TokenSource], and others for
// answers that did not come or make no sense. None holds a secret.
type Client struct {
	cfg     Config
	metrics *metrics
}

// NewClient returns a client. It makes no request.
func NewClient(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	u, err := checkURL("base URL of WeChat's APIs", cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("base URL of WeChat's APIs: want none with a query")
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics of WeChat's APIs: %w", err)
	}
	return &Client{cfg: cfg, metrics: m}, nil
}

// Close closes idle connections. The client can still be used.
func (c *Client) Close() { c.cfg.HTTP.CloseIdleConnections() }

// MassStatus is what WeChat says about a message when asked. It cannot say more: the counts come
// with the callback only.
type MassStatus struct {
	MsgID  int64
	Status string // SEND_SUCCESS, SENDING, SEND_FAIL, DELETE; others are possible
}

// MassGet asks for the status of a message (cgi-bin/message/mass/get). A msg_id
// that WeChat does not know gives an error of ClassNotFound, also for a while after a send.
func (c *Client) MassGet(ctx context.Context, ts TokenSource, msgID int64) (MassStatus, error) {
	answer, err := c.call(ctx, ts, request{
		api:    apiMassGet,
		method: http.MethodPost,
		path:   "/cgi-bin/message/mass/get",
		// A string, as documented; msg_id in the answer is a number nevertheless.
		body: map[string]string{"msg_id": strconv.FormatInt(msgID, 10)},
	})
	if err != nil {
		return MassStatus{}, err
	}
	got, err := answer.integer("msg_id")
	status := answer.word("msg_status")
	switch {
	case err != nil:
	case got != nil && *got != msgID:
		err = fmt.Errorf("asked about msg_id %d, answered about %d", msgID, *got)
	case status == "":
		err = errors.New("msg_status is missing")
	}
	if err != nil {
		return MassStatus{}, &answerError{apiMassGet, err}
	}
	return MassStatus{MsgID: msgID, Status: status}, nil
}

// Quota is how many calls of one API an account has per day.
type Quota struct {
	DailyLimit, Used, Remain int64
}

// Quota asks for the account's quota of the API at cgiPath, e.g.
// "/cgi-bin/message/mass/get" (cgi-bin/openapi/quota/get). WeChat's figures are a few calls late.
func (c *Client) Quota(ctx context.Context, ts TokenSource, cgiPath string) (Quota, error) {
	if !strings.HasPrefix(cgiPath, "/") {
		return Quota{}, fmt.Errorf("path %q of an API: want one that starts with /, without host", clip(cgiPath))
	}
	answer, err := c.call(ctx, ts, request{
		api:    apiQuota,
		method: http.MethodPost,
		path:   "/cgi-bin/openapi/quota/get",
		body:   map[string]string{"cgi_path": cgiPath},
	})
	if err != nil {
		return Quota{}, err
	}
	var r reader
	q := answer.child("quota")
	quota := Quota{r.required(q, "daily_limit"), r.required(q, "used"), r.required(q, "remain")}
	if r.err != nil {
		return Quota{}, &answerError{apiQuota, r.err}
	}
	return quota, nil
}

// GetCallbackIP asks from which addresses WeChat sends callbacks
// (cgi-bin/getcallbackip); single addresses come as prefixes of full length. The list changes; WeChat
// advises to ask daily. An entry that is neither gives an error rather than a list with a hole.
func (c *Client) GetCallbackIP(ctx context.Context, ts TokenSource) ([]netip.Prefix, error) {
	answer, err := c.call(ctx, ts, request{api: apiCallbackIP, method: http.MethodGet, path: "/cgi-bin/getcallbackip"})
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, entry := range answer.all("ip_list") {
		p, err := parsePrefix(strings.TrimSpace(entry.text))
		if err != nil {
			return nil, &answerError{apiCallbackIP, err}
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) == 0 {
		return nil, &answerError{apiCallbackIP, errors.New("ip_list is missing or empty")}
	}
	return prefixes, nil
}

// CallbackCheck is what WeChat finds out about the host of an account's callback URL, from where it calls.
type CallbackCheck struct {
	Addresses []netip.Addr // that the host's name has for WeChat
	// Silent are those of them that did not answer a ping. WeChat sends a single one, and
	// many networks answer none: it is a hint and no proof.
	Silent []netip.Addr
}

// NoCallbackURL is the errcode of [Client.CheckCallback] for an account that has no callback URL.
const NoCallbackURL = 40201

// CheckCallback lets WeChat look up and ping the host of the callback URL that is entered in the
// account's console (cgi-bin/callback/check). It takes WeChat a few seconds.
func (c *Client) CheckCallback(ctx context.Context, ts TokenSource) (CallbackCheck, error) {
	answer, err := c.call(ctx, ts, request{
		api: apiCallbackCheck, method: http.MethodPost, path: "/cgi-bin/callback/check",
		body: map[string]string{"action": "all", "check_operator": "DEFAULT"},
	})
	if err != nil {
		return CallbackCheck{}, err
	}
	var found CallbackCheck
	for _, entry := range answer.all("dns") {
		a, err := netip.ParseAddr(entry.word("ip"))
		if err != nil {
			return CallbackCheck{}, &answerError{apiCallbackCheck, fmt.Errorf("dns holds %q: want an address", clip(entry.word("ip")))}
		}
		found.Addresses = append(found.Addresses, a)
	}
	for _, entry := range answer.all("ping") {
		if a, err := netip.ParseAddr(entry.word("ip")); err == nil && entry.word("package_loss") == "100%" {
			found.Silent = append(found.Silent, a)
		}
	}
	return found, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("ip_list holds %q: want an address or a prefix", clip(s))
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// request is one request to an API.
type request struct {
	api, method, path string
	body              any    // nil, or what to send as JSON
	token             string // put into the query if not empty
	bearer            string // put into the header if not empty
	url               string // in place of the client's base URL and path, if not empty
	secrets           []string
}

// call makes a request with a token of ts, and once more with another if WeChat refuses the first.
func (c *Client) call(ctx context.Context, ts TokenSource, r request) (*node, error) {
	token, err := ts.Token(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("access token for %s: %w", r.api, err)
	}
	answer, err := c.do(ctx, r.withToken(token))
	var refused *APIError
	if !errors.As(err, &refused) || refused.Class != ClassToken {
		return answer, err
	}
	fresh, terr := ts.Token(ctx, token)
	switch {
	case errors.Is(terr, ErrTokenUnchanged), terr == nil && fresh == token:
		// Asking with the same token again cannot help. What WeChat said says more.
		return nil, fmt.Errorf("%w (and no other token is to be had)", err)
	case terr != nil:
		return nil, fmt.Errorf("another access token for %s: %w", r.api, terr)
	}
	return c.do(ctx, r.withToken(fresh))
}

func (r request) withToken(token string) request {
	r.token, r.secrets = token, append([]string{token}, r.secrets...)
	return r
}

// do makes one request and returns the answer, or the error in it.
func (c *Client) do(ctx context.Context, r request) (*node, error) {
	start := c.cfg.Clock()
	answer, err := c.roundTrip(ctx, r)
	if err == nil {
		err = apiError(r.api, answer, r.secrets)
	}
	if err != nil {
		answer = nil
	}
	c.metrics.observe(r.api, c.cfg.Clock().Sub(start), err)
	return answer, err
}

func (c *Client) roundTrip(ctx context.Context, r request) (*node, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, redact(r.api, err, r.secrets)
	}
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, redact(r.api, err, r.secrets)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if resp.StatusCode != http.StatusOK {
		return nil, &StatusError{API: r.api, Status: resp.StatusCode}
	}
	if err != nil {
		return nil, redact(r.api, err, r.secrets)
	}
	return parseAnswer(r.api, body)
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	target := r.url
	if target == "" {
		target = c.cfg.BaseURL + r.path
	}
	if r.token != "" {
		target += "?access_token=" + url.QueryEscape(r.token)
	}
	var body io.Reader
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+r.bearer)
	}
	return req, nil
}

// parseAnswer reads an answer. Its errors quote nothing: an answer may hold a token.
func parseAnswer(api string, body []byte) (*node, error) {
	if len(body) > MaxBody {
		return nil, &answerError{api, fmt.Errorf("larger than %d bytes", MaxBody)}
	}
	answer, err := parseDocument(FormatJSON, body)
	if err != nil {
		return nil, &answerError{api, fmt.Errorf("%d bytes that are no JSON object", len(body))}
	}
	return answer, nil
}
