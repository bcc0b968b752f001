package events_test

import (
	"strings"
	"testing"

	"qunfa/internal/events"
)

func TestWithoutOpenID(t *testing.T) {
	n := int64(1)
	kind, _ := events.ParseStatus("send success")
	d := &events.Finished{AppID: "wx1", MsgID: 1, CreateTime: 1772323230, Status: "send success", StatusKind: kind,
		TotalCount: &n, FilterCount: &n, SentCount: &n, ErrorCount: &n, Mode: "safe", Format: "xml", Raw: "<xml>oOpenID</xml>", FromUser: "oOpenID"}
	e, err := events.New("qunfa/test", d)
	if err != nil {
		t.Fatal(err)
	}
	record, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	record.Value = []byte(strings.Replace(string(record.Value), `{`, `{"of_a_later_version":"kept",`, 1))
	read, err := events.Decode(events.Message{Record: record})
	if err != nil {
		t.Fatal(err)
	}
	got, err := events.WithoutOpenID(read)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Data.(*events.Finished)
	if f.Raw != "" || f.FromUser != "" || strings.Contains(string(got.Body), "oOpenID") || !strings.Contains(string(got.Body), `"of_a_later_version":"kept"`) {
		t.Errorf("%+v\n%s", f, got.Body)
	}
	if got.ID != read.ID || *f.SentCount != 1 || read.Data.(*events.Finished).FromUser != "oOpenID" {
		t.Errorf("more than the openid has changed: %+v", got)
	}
	s, err := events.New("qunfa/test", &events.Deleted{AppID: "wx1", MsgID: 1, DeletedAt: got.Time})
	if err != nil {
		t.Fatal(err)
	}
	if same, err := events.WithoutOpenID(s); err != nil || same.Data != s.Data {
		t.Errorf("another event: %+v, %v", same, err)
	}
}
