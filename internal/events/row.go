package events

import "time"

// Outcome is what became of a message.
type Outcome string

// The outcomes.
const (
	OutcomePending  Outcome = "pending"  // nobody knows yet
	OutcomeSent     Outcome = "sent"     // WeChat delivered it, perhaps not to everybody
	OutcomeFailed   Outcome = "failed"   // WeChat says send fail
	OutcomeRejected Outcome = "rejected" // any err(num)
	OutcomeUnknown  Outcome = "unknown"  // a final status that we do not know
	OutcomeDeleted  Outcome = "deleted"  // all that is known is that it was deleted
	OutcomeMissing  Outcome = "missing"  // nobody could find out
)

// Outcomes lists every outcome.
func Outcomes() []Outcome {
	return []Outcome{OutcomePending, OutcomeSent, OutcomeFailed, OutcomeRejected, OutcomeUnknown, OutcomeDeleted, OutcomeMissing}
}

// Row is a message as people see it: everything its events add up to.
// Pointers are nil where nothing is known; unknown is never zero.
type Row struct {
	Key Key
	// Day is the message's date in the database's time zone, as midnight UTC:
	// of its first submission, else of its first final event, else of its first poll.
	Day time.Time
	// Version is the number of distinct events that were folded, in its low
	// [EventBits] bits, and above them how often they were read anew. A row of a
	// higher version has seen more.
	Version uint64

	Outcome Outcome
	// Status is the raw status of the event that decided the outcome, and
	// DecidedBy says which kind it was: callback, poll, abandoned, deleted or empty.
	Status    string
	DecidedBy string
	ErrCode   *int64 // of the deciding callback

	Total, Eligible, Filtered, Sent, Errors *int64 // people; of the deciding callback

	SubmittedAt *time.Time
	FinishedAt  *time.Time // CreateTime of the deciding callback
	ReceivedAt  *time.Time // when the deciding callback reached us
	DeletedAt   *time.Time

	MsgDataID      *int64
	AudienceKind   string
	TagID          *int64
	AudienceSize   *int64
	MsgType        string
	Label          string
	Campaign       string
	ClientMsgID    string
	Recorder       string
	Chase          bool // some submission wants it polled
	Finals         uint32
	Submissions    uint32
	Polls          uint32
	LastPollAt     *time.Time
	LastPollStatus string // raw status of the latest poll, empty after an error
	LastPollError  *int64 // errcode of the latest poll if it failed

	AbandonedAt     *time.Time
	AbandonedReason string
	AbandonedDetail string

	CheckState      *int64
	Articles        []Article
	DeletedArticles []int64 // article numbers from 1; 0 is the whole message

	// First is the first received final event. Delivery metrics count it and
	// nothing else, since it never changes.
	First *First
}

// First holds the facts of a message's first received final event.
type First struct {
	ReceivedAt             time.Time
	CreatedAt              time.Time
	ErrCode                *int64
	Filtered, Sent, Errors *int64
}

// Article is what is known of one article of a message.
type Article struct {
	Index int64 // from 1
	URL   string
	Check *ArticleCheck // nil if no originality check was reported
}

// Tombstone marks a day on which a message has no row (any more).
type Tombstone struct {
	Key     Key
	Day     time.Time // midnight UTC
	Version uint64
}
