package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	. "qunfa/internal/events"
)

var update = flag.Bool("update", false, "write the examples anew")

const schemaDir = "../../schemas/events"

func num(n int64) *int64 { return &n }

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

// samples has one event of every type with every member set. Their ids are
// golden: they must never change, since events with these ids are stored.
func samples(t testing.TB) map[string]Event {
	t.Helper()
	made := func(e Event, err error) Event {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		e.ReceivedAt = at("2026-03-01T12:00:09.123Z")
		return e
	}
	return map[string]Event{
		"submitted": made(NewSubmitted("qunfa/ingest", Submitted{
			AppID: "wx0123456789abcdef", MsgID: 3147483661, SubmittedAt: at("2026-03-01T11:58:00.5Z"), Recorder: "cms", Chase: true,
			MsgDataID: num(2247483663), Audience: Audience{Kind: AudienceTag, TagID: num(102), Size: num(52000)}, MsgType: "mpnews",
			Label: "三月新品", Campaign: "spring", ClientMsgID: "spring-0301-1",
		}, Given{SubmittedAt: true})),
		"finished": made(New("qunfa/ingest", &Finished{
			AppID: "wx0123456789abcdef", MsgID: 3147483661, OriginalID: "gh_1f567c6f4bbd", FromUser: "ov7hP6b1X_yWfnX7Jy3IFQnwJzzM",
			CreateTime: 1772366405, Status: "err(30003)", StatusKind: StatusRejected, ErrCode: num(30003),
			TotalCount: num(0), FilterCount: num(0), SentCount: num(0), ErrorCount: num(0),
			Copyright: &Copyright{Count: num(1), CheckState: num(3), Articles: []ArticleCheck{{
				Index: 1, UserDeclareState: num(0), AuditState: num(2), OriginalArticleURL: "https://mp.weixin.qq.com/s/original",
				OriginalArticleType: num(1), CanReprint: num(1), NeedReplaceContent: num(1), NeedShowReprintSource: num(1),
			}}},
			ArticleURLs: []Link{{Index: 1, URL: "http://mp.weixin.qq.com/s/8yzT20EvmDg37Jso9nsIIw"}},
			Mode:        "safe", Format: "xml", Raw: "<xml><MsgID>3147483661</MsgID></xml>",
		})),
		"polled": made(New("qunfa/reconcile", &Polled{
			AppID: "wx0123456789abcdef", MsgID: 3147483661, PolledAt: at("2026-03-01T12:45:00Z"), Attempt: 1, Instance: "r1",
			Error: &APIError{Code: 40059, Message: "invalid msg id", RID: "6241-1-2", Class: "not_found"},
		})),
		"deleted":   made(New("qunfa/cli", &Deleted{AppID: "wx0123456789abcdef", MsgID: 3147483661, ArticleIdx: 2, DeletedAt: at("2026-03-02T09:00:00Z")})),
		"abandoned": made(New("qunfa/reconcile", &Abandoned{AppID: "wx0123456789abcdef", MsgID: 3147483661, AbandonedAt: at("2026-03-04T12:00:00Z"), Reason: ReasonNoAnswer, Detail: "asked 9 times", Polls: 9, Instance: "r1"})),
	}
}

func TestIDsNeverChange(t *testing.T) {
	want := map[Type]string{
		TypeSubmitted: "1d548bd294d414faf8288165cecd87eb",
		TypeFinished:  "c9f925409a01007d2501c773ffbc100b",
		TypePolled:    "e0d4954ecccbda9528ba4eab8eff836d",
		TypeDeleted:   "640240dfe2a7da8d64cb4556e3b3de33",
		TypeAbandoned: "f00c3153290a979f0caa6f551b793568",
	}
	got := map[Type]string{}
	for _, e := range samples(t) {
		got[e.Type] = e.ID.String()
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("ids of stored events changed (-got, +want):\n%s", diff)
	}
}

func TestIDCoversExactlyTheListedFields(t *testing.T) {
	base := Finished{AppID: "wx1", MsgID: 7, CreateTime: 1772366405, Status: "send success", TotalCount: num(8), FilterCount: num(0), SentCount: num(0), ErrorCount: num(0)}
	id := func(change func(*Finished)) ID {
		d := base
		change(&d)
		e, err := New("x", &d)
		if err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	same := map[string]func(*Finished){
		"nothing":   func(*Finished) {},
		"raw":       func(d *Finished) { d.Raw = "<xml/>" },
		"mode":      func(d *Finished) { d.Mode = "safe" },
		"urls":      func(d *Finished) { d.ArticleURLs = []Link{{1, "u"}} },
		"copyright": func(d *Finished) { d.Copyright = &Copyright{CheckState: num(0)} },
		"from":      func(d *Finished) { d.FromUser = "o1" },
	}
	for name, change := range same {
		if id(change) != id(same["nothing"]) {
			t.Errorf("%s changed the id: a redelivery would count twice", name)
		}
	}
	for name, change := range map[string]func(*Finished){
		"appid":        func(d *Finished) { d.AppID = "wx2" },
		"msg_id":       func(d *Finished) { d.MsgID = 8 },
		"create_time":  func(d *Finished) { d.CreateTime++ },
		"status":       func(d *Finished) { d.Status = "sendsuccess" },
		"total":        func(d *Finished) { d.TotalCount = num(9) },
		"absent total": func(d *Finished) { d.TotalCount = nil },
		"absent sent":  func(d *Finished) { d.SentCount = nil },
		"zeros moved":  func(d *Finished) { d.TotalCount, d.FilterCount = num(0), num(8) },
	} {
		if id(change) == id(same["nothing"]) {
			t.Errorf("%s left the id as it was: two occurrences would count once", name)
		}
	}
}

func TestSubmissionDefaultsAreNotHashed(t *testing.T) {
	d := Submitted{AppID: "wx1", MsgID: 7, Recorder: "api", Chase: true, SubmittedAt: at("2026-03-01T11:58:00Z")}
	later := d
	later.SubmittedAt = at("2026-03-02T11:58:00Z")
	id := func(d Submitted, g Given) ID {
		e, err := NewSubmitted("x", d, g)
		if err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	if id(d, Given{}) != id(later, Given{}) {
		t.Error("the same submission recorded again, with the time left to us, has another id")
	}
	if id(d, Given{SubmittedAt: true}) == id(later, Given{SubmittedAt: true}) {
		t.Error("submissions at two stated times share an id")
	}
	if id(d, Given{}) == id(d, Given{Chase: true}) {
		t.Error("a stated chase is not hashed")
	}
}

func TestRoundTrip(t *testing.T) {
	for _, e := range samples(t) {
		t.Run(string(e.Type), func(t *testing.T) {
			r, err := Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			pos := Position{"qunfa.events", 3, 41}
			got, err := Decode(Message{Record: r, Position: pos})
			if err != nil {
				t.Fatal(err)
			}
			want := e
			want.Position, want.Body = pos, got.Body
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("decoded (-got, +want):\n%s", diff)
			}
			if bytes.Contains(got.Body, []byte(`"raw"`)) {
				t.Error("the body for the database still holds the raw callback")
			}
			stored, err := DecodeStored(Stored{ID: got.ID, Type: got.Type, ReceivedAt: got.ReceivedAt, Position: pos, Body: got.Body})
			if err != nil {
				t.Fatal(err)
			}
			a, _ := Fold([]Event{got}, time.UTC)
			b, _ := Fold([]Event{stored}, time.UTC)
			if diff := cmp.Diff(b, a); diff != "" {
				t.Errorf("a stored event folds differently (-stored, +decoded):\n%s", diff)
			}
		})
	}
}

func TestOldReaderMeetsNewMembers(t *testing.T) {
	for _, e := range samples(t) {
		r, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		r.Value = bytes.Replace(r.Value, []byte("{"), []byte(`{"born_later":{"a":[1,2]},`), 1)
		got, err := Decode(Message{Record: r})
		if err != nil {
			t.Fatalf("%s: %v", e.Type, err)
		}
		if got.ID != e.ID {
			t.Errorf("%s: id %s, want %s", e.Type, got.ID, e.ID)
		}
		if !bytes.Contains(got.Body, []byte("born_later")) {
			t.Errorf("%s: a member of a later version was dropped", e.Type)
		}
	}
}

func TestExamplesMatchTheirSchemas(t *testing.T) {
	for _, e := range samples(t) {
		t.Run(string(e.Type), func(t *testing.T) {
			r, err := Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			var indented bytes.Buffer
			if err := json.Indent(&indented, append(r.Value, '\n'), "", "  "); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(schemaDir, "examples", string(e.Type)+".json")
			if *update {
				if err := os.WriteFile(file, indented.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(indented.String(), string(want)); diff != "" {
				t.Errorf("%s (-got, +want):\n%s", file, diff)
			}
			validate(t, e.Type, r.Value)
		})
	}
}

func validate(t testing.TB, typ Type, value []byte) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(schemaDir, string(typ)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Error(err)
	}
}

// Every member that the code writes is described, and the schema describes no other.
func TestSchemasDescribeEveryMember(t *testing.T) {
	for _, e := range samples(t) {
		r, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Properties map[string]json.RawMessage `json:"properties"`
		}
		b, err := os.ReadFile(filepath.Join(schemaDir, string(e.Type)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &schema); err != nil {
			t.Fatal(err)
		}
		var data map[string]json.RawMessage
		if err := json.Unmarshal(r.Value, &data); err != nil {
			t.Fatal(err)
		}
		for name := range data {
			if _, ok := schema.Properties[name]; !ok {
				t.Errorf("%s: member %q is not in the schema", e.Type, name)
			}
			delete(schema.Properties, name)
		}
		delete(schema.Properties, "status") // the sample of a poll has an error instead
		for name := range schema.Properties {
			t.Errorf("%s: the schema describes %q, which the sample lacks", e.Type, name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := func() Message {
		r, err := Encode(samples(t)["finished"])
		if err != nil {
			t.Fatal(err)
		}
		return Message{Record: r}
	}
	set := func(m *Message, name, value string) {
		for i := range m.Headers {
			if m.Headers[i].Key == name {
				m.Headers[i].Value = []byte(value)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil   func(*Message)
		foreign bool
		says    string
	}{
		"no headers":           {func(m *Message) { m.Headers = nil }, true, ""},
		"a marker":             {func(m *Message) { *m = Message{Record: Record{Key: []byte{0, 0, 0, 1}, Value: make([]byte, 6)}} }, true, ""},
		"another's type":       {func(m *Message) { set(m, HeaderType, "com.example.order") }, true, ""},
		"a type of the future": {func(m *Message) { set(m, HeaderType, "qunfa.mass.finished.v9") }, false, "v9"},
		"a bad id":             {func(m *Message) { set(m, HeaderID, "xyz") }, false, "ce_id"},
		"another spec":         {func(m *Message) { set(m, HeaderSpecVersion, "2.0") }, false, "ce_specversion"},
		"no JSON":              {func(m *Message) { m.Value = []byte("{") }, false, "unexpected end"},
		"an empty value":       {func(m *Message) { m.Value = nil }, false, "unexpected end"},
		"another key":          {func(m *Message) { m.Key = []byte("wx9") }, false, "wx9"},
		"no appid":             {func(m *Message) { m.Value = []byte(`{"msg_id":1}`) }, false, "appid is missing"},
		"a msg_id of zero":     {func(m *Message) { m.Value = []byte(`{"appid":"wx0123456789abcdef","create_time":1772366405}`) }, false, "msg_id 0"},
		"a time of 1970":       {func(m *Message) { m.Value = []byte(`{"appid":"wx0123456789abcdef","msg_id":1}`) }, false, "1970"},
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			c.spoil(&m)
			_, err := Decode(m)
			if err == nil {
				t.Fatal("it was taken")
			}
			if errors.Is(err, ErrForeign) != c.foreign || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q: want foreign %v and %q in it", err, c.foreign, c.says)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	for raw, want := range map[string]struct {
		kind string
		code *int64
	}{
		"send success":         {StatusSent, nil},
		"sendsuccess":          {StatusSent, nil},
		" Send Success ":       {StatusSent, nil},
		"send fail":            {StatusFailed, nil},
		"sendfail":             {StatusFailed, nil},
		"err(10001)":           {StatusRejected, num(10001)},
		"err(20431)":           {StatusRejected, num(20431)},
		"err\uff0830003\uff09": {StatusRejected, num(30003)},
		"err(7)":               {StatusRejected, num(7)},
		"err()":                {StatusUnknown, nil},
		"err(1234567890123)":   {StatusUnknown, nil},
		"err(10001) x":         {StatusUnknown, nil},
		"":                     {StatusUnknown, nil},
		"send paused":          {StatusUnknown, nil},
	} {
		kind, code := ParseStatus(raw)
		if kind != want.kind || !cmp.Equal(code, want.code) {
			t.Errorf("ParseStatus(%q) = %s, %v; want %s, %v", raw, kind, code, want.kind, want.code)
		}
	}
}

// FuzzDecode: any bytes give an event or an error, never a panic; what decodes
// encodes again to an event with the same id, key and time, and can be folded.
func FuzzDecode(f *testing.F) {
	for _, e := range samples(f) {
		r, err := Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(e.Type), e.ID.String(), r.Key, r.Value)
	}
	f.Fuzz(func(t *testing.T, typ, id string, key, value []byte) {
		e, err := Decode(Message{Record: Record{Key: key, Value: value, Headers: []Header{
			{HeaderSpecVersion, []byte("1.0")}, {HeaderType, []byte(typ)}, {HeaderID, []byte(id)},
		}}})
		if err != nil {
			return
		}
		row, _ := Fold([]Event{e}, time.UTC)
		if row.Version != 1 || row.Key != e.Key {
			t.Fatalf("folded to version %d of %s", row.Version, row.Key)
		}
		r, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(Message{Record: r})
		if err != nil {
			t.Fatal(err)
		}
		if again.ID != e.ID || again.Key != e.Key || !again.Time.Equal(e.Time) {
			t.Fatalf("came back as %v %v %v, was %v %v %v", again.ID, again.Key, again.Time, e.ID, e.Key, e.Time)
		}
	})
}
