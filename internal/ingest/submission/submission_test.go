package submission

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"qunfa/internal/events"
)

var testNow = time.Date(2024, 6, 1, 12, 0, 0, 0, time.UTC)

func testOptions() Options {
	return Options{Source: "qunfa/test", Recorder: "api", Now: testNow}
}

func collect(t *testing.T, seq iter.Seq2[Item, error]) ([]Item, error) {
	t.Helper()
	var items []Item
	for it, err := range seq {
		if err != nil {
			return items, err
		}
		items = append(items, it)
	}
	return items, nil
}

// one parses a single JSON record.
func one(t *testing.T, o Options, text string) Item {
	t.Helper()
	items, err := collect(t, ParseJSON(strings.NewReader(text), o))
	if err != nil || len(items) != 1 {
		t.Fatalf("parse %s: %d items, error %v", text, len(items), err)
	}
	return items[0]
}

func submittedOf(t *testing.T, it Item) events.Submitted {
	t.Helper()
	if it.Err != nil {
		t.Fatalf("record %d: %v", it.Index, it.Err)
	}
	return *it.Event.Data.(*events.Submitted)
}

func TestEveryField(t *testing.T) {
	it := one(t, testOptions(), `{"appid":"wx1","msg_id":3147483650,"msg_data_id":"206227730",
		"submitted_at":"2024-06-01T19:00:00+08:00","audience":{"kind":"tag","tag_id":"7","size":1200},
		"msg_type":"mpnews","label":"六一","campaign":"c-1","clientmsgid":"x_1","recorder":"crm","chase":false}`)
	want := events.Submitted{
		AppID: "wx1", MsgID: 3147483650, MsgDataID: new(int64(206227730)),
		SubmittedAt: time.Date(2024, 6, 1, 11, 0, 0, 0, time.UTC), Recorder: "crm", Chase: false,
		Audience: events.Audience{Kind: "tag", TagID: new(int64(7)), Size: new(int64(1200))},
		MsgType:  "mpnews", Label: "六一", Campaign: "c-1", ClientMsgID: "x_1",
	}
	if diff := cmp.Diff(submittedOf(t, it), want); diff != "" {
		t.Errorf("(-got, +want)\n%s", diff)
	}
	if !it.Event.ReceivedAt.Equal(testNow) || it.Event.Source != "qunfa/test" {
		t.Errorf("received at %s from %q", it.Event.ReceivedAt, it.Event.Source)
	}
}

func TestDefaults(t *testing.T) {
	want := events.Submitted{AppID: "wx1", MsgID: 5, SubmittedAt: testNow, Recorder: "api", Chase: true}
	for _, text := range []string{
		`{"appid":"wx1","msg_id":5}`,
		`{"appid":"wx1","msg_id":"5","label":"","tag_id":null,"submitted_at":null,"audience":null}`,
	} {
		if diff := cmp.Diff(submittedOf(t, one(t, testOptions(), text)), want); diff != "" {
			t.Errorf("%s: (-got, +want)\n%s", text, diff)
		}
	}
}

// Recorded again tomorrow, with another "now", it is the same submission.
func TestDefaultsAreNotPartOfTheIdentity(t *testing.T) {
	today := one(t, testOptions(), `{"appid":"wx1","msg_id":5}`)
	later := testOptions()
	later.Now, later.NoChase = testNow.Add(24*time.Hour), true
	if got := one(t, later, `{"appid":"wx1","msg_id":5}`); got.Event.ID != today.Event.ID {
		t.Errorf("id %s became %s", today.Event.ID, got.Event.ID)
	}
	if got := one(t, later, `{"appid":"wx1","msg_id":5,"submitted_at":1717243200}`); got.Event.ID == today.Event.ID {
		t.Error("a time that was given is not part of the id")
	}
}

func TestSameRecordSameIDInEveryFormat(t *testing.T) {
	inputs := map[Format]string{
		JSON:  `[{"appid":"wx1","msg_id":7,"submitted_at":1717200000,"audience":{"kind":"tag","tag_id":2},"campaign":"20240601"}]`,
		Lines: `{"campaign":20240601,"msg_id":"7","appid":"wx1","audience":"tag","tag_id":"2","submitted_at":"2024-06-01T00:00:00Z"}` + "\n",
		CSV:   "\xef\xbb\xbfappid,msg_id,tag_id,campaign,submitted_at,label\r\nwx1,7,2,20240601,2024-06-01T08:00:00+08:00,\r\n",
	}
	ids := map[events.ID]bool{}
	for format, text := range inputs {
		for _, asked := range []Format{format, Auto} {
			items, err := collect(t, Parse(asked, strings.NewReader(text), testOptions()))
			if err != nil || len(items) != 1 || items[0].Err != nil {
				t.Fatalf("%s as %s: %v, %v", format, asked, items, err)
			}
			ids[items[0].Event.ID] = true
		}
	}
	if len(ids) != 1 {
		t.Errorf("%d ids for one record", len(ids))
	}
}

func TestRefusedRecords(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                                                    "appid is missing",
		`{"appid":"wx1"}`:                                                       "msg_id is missing",
		`{"msg_id":1}`:                                                          "appid is missing",
		`{"appid":"wx 1","msg_id":1}`:                                           "appid",
		`{"appid":"wx1","msg_id":0}`:                                            "positive",
		`{"appid":"wx1","msg_id":-4}`:                                           "positive",
		`{"appid":"wx1","msg_id":1.5}`:                                          "not a whole number",
		`{"appid":"wx1","msg_id":"3.14E+09"}`:                                   "spreadsheet",
		`{"appid":"wx1","msg_id":"x"}`:                                          "not a number",
		`{"appid":"wx1","msg_id":true}`:                                         "not a number",
		`{"appid":"wx1","msg_id":"NaN"}`:                                        "not a number",
		`{"appid":"wx1","msg_id":[1]}`:                                          "single value",
		`{"appid":"wx1","msg_id":99999999999999999999}`:                         "out of range",
		`{"appid":"wx1","msgid":1}`:                                             `did you mean "msg_id"?`,
		`{"appid":"wx1","MsgID":1}`:                                             `did you mean "msg_id"?`,
		`{"appid":"wx1","msg_id":1,"campain":"x"}`:                              `did you mean "campaign"?`,
		`{"appid":"wx1","msg_id":1,"zzzzzzzz":"x"}`:                             "known are appid",
		`{"appid":"wx1","msg_id":1,"msg_id":2}`:                                 "given twice",
		`{"appid":"wx1","msg_id":1,"tag_id":3,"audience":{"tag_id":3}}`:         "given twice",
		`{"appid":"wx1","msg_id":1,"audience":{"knd":"all"}}`:                   `did you mean "kind"?`,
		`{"appid":"wx1","msg_id":1,"audience":{"kind":{"a":1}}}`:                "single value",
		`{"appid":"wx1","msg_id":1,"audience":"everyone"}`:                      "want all, tag, openids",
		`{"appid":"wx1","msg_id":1,"audience":"all","tag_id":3}`:                "tag_id is given",
		`{"appid":"wx1","msg_id":1,"audience_size":-1}`:                         "0 or more",
		`{"appid":"wx1","msg_id":1,"chase":"maybe"}`:                            "true or false",
		`{"appid":"wx1","msg_id":1,"label":"a\nb"}`:                             "control character",
		`{"appid":"wx1","msg_id":1,"label":"` + strings.Repeat("x", 513) + `"}`: "513 bytes",
		`{"appid":"wx1","msg_id":1,"submitted_at":"yesterday"}`:                 "want a time like",
		`{"appid":"wx1","msg_id":1,"submitted_at":"2024-06-01 12:00:00"}`:       "no time zone",
		`{"appid":"wx1","msg_id":1,"submitted_at":1717200000000}`:               "milliseconds",
		`{"appid":"wx1","msg_id":1,"submitted_at":12}`:                          "Unix seconds between",
		`{"appid":"wx1","msg_id":1,"submitted_at":"2024-06-03T00:00:00Z"}`:      "future",
		`{"appid":"wx1","msg_id":1,"submitted_at":"1999-01-01T00:00:00Z"}`:      "want one between",
		"{\"appid\":\"wx1\",\"msg_id\":1,\"label\":\"\xff\"}":                   "UTF-8",
	} {
		it := one(t, testOptions(), text)
		if it.Err == nil || !strings.Contains(it.Err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, it.Err, want)
		}
	}
}

func TestErrorsNameTheMessage(t *testing.T) {
	it := one(t, testOptions(), `{"bad":1,"msg_id":5,"appid":"wx1"}`)
	if want := (events.Key{AppID: "wx1", MsgID: 5}); it.Err == nil || it.Key != want {
		t.Errorf("key %v, error %v", it.Key, it.Err)
	}
}

func TestTimeZoneOfTheOptions(t *testing.T) {
	o := testOptions()
	o.Location = time.FixedZone("CST", 8*3600)
	for _, text := range []string{"2024-06-01 08:00:00", "2024-06-01T08:00:00", "2024/6/1 8:00", "2024-06-01 08:00"} {
		d := submittedOf(t, one(t, o, fmt.Sprintf(`{"appid":"wx1","msg_id":1,"submitted_at":%q}`, text)))
		if want := time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC); !d.SubmittedAt.Equal(want) {
			t.Errorf("%s read as %s", text, d.SubmittedAt)
		}
	}
}

func TestUnknownAccount(t *testing.T) {
	o := testOptions()
	o.Known = func(appid string) error {
		if appid != "wx1" {
			return errors.New("no such account")
		}
		return nil
	}
	if it := one(t, o, `{"appid":"wx1","msg_id":1}`); it.Err != nil {
		t.Error(it.Err)
	}
	if it := one(t, o, `{"appid":"wx2","msg_id":1}`); it.Err == nil {
		t.Error("taken")
	}
}

func TestDefaultAccount(t *testing.T) {
	o := testOptions()
	o.AppID = "wx9"
	if it := one(t, o, `{"msg_id":1}`); it.Err != nil || it.Key.AppID != "wx9" || it.Event.Key.AppID != "wx9" {
		t.Errorf("%+v", it)
	}
}

// keys lists what came out, as text: the message, or the beginning of the error.
func keys(items []Item) []string {
	var out []string
	for _, it := range items {
		if it.Err != nil {
			out = append(out, fmt.Sprintf("%d:%d error", it.Index, it.Line))
			continue
		}
		out = append(out, fmt.Sprintf("%d:%d %s", it.Index, it.Line, it.Event.Key))
	}
	return out
}

func TestStreams(t *testing.T) {
	const a, b = `{"appid":"wx1","msg_id":1}`, `{"appid":"wx1","msg_id":2}`
	for name, c := range map[string]struct {
		format Format
		text   string
		want   []string
		err    string
	}{
		"nothing":              {Auto, "", nil, ""},
		"white space":          {Auto, " \n\t\n", nil, ""},
		"object":               {JSON, a, []string{"0:0 wx1/1"}, ""},
		"array":                {JSON, "[" + a + "," + b + "]", []string{"0:0 wx1/1", "1:0 wx1/2"}, ""},
		"empty array":          {JSON, "[]", nil, ""},
		"wrapped":              {JSON, `{"submissions":[` + a + `,{},` + b + `]}`, []string{"0:0 wx1/1", "1:0 error", "2:0 wx1/2"}, ""},
		"wrapped, and more":    {JSON, `{"submissions":[],"x":1}`, nil, "only member"},
		"wrapped, no array":    {JSON, `{"submissions":{}}`, nil, "must be an array"},
		"several values":       {JSON, a + b + "\n[" + a + "]", []string{"0:0 wx1/1", "1:0 wx1/2", "2:0 wx1/1"}, ""},
		"broken array":         {JSON, "[" + a, nil, "not JSON"},
		"array of other":       {JSON, `[1,"x",null,` + a + `]`, []string{"0:0 error", "1:0 error", "2:0 error", "3:0 wx1/1"}, ""},
		"scalar":               {JSON, `7`, nil, "want an object"},
		"lines":                {Lines, a + "\n\n" + "{oops\n" + b, []string{"0:1 wx1/1", "1:3 error", "2:4 wx1/2"}, ""},
		"lines, more on one":   {Lines, a + b, []string{"0:1 error"}, ""},
		"long line":            {Lines, a + "\n" + strings.Repeat("x", maxRecord+1), []string{"0:1 wx1/1"}, "line 2"},
		"detect lines":         {Auto, "\xef\xbb\xbf\n" + a + "\n{oops\n", []string{"0:2 wx1/1", "1:3 error"}, ""},
		"detect pretty":        {Auto, "{\n\"appid\":\"wx1\",\n\"msg_id\":1}", []string{"0:0 wx1/1"}, ""},
		"detect wrapped":       {Auto, `{"submissions":[` + a + `]}`, []string{"0:0 wx1/1"}, ""},
		"csv":                  {Auto, "msg_id,appid\n1,wx1\n 2 , wx1 \n", []string{"0:2 wx1/1", "1:3 wx1/2"}, ""},
		"csv, short row":       {CSV, "msg_id,appid\n1\n2,wx1\n", []string{"0:2 error", "1:3 wx1/2"}, ""},
		"csv, bad quote":       {CSV, "msg_id,appid\n1,a\"b\n2,wx1\n", []string{"0:2 error", "1:3 wx1/2"}, ""},
		"csv, no header":       {CSV, "", nil, "no header row"},
		"csv, unknown column":  {CSV, "msgid,appid\n", nil, `did you mean "msg_id"?`},
		"csv, column twice":    {CSV, "appid,appid\n", nil, "twice"},
		"csv, GBK":             {CSV, "\xc8\xba\xb7\xa2,appid\n", nil, "UTF-8"},
		"csv, GBK cell":        {CSV, "label,appid,msg_id\n\xd6\xd0,wx1,1\n", []string{"0:2 error"}, ""},
		"csv, quote left open": {CSV, "msg_id,appid\n1,\"" + strings.Repeat("x\n", 2*maxRecord), nil, "quote"},
		"unknown format":       {"xls", a, nil, "unknown format"},
	} {
		t.Run(name, func(t *testing.T) {
			items, err := collect(t, Parse(c.format, strings.NewReader(c.text), testOptions()))
			if diff := cmp.Diff(keys(items), c.want, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-got, +want)\n%s", diff)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestStopsWhenTheCallerStops(t *testing.T) {
	for format, text := range map[Format]string{
		JSON: `[{},{}]`, Lines: "{}\n{}\n", CSV: "appid\nx\ny\n",
	} {
		n := 0
		for range Parse(format, strings.NewReader(text), testOptions()) {
			n++
			break
		}
		if n != 1 {
			t.Errorf("%s: %d items", format, n)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"msgid": "msg_id", "clientMsgId": "clientmsgid", "app_id": "appid", "submited_at": "submitted_at",
		"tagid": "tag_id", "audience.size": "audience_size", "foo": "", "": "", strings.Repeat("m", 500): "",
	} {
		if got := nearest(name, Fields()); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// Whatever the bytes: no panic, no item both good and bad, indexes count up,
// a good item is an event that can be written and read back, and reading the
// same bytes again gives the same ids.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"appid":"wx1","msg_id":1}`, `[{"appid":"wx1","msg_id":"2","audience":{"kind":"tag","tag_id":3}}]`,
		`{"submissions":[{"appid":"wx1","msg_id":1,"chase":false}]}`, "{\"appid\":\"wx1\",\"msg_id\":1}\n{oops\n",
		"appid,msg_id,label\nwx1,1,\"a,b\"\n", "\xef\xbb\xbfappid,msg_id\r\nwx1,1\r\n", "[[1]]", "\"", "appid\n\"",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range []Format{Auto, JSON, Lines, CSV} {
			first, _ := collect(t, Parse(format, strings.NewReader(text), testOptions()))
			again, _ := collect(t, Parse(format, strings.NewReader(text), testOptions()))
			if len(first) != len(again) {
				t.Fatalf("%d items, then %d", len(first), len(again))
			}
			for i, it := range first {
				if it.Index != i || it.Event.ID != again[i].Event.ID {
					t.Fatalf("item %d: %+v, then %+v", i, it, again[i])
				}
				checkItem(t, it)
			}
		}
	})
}

func checkItem(t *testing.T, it Item) {
	t.Helper()
	if it.Err != nil {
		if it.Event.Data != nil && it.Err.Error() == "" {
			t.Fatal("an error without words")
		}
		return
	}
	rec, err := events.Encode(it.Event)
	if err != nil {
		t.Fatal(err)
	}
	back, err := events.Decode(events.Message{Record: rec})
	if err != nil || back.ID != it.Event.ID || back.Key != it.Key {
		t.Fatalf("read back %v, %v; want %v", back, err, it.Event)
	}
}
