package wechattest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
)

// handler answers one endpoint: with a value to encode, with an error, or with
// both, where an error answer carries more than its code.
type handler func(*http.Request) (any, *APIError)

func (s *Simulator) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for path, h := range map[string]handler{
		pathStable:  s.handleStableToken,
		pathToken:   s.handleToken,
		pathSendAll: s.mass(pathSendAll, s.handleSendAll),
		pathSend:    s.mass(pathSend, s.handleSend),
		pathGet:     s.mass(pathGet, s.handleGet),
		pathDelete:  s.mass(pathDelete, s.handleDelete),
		pathPreview: s.mass(pathPreview, s.handlePreview),
		pathSpeed:   s.mass(pathSpeed, s.handleSpeed),
		pathQuota:   s.mass(pathQuota, s.handleQuota),
		pathClear:   s.mass(pathClear, s.handleClear),
		pathCheck:   s.mass(pathCheck, s.handleCheck),
		pathIPs:     s.handleIPs,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 4<<20)
			value, refused := h(r)
			s.answer(w, r, path, value, refused)
		})
	}
	return mux
}

// ServeHTTP answers the API.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// answer writes JSON. Errors are HTTP 200, too, and carry a request id.
func (s *Simulator) answer(w http.ResponseWriter, r *http.Request, path string, value any, refused *APIError) {
	fields := map[string]any{}
	if refused != nil {
		if refused.Code == transportFault {
			breakAnswer(w, refused.Message)
			return
		}
		fields["errcode"] = refused.Code
		fields["errmsg"] = refused.Message + " rid: " + s.rid()
		s.cfg.Logger.DebugContext(r.Context(), "API error", "path", path, "errcode", refused.Code)
	}
	if m, ok := value.(map[string]any); ok {
		for k, v := range m {
			fields[k] = v
		}
	}
	w.Header().Set("Content-Type", "application/json; encoding=utf-8")
	w.Header().Set("Date", s.cfg.Clock().UTC().Format(http.TimeFormat))
	if err := json.NewEncoder(w).Encode(fields); err != nil {
		s.cfg.Logger.DebugContext(r.Context(), "answer not written", "path", path, "error", err)
	}
}

func (s *Simulator) rid() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	return draw(s.cfg.Seed, "rid", s.requests).rid()
}

// massHandler answers an endpoint of an account. The lock is held.
type massHandler func(*account, json.RawMessage) (map[string]any, *APIError)

// mass wraps an endpoint that takes POST, an access token and JSON.
func (s *Simulator) mass(path string, h massHandler) handler {
	return func(r *http.Request) (any, *APIError) {
		if r.Method != http.MethodPost {
			return nil, refusal(43002)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !json.Valid(body) {
			return nil, refusal(47001)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		a, refused := s.bearer(r)
		if refused != nil {
			return nil, refused
		}
		if refused := a.fault(path); refused != nil {
			return nil, refused
		}
		if refused := a.charge(s.cfg.Limits, path, s.cfg.Clock()); refused != nil {
			return nil, refused
		}
		fields, refused := h(a, body)
		if fields == nil {
			return nil, refused
		}
		return fields, refused
	}
}

func (s *Simulator) handleIPs(r *http.Request) (any, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, refused := s.bearer(r); refused != nil {
		return nil, refused
	}
	return map[string]any{"ip_list": []string{"127.0.0.1", "127.0.0.0/25"}}, nil
}

func (s *Simulator) handleQuota(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var q struct {
		Path string `json:"cgi_path"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, refusal(47001)
	}
	limit, ok := s.cfg.Limits.daily(q.Path)
	if !ok {
		return nil, refusal(76003)
	}
	used := a.usage.used[q.Path]
	answer := map[string]any{
		"errcode": 0, "errmsg": "ok",
		"quota": map[string]any{"daily_limit": limit, "used": used, "remain": limit - used},
	}
	if massPath(q.Path) {
		answer["rate_limit"] = map[string]any{"call_count": s.cfg.Limits.PerMinute, "refresh_second": 60}
	}
	return answer, nil
}

func (s *Simulator) handleClear(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var q struct {
		AppID string `json:"appid"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, refusal(47001)
	}
	if q.AppID != a.AppID {
		return nil, refusal(40013)
	}
	if a.usage.clears >= s.cfg.Limits.Clear {
		return nil, refusal(48006)
	}
	a.usage.clears++
	clear(a.usage.used)
	return done(), nil
}

// handleCheck looks at the host of the callback URL from where WeChat is. Here that is loopback,
// whatever the host is called, so that a test asks no name server.
func (s *Simulator) handleCheck(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var q struct {
		Action   string `json:"action"`
		Operator string `json:"check_operator"`
	}
	switch err := json.Unmarshal(body, &q); {
	case err != nil:
		return nil, refusal(47001)
	case !slices.Contains([]string{"dns", "ping", "all"}, q.Action):
		return nil, refusal(40202)
	case !slices.Contains([]string{"CHINANET", "UNICOM", "CAP", "DEFAULT"}, q.Operator):
		return nil, refusal(40203)
	case a.CallbackURL == "":
		return nil, refusal(40201)
	}
	ip := "127.0.0.1"
	if u, err := url.Parse(a.CallbackURL); err == nil && net.ParseIP(u.Hostname()) != nil {
		ip = u.Hostname()
	}
	answer := map[string]any{}
	if q.Action != "ping" {
		answer["dns"] = []any{map[string]any{"ip": ip, "real_operator": "CAP"}}
	}
	if q.Action != "dns" {
		answer["ping"] = []any{map[string]any{"ip": ip, "from_operator": "CAP", "package_loss": "0%", "time": "0.042ms"}}
	}
	return answer, nil
}

func done() map[string]any { return map[string]any{"errcode": 0, "errmsg": "ok"} }

// deniedIP names the caller, as WeChat does.
func deniedIP(r *http.Request) *APIError {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return &APIError{Code: 40164, Message: fmt.Sprintf("invalid ip %s ipv6 ::ffff:%s, not in whitelist", host, host)}
}
