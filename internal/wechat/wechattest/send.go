package wechattest

import (
	"fmt"
	"time"
)

// Audience kinds: everybody, those with one tag, a list of openids.
const (
	ToAll     = "all"
	ToTag     = "tag"
	ToOpenIDs = "openids"
)

// Audience is to whom a message goes.
type Audience struct {
	Kind  string `json:"kind"`
	TagID int64  `json:"tag_id,omitempty"` // for ToTag
	// Size is the number of people: given by the caller for ToOpenIDs, known by
	// WeChat for the others.
	Size int64 `json:"size"`
}

// All addresses every fan.
func All() Audience { return Audience{Kind: ToAll} }

// Tag addresses the fans with a tag.
func Tag(id int64) Audience { return Audience{Kind: ToTag, TagID: id} }

// OpenIDs addresses a list of n people, 2 to 10,000.
func OpenIDs(n int64) Audience { return Audience{Kind: ToOpenIDs, Size: n} }

// Send is one submission. Label and Campaign mean nothing to WeChat; they pass
// through to the receipt and the ledger.
type Send struct {
	Audience    Audience
	MsgType     string // mpnews (default), text, voice, images, mpvideo, wxcard
	ClientMsgID string // at most 32 bytes; empty sends without protection against repetition
	Console     bool   // made by hand in the web console: ids as for sends to all, and no API call
	Label       string
	Campaign    string
}

// Receipt is what the caller of a submission learns, together with what it knew
// before: enough to record the send. Its JSON is a submission as qunfa's record
// API takes it.
type Receipt struct {
	AppID       string    `json:"appid"`
	MsgID       int64     `json:"msg_id"`
	MsgDataID   int64     `json:"msg_data_id,omitempty"` // 0 after a 45065, which does not tell it
	SubmittedAt time.Time `json:"submitted_at"`
	Audience    Audience  `json:"audience"`
	MsgType     string    `json:"msg_type"`
	ClientMsgID string    `json:"clientmsgid,omitempty"`
	Label       string    `json:"label,omitempty"`
	Campaign    string    `json:"campaign,omitempty"`
	// Chase is false for imported history, which is never polled.
	Chase  bool      `json:"chase"`
	Record Recording `json:"-"`
}

// message is one accepted send. Guarded by the simulator's lock.
type message struct {
	Receipt
	ordinal   int64
	console   bool
	backdated bool
	plan      Plan
	counts    Counts
	articles  []string // URLs
	style     Style
	endsAt    time.Time // of the job: CreateTime of its push
	deletedAt time.Time // zero: not, or not yet
	polls     int64
	pushes    []*push
}

// client is what a clientmsgid stands for.
type client struct {
	msgID int64
	at    time.Time
}

// clientWindow is how long a clientmsgid protects.
const clientWindow = 24 * time.Hour

// Arrange foresees the next sends of an account, in their order.
func (s *Simulator) Arrange(appid string, plans ...Plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return err
	}
	a.arranged = append(a.arranged, plans...)
	return nil
}

// ArrangeFor foresees the send with a clientmsgid, whenever it comes.
func (s *Simulator) ArrangeFor(appid, clientMsgID string, p Plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return err
	}
	a.foreseen[clientMsgID] = p
	return nil
}

// Submit sends now, as a caller of the API would, but without token and quotas.
// What WeChat refuses comes back as an *[APIError]; a 45065 is none here, since
// the message went out.
func (s *Simulator) Submit(appid string, send Send) (Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return Receipt{}, err
	}
	return s.receipt(a, submission{Send: send, key: send.ClientMsgID, at: s.cfg.Clock()})
}

// Backdate makes history: a send of the past, whose job ended in the past and
// whose push is delivered now. Delays of the plan are not scaled.
func (s *Simulator) Backdate(appid string, send Send, p Plan, at time.Time) (Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return Receipt{}, err
	}
	return s.receipt(a, submission{Send: send, key: send.ClientMsgID, at: at, plan: &p, backdated: true})
}

// submission is a send on its way in.
type submission struct {
	Send
	key       string // what makes it the same as another; empty for nothing
	at        time.Time
	plan      *Plan // nil: as arranged
	backdated bool
}

// receipt submits on behalf of a caller in this process. The lock is held.
func (s *Simulator) receipt(a *account, sub submission) (Receipt, error) {
	m, refused := s.submit(a, sub)
	if m == nil {
		return Receipt{}, refused
	}
	return m.Receipt, nil
}

// submit takes a send. It returns the message that now stands for it, if any,
// and the error that the caller is told, if any: after a 45065 both. The lock
// is held.
func (s *Simulator) submit(a *account, sub submission) (*message, *APIError) {
	if err := a.checkSend(&sub.Send); err != nil {
		return nil, err
	}
	if known, ok := a.clients[sub.key]; ok && sub.key != "" && sub.at.Sub(known.at) < clientWindow {
		return a.messages[known.msgID], refusal(45065)
	}
	a.ordinals++
	if sub.plan == nil {
		p := s.plan(a, sub.Send)
		sub.plan = &p
	}
	var refused *APIError
	if sub.plan.Submit != 0 {
		refused = refusal(sub.plan.Submit)
		if sub.plan.Submit != 45065 {
			return nil, refused
		}
	}
	m := s.accept(a, sub)
	if sub.key != "" {
		a.clients[sub.key] = client{msgID: m.MsgID, at: sub.at}
	}
	s.schedule(a, m)
	return m, refused
}

// checkSend refuses what WeChat would and completes the rest.
func (a *account) checkSend(send *Send) *APIError {
	if send.MsgType == "" {
		send.MsgType = "mpnews"
	}
	if !knownMsgType(send.MsgType) {
		return refusal(40008)
	}
	if len(send.ClientMsgID) > 32 {
		return refusal(45067)
	}
	switch send.Audience.Kind {
	case ToAll:
		send.Audience.Size = a.Fans
	case ToTag:
		size, ok := a.Tags[send.Audience.TagID]
		if !ok {
			return refusal(40152)
		}
		send.Audience.Size = size
	case ToOpenIDs:
		if a.Subscription {
			return refusal(48001)
		}
		if send.Audience.Size < 2 || send.Audience.Size > 10_000 {
			return refusal(40130)
		}
	default:
		return refusal(40152)
	}
	return nil
}

func knownMsgType(t string) bool {
	switch t {
	case "mpnews", "text", "voice", "images", "image", "mpvideo", "wxcard":
		return true
	}
	return false
}

// plan takes what was foreseen for the send, else asks the configuration.
func (s *Simulator) plan(a *account, send Send) Plan {
	if p, ok := a.foreseen[send.ClientMsgID]; ok {
		delete(a.foreseen, send.ClientMsgID)
		return p
	}
	if len(a.arranged) > 0 {
		p := a.arranged[0]
		a.arranged = a.arranged[1:]
		return p
	}
	return s.cfg.Plans(Call{AppID: a.AppID, Ordinal: a.ordinals, Audience: send.Audience, MsgType: send.MsgType})
}

// accept gives a send its ids and its fate.
func (s *Simulator) accept(a *account, sub submission) *message {
	p := *sub.plan
	d := draw(s.cfg.Seed, "message", a.AppID, a.ordinals)
	m := &message{
		Receipt: Receipt{
			AppID: a.AppID, MsgID: a.nextID(sub.Send), SubmittedAt: sub.at, Audience: sub.Audience, MsgType: sub.MsgType,
			ClientMsgID: sub.ClientMsgID, Label: sub.Label, Campaign: sub.Campaign,
			Chase: p.Record == Recorded, Record: p.Record,
		},
		ordinal: a.ordinals, console: sub.Console, backdated: sub.backdated, plan: p,
		counts: p.counts(d, sub.Audience.Size),
		style:  drawStyle(d, a.Format),
	}
	if p.Submit != 45065 {
		m.MsgDataID = 2_247_483_648 + a.ordinals
	}
	if p.Style != nil {
		m.style = *p.Style
	}
	m.articles = articleURLs(d, p, sub.MsgType)
	s.date(m)
	a.messages[m.MsgID] = m
	a.sent = append(a.sent, m)
	return m
}

// date fixes when the message's job ends and when it is deleted.
func (s *Simulator) date(m *message) {
	after, deleted := m.plan.After, m.plan.DeletedAfter
	if !m.backdated {
		after, deleted = s.cfg.scaled(after), s.cfg.scaled(deleted)
	}
	m.endsAt = m.SubmittedAt.Add(after)
	if deleted > 0 {
		m.deletedAt = m.endsAt.Add(deleted)
	}
}

// nextID gives the msg_id. WeChat counts per account from the same numbers, so
// ids of different accounts collide, and those of lists exceed 32 bits with sign.
func (a *account) nextID(send Send) int64 {
	if send.Console || send.Audience.Kind == ToAll {
		a.wholeIDs++
		return 1_000_000_000 + a.wholeIDs
	}
	a.listIDs++
	return 3_147_483_648 + a.listIDs
}

func drawStyle(d drawer, f Format) Style {
	compact, quoted, shape := d.IntN(4) == 0, d.IntN(3) == 0, pick(d, []ListShape{ListOfItems, ListBare, ListSingle})
	if f == JSON {
		return Style{Quoted: quoted, List: shape}
	}
	return Style{Compact: compact}
}

func articleURLs(d drawer, p Plan, msgType string) []string {
	n := p.Articles
	if n == 0 {
		n = 1
		if msgType == "mpnews" {
			n = int(d.between(1, 4))
		}
	}
	if _, rejected := p.errCode(); rejected || p.Old {
		return nil
	}
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://mp.weixin.qq.com/s/%s", d.from(urlSafe, 22))
	}
	return urls
}
