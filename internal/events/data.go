package events

import (
	"errors"
	"fmt"
	"time"
)

// Audience kinds: to everybody, to those with one tag, to a list of openids.
const (
	AudienceAll     = "all"
	AudienceTag     = "tag"
	AudienceOpenIDs = "openids"
)

// Audience says to whom a message was submitted.
type Audience struct {
	Kind  string `json:"kind,omitempty"`   // one of the Audience constants, or empty if unknown
	TagID *int64 `json:"tag_id,omitempty"` // for Kind "tag"
	Size  *int64 `json:"size,omitempty"`   // people addressed, where the sender knew it
}

// Submitted says that WeChat accepted a send.
type Submitted struct {
	AppID       string    `json:"appid"`
	MsgID       int64     `json:"msg_id"`
	SubmittedAt time.Time `json:"submitted_at"`
	Recorder    string    `json:"recorder"` // who told us: a name of the sender's choosing, default "api"
	// Chase is false for imported history: no poll ever asks WeChat about it.
	Chase bool `json:"chase"`
	// MsgDataID links to WeChat's article statistics; only the answer to the
	// send carries it, so it is kept here or lost.
	MsgDataID   *int64   `json:"msg_data_id,omitempty"`
	Audience    Audience `json:"audience,omitzero"`
	MsgType     string   `json:"msg_type,omitempty"` // mpnews, text, voice, images, mpvideo, wxcard
	Label       string   `json:"label,omitempty"`    // what a person calls this message
	Campaign    string   `json:"campaign,omitempty"` // what a person calls one send of several messages
	ClientMsgID string   `json:"clientmsgid,omitempty"`
}

// Status kinds: what a raw status string of WeChat means.
const (
	StatusSent     = "sent"
	StatusFailed   = "failed"
	StatusRejected = "rejected" // any err(num)
	StatusUnknown  = "unknown"
)

// Finished is the MASSSENDJOBFINISH callback. Counts are pointers because
// absent is not zero.
type Finished struct {
	AppID      string `json:"appid"`
	MsgID      int64  `json:"msg_id"`
	OriginalID string `json:"original_id,omitempty"` // ToUserName, gh_…
	FromUser   string `json:"from_user,omitempty"`   // FromUserName: some openid; the documentation's "mphelper" is never seen
	// CreateTime is Unix time in seconds, of the push, not of the send.
	CreateTime int64  `json:"create_time"`
	Status     string `json:"status"`             // as WeChat wrote it
	StatusKind string `json:"status_kind"`        // one of the Status constants
	ErrCode    *int64 `json:"err_code,omitempty"` // num of err(num)
	// TotalCount is the people addressed; FilterCount those that remain after
	// filtering (not those removed); SentCount and ErrorCount what became of these.
	TotalCount  *int64     `json:"total_count,omitempty"`
	FilterCount *int64     `json:"filter_count,omitempty"`
	SentCount   *int64     `json:"sent_count,omitempty"`
	ErrorCount  *int64     `json:"error_count,omitempty"`
	Copyright   *Copyright `json:"copyright,omitempty"`
	ArticleURLs []Link     `json:"article_urls,omitempty"`
	// Mode is how the push was protected: plain, compatible or safe.
	Mode   string `json:"mode,omitempty"`
	Format string `json:"format,omitempty"` // xml or json: how to read Raw
	// Raw is the callback as WeChat sent it, decrypted. A replay re-reads it
	// when a newer version understands more. It may hold one openid.
	Raw string `json:"raw,omitempty"`
}

// Copyright is the originality check of the articles of a message.
type Copyright struct {
	Count      *int64         `json:"count,omitempty"`
	CheckState *int64         `json:"check_state,omitempty"` // 0 undocumented but common, 1 not a reprint, 2 reprint may go, 3 reprint may not
	Articles   []ArticleCheck `json:"articles,omitempty"`
}

// ArticleCheck is the verdict on one article. Unknown values are kept as they are.
type ArticleCheck struct {
	Index                 int64  `json:"article_idx"`                  // from 1
	UserDeclareState      *int64 `json:"user_declare_state,omitempty"` // 0 none, 1 original, 2 reprint
	AuditState            *int64 `json:"audit_state,omitempty"`        // 0 not yet, 1 under way, 11 passed, others not passed
	OriginalArticleURL    string `json:"original_article_url,omitempty"`
	OriginalArticleType   *int64 `json:"original_article_type,omitempty"`
	CanReprint            *int64 `json:"can_reprint,omitempty"`
	NeedReplaceContent    *int64 `json:"need_replace_content,omitempty"`
	NeedShowReprintSource *int64 `json:"need_show_reprint_source,omitempty"`
}

// Link is where an article can be read.
type Link struct {
	Index int64  `json:"article_idx"` // from 1
	URL   string `json:"url"`
}

// Poll statuses of mass/get. Others may exist; they end nothing.
const (
	PollSuccess = "SEND_SUCCESS"
	PollSending = "SENDING"
	PollFail    = "SEND_FAIL"
	PollDelete  = "DELETE"
)

// Polled is one answer of WeChat's mass/get: either a status or an API error.
type Polled struct {
	AppID    string    `json:"appid"`
	MsgID    int64     `json:"msg_id"`
	PolledAt time.Time `json:"polled_at"`
	Attempt  int64     `json:"attempt"` // from 1
	Status   string    `json:"status,omitempty"`
	Error    *APIError `json:"error,omitempty"`
	Instance string    `json:"instance"` // which reconciler asked
}

// APIError is an error answer of a WeChat API. It never holds credentials.
type APIError struct {
	Code    int64  `json:"errcode"` // 0 when WeChat could not be asked at all
	Message string `json:"errmsg,omitempty"`
	RID     string `json:"rid,omitempty"` // WeChat's request id, good for 7 days
	Class   string `json:"class,omitempty"`
}

// Deleted says that a message, or one of its articles, was deleted through the API.
type Deleted struct {
	AppID      string    `json:"appid"`
	MsgID      int64     `json:"msg_id"`
	ArticleIdx int64     `json:"article_idx"` // from 1; 0 is the whole message
	DeletedAt  time.Time `json:"deleted_at"`
}

// Reasons why polling ended without an answer.
const (
	ReasonNoAnswer      = "no_answer"      // polled, never conclusive
	ReasonNeverPolled   = "never_polled"   // credentials are there, but no poll could be made
	ReasonNoCredentials = "no_credentials" // the configuration has none for the account
	ReasonNotChased     = "not_chased"     // imported history
)

// Abandoned says that nobody will ask about a message any more.
type Abandoned struct {
	AppID       string    `json:"appid"`
	MsgID       int64     `json:"msg_id"`
	AbandonedAt time.Time `json:"abandoned_at"`
	Reason      string    `json:"reason"`           // one of the Reason constants
	Detail      string    `json:"detail,omitempty"` // in words, for people
	Polls       int64     `json:"polls"`            // how often WeChat was asked
	Instance    string    `json:"instance"`
}

func (*Submitted) Type() Type { return TypeSubmitted }
func (*Finished) Type() Type  { return TypeFinished }
func (*Polled) Type() Type    { return TypePolled }
func (*Deleted) Type() Type   { return TypeDeleted }
func (*Abandoned) Type() Type { return TypeAbandoned }

func (d *Submitted) Message() Key { return Key{d.AppID, d.MsgID} }
func (d *Finished) Message() Key  { return Key{d.AppID, d.MsgID} }
func (d *Polled) Message() Key    { return Key{d.AppID, d.MsgID} }
func (d *Deleted) Message() Key   { return Key{d.AppID, d.MsgID} }
func (d *Abandoned) Message() Key { return Key{d.AppID, d.MsgID} }

func (d *Submitted) When() time.Time { return d.SubmittedAt }
func (d *Finished) When() time.Time  { return time.Unix(d.CreateTime, 0).UTC() }
func (d *Polled) When() time.Time    { return d.PolledAt }
func (d *Deleted) When() time.Time   { return d.DeletedAt }
func (d *Abandoned) When() time.Time { return d.AbandonedAt }

func (d *Submitted) validate() error { return checkCommon(d.Message(), d.SubmittedAt) }
func (d *Finished) validate() error  { return checkCommon(d.Message(), d.When()) }
func (d *Abandoned) validate() error { return checkCommon(d.Message(), d.AbandonedAt) }

func (d *Polled) validate() error {
	if d.Status == "" && d.Error == nil {
		return errors.New("a poll needs a status or an error")
	}
	return checkCommon(d.Message(), d.PolledAt)
}

func (d *Deleted) validate() error {
	if d.ArticleIdx < 0 {
		return fmt.Errorf("article_idx %d: want 0 for all, or an article counted from 1", d.ArticleIdx)
	}
	return checkCommon(d.Message(), d.DeletedAt)
}

// MinTime and MaxTime bound the times an event may carry: before the first lie
// typing errors, and ClickHouse's Date ends at the second. Outside, an event could neither
// be folded to a day nor found again.
var (
	MinTime = time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)
	MaxTime = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

func checkCommon(k Key, at time.Time) error {
	if err := CheckAppID(k.AppID); err != nil {
		return err
	}
	if k.MsgID <= 0 {
		return fmt.Errorf("msg_id %d: want a positive number", k.MsgID)
	}
	if at.Before(MinTime) || !at.Before(MaxTime) {
		return fmt.Errorf("time %s: want one between %s and %s", at.Format(time.RFC3339), MinTime.Format(time.DateOnly), MaxTime.Format(time.DateOnly))
	}
	return nil
}

// CheckAppID says what is wrong with an appid. WeChat's are "wx" and 16
// hexadecimal digits; anything made of 1 to 64 letters, digits, '-' and '_' is
// let through, since the form is not documented.
func CheckAppID(s string) error {
	if s == "" {
		return errors.New("appid is missing")
	}
	if len(s) > 64 {
		return fmt.Errorf("appid %q: longer than 64 characters", clip(s))
	}
	for _, c := range []byte(s) {
		ok := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
		if !ok {
			return fmt.Errorf("appid %q: only letters, digits, '-' and '_' are allowed", clip(s))
		}
	}
	return nil
}
