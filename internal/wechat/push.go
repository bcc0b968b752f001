package wechat

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// eventMassSendJobFinish names the event that reports the end of a mass send.
const eventMassSendJobFinish = "MASSSENDJOBFINISH"

// Envelope is the head of a push: what tells one kind from another. What a push
// does not have, or has in a form that makes no sense, is left empty.
type Envelope struct {
	ToUserName   string // original id of the account, gh_…; not its appid
	FromUserName string // an openid
	CreateTime   int64  // Unix time in seconds, of the push
	MsgType      string // "event" for events
	Event        string // e.g. MASSSENDJOBFINISH
	// MsgID is MsgID of job events and MsgId of messages: the letter's case differs, the
	// place does not.
	MsgID int64
	// InfoType and AppID are in notices to third-party platforms, in place of MsgType and ToUserName.
	InfoType, AppID string
}

// IsMassSendJobFinish tells whether the push is the result of a mass send. Event
// is compared without regard to case, since WeChat sends some events in both. A
// MsgType other than event rules it out: then the element Event is not WeChat's.
func (e Envelope) IsMassSendJobFinish() bool {
	return strings.EqualFold(e.Event, eventMassSendJobFinish) &&
		(e.MsgType == "" || strings.EqualFold(e.MsgType, "event"))
}

// MentionsMassSendJobFinish tells whether body has the event's name anywhere in
// it. It is for pushes that [ParsePush] cannot read to the end: better to keep one too
// many than to lose a result.
func MentionsMassSendJobFinish(body []byte) bool {
	return bytes.Contains(bytes.ToUpper(body), []byte(eventMassSendJobFinish))
}

// ParsePush reads the head of a push of any kind. It wants a well-formed document
// within the limits and nothing else. With an error it returns what was readable
// before the fault, which may be enough to know the kind.
func ParsePush(format string, body []byte) (Envelope, error) {
	doc, err := parseDocument(format, body)
	return envelope(doc), err
}

func envelope(doc *node) Envelope {
	number := func(name string) int64 {
		if v, err := doc.integer(name); err == nil && v != nil {
			return *v
		}
		return 0
	}
	return Envelope{
		ToUserName:   doc.word("ToUserName"),
		FromUserName: doc.word("FromUserName"),
		CreateTime:   number("CreateTime"),
		MsgType:      doc.word("MsgType"),
		Event:        doc.word("Event"),
		MsgID:        number("MsgID"),
		InfoType:     doc.word("InfoType"),
		AppID:        doc.word("AppId"),
	}
}

// MassSendJobFinish is WeChat's report on a mass send that is about to end. Every
// field that has ever been seen is here, under its name on the wire; a
// nil is an element that was absent or empty, which is not 0. Unknown values are
// passed on as they are: their lists are open.
type MassSendJobFinish struct {
	ToUserName   string // original id of the account, gh_…
	FromUserName string // some openid; never the "mphelper" of the documentation
	CreateTime   int64  // Unix time in seconds, of the push; not of the send
	MsgType      string // event
	Event        string // MASSSENDJOBFINISH
	MsgID        int64  // as answered to the send; unique within the account only
	Status       string // exactly as WeChat wrote it: "send success", "err(10001)", …

	TotalCount  *int64 // people addressed
	FilterCount *int64 // people who remained after filtering, not those removed
	SentCount   *int64 // delivered
	ErrorCount  *int64 // not delivered

	CopyrightCheckResult *CopyrightCheckResult // absent before 2016-12
	ArticleURLResult     *ArticleURLResult     // ArticleUrlResult; absent before 2020-09
}

// CopyrightCheckResult is the originality check of the articles of a message.
type CopyrightCheckResult struct {
	Count      *int64 // what WeChat says the length of ResultList is
	ResultList []CopyrightCheckItem
	CheckState *int64 // 0 undocumented but common, 1 no reprint, 2 a reprint that may go, 3 a reprint that may not
}

// CopyrightCheckItem is the verdict on one article.
type CopyrightCheckItem struct {
	ArticleIdx            *int64 // from 1
	UserDeclareState      *int64 // 0 nothing declared, 1 original, 2 reprint
	AuditState            *int64 // 0 not checked yet, 1 under way, 11 passed, others not passed
	OriginalArticleURL    string // OriginalArticleUrl, the article it resembles
	OriginalArticleType   *int64 // 1 original, 2 older and not original, 3 news, 4 blacklisted
	CanReprint            *int64 // 1 if allowed
	NeedReplaceContent    *int64 // 1 if the original's content must be put in its place
	NeedShowReprintSource *int64 // 1 if the source must be shown
}

// ArticleURLResult says where the articles of a message can be read.
type ArticleURLResult struct {
	Count      *int64 // what WeChat says the length of ResultList is
	ResultList []ArticleURLItem
}

// ArticleURLItem is where one article can be read.
type ArticleURLItem struct {
	ArticleIdx *int64 // from 1
	ArticleURL string // ArticleUrl, http://mp.weixin.qq.com/s/…
}

// ParseMassSendJobFinish reads a MASSSENDJOBFINISH push. Elements may come in any
// order, be absent or empty; numbers may be quoted, in CDATA or among white space;
// names may be in any case; the list of articles in JSON may be {"item": […]},
// {"item": {…}}, or an array itself. Of an element that is there twice the
// first counts.
//
// Errors name the element: a number that is none, no MsgID or CreateTime (without
// which it cannot be said what is reported), or another kind of push.
func ParseMassSendJobFinish(format string, body []byte) (MassSendJobFinish, error) {
	doc, err := parseDocument(format, body)
	if err != nil {
		return MassSendJobFinish{}, fmt.Errorf("parse %s: %w", eventMassSendJobFinish, err)
	}
	if head := envelope(doc); !head.IsMassSendJobFinish() {
		return MassSendJobFinish{}, fmt.Errorf("parse %s: push has MsgType %q and Event %q",
			eventMassSendJobFinish, clip(head.MsgType), clip(head.Event))
	}
	var r reader
	m := r.massSendJobFinish(doc)
	if r.err != nil {
		return MassSendJobFinish{}, fmt.Errorf("parse %s: %w", eventMassSendJobFinish, r.err)
	}
	return m, nil
}

// reader reads fields and keeps the first error, so that those who use it can list fields
// one after the other.
type reader struct{ err error }

func (r *reader) integer(n *node, name string) *int64 {
	v, err := n.integer(name)
	if err != nil && r.err == nil {
		r.err = err
	}
	return v
}

// required is integer for what must be there.
func (r *reader) required(n *node, name string) int64 {
	v := r.integer(n, name)
	if v == nil {
		if r.err == nil {
			r.err = errors.New("element " + name + " is missing or empty")
		}
		return 0
	}
	return *v
}

func (r *reader) massSendJobFinish(doc *node) MassSendJobFinish {
	return MassSendJobFinish{
		ToUserName:           doc.word("ToUserName"),
		FromUserName:         doc.word("FromUserName"),
		CreateTime:           r.required(doc, "CreateTime"),
		MsgType:              doc.word("MsgType"),
		Event:                doc.word("Event"),
		MsgID:                r.required(doc, "MsgID"),
		Status:               doc.str("Status"),
		TotalCount:           r.integer(doc, "TotalCount"),
		FilterCount:          r.integer(doc, "FilterCount"),
		SentCount:            r.integer(doc, "SentCount"),
		ErrorCount:           r.integer(doc, "ErrorCount"),
		CopyrightCheckResult: r.copyright(doc.child("CopyrightCheckResult")),
		ArticleURLResult:     r.articleURLs(doc.child("ArticleUrlResult")),
	}
}

func (r *reader) copyright(n *node) *CopyrightCheckResult {
	if n == nil {
		return nil
	}
	c := &CopyrightCheckResult{Count: r.integer(n, "Count"), CheckState: r.integer(n, "CheckState")}
	for _, item := range items(n) {
		c.ResultList = append(c.ResultList, CopyrightCheckItem{
			ArticleIdx:            r.integer(item, "ArticleIdx"),
			UserDeclareState:      r.integer(item, "UserDeclareState"),
			AuditState:            r.integer(item, "AuditState"),
			OriginalArticleURL:    item.word("OriginalArticleUrl"),
			OriginalArticleType:   r.integer(item, "OriginalArticleType"),
			CanReprint:            r.integer(item, "CanReprint"),
			NeedReplaceContent:    r.integer(item, "NeedReplaceContent"),
			NeedShowReprintSource: r.integer(item, "NeedShowReprintSource"),
		})
	}
	return c
}

func (r *reader) articleURLs(n *node) *ArticleURLResult {
	if n == nil {
		return nil
	}
	a := &ArticleURLResult{Count: r.integer(n, "Count")}
	for _, item := range items(n) {
		a.ResultList = append(a.ResultList, ArticleURLItem{
			ArticleIdx: r.integer(item, "ArticleIdx"),
			ArticleURL: item.word("ArticleUrl"),
		})
	}
	return a
}

// items returns the articles in a ResultList. How JSON writes the list is documented nowhere: as an
// object with a member item, one or an array of them, or as the array.
// A list that is there twice has all its articles.
func items(n *node) []*node {
	var found []*node
	for _, list := range n.all("ResultList") {
		wrapped := list.all("item")
		if len(wrapped) == 0 {
			wrapped = []*node{list}
		}
		for _, item := range wrapped {
			if len(item.kids) > 0 {
				found = append(found, item)
			}
		}
	}
	return found
}
