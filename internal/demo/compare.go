package demo

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"qunfa/internal/clickhouse"
	"qunfa/internal/wechat/wechattest"
)

// Comparison is what the database says beside what is true.
type Comparison struct {
	Messages    int      // in the ledger, as far as anybody can know of them
	Figures     int      // numbers and words that were compared
	Differences []string // in words; empty if all is well
	pending     int      // messages of the database that have not ended
}

// Unsettled counts what may still come right by waiting.
func (c *Comparison) Unsettled() int { return max(c.pending, len(c.Differences)) }

const compareSQL = `SELECT appid, msg_id, outcome, decided_by, err_code, total, eligible, filtered, sent, errors FROM messages`

type messageKey struct {
	appid string
	msgID int64
}

// Compare reads every message of the database and of the ledger and compares
// all their figures, then the sums by account and the rejections by code.
func (d *Demo) Compare(ctx context.Context) (*Comparison, error) {
	rows, err := d.reader.Query(ctx, compareSQL)
	if err != nil {
		return nil, err
	}
	ledger := d.Sim.Ledger()
	c := &Comparison{}
	c.messages(rows, ledger)
	if err := d.compareAccounts(ctx, c, ledger); err != nil {
		return nil, err
	}
	return c, d.compareCodes(ctx, c, ledger)
}

func (c *Comparison) messages(rows *clickhouse.Result, ledger wechattest.Ledger) {
	have := map[messageKey][]any{}
	for _, r := range rows.Rows {
		k := messageKey{r[0].(string), r[1].(int64)}
		if have[k] != nil {
			c.differ("%s/%d stands there twice", k.appid, k.msgID)
		}
		have[k] = r
		if r[2] == "pending" {
			c.pending++
		}
	}
	for _, e := range ledger.Entries {
		k := messageKey{e.AppID, e.MsgID}
		r, ok := have[k]
		delete(have, k)
		switch {
		case e.Outcome == wechattest.OutcomeUnseen && !ok:
		case e.Uncertain: // it may or may not have been taken; nobody can tell
		case !ok:
			c.Messages++
			c.differ("%s/%d (%s) is not there", k.appid, k.msgID, e.Plan.Case)
		default:
			c.Messages++
			c.message(e, r)
		}
	}
	for k := range have {
		c.differ("%s/%d is there, but was never sent", k.appid, k.msgID)
	}
}

func (c *Comparison) message(e wechattest.Entry, r []any) {
	name := fmt.Sprintf("%s/%d (%s)", e.AppID, e.MsgID, e.Plan.Case)
	c.equal(name+" outcome", r[2], e.Outcome)
	if e.DecidedBy != "" {
		c.equal(name+" decided by", r[3], e.DecidedBy)
	}
	code := e.ErrCode
	if e.DecidedBy != "callback" {
		code = nil
	}
	for i, want := range []*int64{code, e.Total, e.Eligible, e.Filtered, e.Sent, e.Errors} {
		c.equal(name+" "+[]string{"err code", "total", "eligible", "filtered", "sent", "errors"}[i], r[4+i], number(want))
	}
}

func number(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

func (c *Comparison) equal(what string, got, want any) {
	c.Figures++
	if got != want {
		c.differ("%s: the database says %s, the ledger %s", what, show(got), show(want))
	}
}

func show(v any) string {
	if v == nil {
		return "unknown"
	}
	return fmt.Sprint(v)
}

func (c *Comparison) differ(format string, args ...any) {
	c.Differences = append(c.Differences, fmt.Sprintf(format, args...))
}

const accountSQL = `
SELECT appid, toInt64(count()), toInt64(sum(total)), toInt64(sum(eligible)), toInt64(sum(filtered)), toInt64(sum(sent)), toInt64(sum(errors))
FROM messages GROUP BY appid`

func (d *Demo) compareAccounts(ctx context.Context, c *Comparison, ledger wechattest.Ledger) error {
	rows, err := d.reader.Query(ctx, accountSQL)
	if err != nil {
		return err
	}
	have := map[string][]any{}
	for _, r := range rows.Rows {
		have[r[0].(string)] = r
	}
	names := []string{"messages", "total", "eligible", "filtered", "sent", "errors"}
	for appid, s := range ledger.PerAccount() {
		r := have[appid]
		if r == nil {
			r = make([]any, 7)
		}
		for i, want := range []int64{int64(s.Messages), s.Total, s.Eligible, s.Filtered, s.Sent, s.Errors} {
			c.equal(fmt.Sprintf("%s: sum of %s", appid, names[i]), orZero(r[i+1]), want)
		}
	}
	return nil
}

func orZero(v any) any {
	if v == nil {
		return int64(0)
	}
	return v
}

const codesSQL = `SELECT err_code, toInt64(count()) FROM audit_failures GROUP BY err_code`

func (d *Demo) compareCodes(ctx context.Context, c *Comparison, ledger wechattest.Ledger) error {
	rows, err := d.reader.Query(ctx, codesSQL)
	if err != nil {
		return err
	}
	have := map[string]int64{}
	for _, r := range rows.Rows {
		have[fmt.Sprint(r[0])] = r[1].(int64)
	}
	want := ledger.Summarize(nil)
	for _, code := range want.Codes() {
		c.equal("err("+code+"): messages", have[code], int64(want.ErrCodes[code]))
		delete(have, code)
	}
	for code, n := range have {
		c.differ("err(%s): the database has %s messages, the ledger none", code, strconv.FormatInt(n, 10))
	}
	slices.Sort(c.Differences)
	return nil
}
