package wechattest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Statuses of a finished job, as pushes carry them. Reviews end in err(num).
const (
	StatusSuccess = "send success"
	StatusFail    = "send fail"
)

// Answers of mass/get.
const (
	PollSending = "SENDING"
	PollSuccess = "SEND_SUCCESS"
	PollFail    = "SEND_FAIL"
	PollDelete  = "DELETE"
)

// ErrCode says why review, the originality check or an administrator stopped a
// send: the num of err(num).
type ErrCode int64

// ReviewCodes are the documented rejections by review.
func ReviewCodes() []ErrCode {
	return []ErrCode{10001, 20001, 20002, 20004, 20006, 20008, 20013, 21000, 22000}
}

// OriginalityCodes are the documented failures of the originality check.
func OriginalityCodes() []ErrCode { return []ErrCode{30001, 30002, 30003} }

// AdminCodes are refused and not answered within 30 minutes.
func AdminCodes() []ErrCode { return []ErrCode{40001, 40002} }

// UndocumentedCodes are one that was seen in the wild and one that never was:
// the list is open.
func UndocumentedCodes() []ErrCode { return []ErrCode{20431, 29999} }

// Counts are the four figures of a finished job. Mind Filter: it is the people
// who remain after filtering, not those removed.
type Counts struct {
	Total  int64 `json:"total"`  // addressed
	Filter int64 `json:"filter"` // WeChat's FilterCount: those that REMAIN
	Sent   int64 `json:"sent"`
	Error  int64 `json:"error"`
}

// Plan is what becomes of one send. Build it with [Success] and its siblings
// and refine it with its methods; each returns a changed copy.
type Plan struct {
	// Case names the plan in tables and in the ledger.
	Case string `json:"case"`
	// Submit is the errcode of the call that submits, 0 for none. 45065 accepts
	// the send and answers with its msg_id all the same; the others send nothing.
	Submit int64 `json:"submit,omitempty"`
	// Status is what the push says.
	Status string `json:"status"`
	// Counts are the push's figures; nil draws them: a few per cent filtered
	// and next to no errors, or zeros for err(num).
	Counts *Counts `json:"counts,omitempty"`
	// FilterShare and ErrorShare fix the fractions removed and failed when
	// counts are drawn; negative draws these, too.
	FilterShare float64 `json:"-"`
	ErrorShare  float64 `json:"-"`
	// After is the time from submission to the end of the job. Scaled.
	After time.Duration `json:"-"`
	// Confirm makes mass/get answer 89504 (an administrator must confirm)
	// instead of SENDING until the end.
	Confirm bool `json:"confirm,omitempty"`
	// Poll is what mass/get says after the end; empty follows from Status.
	// SENDING never ends. "40059" never finds the message.
	Poll string `json:"poll,omitempty"`
	// DeletedAfter is the time from the end of the job to its deletion, 0 for
	// never: mass/get then says DELETE. Scaled.
	DeletedAfter time.Duration `json:"-"`

	Callback Callback `json:"callback"`

	// Articles is the number of articles; 0 draws one to four for news, one otherwise.
	Articles int `json:"articles,omitempty"`
	// Checks are the verdicts of the originality check, one per article that was checked.
	Checks []Check `json:"checks,omitempty"`
	// CheckState: 1 no reprint, 2 a reprint that may go, 3 a reprint that may
	// not, 0 undocumented but common.
	CheckState int64 `json:"check_state"`
	// Old leaves out CopyrightCheckResult (added 2016) and ArticleUrlResult (added 2020).
	Old bool `json:"old,omitempty"`
	// Style of the document; nil draws one.
	Style *Style `json:"style,omitempty"`

	Record Recording `json:"record,omitempty"`
}

// Callback is what becomes of the push that reports a send.
type Callback struct {
	// Never drops it: WeChat does not push, and nobody learns the counts.
	Never bool `json:"never,omitempty"`
	// Hold keeps it back until [Simulator.Release].
	Hold bool `json:"hold,omitempty"`
	// Late is added between the end of the job and the first attempt. Scaled.
	Late time.Duration `json:"-"`
	// LoseAnswers is the number of attempts whose answer never reaches WeChat
	// although the receiver gave it: the push comes again.
	LoseAnswers int `json:"lose_answers,omitempty"`
	// HangUps is the number of attempts that break the connection as soon as
	// the request is written.
	HangUps int `json:"hang_ups,omitempty"`
	// Twice pushes to two URLs: the account's and its platform's, or, without a
	// platform, two independent pushes to the same.
	Twice bool `json:"twice,omitempty"`
}

// Recording says what the scenario's operator tells the receiving system about
// a send. The simulator only passes it on, and takes it into account when it
// says what is to be expected.
type Recording string

// The ways to tell, or not to tell.
const (
	Recorded   Recording = ""           // recorded; to be polled when the callback does not come
	History    Recording = "history"    // recorded as imported history: never polled
	Unrecorded Recording = "unrecorded" // nobody told: known by its callback alone
)

// Check is the originality verdict on one article.
type Check struct {
	Article           int64 `json:"article"` // from 1
	UserDeclareState  int64 `json:"user_declare_state"`
	AuditState        int64 `json:"audit_state"`
	OriginalType      int64 `json:"original_type"`
	CanReprint        int64 `json:"can_reprint"`
	NeedReplace       int64 `json:"need_replace"`
	NeedReprintSource int64 `json:"need_reprint_source"`
}

func newPlan(name, status string) Plan {
	return Plan{Case: name, Status: status, After: time.Minute, FilterShare: -1, ErrorShare: -1}
}

// Success ends well: a few per cent filtered, next to no errors.
func Success() Plan { return newPlan("success", StatusSuccess) }

// Partial ends as sent although many people could not be reached.
func Partial() Plan {
	p := newPlan("partial failure", StatusSuccess)
	p.ErrorShare = 0.2
	return p
}

// Filtered ends as sent to the few who remained after filtering.
func Filtered() Plan {
	p := newPlan("mostly filtered", StatusSuccess)
	p.FilterShare = 0.7
	return p
}

// Fail ends with send fail: nobody got it.
func Fail() Plan {
	p := newPlan("send fail", StatusFail)
	p.ErrorShare = 1
	return p
}

// Rejected is stopped by review, whether or not the code is documented.
func Rejected(code ErrCode) Plan { return newPlan("rejected by review", errStatus(code)) }

// Originality is stopped by the originality check, with verdicts on two articles.
func Originality(code ErrCode) Plan {
	p := newPlan("originality check", errStatus(code))
	p.Articles = 2
	p.CheckState = 3
	p.Checks = []Check{
		{Article: 1, AuditState: 2, OriginalType: 1, CanReprint: 1, NeedReplace: 1, NeedReprintSource: 1},
		{Article: 2, AuditState: 2, OriginalType: 1, CanReprint: 0, NeedReplace: 0, NeedReprintSource: 1},
	}
	return p
}

// Admin is stopped by the account's administrator, who refuses (40001) or does
// not answer within 30 minutes (40002). Until then mass/get waits for a confirmation.
func Admin(code ErrCode) Plan {
	p := newPlan("administrator", errStatus(code))
	p.Confirm = true
	p.After = 8 * time.Minute
	if code == 40002 {
		p.After = 30 * time.Minute
	}
	return p
}

// DeletedAfterSuccess is the odd case of the wild: send success, but nobody
// remained to send to (8, 0, 0, 0 was seen), and mass/get says DELETE.
func DeletedAfterSuccess() Plan {
	p := newPlan("deleted after success", StatusSuccess)
	p.FilterShare = 1
	p.DeletedAfter = time.Second
	return p
}

// Odd ends with a status that nobody knows.
func Odd(status string) Plan { return newPlan("unknown status", status) }

// Refused is not accepted: the submitting call answers with the errcode.
// 45065 is the exception: it carries a msg_id and the send goes out.
func Refused(errcode int64) Plan {
	p := Success()
	p.Case = fmt.Sprintf("submission answers %d", errcode)
	p.Submit = errcode
	return p
}

func errStatus(code ErrCode) string { return fmt.Sprintf("err(%d)", code) }

// As renames the plan.
func (p Plan) As(name string) Plan { p.Case = name; return p }

// Ending sets the time from submission to the end of the job. Scaled.
func (p Plan) Ending(after time.Duration) Plan { p.After = after; return p }

// Never drops the callback; mass/get knows the end.
func (p Plan) Never() Plan { return p.but("no callback", func(p *Plan) { p.Callback.Never = true }) }

// Lost drops the callback, and mass/get does not know the end either: it says
// SENDING, or "40059", forever.
func (p Plan) Lost(poll string) Plan {
	return p.Never().but("mass/get never beyond "+poll, func(p *Plan) { p.Poll = poll })
}

// Held keeps the callback until [Simulator.Release].
func (p Plan) Held() Plan { return p.but("callback held", func(p *Plan) { p.Callback.Hold = true }) }

// Late delays the callback beyond the end of the job. Scaled.
func (p Plan) Late(by time.Duration) Plan {
	return p.but("late callback", func(p *Plan) { p.Callback.Late = by })
}

// Redelivered loses the answers to the first n attempts: the receiver took the
// push and gets it again.
func (p Plan) Redelivered(n int) Plan {
	return p.but("redelivered", func(p *Plan) { p.Callback.LoseAnswers = n })
}

// HungUp breaks the first n connections once the request is written.
func (p Plan) HungUp(n int) Plan {
	return p.but("connection broken", func(p *Plan) { p.Callback.HangUps = n })
}

// Twice pushes to two URLs.
func (p Plan) Twice() Plan { return p.but("pushed twice", func(p *Plan) { p.Callback.Twice = true }) }

// OldForm leaves out the structures that were added in 2016 and 2020.
func (p Plan) OldForm() Plan { return p.but("old form", func(p *Plan) { p.Old = true }) }

// Told sets what the scenario's operator tells the receiving system.
func (p Plan) Told(r Recording) Plan { p.Record = r; return p }

// With sets the counts.
func (p Plan) With(c Counts) Plan { p.Counts = &c; return p }

// Deleted makes mass/get say DELETE some time after the end. Scaled.
func (p Plan) Deleted(after time.Duration) Plan {
	return p.but("deleted later", func(p *Plan) { p.DeletedAfter = after })
}

func (p Plan) but(what string, change func(*Plan)) Plan {
	p.Case += ", " + what
	p.Checks = slices.Clone(p.Checks)
	change(&p)
	return p
}

// errCode is the num of err(num), if the status is one.
func (p Plan) errCode() (ErrCode, bool) {
	inner, ok := strings.CutPrefix(p.Status, "err(")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(inner, ")"), 10, 64)
	return ErrCode(n), err == nil
}

// poll is what mass/get says after the end of the job.
func (p Plan) poll() string {
	switch {
	case p.Poll != "":
		return p.Poll
	case p.Status == StatusSuccess:
		return PollSuccess
	default:
		// mass/get has no word for a rejection.
		return PollFail
	}
}

// counts draws the figures that the plan leaves open.
func (p Plan) counts(d drawer, total int64) Counts {
	if p.Counts != nil {
		return *p.Counts
	}
	// Drawn in any case, so that a plan's refinements move nothing else.
	filtered, failed := d.share(total, 0.005, 0.05), d.share(total, 0, 0.004)
	if _, rejected := p.errCode(); rejected {
		return Counts{}
	}
	if p.FilterShare >= 0 {
		filtered = int64(float64(total) * p.FilterShare)
	}
	remain := total - filtered
	if p.ErrorShare >= 0 {
		failed = int64(float64(remain) * p.ErrorShare)
	}
	failed = min(failed, remain)
	return Counts{Total: total, Filter: remain, Sent: remain - failed, Error: failed}
}
