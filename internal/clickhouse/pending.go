package clickhouse

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Pending is what is known of a message that was submitted and has not ended.
type Pending struct {
	Key            events.Key
	SubmittedAt    *time.Time
	Chase          bool // false for imported history
	Polls          uint32
	LastPollAt     *time.Time
	LastPollStatus string // empty after an error
	LastPollError  *int64 // errcode
}

const pendingSQL = `
SELECT appid, msg_id, submitted_at, chase, polls, last_poll_at, last_poll_status, last_poll_error
FROM message_rows FINAL
WHERE outcome = 'pending' AND submissions > 0 AND submitted_at < ? AND (appid, msg_id) > (?, ?)
ORDER BY appid, msg_id
LIMIT ?
SETTINGS do_not_merge_across_partitions_select_final = 1`

// Pending returns a page of the messages that were submitted before a time and
// have not ended, in the order of (appid, msg_id), beginning after a key (zero:
// at the first). Fewer than limit means that there are no more.
func (db *DB) Pending(ctx context.Context, submittedBefore time.Time, after events.Key, limit int) ([]Pending, error) {
	start := db.cfg.Clock()
	var page []Pending
	args := []any{millis(submittedBefore), after.AppID, after.MsgID, limit}
	err := db.each(ctx, pendingSQL, args, func(rows driver.Rows) error {
		var p Pending
		err := rows.Scan(&p.Key.AppID, &p.Key.MsgID, &p.SubmittedAt, &p.Chase, &p.Polls, &p.LastPollAt, &p.LastPollStatus, &p.LastPollError)
		page = append(page, p)
		return err
	})
	if err = db.done(opPending, start, err); err != nil {
		return nil, err
	}
	return page, nil
}

// millis writes a time as an argument: the client would cut it to the second.
func millis(t time.Time) string { return storable(t).UTC().Format("2006-01-02 15:04:05.000") }
