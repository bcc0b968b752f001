package wechattest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSummary(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{Fans: 1000}, {}}})
	newReceiver(t, s, nil)
	appid := s.Accounts()[0].AppID
	arrange(t, s, appid,
		Success().With(Counts{Total: 1000, Filter: 900, Sent: 890, Error: 10}).Redelivered(1),
		Fail().With(Counts{Total: 1000, Filter: 950, Error: 950}),
		Rejected(20001), Rejected(29999), Rejected(20001),
		Success().Never(), Rejected(20001).Never(), Success().Never().Told(Unrecorded),
		Success().With(Counts{Total: 10, Filter: 12, Sent: 12}),
		DeletedAfterSuccess(),
	)
	for range 10 {
		submit(t, s, appid, Send{Audience: All()})
	}
	drain(t, s)
	l := s.Ledger()
	want := Summary{
		Messages: 9, Unseen: 1,
		Total: 3010, Eligible: 1862, Filtered: 1150, Sent: 902, Errors: 960,
		Unknown: 5, ByPoll: 2, Callbacks: 7, Redelivered: 1,
		Outcomes: map[string]int{"sent": 4, "failed": 2, "rejected": 3},
		ErrCodes: map[string]int{"20001": 2, "29999": 1},
	}
	if diff := cmp.Diff(want, l.Summarize(nil)); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	per := l.PerAccount()
	if diff := cmp.Diff(want, per[appid]); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
	if len(per) != 2 || per[s.Accounts()[1].AppID].Messages != 0 {
		t.Errorf("accounts %v", per)
	}
	if diff := cmp.Diff([]string{"20001", "29999"}, want.Codes()); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
}

// An err(num) carries four zeros: nobody knows how many it addressed, but
// nobody got it.
func TestRejectedCountsAreUnknown(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}})
	r := newReceiver(t, s, nil)
	appid := s.Accounts()[0].AppID
	arrange(t, s, appid, Originality(30002))
	submit(t, s, appid, Send{Audience: All()})
	drain(t, s)
	e := s.Ledger().Entries[0]
	want := Expectation{Outcome: "rejected", DecidedBy: "callback", Status: "err(30002)", Sent: ptr(0), Errors: ptr(0)}
	if diff := cmp.Diff(want, e.Expectation); diff != "" {
		t.Errorf("expectation (-want +got):\n%s", diff)
	}
	j := parseJob(t, r.all()[0].clear)
	if j.TotalCount != 0 || j.Status != "err(30002)" || len(j.Articles) != 0 || *j.ArticleCount != 0 {
		t.Errorf("push %+v", j)
	}
	if len(j.Checks) != 2 || *j.CheckCount != 2 || *j.CheckState != 3 || j.Checks[1].ArticleIdx != 2 || j.Checks[0].AuditState != 2 ||
		!strings.HasPrefix(j.Checks[0].OriginalArticleUrl, "http://mp.weixin.qq.com/s/") {
		t.Errorf("checks %+v", j.Checks)
	}
}

func TestLedgerJSONHasNoSecrets(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}, Components: []Component{{}}})
	newReceiver(t, s, nil)
	a, c := s.Accounts()[0], s.Components()[0]
	submit(t, s, a.AppID, Send{Audience: Tag(2), Label: "标题"})
	drain(t, s)
	var b bytes.Buffer
	if err := s.Ledger().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{a.Secret, a.Token, a.AESKey, c.Token, c.AESKey} {
		if strings.Contains(b.String(), secret) {
			t.Error("a secret is in the ledger")
		}
	}
	var back struct {
		Messages []struct {
			MsgID  int64 `json:"msg_id"`
			Expect struct {
				Outcome  string
				Eligible int64
			}
		}
		All        Summary
		PerAccount map[string]Summary `json:"per_account"`
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Messages[0].MsgID != 3147483649 || back.Messages[0].Expect.Outcome != "sent" || back.All.Eligible != back.Messages[0].Expect.Eligible ||
		back.PerAccount[a.AppID].Messages != 1 {
		t.Errorf("read back %+v", back)
	}
}
