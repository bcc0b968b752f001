package wechattest

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// push is one document on its way to one URL. Guarded by the simulator's lock.
type push struct {
	appid     string
	component string // pushed to this platform's URL instead of the account's
	ticket    bool   // a notice to the platform itself
	kind      string // the event, or the type of an ordinary message
	msgID     int64
	ordinal   int64 // of the account's pushes
	openid    string
	document  func(Format) []byte
	passive   bool // the receiver may answer with a message

	callback Callback
	state    PushState
	attempts []Attempt
}

// massFinished is the event that reports a mass send.
const massFinished = "MASSSENDJOBFINISH"

// PushState is where a push is.
type PushState string

// The states of a push.
const (
	PushNever     PushState = "never"     // planned not to come
	PushHeld      PushState = "held"      // kept back until released
	PushDue       PushState = "due"       // to be delivered, now or later
	PushDelivered PushState = "delivered" // answered with success
	PushGivenUp   PushState = "given up"  // no success in all attempts
)

// Attempt is one try to deliver a push.
type Attempt struct {
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"took"`
	Status  int           `json:"status,omitempty"` // HTTP status; 0 if there was no answer
	Reply   string        `json:"reply,omitempty"`  // the answer's body, clipped
	Error   string        `json:"error,omitempty"`
	Written bool          `json:"written"`        // the whole request went out
	Success bool          `json:"success"`        // the receiver answered with success
	Lost    bool          `json:"lost,omitempty"` // but the answer never reached us, by plan
}

// schedule makes the pushes that report a message. The lock is held.
func (s *Simulator) schedule(a *account, m *message) {
	delay := s.cfg.scaled(m.plan.After + m.plan.Callback.Late)
	if m.backdated {
		delay = 0
	}
	for _, target := range a.targets(m.plan.Callback.Twice) {
		s.enqueue(a, &push{
			component: target,
			kind:      massFinished,
			msgID:     m.MsgID,
			openid:    draw(s.cfg.Seed, "openid", a.AppID, m.ordinal).openID(),
			callback:  m.plan.Callback,
			document:  func(f Format) []byte { return s.finished(a, m, f) },
		}, delay)
		m.pushes = append(m.pushes, s.pushes[len(s.pushes)-1])
	}
}

// targets are the URLs a push goes to: empty for the account's own, else the
// platform's appid.
func (a *account) targets(twice bool) []string {
	switch {
	case a.Component != "" && a.CallbackURL == "":
		return []string{a.Component}
	case !twice:
		return []string{""}
	default:
		return []string{"", a.Component} // without a platform: the same URL again
	}
}

// enqueue hands a push to the deliverer, or keeps it. The lock is held.
func (s *Simulator) enqueue(a *account, p *push, delay time.Duration) {
	a.pushed++
	p.appid, p.ordinal = a.AppID, a.pushed
	s.pushes = append(s.pushes, p)
	switch {
	case p.callback.Never:
		p.state = PushNever
	case p.callback.Hold:
		p.state = PushHeld
	default:
		p.state = PushDue
		s.delivery.add(p, delay)
	}
}

// Release delivers the callback of a message that its plan held back, now. It
// reports whether there was one.
func (s *Simulator) Release(appid string, msgID int64) bool {
	return s.release(func(p *push) bool { return p.appid == appid && p.msgID == msgID }) > 0
}

// ReleaseAll delivers every callback that was held back and returns their number.
func (s *Simulator) ReleaseAll() int { return s.release(func(*push) bool { return true }) }

func (s *Simulator) release(which func(*push) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.pushes {
		if p.state == PushHeld && which(p) {
			p.state = PushDue
			s.delivery.add(p, 0)
			n++
		}
	}
	return n
}

// finished is the document that reports a message.
func (s *Simulator) finished(a *account, m *message, f Format) []byte {
	fields := []field{
		text("ToUserName", a.OriginalID),
		text("FromUserName", draw(s.cfg.Seed, "openid", a.AppID, m.ordinal).openID()),
		number("CreateTime", m.endsAt.Unix()),
		text("MsgType", "event"),
		text("Event", massFinished),
		number("MsgID", m.MsgID),
		text("Status", m.plan.Status),
		number("TotalCount", m.counts.Total),
		number("FilterCount", m.counts.Filter),
		number("SentCount", m.counts.Sent),
		number("ErrorCount", m.counts.Error),
	}
	if !m.plan.Old {
		fields = append(fields, copyright(s.cfg.Seed, m), articleResult(m))
	}
	return writeDocument(f, m.style, fields)
}

func copyright(seed uint64, m *message) field {
	d := draw(seed, "originals", m.AppID, m.ordinal)
	items := make([]field, len(m.plan.Checks))
	for i, c := range m.plan.Checks {
		items[i] = group("item",
			number("ArticleIdx", c.Article),
			number("UserDeclareState", c.UserDeclareState),
			number("AuditState", c.AuditState),
			text("OriginalArticleUrl", "http://mp.weixin.qq.com/s/"+d.from(urlSafe, 22)),
			number("OriginalArticleType", c.OriginalType),
			number("CanReprint", c.CanReprint),
			number("NeedReplaceContent", c.NeedReplace),
			number("NeedShowReprintSource", c.NeedReprintSource),
		)
	}
	return group("CopyrightCheckResult",
		number("Count", int64(len(items))),
		list("ResultList", items...),
		number("CheckState", m.plan.CheckState),
	)
}

func articleResult(m *message) field {
	items := make([]field, len(m.articles))
	for i, u := range m.articles {
		items[i] = group("item", number("ArticleIdx", int64(i+1)), text("ArticleUrl", u))
	}
	return group("ArticleUrlResult", number("Count", int64(len(items))), list("ResultList", items...))
}

// envelope is a push made ready for one attempt.
type envelope struct {
	url         string
	contentType string
	body        []byte
}

// seal makes a push ready for its nth attempt (from 1), with a timestamp, a
// nonce and, where it is encrypted, random bytes of its own. The lock is held.
func (s *Simulator) seal(p *push, n int) (envelope, error) {
	r := s.recipient(s.accounts[p.appid], p.component)
	if p.ticket {
		r.url = s.components[p.component].TicketURL
	}
	if r.url == "" {
		return envelope{}, fmt.Errorf("account %s has no callback URL", p.appid)
	}
	d := draw(s.cfg.Seed, "attempt", p.appid, p.ordinal, n)
	return r.seal(p, s.cfg.Clock(), d)
}

// recipient is who gets a push and how it wants it.
type recipient struct {
	url, token, key, appid, name string
	mode                         Mode
	format                       Format
}

// recipient is the account itself or, if named, its platform. The lock is held.
func (s *Simulator) recipient(a *account, component string) recipient {
	if component == "" {
		return recipient{
			url: a.CallbackURL, token: a.Token, key: a.AESKey, appid: a.AppID, name: a.OriginalID, mode: a.Mode, format: a.Format,
		}
	}
	c := s.components[component]
	return recipient{
		url:   strings.ReplaceAll(c.URL, "$APPID$", a.AppID),
		token: c.Token, key: c.AESKey, appid: c.AppID, name: a.OriginalID, mode: Safe, format: XML,
	}
}

func (r recipient) seal(p *push, now time.Time, d drawer) (envelope, error) {
	timestamp, nonce := strconv.FormatInt(now.Unix(), 10), d.from(digits, 10)
	query := url.Values{
		"signature": {sign(r.token, timestamp, nonce)},
		"timestamp": {timestamp},
		"nonce":     {nonce},
	}
	if p.openid != "" {
		query.Set("openid", p.openid)
	}
	body := p.document(r.format)
	if r.mode != Plain {
		random := [16]byte([]byte(d.text(16)))
		encrypted, err := seal(r.key, r.appid, random, body)
		if err != nil {
			return envelope{}, fmt.Errorf("encrypt for %s: %w", p.appid, err)
		}
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", sign(r.token, timestamp, nonce, encrypted))
		body = r.wrap(p, body, encrypted)
	}
	contentType := "text/xml"
	if r.format == JSON {
		contentType = "application/json"
	}
	return envelope{url: withQuery(r.url, query), contentType: contentType, body: body}, nil
}

// wrap puts the ciphertext into a document of its own, or, in compatible mode,
// into the clear one.
func (r recipient) wrap(p *push, clear []byte, encrypted string) []byte {
	if r.mode == Compatible {
		extra := text("Encrypt", encrypted)
		if r.format == JSON {
			body := strings.TrimSuffix(string(clear), "}") + `,"Encrypt":`
			return append([]byte(body), append(jsonString(encrypted), '}')...)
		}
		var b strings.Builder
		b.WriteString(strings.TrimSuffix(string(clear), "</xml>"))
		b.WriteString("<" + extra.name + ">" + cdata(encrypted) + "</" + extra.name + ">\n</xml>")
		return []byte(b.String())
	}
	who := "ToUserName"
	name := r.name
	if p.ticket {
		who, name = "AppId", r.appid
	}
	return writeDocument(r.format, Style{}, []field{text(who, name), text("Encrypt", encrypted)})
}

// withQuery appends a query to a URL that may already have one.
func withQuery(base string, query url.Values) string {
	separator := "?"
	if strings.Contains(base, "?") {
		separator = "&"
	}
	return base + separator + query.Encode()
}
