package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"qunfa/internal/clickhouse"
	"qunfa/internal/wechat/wechattest"
)

// check is one line of the verdict.
type check struct {
	name   string
	detail string
	wrong  []string // what is not as it must be; empty if all is well
	past   bool     // what is wrong cannot come right any more
}

// row is what the database says of a message.
type row struct {
	appid      string
	msgID      int64
	outcome    string
	figures    string // everything else that is compared; see figures
	recorded   bool
	callbacks  int64 // distinct ones
	byCallback bool  // the outcome is from a callback
}

func (r row) key() string { return key(r.appid, r.msgID) }

func key(appid string, msgID int64) string { return fmt.Sprintf("%s/%d", appid, msgID) }

// figures writes what is compared of a message.
func figures(outcome, decidedBy, errCode, total, eligible, filtered, sent, failed any) string {
	return fmt.Sprintf("%v by %v, err %v, total %v, eligible %v, filtered %v, sent %v, errors %v",
		outcome, decidedBy, errCode, total, eligible, filtered, sent, failed)
}

// readRow reads the columns that rowSQL asks for.
func readRow(c []any) row {
	return row{
		appid: c[0].(string), msgID: c[1].(int64), outcome: c[2].(string), byCallback: c[3] == "callback",
		figures:   figures(c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9]),
		callbacks: number(c[10]), recorded: fmt.Sprint(c[11]) == "true",
	}
}

// number reads a number of any of the database's types; 0 if it is none.
func number(v any) (n int64) {
	_, _ = fmt.Sscan(fmt.Sprint(v), &n)
	return n
}

// truth is what must be found.
type truth struct {
	entries  []wechattest.Entry
	accepted map[string]bool // messages whose record the API has accepted
}

// want writes what the ledger expects of a message, in the words of figures.
func want(e wechattest.Entry, x wechattest.Expectation) string {
	decidedBy, code := x.DecidedBy, e.ErrCode
	if decidedBy != "callback" {
		code = nil
	}
	if x.Outcome == wechattest.OutcomeMissing {
		decidedBy = "abandoned"
	}
	return figures(x.Outcome, decidedBy, known(code), known(x.Total), known(x.Eligible), known(x.Filtered), known(x.Sent), known(x.Errors))
}

func known(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

// found sorts what was compared by what is wrong with it.
type found struct {
	messages, callbacks, submissions, uncertain int
	lost, doubled, different, pending           []string
}

// compare compares every message of the database with the ledger.
func compare(rows []row, t truth) found {
	var f found
	have := map[string]row{}
	for _, r := range rows {
		if _, ok := have[r.key()]; ok {
			f.doubled = append(f.doubled, r.key()+" stands there twice")
		}
		if r.callbacks > 1 {
			f.doubled = append(f.doubled, fmt.Sprintf("%s has %d different callbacks", r.key(), r.callbacks))
		}
		if r.outcome == "pending" {
			f.pending = append(f.pending, r.key())
		}
		have[r.key()] = r
	}
	for _, e := range t.entries {
		k := key(e.AppID, e.MsgID)
		r, ok := have[k]
		delete(have, k)
		f.message(e, r, ok, t.accepted[k])
	}
	for k := range have {
		f.different = append(f.different, k+" is there, but was never sent")
	}
	for _, list := range [][]string{f.lost, f.doubled, f.different, f.pending} {
		slices.Sort(list)
	}
	return f
}

// message compares one message; accepted tells that its record was.
func (f *found) message(e wechattest.Entry, r row, there, accepted bool) {
	k := fmt.Sprintf("%s (%s)", key(e.AppID, e.MsgID), e.Plan.Case)
	if e.Taken {
		f.callbacks++
		if !there || r.callbacks == 0 {
			f.lost = append(f.lost, k+": its callback was answered with success and is not there")
			return
		}
	}
	if accepted {
		f.submissions++
		if !there || !r.recorded {
			f.lost = append(f.lost, k+": its record was accepted and is not there")
			return
		}
	}
	if !there {
		if e.Outcome != wechattest.OutcomeUnseen {
			f.different = append(f.different, k+" is not there")
		}
		return
	}
	f.messages++
	x := e.Expectation
	if e.Uncertain && r.callbacks > 0 {
		f.uncertain++
		x = e.IfTaken() // it was, as it turns out: its figures must be right all the same
	}
	if w := want(e, x); w != r.figures {
		f.different = append(f.different, fmt.Sprintf("%s: the database says %s, the ledger %s", k, r.figures, w))
	}
}

// checkEvents compares how many events there are with how many are distinct;
// each of repeated is an event that a message has more than once.
func checkEvents(events, distinct int64, repeated []string) check {
	c := check{name: "every event once", detail: fmt.Sprintf("%d events", events), wrong: repeated}
	if events != distinct {
		c.wrong = append(c.wrong, fmt.Sprintf("%d events have %d ids", events, distinct))
	}
	return c
}

// checkCoverage compares the records that are accounted for with the ends of the log.
func checkCoverage(topic string, coverage []clickhouse.Coverage, ends map[int32]int64) check {
	c := check{name: "every record accounted for"}
	var records int64
	have := map[int32]int64{}
	for _, p := range coverage {
		if p.Topic != topic || p.First != 0 || p.Missing() != 0 {
			c.wrong = append(c.wrong, fmt.Sprintf("%s, partition %d: %d records from %d to %d", p.Topic, p.Partition, p.Records, p.First, p.Last))
		}
		have[p.Partition] = p.Last + 1
	}
	for _, p := range slices.Sorted(maps.Keys(ends)) {
		records += ends[p]
		if have[p] != ends[p] {
			c.wrong = append(c.wrong, fmt.Sprintf("partition %d: known up to %d, the log ends at %d", p, have[p], ends[p]))
		}
	}
	c.detail = fmt.Sprintf("%d records in %d partitions", records, len(ends))
	return c
}

// checkLag compares what a group has committed with the ends of the log.
func checkLag(committed, ends map[int32]int64) check {
	c := check{name: "no lag"}
	for _, p := range slices.Sorted(maps.Keys(ends)) {
		// A partition without records has nothing to commit.
		if at, ok := committed[p]; ends[p] > 0 && (!ok || at != ends[p]) {
			c.wrong = append(c.wrong, fmt.Sprintf("partition %d: committed %d of %d", p, max(at, 0), ends[p]))
		}
	}
	return c
}

// checkEmpty complains of everything that is not 0.
func checkEmpty(name string, counts map[string]float64) check {
	c := check{name: name}
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if counts[k] != 0 {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %g", k, counts[k]))
		}
	}
	if len(counts) == 0 {
		c.wrong = append(c.wrong, "there was nothing to look at")
	}
	return c
}

// usage is what a process holds.
type usage struct{ goroutines, files float64 }

// What a process may hold beyond its level in calm: a few connections that are
// not closed yet. What leaks with every fault exceeds it.
const (
	spareGoroutines = 30
	spareFiles      = 30
)

// checkLeaks compares what processes of each kind hold with the calm level of
// their kind.
func checkLeaks(calm, now map[string]usage) check {
	c := check{name: "no goroutine or file leaked"}
	var shown []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		before, ok := calm[name]
		if !ok {
			c.wrong = append(c.wrong, name+": its calm level is not known")
			continue
		}
		u := now[name]
		shown = append(shown, fmt.Sprintf("%s %g→%g, %g→%g", name, before.goroutines, u.goroutines, before.files, u.files))
		if u.goroutines > before.goroutines+spareGoroutines {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %g goroutines, %g in calm", name, u.goroutines, before.goroutines))
		}
		if u.files > before.files+spareFiles {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %g open files, %g in calm", name, u.files, before.files))
		}
	}
	if len(now) == 0 {
		c.wrong = append(c.wrong, "there was nothing to look at")
	}
	c.detail = strings.Join(shown, "; ")
	return c
}

// shorten keeps a list readable.
func shorten(list []string, most int) []string {
	if len(list) <= most {
		return list
	}
	return append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
}

// unsettled counts what may still come right by waiting.
func unsettled(checks []check) (n int) {
	for _, c := range checks {
		if !c.past {
			n += len(c.wrong)
		}
	}
	return n
}
