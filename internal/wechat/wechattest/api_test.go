package wechattest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 4, 12, 0, 0, 0, beijing)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// caller calls the API of a simulator for one account, in WeChat's own time.
type caller struct {
	t       *testing.T
	s       *Simulator
	clock   *clock
	account Account
	token   string
}

func newCaller(t *testing.T, cfg Config) *caller {
	t.Helper()
	c := &caller{t: t, clock: newClock()}
	cfg.Clock = c.clock.Now
	cfg.Scale = 1
	if cfg.Accounts == nil {
		cfg.Accounts = []Account{{Fans: 1000}}
	}
	c.s = start(t, cfg)
	c.account = c.s.Accounts()[0]
	token, err := c.s.Token(c.account.AppID)
	if err != nil {
		t.Fatal(err)
	}
	c.token = token
	return c
}

// call returns the answer with the rid cut out of errmsg, which every error must have.
func (c *caller) call(method, path, body string) map[string]any {
	c.t.Helper()
	request, err := http.NewRequest(method, c.s.URL()+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	raw, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: HTTP %d, %v", method, path, response.StatusCode, err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var answer map[string]any
	if err := d.Decode(&answer); err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, path, err, raw)
	}
	if code, ok := answer["errcode"].(json.Number); ok && code != "0" {
		message, _, found := strings.Cut(answer["errmsg"].(string), " rid: ")
		if !found {
			c.t.Errorf("%s: no rid in %q", path, answer["errmsg"])
		}
		answer["errmsg"] = message
	}
	return answer
}

func (c *caller) post(path, body string) map[string]any {
	c.t.Helper()
	return c.call(http.MethodPost, path+"?access_token="+c.token, body)
}

// code is the errcode of an answer, 0 if it has none.
func code(answer map[string]any) string {
	if n, ok := answer["errcode"].(json.Number); ok {
		return n.String()
	}
	return "0"
}

func (c *caller) wantCode(want string, answer map[string]any) {
	c.t.Helper()
	if code(answer) != want {
		c.t.Errorf("answer %v, want errcode %s", answer, want)
	}
}

func num(s string) json.Number { return json.Number(s) }

const (
	toAll  = `{"filter":{"is_to_all":true},"mpnews":{"media_id":"x"},"msgtype":"mpnews"`
	toTag  = `{"filter":{"is_to_all":false,"tag_id":2},"text":{"content":"x"},"msgtype":"text"`
	toList = `{"touser":["o1","o2","o3"],"mpnews":{"media_id":"x"},"msgtype":"mpnews"`
)

func TestSendAnswers(t *testing.T) {
	c := newCaller(t, Config{})
	for _, v := range []struct {
		name, path, body string
		want             map[string]any
	}{
		{"to all", pathSendAll, toAll + `}`, map[string]any{
			"errcode": num("0"), "errmsg": "send job submission success", "msg_id": num("1000000001"), "msg_data_id": num("2247483649")}},
		{"same content within 24 h", pathSendAll, toAll + `}`, map[string]any{
			"errcode": num("45065"), "errmsg": "clientmsgid exist", "msg_id": num("1000000001")}},
		{"to a tag", pathSendAll, toTag + `,"clientmsgid":"a"}`, map[string]any{
			"errcode": num("0"), "errmsg": "send job submission success", "msg_id": num("3147483649"), "msg_data_id": num("2247483650")}},
		{"same clientmsgid", pathSendAll, toTag + `,"clientmsgid":"a","x":1}`, map[string]any{
			"errcode": num("45065"), "errmsg": "clientmsgid exist", "msg_id": num("3147483649")}},
		{"to a list", pathSend, toList + `}`, map[string]any{
			"errcode": num("0"), "errmsg": "send job submission success", "msg_id": num("3147483650"), "msg_data_id": num("2247483651")}},
		{"one openid", pathSend, `{"touser":["o1"],"msgtype":"text"}`, map[string]any{
			"errcode": num("40130"), "errmsg": "invalid openid list size, at least two openid"}},
		{"unknown tag", pathSendAll, `{"filter":{"tag_id":77},"msgtype":"text"}`, map[string]any{
			"errcode": num("40152"), "errmsg": "invalid tagid"}},
		{"message type", pathSendAll, `{"filter":{"is_to_all":true},"msgtype":"news"}`, map[string]any{
			"errcode": num("40008"), "errmsg": "invalid message type"}},
		{"long clientmsgid", pathSendAll, toAll + `,"clientmsgid":"0123456789-0123456789-0123456789-0"}`, map[string]any{
			"errcode": num("45067"), "errmsg": "clientmsgid size out of limit"}},
		{"no JSON", pathSendAll, `msg`, map[string]any{"errcode": num("47001"), "errmsg": "data format error"}},
		{"preview", pathPreview, `{"towxname":"me","msgtype":"text"}`, map[string]any{
			"errcode": num("0"), "errmsg": "preview success", "msg_id": num("3147483651")}},
	} {
		if diff := cmp.Diff(v.want, c.post(v.path, v.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v.name, diff)
		}
	}
	c.wantCode("43002", c.call(http.MethodGet, pathSendAll+"?access_token="+c.token, ""))
	c.clock.advance(25 * time.Hour)
	c.token, _ = c.s.Token(c.account.AppID)
	c.wantCode("0", c.post(pathSendAll, toAll+`}`))
}

func TestPlannedRefusals(t *testing.T) {
	c := newCaller(t, Config{})
	arrange(t, c.s, c.account.AppID, Refused(42010), Refused(45066), Refused(45065), Success())
	c.wantCode("42010", c.post(pathSendAll, toTag+`}`))
	c.wantCode("45066", c.post(pathSendAll, toTag+`}`))
	// On a first call, too: the send goes out and the answer carries its id.
	want := map[string]any{"errcode": num("45065"), "errmsg": "clientmsgid exist", "msg_id": num("3147483649")}
	if diff := cmp.Diff(want, c.post(pathSendAll, toTag+`}`)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if got := len(c.s.Ledger().Entries); got != 1 {
		t.Errorf("%d messages, want 1", got)
	}
	if err := c.s.ArrangeFor(c.account.AppID, "special", Fail()); err != nil {
		t.Fatal(err)
	}
	c.post(pathSendAll, toTag+`,"clientmsgid":"usual"}`)
	c.post(pathSendAll, toTag+`,"clientmsgid":"special"}`)
	entries := c.s.Ledger().Entries
	if entries[1].Plan.Case != "success" || entries[2].Plan.Case != "send fail" {
		t.Errorf("plans %q and %q", entries[1].Plan.Case, entries[2].Plan.Case)
	}
}

func TestMassGetFollowsTheMessage(t *testing.T) {
	c := newCaller(t, Config{HideFor: 20 * time.Second, TokenLife: 24 * time.Hour})
	appid := c.account.AppID
	send := func(p Plan) string {
		arrange(t, c.s, appid, p)
		answer := c.post(pathSend, strings.Replace(toList, "o1", p.Case, 1)+`}`)
		c.wantCode("0", answer)
		return answer["msg_id"].(json.Number).String()
	}
	for _, v := range []struct {
		plan                Plan
		early, during, late string
	}{
		{Success(), "40059", "SENDING", "SEND_SUCCESS"},
		{Fail(), "40059", "SENDING", "SEND_FAIL"},
		{Rejected(20001), "40059", "SENDING", "SEND_FAIL"},
		{Admin(40002), "40059", "89504", "SEND_FAIL"},
		{DeletedAfterSuccess(), "40059", "SENDING", "DELETE"},
		{Success().Deleted(2 * time.Hour), "40059", "SENDING", "SEND_SUCCESS"},
		{Success().Lost("40059"), "40059", "40059", "40059"},
		{Success().Lost(PollSending), "40059", "SENDING", "SENDING"},
	} {
		id := send(v.plan)
		said := func() string {
			answer := c.post(pathGet, `{"msg_id":"`+id+`"}`)
			if status, ok := answer["msg_status"].(string); ok {
				if diff := cmp.Diff(map[string]any{"msg_id": num(id), "msg_status": status}, answer); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
				return status
			}
			return code(answer)
		}
		early := said()
		c.clock.advance(25 * time.Second)
		during := said()
		c.clock.advance(45 * time.Minute)
		late := said()
		if got, want := [3]string{early, during, late}, [3]string{v.early, v.during, v.late}; got != want {
			t.Errorf("%s: %v, want %v", v.plan.Case, got, want)
		}
	}
	c.wantCode("40059", c.post(pathGet, `{"msg_id":201053012}`))
}

func TestDelete(t *testing.T) {
	c := newCaller(t, Config{Limits: Limits{Delete: 3}})
	arrange(t, c.s, c.account.AppID, Plan{Status: StatusSuccess, Articles: 2}, Plan{Status: StatusSuccess})
	c.post(pathSendAll, toAll+`}`)
	c.post(pathSendAll, toTag+`}`)
	c.clock.advance(time.Minute)
	c.wantCode("0", c.post(pathDelete, `{"msg_id":1000000001,"article_idx":2}`))
	if got := c.post(pathGet, `{"msg_id":1000000001}`)["msg_status"]; got != "SEND_SUCCESS" {
		t.Errorf("status %v after the deletion of one article", got)
	}
	c.wantCode("0", c.post(pathDelete, `{"msg_id":1000000001}`))
	if got := c.post(pathGet, `{"msg_id":1000000001}`)["msg_status"]; got != "DELETE" {
		t.Errorf("status %v after deletion", got)
	}
	c.wantCode("40008", c.post(pathDelete, `{"msg_id":3147483649}`)) // text cannot be deleted
	c.wantCode("45009", c.post(pathDelete, `{"msg_id":1000000001}`))
}

func TestStableToken(t *testing.T) {
	c := newCaller(t, Config{})
	ask := func(change string) map[string]any {
		body := `{"grant_type":"client_credential","appid":"` + c.account.AppID + `","secret":"` + c.account.Secret + `"}`
		old, replacement, _ := strings.Cut(change, "=>")
		return c.call(http.MethodPost, pathStable, strings.Replace(body, old, replacement, 1))
	}
	c.wantCode("43002", c.call(http.MethodGet, pathStable, ""))
	c.wantCode("40125", ask(c.account.Secret+"=>wrong"))
	c.wantCode("40013", ask(c.account.AppID+"=>wx0"))
	c.wantCode("41002", ask(c.account.AppID+"=>"))
	c.wantCode("41004", ask(c.account.Secret+"=>"))
	c.wantCode("40002", ask("client_credential=>x"))

	first := ask("=>")
	if first["expires_in"] != num("7200") {
		t.Errorf("expires_in %v", first["expires_in"])
	}
	c.clock.advance(100 * time.Minute)
	again := ask("=>")
	if again["access_token"] != first["access_token"] || again["expires_in"] != num("1200") {
		t.Errorf("after 100 min %v, want the same token for 1200 s", again)
	}
	c.clock.advance(16 * time.Minute)
	next := ask("=>")
	if next["access_token"] == first["access_token"] || next["expires_in"] != num("7200") {
		t.Errorf("4 min before its end %v, want a new token", next)
	}

	force := `}=>,"force_refresh":true}`
	forced := ask(force)
	if forced["access_token"] == next["access_token"] {
		t.Error("force_refresh gave the same token")
	}
	c.token = next["access_token"].(string)
	c.wantCode("40001", c.post(pathGet, `{"msg_id":1}`))
	c.wantCode("45011", ask(force)) // 30 s apart
	for range 19 {
		c.clock.advance(31 * time.Second)
		c.wantCode("0", ask(force))
	}
	c.clock.advance(31 * time.Second)
	c.wantCode("45009", ask(force)) // 20 a day
}

func TestTokenErrors(t *testing.T) {
	c := newCaller(t, Config{})
	get := func() map[string]any { return c.post(pathGet, `{"msg_id":1}`) }
	c.wantCode("40059", get())
	c.s.ExpireTokens(c.account.AppID)
	c.wantCode("42001", get())
	c.s.RevokeTokens(c.account.AppID)
	c.wantCode("40001", get())
	c.token = "nonsense"
	c.wantCode("40014", get())
	c.token = ""
	c.wantCode("41001", get())

	query := "?grant_type=client_credential&appid=" + c.account.AppID + "&secret=" + c.account.Secret
	first := c.call(http.MethodGet, pathToken+query, "")
	second := c.call(http.MethodGet, pathToken+query, "")
	if first["access_token"] == second["access_token"] || first["expires_in"] != num("7200") {
		t.Errorf("tokens %v and %v", first, second)
	}
	c.token = first["access_token"].(string)
	c.wantCode("40059", get()) // outlives its successor for 5 minutes
	c.clock.advance(6 * time.Minute)
	c.wantCode("40001", get())

	c.s.DenyIP(c.account.AppID, true)
	denied := c.call(http.MethodGet, pathToken+query, "")
	c.wantCode("40164", denied)
	if !strings.Contains(denied["errmsg"].(string), "127.0.0.1") {
		t.Errorf("message %v does not name the caller", denied["errmsg"])
	}
	c.s.DenyIP(c.account.AppID, false)
	c.wantCode("0", c.call(http.MethodGet, pathToken+query, ""))
}

func TestQuotas(t *testing.T) {
	c := newCaller(t, Config{Limits: Limits{PerMinute: 5, GetPerDay: 7}})
	quota := func() any {
		return c.post(pathQuota, `{"cgi_path":"/cgi-bin/message/mass/get"}`)["quota"]
	}
	for range 5 {
		c.wantCode("40059", c.post(pathGet, `{"msg_id":1}`))
	}
	c.wantCode("45011", c.post(pathGet, `{"msg_id":1}`))
	if diff := cmp.Diff(map[string]any{"daily_limit": num("7"), "used": num("5"), "remain": num("2")}, quota()); diff != "" {
		t.Errorf("quota (-want +got):\n%s", diff)
	}
	c.clock.advance(time.Minute)
	c.wantCode("40059", c.post(pathGet, `{"msg_id":1}`))
	c.wantCode("40059", c.post(pathGet, `{"msg_id":1}`))
	c.wantCode("45009", c.post(pathGet, `{"msg_id":1}`))

	c.wantCode("40013", c.post(pathClear, `{"appid":"wx0"}`))
	c.wantCode("0", c.post(pathClear, `{"appid":"`+c.account.AppID+`"}`))
	c.wantCode("40059", c.post(pathGet, `{"msg_id":1}`))
	c.wantCode("76003", c.post(pathQuota, `{"cgi_path":"cgi-bin/message/mass/get"}`))

	c.clock.advance(12 * time.Hour) // midnight in Beijing
	c.token, _ = c.s.Token(c.account.AppID)
	if diff := cmp.Diff(map[string]any{"daily_limit": num("7"), "used": num("0"), "remain": num("7")}, quota()); diff != "" {
		t.Errorf("quota of the next day (-want +got):\n%s", diff)
	}
}

func TestSubscriptionAccount(t *testing.T) {
	c := newCaller(t, Config{Accounts: []Account{{Subscription: true}}})
	c.wantCode("48001", c.post(pathSend, toList+`}`))
	c.wantCode("0", c.post(pathSendAll, toAll+`}`))
	c.wantCode("45028", c.post(pathSendAll, toTag+`}`))
	c.clock.advance(13 * time.Hour)
	c.token, _ = c.s.Token(c.account.AppID)
	c.wantCode("0", c.post(pathSendAll, toTag+`}`))
}

func TestFaults(t *testing.T) {
	c := newCaller(t, Config{})
	for _, f := range []Fault{
		{Path: pathGet, ErrCode: -1, Times: 2}, {Path: pathGet, ErrCode: 48001, Times: 1}, {Path: pathStable, ErrCode: 40243},
	} {
		if err := c.s.Inject(c.account.AppID, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"-1", "-1", "48001", "40059"} {
		c.wantCode(want, c.post(pathGet, `{"msg_id":1}`))
	}
	stable := `{"grant_type":"client_credential","appid":"` + c.account.AppID + `","secret":"` + c.account.Secret + `"}`
	c.wantCode("40243", c.call(http.MethodPost, pathStable, stable))
	c.wantCode("40243", c.call(http.MethodPost, pathStable, stable))
	c.s.ClearFaults(c.account.AppID)
	c.wantCode("0", c.call(http.MethodPost, pathStable, stable))

	for _, broken := range []string{"502", "reset"} {
		if err := c.s.Inject(c.account.AppID, Fault{Broken: broken, Times: 1}); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.Post(c.s.URL()+pathGet+"?access_token="+c.token, "application/json", strings.NewReader(`{}`))
	if err != nil || response.StatusCode != http.StatusBadGateway {
		t.Fatalf("%v, error %v", response, err)
	}
	response.Body.Close()
	if _, err := http.Post(c.s.URL()+pathGet+"?access_token="+c.token, "application/json", strings.NewReader(`{}`)); err == nil {
		t.Error("an answer, want a broken connection")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestCallbackIPs(t *testing.T) {
	c := newCaller(t, Config{})
	want := map[string]any{"ip_list": []any{"127.0.0.1", "127.0.0.0/25"}}
	if diff := cmp.Diff(want, c.call(http.MethodGet, pathIPs+"?access_token="+c.token, "")); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestCallbackCheck(t *testing.T) {
	account := Account{CallbackURL: "http://127.0.0.1:1/callback"}
	c := newCaller(t, Config{Accounts: []Account{account, {}}})
	ask := func(body string) map[string]any { return c.post(pathCheck, body) }
	want := map[string]any{
		"dns":  []any{map[string]any{"ip": "127.0.0.1", "real_operator": "CAP"}},
		"ping": []any{map[string]any{"ip": "127.0.0.1", "from_operator": "CAP", "package_loss": "0%", "time": "0.042ms"}},
	}
	if diff := cmp.Diff(want, ask(`{"action":"all","check_operator":"DEFAULT"}`)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if got := ask(`{"action":"dns","check_operator":"CAP"}`); got["ping"] != nil || got["dns"] == nil {
		t.Errorf("asked for dns alone: %v", got)
	}
	c.wantCode("40202", ask(`{"action":"look","check_operator":"CAP"}`))
	c.wantCode("40203", ask(`{"action":"all"}`))
	token, err := c.s.Token(c.s.Accounts()[1].AppID)
	if err != nil {
		t.Fatal(err)
	}
	c.token = token
	c.wantCode("40201", ask(`{"action":"all","check_operator":"DEFAULT"}`))
}
