package ingest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/events"
)

const reparseXML = `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[openid]]></FromUserName><CreateTime>1790000000</CreateTime>
<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[MASSSENDJOBFINISH]]></Event><MsgID>7</MsgID><Status><![CDATA[send success]]></Status>
<TotalCount>100</TotalCount><FilterCount>90</FilterCount><SentCount>88</SentCount><ErrorCount>2</ErrorCount>
<ArticleUrlResult><Count>1</Count><ResultList><item><ArticleIdx>1</ArticleIdx><ArticleUrl><![CDATA[http://one]]></ArticleUrl></item></ResultList></ArticleUrlResult></xml>`

const reparseJSON = `{"ToUserName":"gh_1","FromUserName":"openid","CreateTime":1790000000,"MsgType":"event","Event":"MASSSENDJOBFINISH","MsgID":7,
"Status":"send success","TotalCount":100,"FilterCount":90,"SentCount":88,"ErrorCount":2,
"ArticleUrlResult":{"Count":1,"ResultList":[{"ArticleIdx":1,"ArticleUrl":"http://one"}]}}`

func TestReparse(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct{ noted, raw string }{
		"XML": {"xml", reparseXML}, "JSON": {"json", reparseJSON}, "XML, not noted": {"", reparseXML}, "JSON, not noted": {"", "\ufeff " + reparseJSON},
	} {
		got, err := Reparse(&events.Finished{AppID: "wx1", MsgID: 7, Mode: "safe", Format: c.noted, Status: "what an older version made of it"}, c.raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := &events.Finished{AppID: "wx1", MsgID: 7, OriginalID: "gh_1", FromUser: "openid", CreateTime: 1790000000, Status: "send success", StatusKind: "sent",
			TotalCount: n(100), FilterCount: n(90), SentCount: n(88), ErrorCount: n(2), ArticleURLs: []events.Link{{Index: 1, URL: "http://one"}},
			Mode: "safe", Format: c.noted, Raw: c.raw}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if _, err := Reparse(&events.Finished{Format: "json"}, reparseXML); err == nil {
		t.Error("XML was read as JSON")
	}
}
