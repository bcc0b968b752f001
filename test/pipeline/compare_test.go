package pipeline

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
	"qunfa/internal/wechat/wechattest"
)

// line says everything that is compared of a message, in one line.
func line(outcome, decidedBy, errCode, total, eligible, filtered, sent, failed, callbacks, recorded any) string {
	return fmt.Sprintf("%v by %v, err %v, total %v, eligible %v, filtered %v, sent %v, errors %v, callbacks %v, recorded %v",
		outcome, decidedBy, errCode, total, eligible, filtered, sent, failed, callbacks, recorded)
}

// stored returns every message of the database by key.
func (w *world) stored() map[string]string {
	w.t.Helper()
	have := map[string]string{}
	const sql = "SELECT appid, msg_id, outcome, decided_by, err_code, total, eligible, filtered, sent, errors, callbacks, recorded FROM messages"
	for _, r := range w.query(sql) {
		k := key(r[0].(string), r[1].(int64))
		if have[k] != "" {
			w.t.Errorf("%s stands there twice", k)
		}
		have[k] = line(r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11])
	}
	return have
}

// truth returns the same by the ledger.
func (w *world) truth() map[string]string {
	want := map[string]string{}
	for _, e := range w.sim.Ledger().Entries {
		if e.Outcome == wechattest.OutcomeUnseen {
			continue
		}
		callbacks, decidedBy := 0, e.DecidedBy
		var code *int64
		if e.Taken {
			callbacks = 1 // however often it came, and to how many URLs
		}
		if decidedBy == "callback" {
			code = e.ErrCode
		}
		if e.Outcome == wechattest.OutcomeMissing {
			decidedBy = "abandoned"
		}
		want[key(e.AppID, e.MsgID)] = line(e.Outcome, decidedBy, number(code), number(e.Total), number(e.Eligible), number(e.Filtered),
			number(e.Sent), number(e.Errors), callbacks, e.Record != wechattest.Unrecorded)
	}
	return want
}

// settle waits until the database says what the ledger says: nothing lost,
// nothing double, every figure equal.
func (w *world) settle() {
	w.t.Helper()
	w.drain()
	w.until("the database equals the ledger", func() string { return cmp.Diff(w.truth(), w.stored()) })
}

// complete checks that every offset of the log has become something, and that
// no event is counted twice. It returns how many records became what.
func (w *world) complete() map[string]int64 {
	w.t.Helper()
	kinds := map[string]int64{}
	w.until("every record of the log is accounted for", func() string {
		clear(kinds)
		coverage, err := w.db.Coverage(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		have := map[int32]int64{}
		for _, c := range coverage {
			if c.Topic != w.cfg.Kafka.Topic || c.First != 0 || c.Missing() != 0 {
				return fmt.Sprintf("%+v", c)
			}
			have[c.Partition] = c.Last + 1
			for kind, n := range c.Kinds {
				kinds[kind] += n
			}
		}
		want := map[int32]int64{}
		for p, end := range w.ends() {
			if end > 0 {
				want[p] = end
			}
		}
		return cmp.Diff(want, have)
	})
	if r := w.query("SELECT toInt64(count()), toInt64(uniqExact(event_id)) FROM events")[0]; r[0] != r[1] {
		w.t.Errorf("the view events has %v rows of %v events", r[0], r[1])
	}
	return kinds
}

// deliveryFamilies are what the ledger can be compared with.
var deliveryFamilies = []string{
	"qunfa_recipients_total", "qunfa_audit_failures_total", "qunfa_account_recipients_total", "qunfa_account_audit_failures_total",
	"qunfa_messages", "qunfa_pending_messages",
}

// delivery reads the delivery figures of a sink: whole families by series.
func (s *service) delivery() map[string]float64 {
	s.w.t.Helper()
	status, body := s.get("/metrics/delivery")
	if status != http.StatusOK {
		s.w.t.Fatalf("the delivery figures: %d %s", status, body)
	}
	return series(s.w, body, deliveryFamilies...)
}

// series reads families of Prometheus' text format.
func series(w *world, body string, families ...string) map[string]float64 {
	w.t.Helper()
	all := map[string]float64{}
	for l := range strings.Lines(body) {
		l = strings.TrimSpace(l)
		for _, f := range families {
			if !strings.HasPrefix(l, f+"{") && !strings.HasPrefix(l, f+" ") {
				continue
			}
			at := strings.LastIndexByte(l, ' ')
			v, err := strconv.ParseFloat(l[at+1:], 64)
			if err != nil {
				w.t.Fatalf("%s: %v", l, err)
			}
			all[l[:at]] = v
		}
	}
	return all
}

// trueDelivery is what these families must be by the ledger, zeros included.
func (w *world) trueDelivery() map[string]float64 {
	want := map[string]float64{"qunfa_pending_messages": 0}
	born := func(family, labels string) {
		for _, result := range []string{"sent", "error", "filtered"} {
			want[fmt.Sprintf(`%srecipients_total{%sresult=%q}`, family, labels, result)] = 0
		}
		for _, code := range append(codes(), "other") {
			want[fmt.Sprintf(`%saudit_failures_total{%serr_code=%q}`, family, labels, code)] = 0
		}
	}
	born("qunfa_", "")
	for _, a := range w.sim.Accounts() {
		born("qunfa_account_", fmt.Sprintf("appid=%q,", a.AppID))
	}
	for _, o := range events.Outcomes() {
		want[fmt.Sprintf("qunfa_messages{outcome=%q}", o)] = 0
	}
	for _, e := range w.sim.Ledger().Entries {
		if e.Outcome != wechattest.OutcomeUnseen {
			want[fmt.Sprintf("qunfa_messages{outcome=%q}", e.Outcome)]++
		}
		if e.Taken {
			addCallback(want, e)
		}
	}
	return want
}

func addCallback(want map[string]float64, e wechattest.Entry) {
	for _, prefix := range []string{"qunfa_%s_total{", "qunfa_account_%s_total{appid=" + strconv.Quote(e.AppID) + ","} {
		for result, n := range map[string]*int64{"sent": e.Sent, "error": e.Errors, "filtered": e.Filtered} {
			if n != nil {
				want[fmt.Sprintf(prefix, "recipients")+fmt.Sprintf("result=%q}", result)] += float64(*n)
			}
		}
		if e.ErrCode != nil {
			want[fmt.Sprintf(prefix, "audit_failures")+fmt.Sprintf("err_code=%q}", known(*e.ErrCode))]++
		}
	}
}

func codes() []string {
	var names []string
	for _, c := range clickhouse.KnownErrCodes() {
		names = append(names, strconv.FormatInt(c, 10))
	}
	return names
}

func known(code int64) string {
	for _, name := range codes() {
		if name == strconv.FormatInt(code, 10) {
			return name
		}
	}
	return "other"
}
