package clickhouse_test

import (
	"errors"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

var urlIn = regexp.MustCompile("<ArticleUrl>(.*)</ArticleUrl><SentCount>(7?)</SentCount>")

// newDecoder finds in the raw text what the old one has passed over.
func newDecoder(old *events.Finished, raw string) (*events.Finished, error) {
	found := urlIn.FindStringSubmatch(raw)
	if found == nil {
		return nil, errors.New("this is no callback")
	}
	read := *old
	read.ArticleURLs = []events.Link{{Index: 1, URL: found[1]}}
	if found[2] != "" {
		seven := int64(7)
		read.SentCount = &seven // the event's id covers this
	}
	return &read, nil
}

// An artificially old decoder has stored callbacks without what they say of
// articles. Read anew they say it; they stay the same events, and nothing that
// knows less can undo it.
func TestReread(t *testing.T) {
	t.Parallel()
	f := newFixture(t, migrated(t))
	callback := func(msgID int64, raw string) events.Event {
		e := f.finished("wx1", msgID, "2026-11-20T10:01:00+08:00", "send success", 100, 90, 88, 2)
		e.Data.(*events.Finished).Raw = raw
		return e
	}
	old := callback(1, "<ArticleUrl>http://one</ArticleUrl><SentCount></SentCount>")
	wrong := callback(2, "<ArticleUrl>http://two</ArticleUrl><SentCount>7</SentCount>")
	broken := callback(3, "<xml/>")
	polled := f.polled("wx1", 4, "2026-11-20T10:00:00+08:00", "SEND_SUCCESS")
	f.write(old, wrong, broken, polled)
	stale, stones := f.folded(old.Key)
	reread := clickhouse.Rebuild{Who: "test", Reread: newDecoder, Compare: true}

	report, err := f.db.Rebuild(t.Context(), reread)
	if err != nil {
		t.Fatal(err)
	}
	if c := report.Reread; c.Read != 3 || c.Revised != 2 || c.Failed != 1 || c.Failure != "this is no callback" {
		t.Errorf("report %+v", c)
	}
	if c := report.Comparison; c.Changed != 2 || c.OnlyBefore != 0 || c.OnlyAfter != 0 {
		t.Errorf("comparison %+v", c)
	}
	want := [][]any{
		{int64(1), "http://one", int64(88), int64(1)}, {int64(2), "http://two", int64(7), int64(1)},
		{int64(3), "", int64(88), int64(1)}, {int64(4), "", nil, int64(1)},
	}
	check := func(when string) {
		t.Helper()
		got := query(t, f.db, "SELECT m.msg_id, arrayElement(m.articles, 1).url, m.sent, m.events FROM messages AS m ORDER BY m.msg_id")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
		if n := one(t, f.db, "SELECT count() - uniqExact(event_id) FROM events"); n != int64(0) {
			t.Errorf("%s: %v events stand there twice", when, n)
		}
	}
	check("read anew")
	if data := one(t, f.db, "SELECT JSONExtractInt(data, 'sent_count') FROM events WHERE msg_id = 2"); data != int64(7) {
		t.Errorf("the view events shows %v people, want 7", data)
	}

	// A sink that had read the events before, one that reads the log again, and merges.
	if err := f.db.InsertMessages(t.Context(), stale, stones); err != nil {
		t.Fatal(err)
	}
	check("after a stale write")
	f.offset = 0
	f.append(old, wrong)
	f.fold(old.Key, wrong.Key)
	check("after the same records again")
	query(t, f.db, "OPTIMIZE TABLE event_rows FINAL")
	query(t, f.db, "OPTIMIZE TABLE message_rows FINAL")
	f.fold(old.Key, wrong.Key)
	check("after merges")

	report, err = f.db.Rebuild(t.Context(), reread)
	if err != nil || report.Reread.Revised != 0 || !report.Comparison.Same() {
		t.Errorf("read anew once more: %+v, %v", report.Reread, err)
	}
	check("read anew once more")
	f.write(f.polled("wx1", 1, "2026-11-20T12:00:00+08:00", "SEND_SUCCESS"))
	want[0][3] = int64(2)
	check("after another event")
}
