package reconcile

import (
	"context"
	"errors"
	"time"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// ErrNoCredentials is what [Asker.CanAsk] returns for an account that the
// configuration has no credentials for.
var ErrNoCredentials = errors.New("the configuration has no credentials for this account")

// Generation is the time during which a replica owns the same partitions. The
// context that comes with it ends when they are lost.
type Generation interface {
	// Owned returns the owned partitions; the offsets do not matter here.
	Owned() map[int32]int64
}

// Log says how far the log reaches and how much of it is in the projection.
// Errors mean that this is not known now; the round is given up and tried again.
type Log interface {
	// EndOffsets returns for each partition of the event topic the offset after
	// its last record. A partition that holds no record at all, such as one that
	// retention has emptied, may be left out: there is nothing to wait for.
	EndOffsets(ctx context.Context) (map[int32]int64, error)
	// SinkCommitted returns for each partition an offset before which everything
	// is visible in the projection: what the sink's group has committed, but not
	// more than the database holds, since after a restored backup or a dropped
	// database the commits are ahead until the sink has gone back. A partition of
	// which nothing is visible may be left out or be negative.
	SinkCommitted(ctx context.Context) (map[int32]int64, error)
	// PartitionOf returns the partition of an account's events.
	PartitionOf(appid string) int32
}

// Store is the projection.
type Store interface {
	// Pending returns messages with the outcome pending and a submission, in the
	// order of (appid, msg_id), as the query says. Fewer than Limit means that
	// there are no more.
	Pending(ctx context.Context, q PendingQuery) ([]Pending, error)
	// ClockSkew returns how far our clock is ahead of the database's.
	ClockSkew(ctx context.Context) (time.Duration, error)
}

// PendingQuery is one page of the pending messages of all accounts.
type PendingQuery struct {
	// SubmittedBefore excludes messages that cannot be due yet.
	SubmittedBefore time.Time
	After           events.Key // exclusive; zero for the first page
	Limit           int
}

// Pending is what the projection knows of a message that has not ended.
type Pending struct {
	Key            events.Key
	SubmittedAt    *time.Time // nil: never submitted by our knowledge, so nothing is due
	Chase          bool       // false for imported history
	Polls          uint32
	LastPollAt     *time.Time
	LastPollStatus string // empty after an error
	LastPollError  *int64 // errcode
}

// Publisher appends to the log.
type Publisher interface {
	// Publish returns after the log has the record for good. After an error it
	// may or may not have it.
	Publish(ctx context.Context, r events.Record) error
}

// Asker asks WeChat in the name of an account. An answer of WeChat that is an
// error is a *[wechat.APIError]; any other error means that there was no answer.
type Asker interface {
	// CanAsk returns nil, [ErrNoCredentials], or why the credentials cannot be
	// used now. It is called often and must not do I/O.
	CanAsk(appid string) error
	// MassGet asks what became of a message: POST cgi-bin/message/mass/get.
	MassGet(ctx context.Context, appid string, msgID int64) (wechat.MassStatus, error)
	// Quota asks how many calls of mass/get are left today: POST cgi-bin/openapi/quota/get.
	Quota(ctx context.Context, appid string) (wechat.Quota, error)
}
