package wechattest

import (
	"io"
	"net/http"
)

// Fault is an answer injected in place of the real one.
type Fault struct {
	// Path of the endpoint, such as /cgi-bin/message/mass/get; empty for all.
	Path string
	// ErrCode is answered with HTTP 200.
	ErrCode int64
	// Broken, instead of ErrCode, breaks the transport: "502" for that status
	// with an HTML page, "garbage" for 200 with no JSON, "reset" for no answer.
	Broken string
	// Times is how many calls get it; 0 means all until [Simulator.ClearFaults].
	Times int
}

// transportFault marks a fault that is not an errcode; WeChat has none so low.
const transportFault = -1 << 31

// Inject makes an account's next calls fail.
func (s *Simulator) Inject(appid string, f Fault) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return err
	}
	a.faults = append(a.faults, &f)
	return nil
}

// ClearFaults ends all injected faults of an account.
func (s *Simulator) ClearFaults(appid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.accounts[appid]; ok {
		a.faults = nil
	}
}

// fault consumes the first fault that is meant for a path.
func (a *account) fault(path string) *APIError {
	for i, f := range a.faults {
		if f.Path != "" && f.Path != path {
			continue
		}
		if f.Times == 1 {
			a.faults = append(a.faults[:i:i], a.faults[i+1:]...)
		} else if f.Times > 1 {
			f.Times--
		}
		if f.Broken != "" {
			return &APIError{Code: transportFault, Message: f.Broken}
		}
		return refusal(f.ErrCode)
	}
	return nil
}

func breakAnswer(w http.ResponseWriter, how string) {
	switch how {
	case "garbage":
		_, _ = io.WriteString(w, "<html>busy</html>")
	case "reset":
		panic(http.ErrAbortHandler)
	default:
		http.Error(w, "<html><h1>502 Bad Gateway</h1></html>", http.StatusBadGateway)
	}
}
