package wechattest

import (
	"encoding/json"
	"strings"
	"time"
)

// massBody is what sendall, send and preview have in common.
type massBody struct {
	Filter struct {
		All bool  `json:"is_to_all"`
		Tag int64 `json:"tag_id"`
	} `json:"filter"`
	ToUser      json.RawMessage `json:"touser"`
	ToName      string          `json:"towxname"`
	MsgType     string          `json:"msgtype"`
	ClientMsgID string          `json:"clientmsgid"`
}

func (s *Simulator) handleSendAll(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var b massBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, refusal(47001)
	}
	audience := Tag(b.Filter.Tag)
	if b.Filter.All {
		audience = All()
	}
	if a.Subscription && a.sentToday(s.cfg.Clock()) {
		return nil, refusal(45028)
	}
	return s.submitted(a, audience, b, body)
}

// sentToday tells whether a subscription account has used its one send of the day.
func (a *account) sentToday(now time.Time) bool {
	if len(a.sent) == 0 {
		return false
	}
	last := a.sent[len(a.sent)-1].SubmittedAt
	return last.In(beijing).Format(time.DateOnly) == now.In(beijing).Format(time.DateOnly)
}

func (s *Simulator) handleSend(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var b massBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, refusal(47001)
	}
	var users []string
	if err := json.Unmarshal(b.ToUser, &users); err != nil {
		return nil, refusal(40130)
	}
	return s.submitted(a, OpenIDs(int64(len(users))), b, body)
}

func (s *Simulator) submitted(a *account, to Audience, b massBody, body json.RawMessage) (map[string]any, *APIError) {
	if b.MsgType == "" {
		return nil, refusal(40008)
	}
	send := Send{Audience: to, MsgType: b.MsgType, ClientMsgID: b.ClientMsgID}
	key := b.ClientMsgID
	if key == "" {
		// Without one, WeChat takes a digest of audience and content: repeating a
		// send within 24 h does not send it again.
		key = "digest " + sign(string(body))
	}
	m, refused := s.submit(a, submission{Send: send, key: key, at: s.cfg.Clock()})
	if m == nil {
		return nil, refused
	}
	if refused != nil {
		return map[string]any{"msg_id": m.MsgID}, refused
	}
	return map[string]any{
		"errcode": 0, "errmsg": "send job submission success", "msg_id": m.MsgID, "msg_data_id": m.MsgDataID,
	}, nil
}

func (s *Simulator) handlePreview(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var b massBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, refusal(47001)
	}
	if !knownMsgType(b.MsgType) {
		return nil, refusal(40008)
	}
	if b.ToName == "" && len(b.ToUser) == 0 {
		return nil, refusal(40003)
	}
	a.listIDs++
	return map[string]any{"errcode": 0, "errmsg": "preview success", "msg_id": 3_147_483_648 + a.listIDs}, nil
}

func (s *Simulator) handleSpeed(*account, json.RawMessage) (map[string]any, *APIError) {
	return map[string]any{"speed": 0, "realspeed": 80}, nil
}

// msgID reads a msg_id, which callers write as a number or as a string.
type msgID int64

// UnmarshalJSON takes both.
func (m *msgID) UnmarshalJSON(b []byte) error {
	var n int64
	if err := json.Unmarshal([]byte(strings.Trim(string(b), `"`)), &n); err != nil {
		return err
	}
	*m = msgID(n)
	return nil
}

func (s *Simulator) handleGet(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var q struct {
		MsgID msgID `json:"msg_id"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, refusal(47001)
	}
	m, ok := a.messages[int64(q.MsgID)]
	if !ok {
		return nil, refusal(40059)
	}
	m.polls++
	status, refused := m.status(s.cfg)
	if refused != nil {
		return nil, refused
	}
	// A success has no errcode.
	return map[string]any{"msg_id": m.MsgID, "msg_status": status}, nil
}

// status is what mass/get says about a message now.
func (m *message) status(cfg Config) (string, *APIError) {
	now := cfg.Clock()
	switch {
	case m.plan.Poll == "40059", !m.backdated && now.Sub(m.SubmittedAt) < cfg.scaled(cfg.HideFor):
		return "", refusal(40059)
	case now.Before(m.endsAt) && m.plan.Confirm:
		return "", refusal(89504)
	case now.Before(m.endsAt):
		return PollSending, nil
	case !m.deletedAt.IsZero() && !now.Before(m.deletedAt):
		return PollDelete, nil
	}
	return m.plan.poll(), nil
}

func (s *Simulator) handleDelete(a *account, body json.RawMessage) (map[string]any, *APIError) {
	var q struct {
		MsgID   msgID `json:"msg_id"`
		Article int64 `json:"article_idx"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, refusal(47001)
	}
	m, found := a.messages[int64(q.MsgID)]
	if !found {
		return nil, refusal(40059)
	}
	if m.MsgType != "mpnews" && m.MsgType != "mpvideo" {
		// Only news and video can be deleted; the code is a guess.
		return nil, refusal(40008)
	}
	// Deleting one of several articles leaves the message as it is.
	if q.Article == 0 || len(m.articles) <= 1 {
		m.deletedAt = s.cfg.Clock()
	}
	return done(), nil
}
