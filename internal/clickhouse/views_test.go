package clickhouse_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// The names, types and comments of the views' columns are the interface to
// people; changing them is a decision, and shows here.
func TestViewColumns(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, v := range views {
		comment := one(t, db, "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = ?", v)
		if comment == "" {
			t.Errorf("view %s has no comment", v)
		}
		fmt.Fprintf(&b, "%s: %s\n", v, comment)
		const columns = "SELECT name, type, comment FROM system.columns WHERE database = currentDatabase() AND table = ? ORDER BY position"
		for _, c := range query(t, db, columns, v) {
			if c[2] == "" {
				t.Errorf("column %s of view %s has no comment", c[0], v)
			}
			fmt.Fprintf(&b, "  %s %s: %s\n", c...)
		}
		b.WriteString("\n")
	}
	golden(t, "views.txt", b.String())
}

// What a view answers must be of the types that it declares, and none that
// spreadsheets and Grafana stumble over.
func TestViewTypes(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		r, err := db.Query(t.Context(), "SELECT * FROM "+v)
		if err != nil {
			t.Errorf("%s: %v", v, err)
			continue
		}
		declared := query(t, db, "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = ? ORDER BY position", v)
		var want []clickhouse.Column
		for _, c := range declared {
			want = append(want, clickhouse.Column{Name: c[0].(string), Type: c[1].(string)})
			if strings.Contains(c[1].(string), "UInt") {
				t.Errorf("%s.%s is %s", v, c[0], c[1])
			}
		}
		if d := cmp.Diff(want, r.Columns); d != "" {
			t.Errorf("%s (-declared +answered):\n%s", v, d)
		}
	}
}

// Tables, too, say what they hold.
func TestTablesHaveComments(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	const columns = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND table LIKE '%_rows' AND comment = '' ORDER BY ALL"
	if rows := query(t, db, columns); len(rows) != 0 {
		t.Errorf("columns without a comment: %v", rows)
	}
	const tables = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%_rows' AND comment = ''"
	if rows := query(t, db, tables); len(rows) != 0 {
		t.Errorf("tables without a comment: %v", rows)
	}
}

// world is a database with a message of every kind.
func world(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, migrated(t))
	f.write(f.everyKind()...)
	return f
}

// everyKind names accounts and returns events of a message of every kind.
func (f *fixture) everyKind() []events.Event {
	t := f.t
	t.Helper()
	if err := f.db.UpsertAccounts(t.Context(), []clickhouse.Account{{AppID: "wx1", OriginalID: "gh_1", Name: "一号"}, {AppID: "wx9", Name: "无群发"}}); err != nil {
		t.Fatal(err)
	}
	camp := func(label string, size int64) func(*events.Submitted) {
		return func(d *events.Submitted) {
			d.Label, d.Campaign, d.MsgType = label, "双十一", "mpnews"
			d.Audience = events.Audience{Kind: events.AudienceOpenIDs, Size: &size}
		}
	}
	return []events.Event{
		// 1: sent, in a campaign; 2: rejected with a known code, 3 with an unknown one.
		f.submitted("wx1", 1, "2026-11-20T10:00:00+08:00", camp("第一批", 10000)),
		f.finished("wx1", 1, "2026-11-20T10:01:30+08:00", "send success", 10000, 9000, 8900, 100),
		f.submitted("wx1", 2, "2026-11-20T10:10:00+08:00", camp("第二批", 500)),
		f.finished("wx1", 2, "2026-11-20T10:10:05+08:00", "err(20002)", 0, 0, 0, 0),
		f.submitted("wx1", 3, "2026-11-20T11:00:00+08:00", nil),
		f.finished("wx1", 3, "2026-11-20T11:00:05+08:00", "err(20999)", 0, 0, 0, 0),
		// 4: found by polling; 5: missing; 6: pending long since; 7: only just submitted; 8: imported.
		f.submitted("wx1", 4, "2026-11-20T12:00:00+08:00", nil),
		f.polled("wx1", 4, "2026-11-20T12:45:00+08:00", "SEND_SUCCESS"),
		f.submitted("wx1", 5, "2026-11-20T13:00:00+08:00", nil),
		f.abandoned("wx1", 5, "2026-11-23T13:00:00+08:00", events.ReasonNoAnswer),
		f.submitted("wx1", 6, "2026-11-20T14:00:00+08:00", nil),
		f.submitted("wx1", 7, time.Now().Format(time.RFC3339), nil),
		f.submitted("wx1", 8, "2026-10-01T14:00:00+08:00", func(d *events.Submitted) { d.Chase = false }),
		f.abandoned("wx1", 8, "2026-11-23T13:00:00+08:00", events.ReasonNotChased),
		// An account whose sends nobody records.
		f.finished("wx2", 1, "2026-11-20T23:59:59+08:00", "send success", 10, 10, 10, 0),
		f.finished("wx2", 2, "2026-11-21T00:00:00+08:00", "send fail", 10, 10, 0, 10),
		f.finished("wx2", 3, "2026-11-21T01:00:00+08:00", "send whatever", 10, 12, 9, 1),
		f.finishedWithArticles("wx2", 4, "2026-11-21T02:00:00+08:00"),
	}
}

func (f *fixture) finishedWithArticles(appid string, msgID int64, at string) events.Event {
	f.t.Helper()
	e := f.finished(appid, msgID, at, "err(30003)", 0, 0, 0, 0)
	n := func(v int64) *int64 { return &v }
	d := e.Data.(*events.Finished)
	d.Copyright = &events.Copyright{Count: n(1), CheckState: n(3), Articles: []events.ArticleCheck{
		{Index: 2, UserDeclareState: n(0), AuditState: n(2), OriginalArticleURL: "http://mp.weixin.qq.com/s/o", OriginalArticleType: n(1), CanReprint: n(0)},
	}}
	d.ArticleURLs = []events.Link{{Index: 1, URL: "http://mp.weixin.qq.com/s/a"}, {Index: 2, URL: "http://mp.weixin.qq.com/s/b"}}
	return f.event(d)
}

func TestMessagesView(t *testing.T) {
	t.Parallel()
	f := world(t)
	got := query(t, f.db, `SELECT appid, account, msg_id, outcome, decided_by, status, err_code, err_category,
		total, eligible, filtered, sent, errors, callback_received, recorded FROM messages WHERE msg_id != 7 ORDER BY appid, msg_id`)
	i := func(n int64) any { return n }
	want := [][]any{
		{"wx1", "一号", i(1), "sent", "callback", "send success", nil, "", i(10000), i(9000), i(1000), i(8900), i(100), true, true},
		{"wx1", "一号", i(2), "rejected", "callback", "err(20002)", i(20002), "review", nil, nil, nil, i(0), i(0), true, true},
		{"wx1", "一号", i(3), "rejected", "callback", "err(20999)", i(20999), "unknown", nil, nil, nil, i(0), i(0), true, true},
		{"wx1", "一号", i(4), "sent", "poll", "SEND_SUCCESS", nil, "", nil, nil, nil, nil, nil, false, true},
		{"wx1", "一号", i(5), "missing", "abandoned", "", nil, "", nil, nil, nil, nil, nil, false, true},
		{"wx1", "一号", i(6), "pending", "", "", nil, "", nil, nil, nil, nil, nil, false, true},
		{"wx1", "一号", i(8), "missing", "abandoned", "", nil, "", nil, nil, nil, nil, nil, false, true},
		{"wx2", "wx2", i(1), "sent", "callback", "send success", nil, "", i(10), i(10), i(0), i(10), i(0), true, false},
		{"wx2", "wx2", i(2), "failed", "callback", "send fail", nil, "", i(10), i(10), i(0), i(0), i(10), true, false},
		{"wx2", "wx2", i(3), "unknown", "callback", "send whatever", nil, "", i(10), i(12), nil, i(9), i(1), true, false},
		{"wx2", "wx2", i(4), "rejected", "callback", "err(30003)", i(30003), "originality", nil, nil, nil, i(0), i(0), true, false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("messages (-want +got):\n%s", d)
	}
	got = query(t, f.db, `SELECT label, campaign, audience, audience_size, msg_type, delivery_seconds, toString(day), toString(submitted_at),
		toString(finished_at), toString(received_at), recorder, events FROM messages WHERE appid = 'wx1' AND msg_id = 1`)
	want = [][]any{{"第一批", "双十一", "openids", i(10000), "mpnews", float64(90), "2026-11-20", "2026-11-20 10:00:00",
		"2026-11-20 10:01:30", "2026-11-20 10:01:31", "test", i(2)}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("message 1 (-want +got):\n%s", d)
	}
}

func TestDeliveryViews(t *testing.T) {
	t.Parallel()
	f := world(t)
	const columns = `messages, messages_sent, messages_failed, messages_rejected, messages_pending, messages_missing, messages_unknown,
		total, eligible, filtered, sent, errors, messages_without_total, messages_without_sent, round(sent_ratio, 3), median_delivery_seconds`
	i := func(n int64) any { return n }
	got := query(t, f.db, "SELECT toString(day), account, "+columns+" FROM delivery_daily WHERE day IN ('2026-10-01', '2026-11-20', '2026-11-21') ORDER BY day, appid")
	want := [][]any{
		{"2026-10-01", "一号", i(1), i(0), i(0), i(0), i(0), i(1), i(0), nil, nil, nil, nil, nil, i(1), i(1), nil, nil},
		{"2026-11-20", "一号", i(6), i(2), i(0), i(2), i(1), i(1), i(0), i(10000), i(9000), i(1000), i(8900), i(100), i(5), i(3), 0.89, 5.0},
		{"2026-11-20", "wx2", i(1), i(1), i(0), i(0), i(0), i(0), i(0), i(10), i(10), i(0), i(10), i(0), i(0), i(0), 1.0, nil},
		{"2026-11-21", "wx2", i(3), i(0), i(1), i(1), i(0), i(0), i(1), i(20), i(22), i(0), i(9), i(11), i(1), i(0), 0.45, nil},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("delivery_daily (-want +got):\n%s", d)
	}
	got = query(t, f.db, "SELECT toString(hour), messages, sent, messages_without_sent FROM delivery_hourly WHERE appid = 'wx1' AND day = '2026-11-20' ORDER BY hour")
	want = [][]any{
		{"2026-11-20 10:00:00", i(2), i(8900), i(0)}, {"2026-11-20 11:00:00", i(1), i(0), i(0)}, {"2026-11-20 12:00:00", i(1), nil, i(1)},
		{"2026-11-20 13:00:00", i(1), nil, i(1)}, {"2026-11-20 14:00:00", i(1), nil, i(1)},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("delivery_hourly (-want +got):\n%s", d)
	}
	got = query(t, f.db, "SELECT appid, campaign, toString(day), messages, messages_sent, messages_rejected, audience_size, total, sent, messages_without_sent FROM campaigns")
	want = [][]any{{"wx1", "双十一", "2026-11-20", i(2), i(1), i(1), i(10500), i(10000), i(8900), i(0)}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("campaigns (-want +got):\n%s", d)
	}
}

func TestAuditFailuresView(t *testing.T) {
	t.Parallel()
	f := world(t)
	got := query(t, f.db, "SELECT appid, msg_id, err_code, category, reason_zh, reason_en, documented, check_state FROM audit_failures ORDER BY appid, msg_id")
	want := [][]any{
		{"wx1", int64(2), int64(20002), "review", "涉嫌色情", "suspected pornography", true, nil},
		{"wx1", int64(3), int64(20999), "unknown", "未公开的错误码（官方文档没有说明）", "undocumented code", false, nil},
		{"wx2", int64(4), int64(30003), "originality", "原创校验被判定为转载文且用户选择了被判为转载就不群发",
			"judged a reprint, and the sender chose not to send reprints", true, int64(3)},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("audit_failures (-want +got):\n%s", d)
	}
}

func TestArticlesView(t *testing.T) {
	t.Parallel()
	f := world(t)
	f.write(f.event(&events.Deleted{AppID: "wx2", MsgID: 4, ArticleIdx: 1, DeletedAt: f.time("2026-11-22T00:00:00+08:00")}))
	got := query(t, f.db, "SELECT msg_id, article_idx, url, deleted, checked, audit, audit_state, original_article_url, can_reprint FROM articles ORDER BY article_idx")
	want := [][]any{
		{int64(4), int64(1), "http://mp.weixin.qq.com/s/a", true, false, "", nil, "", nil},
		{int64(4), int64(2), "http://mp.weixin.qq.com/s/b", false, true, "not passed", int64(2), "http://mp.weixin.qq.com/s/o", int64(0)},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("articles (-want +got):\n%s", d)
	}
	got = query(t, f.db, "SELECT outcome, toString(articles), deleted_articles, toString(deleted_at) FROM messages WHERE appid = 'wx2' AND msg_id = 4")
	want = [][]any{{"rejected", "[(1,'http://mp.weixin.qq.com/s/a'),(2,'http://mp.weixin.qq.com/s/b')]", []int64{1}, "2026-11-22 00:00:00"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("messages (-want +got):\n%s", d)
	}
}

func TestMissingCallbacksView(t *testing.T) {
	t.Parallel()
	f := world(t)
	got := query(t, f.db, "SELECT appid, msg_id, state, outcome, polls, last_poll_status, abandoned_reason FROM missing_callbacks ORDER BY appid, msg_id")
	want := [][]any{
		{"wx1", int64(4), "found by poll", "sent", int64(1), "SEND_SUCCESS", ""},
		{"wx1", int64(5), "missing", "missing", int64(0), "", "no_answer"},
		{"wx1", int64(6), "pending", "pending", int64(0), "", ""},
		{"wx1", int64(8), "not chased", "missing", int64(0), "", "not_chased"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("missing_callbacks (-want +got):\n%s", d)
	}
	got = query(t, f.db, "SELECT DISTINCT m.account_unrecorded_share = a.unrecorded_share, m.account_note = a.note, m.account_note_zh = a.note_zh FROM missing_callbacks AS m JOIN accounts AS a USING appid")
	if d := cmp.Diff([][]any{{uint8(1), uint8(1), uint8(1)}}, got); d != "" {
		t.Errorf("missing_callbacks does not say how far sends are recorded (-want +got):\n%s", d)
	}
	got = query(t, f.db, "SELECT appid, configured, messages, recorded, callbacks, callbacks_unrecorded, unrecorded_share, missing_callbacks, recording FROM accounts ORDER BY appid")
	i := func(n int64) any { return n }
	want = [][]any{
		{"wx1", true, i(8), i(8), i(3), i(0), 0.0, i(4), "all"},
		{"wx2", false, i(4), i(0), i(4), i(4), 1.0, nil, "none"}, // never a bare 0: nobody can know
		{"wx9", true, i(0), i(0), i(0), i(0), nil, nil, "none"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("accounts (-want +got):\n%s", d)
	}
	// A late callback takes a message out; some unrecorded sends show.
	f.write(f.finished("wx1", 5, "2026-11-20T13:01:00+08:00", "send success", 1, 1, 1, 0), f.finished("wx1", 9, "2026-11-20T13:01:00+08:00", "send success", 1, 1, 1, 0))
	got = query(t, f.db, "SELECT recorded, callbacks, callbacks_unrecorded, unrecorded_share, missing_callbacks, recording, note, note_zh FROM recording_daily WHERE appid = 'wx1' AND day = '2026-11-20'")
	want = [][]any{{i(6), i(5), i(1), 0.2, i(2), "some", "Some sends were not recorded: of these, callbacks that never came cannot be seen.", "部分群发没有登记，这部分未到达的回调无法发现。"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("recording_daily (-want +got):\n%s", d)
	}
}

func TestErrorCodesView(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	got := query(t, db, "SELECT category, groupArray(code) FROM error_codes GROUP BY category ORDER BY category")
	want := [][]any{
		{"admin", []int64{40001, 40002}}, {"originality", []int64{30001, 30002, 30003}},
		{"review", []int64{10001, 20001, 20002, 20004, 20006, 20008, 20013, 21000, 22000}}, {"unknown", []int64{20431}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("error_codes (-want +got):\n%s", d)
	}
	if n := one(t, db, "SELECT countIf(reason_zh = '' OR reason_en = '' OR documented != (category != 'unknown')) FROM error_codes"); n != uint64(0) {
		t.Errorf("%v codes are described badly", n)
	}
}

// The views must not read more than the days and the account asked for.
func TestViewsPrune(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	for m := range 6 {
		at := fmt.Sprintf("2026-%02d-15T12:00:00+08:00", m+1)
		f.write(f.finished("wx1", int64(m+1), at, "err(10001)", 0, 0, 0, 0))
	}
	for _, v := range []string{"messages", "delivery_daily", "delivery_hourly", "audit_failures", "missing_callbacks", "recording_daily", "articles"} {
		plan := query(t, f.db, "EXPLAIN indexes = 1 SELECT * FROM "+v+" WHERE day = '2026-03-15' AND appid = 'wx1'")
		text := fmt.Sprint(plan)
		if !strings.Contains(text, "Parts: 1/6") {
			t.Errorf("%s does not prune partitions by day:\n%s", v, text)
		}
	}
}
