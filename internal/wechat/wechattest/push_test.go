package wechattest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPushInEveryMode(t *testing.T) {
	for _, mode := range []Mode{Plain, Compatible, Safe} {
		t.Run(string(mode), func(t *testing.T) {
			s := start(t, Config{Seed: 1, Accounts: []Account{{Mode: mode}}})
			r := newReceiver(t, s, nil)
			account := s.Accounts()[0]
			receipt := submit(t, s, account.AppID, Send{Audience: Tag(100), MsgType: "text"})
			drain(t, s)

			pushes := r.all()
			if len(pushes) != 1 {
				t.Fatalf("%d pushes, want 1", len(pushes))
			}
			p := pushes[0]
			entry, _ := s.Ledger().Find(account.AppID, receipt.MsgID)
			j := parseJob(t, p.clear)
			want := job{
				ToUserName: account.OriginalID, FromUserName: p.query.Get("openid"), CreateTime: entry.EndsAt.Unix(),
				MsgType: "event", Event: "MASSSENDJOBFINISH", MsgID: receipt.MsgID, Status: "send success",
				TotalCount: entry.Counts.Total, FilterCount: entry.Counts.Filter, SentCount: entry.Counts.Sent, ErrorCount: entry.Counts.Error,
				CheckCount: ptr(0), CheckState: ptr(0), ArticleCount: ptr(1),
				Articles: []articleItem{{1, entry.Articles[0]}},
			}
			if diff := cmp.Diff(want, j); diff != "" {
				t.Errorf("push (-want +got):\n%s", diff)
			}
			if entry.Counts.Total != account.Tags[100] || entry.Counts.Filter != entry.Counts.Sent+entry.Counts.Error {
				t.Errorf("counts %+v of a tag of %d", entry.Counts, account.Tags[100])
			}
			clear, encrypted := strings.Contains(string(p.body), "<Status>"), strings.Contains(string(p.body), "<Encrypt>")
			if clear != (mode != Safe) || encrypted != (mode != Plain) {
				t.Errorf("%s body: %s", mode, p.body)
			}
			if p.query.Has("msg_signature") != (mode != Plain) || p.contentType != "text/xml" {
				t.Errorf("query %v, content type %s", p.query, p.contentType)
			}
		})
	}
}

func TestPushJSONShapes(t *testing.T) {
	plan := Originality(30003)
	for _, c := range []struct {
		name  string
		style Style
		plan  Plan
		want  string // the document after Status
	}{
		{"bare numbers, items", Style{List: ListOfItems}, Success().With(Counts{9, 8, 7, 1}),
			`"TotalCount":9,"FilterCount":8,"SentCount":7,"ErrorCount":1,"CopyrightCheckResult":{"Count":0,"ResultList":{"item":[]},"CheckState":0},"ArticleUrlResult":{"Count":1,"ResultList":{"item":[{"ArticleIdx":1,"ArticleUrl":"URL"}]}}}`},
		{"quoted numbers, bare list", Style{List: ListBare, Quoted: true}, Success().With(Counts{9, 8, 7, 1}),
			`"TotalCount":"9","FilterCount":"8","SentCount":"7","ErrorCount":"1","CopyrightCheckResult":{"Count":"0","ResultList":[],"CheckState":"0"},"ArticleUrlResult":{"Count":"1","ResultList":[{"ArticleIdx":"1","ArticleUrl":"URL"}]}}`},
		{"single item", Style{List: ListSingle}, Success().With(Counts{9, 8, 7, 1}),
			`"TotalCount":9,"FilterCount":8,"SentCount":7,"ErrorCount":1,"CopyrightCheckResult":{"Count":0,"ResultList":{"item":[]},"CheckState":0},"ArticleUrlResult":{"Count":1,"ResultList":{"item":{"ArticleIdx":1,"ArticleUrl":"URL"}}}}`},
		{"old form", Style{}, plan.OldForm(), `"TotalCount":0,"FilterCount":0,"SentCount":0,"ErrorCount":0}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Config{Accounts: []Account{{Mode: Compatible, Format: JSON}}})
			r := newReceiver(t, s, nil)
			appid := s.Accounts()[0].AppID
			c.plan.Style = &c.style
			c.plan.Articles = 1
			arrange(t, s, appid, c.plan)
			receipt := submit(t, s, appid, Send{Audience: All()})
			drain(t, s)
			p := r.all()[0]
			if !json.Valid(p.clear) || !json.Valid(p.body) || p.contentType != "application/json" {
				t.Fatalf("not JSON: %s", p.body)
			}
			entry, _ := s.Ledger().Find(appid, receipt.MsgID)
			_, got, _ := strings.Cut(string(p.clear), `"Status":"`+c.plan.Status+`",`)
			if len(entry.Articles) > 0 {
				got = strings.ReplaceAll(got, entry.Articles[0], "URL")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("document (-want +got):\n%s", diff)
			}
		})
	}
}
