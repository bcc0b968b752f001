package main

import (
	"strings"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
)

// Whatever is not known of a message is said in words, with the reason.
func TestNotes(t *testing.T) {
	all := fields{"total": int64(9), "eligible": int64(9), "filtered": int64(0), "sent": int64(9), "errors": int64(0)}
	with := func(base fields, more fields) fields {
		m := fields{"recorded": true, "chased": true}
		for _, f := range []fields{base, more} {
			for k, v := range f {
				m[k] = v
			}
		}
		return m
	}
	for name, c := range map[string]struct {
		message fields
		want    []string // parts of the notes, in their order
	}{
		"all known":     {with(all, fields{"outcome": "sent", "decided_by": "callback"}), nil},
		"poll says so":  {with(nil, fields{"outcome": "sent", "decided_by": "poll"}), []string{"only WeChat's poll says"}},
		"poll: failed":  {with(nil, fields{"outcome": "failed", "decided_by": "poll"}), []string{"may hide a rejection", "a poll tells no counts"}},
		"pending":       {with(nil, fields{"outcome": "pending"}), []string{"not known yet: the callback has not come, and WeChat was not asked", "only the callback tells them"}},
		"asked twice":   {with(nil, fields{"outcome": "pending", "polls": int64(2), "last_poll_status": "SENDING"}), []string{"asked 2 times and said at last: SENDING", "counts"}},
		"asked in vain": {with(nil, fields{"outcome": "pending", "polls": uint64(1), "last_poll_error": int64(48001)}), []string{"asked once and said at last: error 48001", "counts"}},
		"history":       {with(nil, fields{"outcome": "pending", "chased": false}), []string{"not asked about imported history", "counts"}},
		"missing":       {with(nil, fields{"outcome": "missing", "abandoned_reason": "no_credentials", "abandoned_detail": "none given"}), []string{"(no_credentials: none given)", "counts"}},
		"new status":    {with(all, fields{"outcome": "unknown", "status": "send maybe", "decided_by": "callback"}), []string{`"send maybe"`}},
		"only deleted":  {with(nil, fields{"outcome": "deleted"}), []string{"all that is known is that it was deleted", "counts"}},
		"rejected":      {with(fields{"sent": int64(0), "errors": int64(0)}, fields{"outcome": "rejected", "decided_by": "callback", "err_category": "review"}), []string{"counts unknown (total, eligible, filtered): WeChat reports zeros"}},
		"new code":      {with(all, fields{"outcome": "rejected", "decided_by": "callback", "err_category": "unknown", "status": "err(20431)"}), []string{"does not document err(20431)"}},
		"drift":         {with(all, fields{"outcome": "sent", "decided_by": "callback", "filtered": nil}), []string{"counts unknown (filtered): the callback did not say, or"}},
		"not recorded":  {with(all, fields{"outcome": "sent", "decided_by": "callback", "recorded": false}), []string{"nobody recorded the send"}},
	} {
		notes := notesOn(c.message)
		if len(notes) != len(c.want) {
			t.Errorf("%s: %d notes, want %d: %q", name, len(notes), len(c.want), notes)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(notes[i], want) {
				t.Errorf("%s: note %q, want %q in it", name, notes[i], want)
			}
		}
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct{ typ, data, want string }{
		{"qunfa.mass.submitted.v1", `{"recorder":"api","chase":false,"audience":{"kind":"openids","size":10000}}`, "recorded by api, to a list (10000 people), history: never polled"},
		{"qunfa.mass.finished.v1", `{"status":"send success","status_kind":"sent","total_count":4,"sent_count":0}`, "send success, total 4, sent 0"},
		{"qunfa.mass.finished.v1", `{"status":"err(10001)","status_kind":"rejected","total_count":0,"sent_count":0}`, "err(10001), no counts: WeChat reports zeros"},
		{"qunfa.mass.polled.v1", `{"attempt":3,"error":{"errcode":40059,"errmsg":"invalid msg id"}}`, "attempt 3, error 40059, invalid msg id"},
		{"qunfa.mass.deleted.v1", `{"article_idx":2}`, "article 2"},
		{"qunfa.mass.abandoned.v1", `{"reason":"no_answer","polls":9}`, "no_answer, 9 polls"},
		{"qunfa.mass.later.v2", `{"new":1}`, `{"new":1}`},
		{"qunfa.mass.polled.v1", `nonsense`, "cannot be read: "},
	} {
		if got := summarize(c.typ, []byte(c.data)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s: %q, want %q", c.typ, c.data, got, c.want)
		}
	}
}

func TestParseSince(t *testing.T) {
	zone := time.FixedZone("CST", 8*3600)
	now := time.Date(2026, 3, 8, 12, 0, 0, 0, zone)
	for s, want := range map[string]string{
		"24h": "2026-03-07T12:00:00+08:00", "7d": "2026-03-01T12:00:00+08:00", "2026-03-01": "2026-03-01T00:00:00+08:00",
		"2026-03-01 08:09:10": "2026-03-01T08:09:10+08:00", "2026-03-01T00:00:00Z": "2026-03-01T00:00:00Z",
	} {
		if got, err := parseSince(s, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v, want %s", s, got, err, want)
		}
	}
	for _, bad := range []string{"yesterday", "-1h", "7", "123456d", ""} {
		if got, err := parseSince(bad, now); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

// A list for a narrow terminal keeps what names a message and what became of it.
func TestFitting(t *testing.T) {
	r := &clickhouse.Result{Columns: textColumns("appid", "account", "msg_id", "outcome", "by", "status"), Rows: [][]any{{"wx1", "示例账号", "1", "sent", "callback", "send success"}}}
	for width, want := range map[int]string{0: "appid account msg_id outcome by status", 200: "appid account msg_id outcome by status", 40: "appid msg_id outcome", 5: "appid msg_id outcome"} {
		var names []string
		got := fitting(r, width)
		for _, c := range got.Columns {
			names = append(names, c.Name)
		}
		if s := strings.Join(names, " "); s != want || len(got.Rows[0]) != len(names) {
			t.Errorf("width %d: %s, want %s", width, s, want)
		}
	}
	if len(r.Columns) != 6 || len(r.Rows[0]) != 6 {
		t.Error("the answer itself was changed")
	}
}
