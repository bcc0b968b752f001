package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/events"
)

// call posts to the record API.
func (b *bench) call(contentType, body string) (int, Reply) {
	b.t.Helper()
	r := b.callWith("Bearer "+apiToken, contentType, body)
	var out Reply
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		b.t.Fatalf("answer %d %q: %v", r.status, r.body, err)
	}
	return r.status, out
}

func (b *bench) callWith(authorization, contentType, body string) response {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+b.server.InternalAddr().String()+"/v1/submissions", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	req.Header.Set("Content-Type", contentType)
	return b.do(req)
}

func record(appid string, msgID int) string {
	return fmt.Sprintf(`{"appid":%q,"msg_id":%d}`, appid, msgID)
}

func TestSubmission(t *testing.T) {
	b := start(t)
	body := `{"appid":"` + safeApp + `","msg_id":"3147483650","msg_data_id":206227730,"submitted_at":"2024-06-01T20:00:00+08:00",
		"audience":{"kind":"openids","size":10000},"msg_type":"mpnews","label":"六一 <活动>","campaign":"c","clientmsgid":"x","recorder":"crm","chase":false}`
	status, got := b.call("application/json", body)
	all := b.events.decoded(t)
	if len(all) != 1 {
		t.Fatalf("%d events", len(all))
	}
	want := Reply{Accepted: 1, Results: []Result{{Status: itemAccepted, ID: all[0].ID.String(), AppID: safeApp, MsgID: 3147483650}}}
	if diff := cmp.Diff(got, want); diff != "" || status != 200 {
		t.Errorf("status %d (-got, +want)\n%s", status, diff)
	}
	wantData := &events.Submitted{AppID: safeApp, MsgID: 3147483650, MsgDataID: new(int64(206227730)),
		SubmittedAt: time.Date(2024, 6, 1, 12, 0, 0, 0, time.UTC), Audience: events.Audience{Kind: "openids", Size: new(int64(10000))},
		MsgType: "mpnews", Label: "六一 <活动>", Campaign: "c", ClientMsgID: "x", Recorder: "crm"}
	if diff := cmp.Diff(all[0].Data, events.Data(wantData)); diff != "" {
		t.Errorf("(-got, +want)\n%s", diff)
	}
	if all[0].Source != "qunfa/ingest" || time.Since(all[0].ReceivedAt).Abs() > time.Minute {
		t.Errorf("from %q at %s", all[0].Source, all[0].ReceivedAt)
	}
}

func TestSubmissionShapes(t *testing.T) {
	one, two := record(safeApp, 1), record(childApp, 2)
	for name, c := range map[string]struct {
		contentType, body string
		n                 int
	}{
		"object":       {"application/json", one, 1},
		"array":        {"application/json; charset=utf-8", "[" + one + "," + two + "]", 2},
		"wrapped":      {"", `{"submissions":[` + one + "," + two + "]}", 2},
		"curl's form":  {"application/x-www-form-urlencoded", one, 1},
		"lines":        {"application/x-ndjson", one + "\n" + two + "\n", 2},
		"csv":          {"text/csv", "appid,msg_id\n" + safeApp + ",1\n", 1},
		"empty list":   {"application/json", "[]", 0},
		"lines, as it": {"application/json", one + "\n" + two, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			status, got := b.call(c.contentType, c.body)
			if status != 200 || got.Accepted != c.n || len(got.Results) != c.n || len(b.events.all()) != c.n {
				t.Errorf("status %d, %+v", status, got)
			}
			b.wantCount("qunfa_submission_calls_total", map[string]string{"result": callOK}, 1)
			b.wantCount("qunfa_submissions_total", map[string]string{"result": itemAccepted}, float64(c.n))
		})
	}
}

// The same call again is the same submissions, whatever time it is.
func TestSubmissionIsIdempotent(t *testing.T) {
	now := time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
	var offset atomic.Int64
	b := start(t, func(_ *Config, d *Deps, _ *fixture) {
		d.Clock = func() time.Time { return now.Add(time.Duration(offset.Load())) }
	})
	_, first := b.call("", record(safeApp, 5))
	offset.Store(int64(48 * time.Hour))
	_, second := b.call("", record(safeApp, 5))
	if first.Results[0].ID != second.Results[0].ID || first.Results[0].ID == "" {
		t.Errorf("%+v, then %+v", first, second)
	}
}

func TestErrorsPerItem(t *testing.T) {
	b := start(t)
	status, got := b.call("", "["+record(safeApp, 1)+`,{"appid":"`+safeApp+`","msgid":2},`+record("wxstranger", 3)+`,7,`+record(plainApp, 4)+"]")
	if status != http.StatusMultiStatus || got.Accepted != 2 || got.Rejected != 3 || got.Error == "" {
		t.Errorf("status %d, %+v", status, got)
	}
	for i, want := range []string{"", `did you mean "msg_id"?`, "not in the configuration", "want an object", ""} {
		r := got.Results[i]
		if r.Index != i || !strings.Contains(r.Error, want) || (r.Status == itemAccepted) != (want == "") || (r.ID != "") != (want == "") {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if n := len(b.events.all()); n != 2 {
		t.Errorf("%d events", n)
	}
	b.wantCount("qunfa_submissions_total", map[string]string{"result": itemRejected}, 3)
	b.wantCount("qunfa_submission_calls_total", map[string]string{"result": callPartial}, 1)

	if status, _ = b.call("", `{}`); status != http.StatusUnprocessableEntity {
		t.Errorf("nothing usable: status %d", status)
	}
	b.wantCount("qunfa_submission_calls_total", map[string]string{"result": callRejected}, 1)
}

func TestUnknownAccountsCanBeAllowed(t *testing.T) {
	b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.API.AllowUnknown = true })
	if status, got := b.call("", record("wxstranger", 3)); status != 200 {
		t.Errorf("status %d, %+v", status, got)
	}
}

func TestCallsThatCannotBeRead(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(record(safeApp, 1)+",", 4), ",")
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		result            string
	}{
		"empty":         {"", " \n", 400, callBadRequest},
		"not JSON":      {"", "{oops", 400, callBadRequest},
		"half an array": {"", "[" + record(safeApp, 1), 400, callBadRequest},
		"no object":     {"", "7", 400, callBadRequest},
		"bad header":    {"text/csv", "x,y\n", 400, callBadRequest},
		"too many":      {"", "[" + many + "]", 413, callTooLarge},
		"too large":     {"", "[" + strings.Repeat(" ", 5000) + "]", 413, callTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.API.MaxItems, c.API.BodyLimit = 3, 4096 })
			status, got := b.call(c.contentType, c.body)
			if status != c.status || got.Error == "" || len(b.events.all()) != 0 {
				t.Errorf("status %d, %+v", status, got)
			}
			b.wantCount("qunfa_submission_calls_total", map[string]string{"result": c.result}, 1)
		})
	}
}

func TestLogDown(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		result string
	}{"down": {errors.New("dial tcp 10.1.2.3: refused"), callUnavailable}, "overload": {ErrOverloaded, callOverload}} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			b.events.set(c.err)
			r := b.callWith("Bearer "+apiToken, "", "["+record(safeApp, 1)+",{},"+record(safeApp, 2)+"]")
			var got Reply
			if err := json.Unmarshal([]byte(r.body), &got); err != nil {
				t.Fatal(err)
			}
			if r.status != 503 || got.Accepted != 0 || got.Unavailable != 2 || got.Rejected != 1 || r.header.Get("Retry-After") == "" {
				t.Errorf("status %d, %+v", r.status, got)
			}
			if strings.Contains(r.body, "10.1.2.3") {
				t.Errorf("the answer tells about our network: %s", r.body)
			}
			b.wantCount("qunfa_submission_calls_total", map[string]string{"result": c.result}, 1)
			b.wantCount("qunfa_submissions_total", map[string]string{"result": itemUnavailable}, 2)
			b.events.set(nil)
			if status, got := b.call("", "["+record(safeApp, 1)+","+record(safeApp, 2)+"]"); status != 200 || got.Accepted != 2 {
				t.Errorf("the same call later: status %d, %+v", status, got)
			}
		})
	}
}

// A log that fails half way: what it took is said to be accepted, and only that.
func TestLogFailsHalfWay(t *testing.T) {
	var n atomic.Int32
	b := start(t, func(c *Config, d *Deps, _ *fixture) {
		c.API.Concurrency = 1
		d.Publisher.(*fakeLog).hook = func(context.Context) error {
			if n.Add(1) > 2 {
				return errors.New("down")
			}
			return nil
		}
	})
	var records []string
	for i := range 5 {
		records = append(records, record(safeApp, i+1))
	}
	status, got := b.call("", "["+strings.Join(records, ",")+"]")
	if status != 503 || got.Accepted != 2 || got.Unavailable != 3 || len(b.events.all()) != 2 {
		t.Errorf("status %d, %+v", status, got)
	}
	if n.Load() != 3 {
		t.Errorf("the log was tried %d times: want no more after it failed", n.Load())
	}
}

func TestRecordTooLargeForTheLogIsRejected(t *testing.T) {
	b := start(t)
	b.events.set(ErrTooLarge)
	if status, got := b.call("", record(safeApp, 1)); status != 422 || got.Rejected != 1 {
		t.Errorf("status %d, %+v", status, got)
	}
}

func TestAThousandRecordsShareTheLogsCommits(t *testing.T) {
	var at, most atomic.Int32
	b := start(t, func(_ *Config, d *Deps, _ *fixture) {
		d.Publisher.(*fakeLog).hook = func(context.Context) error {
			now := at.Add(1)
			for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
			}
			<-time.After(time.Millisecond) // a commit takes its time
			at.Add(-1)
			return nil
		}
	})
	records := make([]string, 1000)
	for i := range records {
		records[i] = record(safeApp, i+1)
	}
	status, got := b.call("", "["+strings.Join(records, ",")+"]")
	if status != 200 || got.Accepted != 1000 {
		t.Errorf("status %d, accepted %d", status, got.Accepted)
	}
	if most.Load() < 2 || most.Load() > 64 {
		t.Errorf("%d at once, want 2 to 64", most.Load())
	}
}

func TestBearerToken(t *testing.T) {
	b := start(t)
	refused := 0
	for _, c := range []struct {
		header string
		status int
	}{
		{"Bearer " + apiToken, 200}, {"bearer " + apiTokenBefore, 200}, {"Bearer  " + apiToken, 200},
		{"", 401}, {"Bearer", 401}, {"Bearer ", 401}, {"Basic " + apiToken, 401}, {apiToken, 401},
		{"Bearer " + apiToken + "x", 401}, {"Bearer " + apiToken[1:], 401}, {"Bearer " + strings.ToUpper(apiToken), 401},
	} {
		r := b.callWith(c.header, "", record(safeApp, 1))
		if r.status != c.status || (r.status == 401) != (r.header.Get("WWW-Authenticate") != "") {
			t.Errorf("%q: status %d", c.header, r.status)
		}
		if c.status == 401 {
			refused++
		}
	}
	b.wantCount("qunfa_submission_calls_total", map[string]string{"result": callUnauthorized}, float64(refused))

	// Without a token not even paths can be told apart.
	req, _ := http.NewRequest(http.MethodGet, "http://"+b.server.InternalAddr().String()+"/nothing", nil)
	if r := b.do(req); r.status != 401 {
		t.Errorf("unknown path: status %d", r.status)
	}
}

func TestAPIOverload(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	b := start(t, func(c *Config, d *Deps, _ *fixture) {
		c.API.MaxInFlight = 1
		d.Publisher.(*fakeLog).hook = func(context.Context) error { close(entered); <-release; return nil }
	})
	first := make(chan response, 1)
	go func() { first <- b.callWith("Bearer "+apiToken, "", record(safeApp, 1)) }()
	<-entered
	if status, got := b.call("", record(safeApp, 2)); status != 503 || got.Error == "" {
		t.Errorf("status %d, %+v", status, got)
	}
	close(release)
	if r := <-first; r.status != 200 {
		t.Errorf("the first: %d %s", r.status, r.body)
	}
}

func TestNewBearer(t *testing.T) {
	for _, tokens := range [][]string{nil, {""}, {"short"}, {apiToken, "with space 0123456789"}} {
		_, err := newBearer(tokens)
		if err == nil {
			t.Errorf("%q taken", tokens)
			continue
		}
		for _, secret := range tokens {
			if secret != "" && strings.Contains(err.Error(), secret) {
				t.Errorf("error %q holds the token", err)
			}
		}
	}
}
