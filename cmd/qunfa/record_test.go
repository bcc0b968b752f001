package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qunfa/internal/events"
	"qunfa/internal/ingest/submission"
)

// fakeAPI is the record API as its documentation says.
type fakeAPI struct {
	mu       sync.Mutex
	calls    [][]map[string]any // the records of each call that was taken
	failures int                // how many calls to answer with 503 before
	partly   bool               // then take the first half of each call
	token    string
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+a.token {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"a valid bearer token is needed","results":[]}`)
		return
	}
	var body struct{ Submissions []map[string]any }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/submissions" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	take, status := len(body.Submissions), http.StatusOK
	if a.failures > 0 {
		a.failures--
		take, status = 0, http.StatusServiceUnavailable
		if a.partly {
			take = len(body.Submissions) / 2
		}
	}
	reply := apiReply{Results: []apiResult{}}
	for i, s := range body.Submissions {
		switch {
		case i >= take:
			reply.Results = append(reply.Results, apiResult{i, itemUnavailable, "repeat the call"})
		case s["appid"] == "wxunknown":
			reply.Results = append(reply.Results, apiResult{i, "rejected", "account is not in the configuration"})
		default:
			reply.Results = append(reply.Results, apiResult{i, itemAccepted, ""})
		}
	}
	if status == http.StatusServiceUnavailable && !a.partly {
		reply = apiReply{Error: "too many calls at once", Results: []apiResult{}}
	}
	a.calls = append(a.calls, body.Submissions[:take])
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(reply)
}

// taken counts the records of each call.
func (a *fakeAPI) taken() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	var n []int
	for _, c := range a.calls {
		n = append(n, len(c))
	}
	return n
}

// recordTo serves the API and returns the arguments that lead there.
func recordTo(t *testing.T, api *fakeAPI) []string {
	t.Helper()
	api.token = "0123456789abcdef0123"
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	return []string{"record", "--config", writeFile(t, "qunfa.yaml", testConfig), "--api", srv.URL}
}

func csvOf(n int) string {
	var b strings.Builder
	b.WriteString("appid,msg_id,label\n")
	for i := range n {
		fmt.Fprintf(&b, "wxsafe,%d,标签\n", i+1)
	}
	return b.String()
}

func TestRecordInChunks(t *testing.T) {
	api := &fakeAPI{}
	args := recordTo(t, api)
	got := runWith(t, "", append(args, writeFile(t, "sent.csv", csvOf(2500)))...)
	if got.code != 0 || got.stdout != "2500 recorded, 0 rejected\n" {
		t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if d := cmp.Diff([]int{1000, 1000, 500}, api.taken()); d != "" {
		t.Errorf("records per call (-want, +got):\n%s", d)
	}
}

func TestRecordRepeats(t *testing.T) {
	for name, api := range map[string]*fakeAPI{"overloaded": {failures: 1}, "log away": {failures: 1, partly: true}} {
		t.Run(name, func(t *testing.T) {
			args := recordTo(t, api)
			got := runWith(t, csvOf(10), append(args, "-")...)
			if got.code != 0 || got.stdout != "10 recorded, 0 rejected\n" {
				t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
			}
			want := []int{0, 10}
			if api.partly {
				want = []int{5, 5} // what was taken is not sent again
			}
			if d := cmp.Diff(want, api.taken()); d != "" {
				t.Errorf("records per call (-want, +got):\n%s", d)
			}
		})
	}
	api := &fakeAPI{failures: 1 << 30}
	got := runWith(t, csvOf(3), append(recordTo(t, api), "-", "--retry-for", "1ns")...)
	if got.code != 1 || !strings.Contains(got.stderr, "not available") || !strings.Contains(got.stdout, "0 recorded") {
		t.Errorf("for ever away: code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func TestRecordErrorsHaveLines(t *testing.T) {
	api := &fakeAPI{}
	args := recordTo(t, api)
	file := writeFile(t, "sent.csv", "appid,msg_id\nwxsafe,1\nwxunknown,2\n\nwxsafe,three\nwxsafe,4\n")
	got := runWith(t, "", append(args, file)...)
	if got.code != 1 || got.stdout != "2 recorded, 2 rejected\n" {
		t.Errorf("code %d\n%s", got.code, got.stdout)
	}
	for _, want := range []string{file + ":3: wxunknown/2: account is not in the configuration", file + `:5: msg_id: "three" is not a number`} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("no %q in\n%s", want, got.stderr)
		}
	}
	got = runWith(t, `{"appid":"wxsafe","msg_id":1,"labl":"x"}`+"\n", append(args, "-", "--format", "json")...)
	var total tally
	if err := json.Unmarshal([]byte(got.stdout), &total); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(tally{Rejected: 1, Errors: []itemError{{"standard input", 1, 0, "wxsafe", 1, `unknown field "labl": did you mean "label"?`}}}, total); d != "" {
		t.Errorf("(-want, +got):\n%s", d)
	}
	got = runWith(t, `{"appid":"wxsafe","msg_id":1} {"appid":`, append(args, "-", "--input", "json")...)
	if got.code != 1 || !strings.Contains(got.stdout, "1 recorded") || !strings.Contains(got.stderr, "standard input: record 1: not JSON") {
		t.Errorf("half a file: code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func TestRecordOneByFlags(t *testing.T) {
	api := &fakeAPI{}
	args := recordTo(t, api)
	got := runWith(t, "", append(args, "--appid", "wxsafe", "--msg-id", "3147483661", "--label", "周一", "--audience", "tag", "--tag-id", "7", "--history")...)
	if got.code != 0 {
		t.Fatal(got.stderr)
	}
	want := map[string]any{"appid": "wxsafe", "msg_id": 3147483661.0, "label": "周一", "audience": "tag", "tag_id": 7.0, "chase": false}
	if d := cmp.Diff(want, api.calls[0][0]); d != "" {
		t.Errorf("(-want, +got):\n%s", d)
	}
}

func TestRecordDryRun(t *testing.T) {
	t.Chdir(t.TempDir()) // nothing runs here, and nothing is needed
	got := runWith(t, csvOf(3), "record", "--dry-run", "-")
	if got.code != 0 || got.stdout != "3 would be recorded (--dry-run), 0 rejected\n" {
		t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func TestRecordRefusals(t *testing.T) {
	args := recordTo(t, &fakeAPI{})
	other := writeFile(t, "other.yaml", strings.Replace(testConfig, "0123456789abcdef0123", "another-token-of-20", 1))
	got := runWith(t, csvOf(1), "record", "--config", other, "--api", args[len(args)-1], "-")
	if got.code != 1 || !strings.Contains(got.stderr, "the token was refused") || strings.Contains(got.stderr, "another-token") {
		t.Errorf("code %d: %s", got.code, got.stderr)
	}
	srv := httptest.NewServer(nil)
	srv.Close() // nothing listens there now
	got = runWith(t, csvOf(1), append(args[:3:3], "--api", srv.URL, "-")...)
	if got.code != 1 || !strings.Contains(got.stderr, "nothing listens at") {
		t.Errorf("code %d: %s", got.code, got.stderr)
	}
}

// Records that come one by one through a pipe are sent one by one.
func TestRecordPipe(t *testing.T) {
	api := &fakeAPI{}
	args := recordTo(t, api)
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), append(args, "-", "--input", "jsonl"), r, io.Discard, io.Discard)
	}()
	for i := range 3 {
		fmt.Fprintf(w, `{"appid":"wxsafe","msg_id":%d}`+"\n", i+1)
		for deadline := time.Now().Add(10 * time.Second); len(api.taken()) <= i; {
			if time.Now().After(deadline) {
				t.Fatal("a record waits for the next one")
			}
			<-time.After(time.Millisecond) // between two looks
		}
	}
	w.Close()
	if code := <-done; code != 0 {
		t.Errorf("code %d", code)
	}
	if d := cmp.Diff([]int{1, 1, 1}, api.taken()); d != "" {
		t.Errorf("records per call (-want, +got):\n%s", d)
	}
}

// The same record has the same event id whether it is posted to the API as it
// is or goes through the command, whatever fields it has.
func TestRecordKeepsIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		record := map[string]any{"appid": "wxsafe", "msg_id": rapid.Int64Range(1, 1<<40).Draw(t, "msg_id")}
		optional := map[string]*rapid.Generator[any]{
			"msg_data_id":   rapid.Int64Range(0, 1<<40).AsAny(),
			"submitted_at":  rapid.SampledFrom([]any{"2026-03-01T08:00:00+08:00", "2026-03-01T00:00:00.5Z", 1772323200}),
			"audience":      rapid.SampledFrom([]any{"all", "tag", "openids"}),
			"audience_size": rapid.Int64Range(0, 1<<30).AsAny(),
			"msg_type":      rapid.SampledFrom([]any{"mpnews", "text"}),
			"label":         rapid.SampledFrom([]any{"标签", "a \"quoted\" <b>"}),
			"campaign":      rapid.Just[any]("c"), "clientmsgid": rapid.Just[any]("k"), "recorder": rapid.Just[any]("crm"),
			"chase": rapid.SampledFrom([]any{true, false}),
		}
		for _, name := range slices.Sorted(mapKeys(optional)) {
			if rapid.Bool().Draw(t, "has "+name) {
				record[name] = optional[name].Draw(t, name)
			}
		}
		raw, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		direct := asAPI(t, raw)
		client := one(t, raw, submission.Options{Source: "qunfa/record", Now: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
		wire, err := wireRecord(client)
		if err != nil {
			t.Fatal(err)
		}
		if through := asAPI(t, wire); through.ID != direct.ID {
			t.Fatalf("%s\nbecame %s", raw, wire)
		}
	})
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// asAPI reads a record as the record API does, later.
func asAPI(t *rapid.T, raw []byte) events.Event {
	return one(t, raw, submission.Options{Source: "qunfa/ingest", Recorder: "api", Now: time.Date(2027, 1, 1, 0, 0, 9, 0, time.UTC)})
}

func one(t *rapid.T, raw []byte, o submission.Options) events.Event {
	for it, err := range submission.Parse(submission.JSON, strings.NewReader(string(raw)), o) {
		if err != nil || it.Err != nil {
			t.Fatalf("%s: %v %v", raw, err, it.Err)
		}
		return it.Event
	}
	t.Fatalf("%s: no record", raw)
	return events.Event{}
}
