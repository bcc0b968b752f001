package clickhouse

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"qunfa/internal/events"
)

// Delivery is what the metrics of delivery show.
//
// Its counts are made of facts that never change: each message's first received
// callback, if that came in the running calendar month (UTC) and within 24 hours
// of its own CreateTime. So corrections, imports of history, rebuilds and
// deleted history cannot make a counter jump or fall; it restarts each month.
type Delivery struct {
	Since    time.Time // start of the month
	All      DeliveryCounts
	Accounts map[string]DeliveryCounts // of the accounts asked for, each of them

	Outcomes map[events.Outcome]int64 // messages of the last 30 days; every outcome is there
	Pending  int64                    // messages of any age
	// OldestPending is when the oldest of these was submitted; zero if none is known.
	OldestPending time.Time
}

// DeliveryCounts are people, and rejected messages by the code of err(num).
type DeliveryCounts struct {
	Sent, Errors, Filtered int64
	AuditFailures          map[int64]int64
}

// Delivery computes the figures at a time, for everything and for each of the
// accounts given by appid. It fails with [ErrSwapping] while a rebuild puts
// another projection in the place of the one that is in use.
func (db *DB) Delivery(ctx context.Context, now time.Time, accounts []string) (*Delivery, error) {
	start := db.cfg.Clock()
	var d *Delivery
	err := db.undivided(ctx, func() (err error) {
		d, err = db.delivery(ctx, now.UTC(), accounts)
		return err
	})
	if err = db.done(opDelivery, start, err); err != nil {
		return nil, err
	}
	return d, nil
}

func (db *DB) delivery(ctx context.Context, now time.Time, accounts []string) (*Delivery, error) {
	since := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	d := &Delivery{Since: since, Accounts: map[string]DeliveryCounts{}, Outcomes: map[events.Outcome]int64{}}
	var err error
	if d.All, err = db.countAll(ctx, since); err != nil {
		return nil, err
	}
	if err := db.countAccounts(ctx, since, accounts, d.Accounts); err != nil {
		return nil, err
	}
	if err := db.countOutcomes(ctx, now, d); err != nil {
		return nil, err
	}
	return d, db.countPending(ctx, d)
}

// What a counter counts. No bound on day narrows it: a submission that is
// recorded late may move a message to any day, and must not take it out.
const (
	firstFacts = `first_err_code, sum(first_sent) AS sent, sum(first_errors) AS errors, sum(first_filtered) AS filtered, count() AS messages
FROM message_rows FINAL
WHERE first_received_at >= ? AND first_received_at < ?
  AND abs(dateDiff('millisecond', first_created_at, first_received_at)) <= 24 * 3600 * 1000`
	acrossPartitions = "\nSETTINGS do_not_merge_across_partitions_select_final = 1"
)

func month(since time.Time) []any {
	return []any{millis(since), millis(since.AddDate(0, 1, 0))}
}

func (db *DB) countAll(ctx context.Context, since time.Time) (DeliveryCounts, error) {
	c := newDeliveryCounts()
	err := db.each(ctx, "SELECT "+firstFacts+"\nGROUP BY first_err_code"+acrossPartitions, month(since), func(rows driver.Rows) error {
		return c.scan(rows, nil)
	})
	return c, err
}

func (db *DB) countAccounts(ctx context.Context, since time.Time, accounts []string, into map[string]DeliveryCounts) error {
	if len(accounts) == 0 {
		return nil
	}
	for _, a := range accounts {
		into[a] = newDeliveryCounts()
	}
	sql := "SELECT appid, " + firstFacts + " AND appid IN (?)\nGROUP BY appid, first_err_code" + acrossPartitions
	return db.each(ctx, sql, append(month(since), accounts), func(rows driver.Rows) error {
		var appid string
		one := newDeliveryCounts()
		if err := one.scan(rows, &appid); err != nil {
			return err
		}
		into[appid] = into[appid].plus(one)
		return nil
	})
}

func newDeliveryCounts() DeliveryCounts { return DeliveryCounts{AuditFailures: map[int64]int64{}} }

// scan adds a row of the answer; the account comes first if it is asked for.
func (c *DeliveryCounts) scan(rows driver.Rows, appid *string) error {
	var (
		code                   *int64
		sent, errors, filtered *int64 // NULL: not known of any message
		messages               uint64
		targets                []any
	)
	if appid != nil {
		targets = append(targets, appid)
	}
	if err := rows.Scan(append(targets, &code, &sent, &errors, &filtered, &messages)...); err != nil {
		return err
	}
	c.Sent += orZero(sent)
	c.Errors += orZero(errors)
	c.Filtered += orZero(filtered)
	if code != nil {
		c.AuditFailures[*code] += int64(messages)
	}
	return nil
}

func (c DeliveryCounts) plus(d DeliveryCounts) DeliveryCounts {
	c.Sent += d.Sent
	c.Errors += d.Errors
	c.Filtered += d.Filtered
	for code, n := range d.AuditFailures {
		c.AuditFailures[code] += n
	}
	return c
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func (db *DB) countOutcomes(ctx context.Context, now time.Time, d *Delivery) error {
	for _, o := range events.Outcomes() {
		d.Outcomes[o] = 0
	}
	const sql = "SELECT outcome, count() FROM message_rows FINAL WHERE day > ? GROUP BY outcome" + acrossPartitions
	return db.each(ctx, sql, []any{now.AddDate(0, 0, -30).Format(time.DateOnly)}, func(rows driver.Rows) error {
		var outcome string
		var n uint64
		err := rows.Scan(&outcome, &n)
		d.Outcomes[events.Outcome(outcome)] = int64(n)
		return err
	})
}

func (db *DB) countPending(ctx context.Context, d *Delivery) error {
	const sql = "SELECT count(), min(submitted_at) FROM message_rows FINAL WHERE outcome = 'pending'" + acrossPartitions
	return db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var n uint64
		var oldest *time.Time
		err := rows.Scan(&n, &oldest)
		d.Pending = int64(n)
		if oldest != nil {
			d.OldestPending = oldest.UTC()
		}
		return err
	})
}
