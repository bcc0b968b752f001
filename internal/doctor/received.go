package doctor

import (
	"context"
	"time"

	"qunfa/internal/clickhouse"
)

// overdue is when a callback is late: an administrator has 30 minutes to confirm a send.
const overdue = 45 * time.Minute

const receivedSQL = `SELECT appid, toInt64(callbacks), toInt64(recorded), missing_callbacks, last_callback_at, last_submitted_at FROM accounts WHERE appid IN (?)`

// received is what the database knows of an account's callbacks.
type received struct {
	callbacks, recorded int64
	missing             *int64 // nil: nobody can know
	last, submitted     time.Time
}

// checkReceived says when the last callback of each account came, and what that means.
func (d *Doctor) checkReceived(ctx context.Context, r Result) {
	if d.cfg.Reader == nil {
		r.Unchecked("give clickhouse.addr", "the configuration names no ClickHouse")
		return
	}
	var ids []string
	for i := range d.accounts {
		ids = append(ids, d.accounts[i].AppID)
	}
	if len(ids) == 0 {
		return // said elsewhere
	}
	answer, err := d.cfg.Reader.Query(ctx, receivedSQL, ids)
	if err != nil {
		explainReading(r, err)
		return
	}
	known := map[string]received{}
	for _, row := range answer.Rows {
		id, _ := row[0].(string)
		known[id] = readReceived(row)
	}
	for _, id := range ids {
		d.judgeReceived(r.About(id), known[id])
	}
}

func readReceived(row []any) received {
	var a received
	a.callbacks, _ = row[1].(int64)
	a.recorded, _ = row[2].(int64)
	if n, ok := row[3].(int64); ok {
		a.missing = &n
	}
	a.last, _ = row[4].(time.Time)
	a.submitted, _ = row[5].(time.Time)
	return a
}

func (d *Doctor) judgeReceived(r Result, a received) {
	now := d.cfg.Clock()
	const look = "see the checks above; if they are all right, look whether the console's URL is switched on (服务器配置 已启用) and is this one"
	switch {
	case a.callbacks == 0 && a.recorded == 0:
		r.Unchecked("send a message, or a preview callback with `qunfa callback sign`", "no callback has come, and no send was recorded: whether they arrive is not known yet")
	case a.callbacks == 0 && now.Sub(a.submitted) < overdue:
		r.OK("%s recorded, the last one %s ago: its callback is still to come", plural(int(a.recorded), "send"), days(now.Sub(a.submitted)))
	case a.callbacks == 0:
		r.Fail(look, "%s recorded, and not one callback has ever come", plural(int(a.recorded), "send"))
	case a.submitted.After(a.last) && now.Sub(a.submitted) > overdue:
		r.Warn(look, "the last callback came %s ago; a send was recorded after it, %s ago", days(now.Sub(a.last)), days(now.Sub(a.submitted)))
	case a.recorded == 0:
		r.OK("the last of %s came %s ago; no send is recorded, so missing ones cannot be seen", plural(int(a.callbacks), "callback"), days(now.Sub(a.last)))
	default:
		missing := int64(0)
		if a.missing != nil {
			missing = *a.missing
		}
		r.OK("the last of %s came %s ago; missing of the recorded sends: %d", plural(int(a.callbacks), "callback"), days(now.Sub(a.last)), missing)
	}
}

// explainReading adds an error of a view that was asked.
func explainReading(r Result, err error) {
	if clickhouse.ClassOf(err) == clickhouse.ClassAuth {
		r.Unchecked("ask as a user who may read the views, with --user or QUNFA_CLICKHOUSE_USER; `qunfa migrate --grants` prints how to make one", "this user may not read the views")
		return
	}
	r.Unchecked("see the checks of ClickHouse", "the database cannot be asked: %v", err)
}
