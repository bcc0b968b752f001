package wechat

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func num(v int64) *int64 { return &v }

// sent2022 is what testdata/finished-2022.xml and testdata/finished.json say.
func sent2022() MassSendJobFinish {
	return MassSendJobFinish{
		ToUserName: "gh_1f567c6f4bbd", FromUserName: "ov7hP6b1X_yWfnX7Jy3IFQnwJzzM",
		CreateTime: 1650896441, MsgType: "event", Event: "MASSSENDJOBFINISH",
		MsgID: 1000000003, Status: "send success",
		TotalCount: num(4), FilterCount: num(4), SentCount: num(4), ErrorCount: num(0),
		CopyrightCheckResult: &CopyrightCheckResult{Count: num(0), CheckState: num(0)},
		ArticleURLResult: &ArticleURLResult{Count: num(1), ResultList: []ArticleURLItem{
			{ArticleIdx: num(1), ArticleURL: "http://mp.weixin.qq.com/s/8yzT20EvmDg37Jso9nsIIw"},
		}},
	}
}

func rejected30003() MassSendJobFinish {
	verdict := func(idx int64, url string) CopyrightCheckItem {
		return CopyrightCheckItem{ArticleIdx: num(idx), UserDeclareState: num(0), AuditState: num(2),
			OriginalArticleURL: url, OriginalArticleType: num(1), CanReprint: num(1),
			NeedReplaceContent: num(1), NeedShowReprintSource: num(1)}
	}
	return MassSendJobFinish{
		ToUserName: "gh_0123456789ab", FromUserName: "o0000000000000000000000000000",
		CreateTime: 1481013459, MsgType: "event", Event: "MASSSENDJOBFINISH",
		MsgID: 1000001625, Status: "err(30003)",
		TotalCount: num(0), FilterCount: num(0), SentCount: num(0), ErrorCount: num(0),
		CopyrightCheckResult: &CopyrightCheckResult{Count: num(2), CheckState: num(2), ResultList: []CopyrightCheckItem{
			verdict(1, "http://mp.weixin.qq.com/s?a=1&b=2"), verdict(2, ""),
		}},
	}
}

func TestParseMassSendJobFinishSamples(t *testing.T) {
	for file, want := range map[string]MassSendJobFinish{
		"finished-2022.xml":     sent2022(),
		"finished.json":         sent2022(),
		"finished-err30003.xml": rejected30003(),
	} {
		t.Run(file, func(t *testing.T) {
			body := readFile(t, file)
			for name, body := range map[string][]byte{"as is": body, "with BOM": append([]byte("\xef\xbb\xbf"), body...),
				"with BOM and lines": append([]byte("\r\n\xef\xbb\xbf\n"), body...)} {
				got, err := ParseMassSendJobFinish(sniff(body), body)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if diff := cmp.Diff(got, want); diff != "" {
					t.Errorf("%s (-got, +want):\n%s", name, diff)
				}
			}
		})
	}
}

// head is what every push of this kind needs, so that tests show only what they are about.
const (
	headXML  = "<MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event><CreateTime>1650896441</CreateTime><MsgID>7</MsgID>"
	headJSON = `"MsgType":"event","Event":"MASSSENDJOBFINISH","CreateTime":1650896441,"MsgID":7`
)

func headOnly() MassSendJobFinish {
	return MassSendJobFinish{MsgType: "event", Event: "MASSSENDJOBFINISH", CreateTime: 1650896441, MsgID: 7}
}

func TestParseMassSendJobFinishIsLenient(t *testing.T) {
	with := func(change func(*MassSendJobFinish)) MassSendJobFinish {
		m := headOnly()
		change(&m)
		return m
	}
	total := func(n int64) MassSendJobFinish { return with(func(m *MassSendJobFinish) { m.TotalCount = num(n) }) }
	status := func(s string) MassSendJobFinish { return with(func(m *MassSendJobFinish) { m.Status = s }) }
	urls := func(items ...ArticleURLItem) MassSendJobFinish {
		return with(func(m *MassSendJobFinish) { m.ArticleURLResult = &ArticleURLResult{ResultList: items} })
	}
	one, two := ArticleURLItem{num(1), "u1"}, ArticleURLItem{num(2), "u2"}
	for _, c := range []struct {
		name, body string
		want       MassSendJobFinish
	}{
		{"nothing more", "<xml>" + headXML + "</xml>", headOnly()},
		{"another root", "<msg>" + headXML + "</msg>", headOnly()},
		{"declared encoding", `<?xml version="1.0" encoding="gb2312"?><xml>` + headXML + "</xml>", headOnly()},
		{"attributes and namespaces", `<xml xmlns:w="urn:x">` + headXML + `<w:TotalCount a="1">3</w:TotalCount></xml>`, total(3)},
		{"comments", "<xml><!-- a -->" + headXML + "<TotalCount>1<!-- b -->2</TotalCount></xml>", total(12)},
		{"unknown elements", "<xml>" + headXML + "<New><TotalCount>9</TotalCount></New><TotalCount>3</TotalCount></xml>", total(3)},
		{"number in CDATA and space", "<xml>" + headXML + "<TotalCount> \n<![CDATA[ 3]]>\t</TotalCount></xml>", total(3)},
		{"empty number is absent", "<xml>" + headXML + "<TotalCount></TotalCount><SentCount/><ErrorCount> </ErrorCount></xml>", headOnly()},
		{"first of two wins", "<xml>" + headXML + "<TotalCount>3</TotalCount><TotalCount>4</TotalCount><MsgID>8</MsgID></xml>", total(3)},
		{"exact name wins", "<xml><MsgId>9</MsgId>" + headXML + "</xml>", headOnly()},
		{"other case of names", "<xml>" + strings.NewReplacer("MsgID", "MsgId", "CreateTime", "createtime").Replace(headXML) + "</xml>", headOnly()},
		{"first of other cases wins", "<xml>" + headXML + "<totalcount>3</totalcount><TOTALCOUNT>4</TOTALCOUNT></xml>", total(3)},
		{"negative and signed", "<xml>" + headXML + "<TotalCount>-1</TotalCount></xml>", total(-1)},
		{"status as it is", "<xml>" + headXML + "<Status><![CDATA[ err(30001) ]]></Status></xml>", status(" err(30001) ")},
		{"status of other times", "<xml>" + headXML + "<Status>尚未 &lt;new&gt;</Status></xml>", status("尚未 <new>")},
		{"control character", "<xml>" + headXML + "<Status>a\x08b</Status></xml>", status("a\ufffdb")},
		{"broken UTF-8", "<xml>" + headXML + "<Status>a\xffb</Status></xml>", status("a\ufffdb")},
		{"empty results", "<xml>" + headXML + "<ArticleUrlResult>\n\n</ArticleUrlResult></xml>", urls()},
		{"text after the end", "<xml>" + headXML + "</xml>\n<xml>", headOnly()},

		{"JSON: nothing more", "{" + headJSON + "}", headOnly()},
		{"JSON: quoted numbers", `{` + strings.NewReplacer("1650896441", `"1650896441"`, "7", `" 7 "`).Replace(headJSON) + `,"TotalCount":"3"}`, total(3)},
		{"JSON: null and empty", `{` + headJSON + `,"TotalCount":null,"SentCount":"","ErrorCount":{},"FilterCount":[]}`, headOnly()},
		{"JSON: first of two wins", `{` + headJSON + `,"TotalCount":3,"TotalCount":4}`, total(3)},
		{"JSON: past 2^53", `{` + headJSON + `,"TotalCount":9007199254740993}`, total(9007199254740993)},
		{"JSON: converted by way of double", `{` + headJSON + `,"TotalCount":3.147483648E9}`, total(3147483648)},
		{"JSON: true", `{` + headJSON + `,"TotalCount":true}`, total(1)},
		{"JSON: control character", "{" + headJSON + ",\n\t\"Status\":\"a\nb\"}", status("a b")},
		{"JSON: item array", `{` + headJSON + `,"ArticleUrlResult":{"ResultList":{"item":[{"ArticleIdx":1,"ArticleUrl":"u1"},{"ArticleIdx":"2","ArticleUrl":"u2"}]}}}`, urls(one, two)},
		{"JSON: item object", `{` + headJSON + `,"ArticleUrlResult":{"ResultList":{"item":{"ArticleIdx":1,"ArticleUrl":"u1"}}}}`, urls(one)},
		{"JSON: list is the array", `{` + headJSON + `,"ArticleUrlResult":{"ResultList":[{"ArticleIdx":1,"ArticleUrl":"u1"},{"ArticleIdx":2,"ArticleUrl":"u2"}]}}`, urls(one, two)},
		{"JSON: list of wrapped items", `{` + headJSON + `,"ArticleUrlResult":{"ResultList":[{"item":{"ArticleIdx":1,"ArticleUrl":"u1"}},{"item":{"ArticleIdx":2,"ArticleUrl":"u2"}}]}}`, urls(one, two)},
		{"JSON: results that a converter flattened", `{` + headJSON + `,"ArticleUrlResult":"\n\n"}`, urls()},
		{"JSON: list that a converter flattened", `{` + headJSON + `,"ArticleUrlResult":{"ResultList":""}}`, urls()},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseMassSendJobFinish(sniff([]byte(c.body)), []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, c.want); diff != "" {
				t.Errorf("(-got, +want):\n%s", diff)
			}
		})
	}
}

func TestParseMassSendJobFinishSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"no MsgID", "<xml><Event>MASSSENDJOBFINISH</Event><CreateTime>1</CreateTime></xml>", "MsgID is missing"},
		{"empty CreateTime", "<xml><Event>MASSSENDJOBFINISH</Event><MsgID>1</MsgID><CreateTime/></xml>", "CreateTime is missing"},
		{"no number", "<xml>" + headXML + "<SentCount>many</SentCount></xml>", `SentCount holds "many"`},
		{"longer than a number", "<xml>" + headXML + "<SentCount>oPersonsOpenid00000000000001</SentCount></xml>", `SentCount holds 28 bytes: want a whole number`},
		{"too large", "<xml>" + headXML + "<SentCount>9223372036854775808</SentCount></xml>", `SentCount holds "9223372036854775808"`},
		{"fraction", "{" + headJSON + `,"SentCount":1.5}`, `SentCount holds "1.5"`},
		{"inexact", "{" + headJSON + `,"SentCount":9.1e15}`, `SentCount holds "9.1e15"`},
		{"huge exponent", "{" + headJSON + `,"SentCount":1e999999999}`, `SentCount holds`},
		{"hexadecimal", "<xml>" + headXML + "<SentCount>0x1p4</SentCount></xml>", `SentCount holds "0x1p4"`},
		{"elements in a number", "<xml>" + headXML + "<SentCount>1<a/>2</SentCount></xml>", "SentCount holds other elements"},
		{"deep inside", "<xml>" + headXML + "<ArticleUrlResult><ResultList><item><ArticleIdx>x</ArticleIdx></item></ResultList></ArticleUrlResult></xml>", `ArticleIdx holds "x"`},
		{"long value is not quoted", "<xml>" + headXML + "<SentCount>" + strings.Repeat("一", 5000) + "</SentCount></xml>", "SentCount holds 15000 bytes"},
		{"another event", "<xml><MsgType>event</MsgType><Event>CLICK</Event></xml>", `Event "CLICK"`},
		{"a chat that says so", "<xml><MsgType>text</MsgType><Event>MASSSENDJOBFINISH</Event></xml>", `MsgType "text"`},
		{"not closed", "<xml>" + headXML, "malformed XML"},
		{"closed wrongly", "<xml>" + headXML + "<a></b></xml>", "malformed XML"},
		{"own entities", `<!DOCTYPE x [<!ENTITY a "b">]><xml>` + headXML + "</xml>", "document type"},
		{"unknown entity", "<xml>" + headXML + "<Status>&a;</Status></xml>", "malformed XML"},
		{"no element", "<!-- -->", "no XML element"},
		{"JSON cut", "{" + headJSON, "malformed JSON"},
		{"JSON cut in an array", "{" + headJSON + `,"a":[1,`, "malformed JSON"},
		{"JSON with a stray comma", "{" + headJSON + ",}", "malformed JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseMassSendJobFinish(sniff([]byte(c.body)), []byte(c.body))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
	for _, format := range []string{"", "yaml"} {
		if _, err := ParseMassSendJobFinish(format, nil); err == nil || !strings.Contains(err.Error(), "unknown format") {
			t.Errorf("format %q: error %v", format, err)
		}
	}
	for _, format := range []string{FormatXML, FormatJSON} {
		if _, err := ParseMassSendJobFinish(format, nil); err == nil {
			t.Errorf("empty %s body is accepted", format)
		}
	}
	if _, err := ParseMassSendJobFinish(FormatJSON, []byte(`["MASSSENDJOBFINISH"]`)); err == nil || !strings.Contains(err.Error(), "not an object") {
		t.Errorf("JSON array: error %v", err)
	}
}

func TestParsePush(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       Envelope
		mass       bool
	}{
		{"result", string(readFile(t, "finished-2022.xml")), Envelope{ToUserName: "gh_1f567c6f4bbd", FromUserName: "ov7hP6b1X_yWfnX7Jy3IFQnwJzzM",
			CreateTime: 1650896441, MsgType: "event", Event: "MASSSENDJOBFINISH", MsgID: 1000000003}, true},
		{"lower case", "<xml><MsgType>Event</MsgType><Event>masssendjobfinish</Event></xml>", Envelope{MsgType: "Event", Event: "masssendjobfinish"}, true},
		{"no MsgType", `{"Event":"MassSendJobFinish"}`, Envelope{Event: "MassSendJobFinish"}, true},
		{"chat", "<xml><MsgType><![CDATA[text]]></MsgType><Content>hi \x0b</Content><MsgId>1234567890123456</MsgId></xml>",
			Envelope{MsgType: "text", MsgID: 1234567890123456}, false},
		{"template result", `{"MsgType":"event","Event":"TEMPLATESENDJOBFINISH","MsgID":3487542469355618313}`,
			Envelope{MsgType: "event", Event: "TEMPLATESENDJOBFINISH", MsgID: 3487542469355618313}, false},
		{"platform ticket", "<xml><AppId>wx1</AppId><CreateTime>5</CreateTime><InfoType>component_verify_ticket</InfoType></xml>",
			Envelope{AppID: "wx1", CreateTime: 5, InfoType: "component_verify_ticket"}, false},
		{"nonsense in numbers", "<xml><MsgId>x</MsgId><CreateTime><a/></CreateTime></xml>", Envelope{}, false},
		{"smuggled through a chat", "<xml><MsgType>text</MsgType><Content></Content><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event></xml>",
			Envelope{MsgType: "text", Event: "MASSSENDJOBFINISH"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParsePush(sniff([]byte(c.body)), []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, c.want); diff != "" || got.IsMassSendJobFinish() != c.mass {
				t.Errorf("mass %v, want %v (-got, +want):\n%s", got.IsMassSendJobFinish(), c.mass, diff)
			}
		})
	}
}

// What stands before a fault is returned with the error, so that a broken result is
// known to be one and can be kept.
func TestParsePushReturnsWhatItCouldRead(t *testing.T) {
	for _, body := range []string{
		"<xml>" + headXML + "<Status>",
		"<xml>" + headXML + strings.Repeat("<a>", 100),
		"{" + headJSON + `,"Status":`,
		"{" + headJSON + `,"a":` + strings.Repeat("[", 100),
	} {
		e, err := ParsePush(sniff([]byte(body)), []byte(body))
		if err == nil || !e.IsMassSendJobFinish() || e.MsgID != 7 {
			t.Errorf("ParsePush(%.60q) = %+v, %v", body, e, err)
		}
	}
	if !MentionsMassSendJobFinish([]byte("<xml><a<Event>massSendJobFinish")) || MentionsMassSendJobFinish([]byte("<xml><a>CLICK")) {
		t.Error("MentionsMassSendJobFinish does not look for the event's name")
	}
}

// Whatever WeChat reports is read back alike from both formats, in any order of elements and with
// any of the accepted ways to write a number.
func TestParseMassSendJobFinishRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawFinish(t)
		w := writer{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "style"), 0))}
		for format, body := range map[string]string{FormatXML: w.xml("xml", fieldsOf(want)), FormatJSON: w.json(fieldsOf(want))} {
			got, err := ParseMassSendJobFinish(format, []byte(body))
			if err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Fatalf("%s (-got, +want):\n%s", body, diff)
			}
		}
	})
}

func drawFinish(t *rapid.T) MassSendJobFinish {
	n := rapid.Ptr(rapid.Int64(), true)
	word := rapid.StringMatching(`[a-zA-Z0-9_<&"./:]{0,12}`)
	m := MassSendJobFinish{
		ToUserName: word.Draw(t, "to"), FromUserName: word.Draw(t, "from"), CreateTime: rapid.Int64().Draw(t, "time"),
		MsgType: "event", Event: "MASSSENDJOBFINISH", MsgID: rapid.Int64().Draw(t, "msgid"),
		Status:     rapid.StringMatching(`[ a-z()0-9()<&"\\]{0,20}`).Draw(t, "status"),
		TotalCount: n.Draw(t, "total"), FilterCount: n.Draw(t, "filter"), SentCount: n.Draw(t, "sent"), ErrorCount: n.Draw(t, "error"),
	}
	if rapid.Bool().Draw(t, "copyright") {
		m.CopyrightCheckResult = &CopyrightCheckResult{Count: n.Draw(t, "count"), CheckState: n.Draw(t, "state")}
		for range rapid.IntRange(0, 3).Draw(t, "articles") {
			// An index is always there: an item without anything in it is no article.
			m.CopyrightCheckResult.ResultList = append(m.CopyrightCheckResult.ResultList, CopyrightCheckItem{
				ArticleIdx: num(rapid.Int64().Draw(t, "idx")), UserDeclareState: n.Draw(t, "declare"), AuditState: n.Draw(t, "audit"),
				OriginalArticleURL: word.Draw(t, "url"), OriginalArticleType: n.Draw(t, "type"), CanReprint: n.Draw(t, "can"),
				NeedReplaceContent: n.Draw(t, "replace"), NeedShowReprintSource: n.Draw(t, "show")})
		}
	}
	if rapid.Bool().Draw(t, "urls") {
		m.ArticleURLResult = &ArticleURLResult{Count: n.Draw(t, "count")}
		for range rapid.IntRange(0, 3).Draw(t, "articles") {
			m.ArticleURLResult.ResultList = append(m.ArticleURLResult.ResultList,
				ArticleURLItem{ArticleIdx: num(rapid.Int64().Draw(t, "idx")), ArticleURL: word.Draw(t, "url")})
		}
	}
	return m
}

// field is an element to be written: value is a string, a *int64, or []field; a nil
// *int64 is left out. Several with one name are a list.
type field struct {
	name  string
	value any
}

func fieldsOf(m MassSendJobFinish) []field {
	fs := []field{{"ToUserName", m.ToUserName}, {"FromUserName", m.FromUserName}, {"CreateTime", &m.CreateTime},
		{"MsgType", m.MsgType}, {"Event", m.Event}, {"MsgID", &m.MsgID}, {"Status", m.Status}, {"TotalCount", m.TotalCount},
		{"FilterCount", m.FilterCount}, {"SentCount", m.SentCount}, {"ErrorCount", m.ErrorCount}}
	if c := m.CopyrightCheckResult; c != nil {
		var items []field
		for _, i := range c.ResultList {
			items = append(items, field{"item", []field{{"ArticleIdx", i.ArticleIdx}, {"UserDeclareState", i.UserDeclareState},
				{"AuditState", i.AuditState}, {"OriginalArticleUrl", i.OriginalArticleURL}, {"OriginalArticleType", i.OriginalArticleType},
				{"CanReprint", i.CanReprint}, {"NeedReplaceContent", i.NeedReplaceContent}, {"NeedShowReprintSource", i.NeedShowReprintSource}}})
		}
		fs = append(fs, field{"CopyrightCheckResult", []field{{"Count", c.Count}, {"ResultList", items}, {"CheckState", c.CheckState}}})
	}
	if a := m.ArticleURLResult; a != nil {
		var items []field
		for _, i := range a.ResultList {
			items = append(items, field{"item", []field{{"ArticleIdx", i.ArticleIdx}, {"ArticleUrl", i.ArticleURL}}})
		}
		fs = append(fs, field{"ArticleUrlResult", []field{{"Count", a.Count}, {"ResultList", items}}})
	}
	return fs
}

// writer writes fields in an order and a style of its random source's choosing.
type writer struct{ *rand.Rand }

// order shuffles fields, but not the items of a list among themselves.
func (w writer) order(fs []field) []field {
	fs = append([]field(nil), fs...)
	if len(fs) > 0 && fs[0].name != "item" {
		w.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	}
	return fs
}

func (w writer) xml(name string, fs []field) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<%s>", name)
	for _, f := range w.order(fs) {
		switch v := f.value.(type) {
		case []field:
			b.WriteString(w.xml(f.name, v))
		case string:
			fmt.Fprintf(&b, "<%s><![CDATA[%s]]></%s>", f.name, v, f.name)
		case *int64:
			if v != nil {
				fmt.Fprintf(&b, w.pick("<%s>%d</%s>", "<%s> %d\n</%s>", "<%s><![CDATA[%d]]></%s>"), f.name, *v, f.name)
			} else {
				b.WriteString(w.pick("", "<"+f.name+"/>", "<"+f.name+"> </"+f.name+">"))
			}
		}
		b.WriteString(w.pick("", "\n", "<New>1</New>"))
	}
	fmt.Fprintf(&b, "</%s>", name)
	return b.String()
}

func (w writer) json(fs []field) string {
	var members []string
	for _, f := range w.order(fs) {
		switch v := f.value.(type) {
		case []field:
			if f.name == "ResultList" {
				members = append(members, `"ResultList":`+w.jsonList(v))
			} else {
				members = append(members, fmt.Sprintf("%q:%s", f.name, w.json(v)))
			}
		case string:
			members = append(members, fmt.Sprintf("%q:%s", f.name, jsonString(v)))
		case *int64:
			if v != nil {
				members = append(members, fmt.Sprintf(w.pick("%q:%d", `%q:"%d"`, `%q:" %d "`), f.name, *v))
			} else {
				members = append(members, fmt.Sprintf(w.pick(`"new":%q`, `%q:null`, `%q:""`), f.name))
			}
		}
	}
	return "{" + strings.Join(members, w.pick(",", " ,\n\t")) + "}"
}

func (w writer) jsonList(items []field) string {
	var list []string
	for _, i := range items {
		list = append(list, w.json(i.value.([]field)))
	}
	if len(list) == 1 && w.IntN(2) == 0 {
		return `{"item":` + list[0] + "}"
	}
	return fmt.Sprintf(w.pick("[%s]", `{"item":[%s]}`), strings.Join(list, ","))
}

func (w writer) pick(of ...string) string { return of[w.IntN(len(of))] }
