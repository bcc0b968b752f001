package ingest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	plainApp  = "wx00000000000000a1"
	safeApp   = "wx00000000000000b2"
	component = "wx00000000000000c3"
	childApp  = "wx00000000000000d4"

	tokenNow, tokenBefore = "CurrentTokenSecret", "PreviousTokenSecret"
	keyNow                = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	keyBefore             = "ZYXWVUTSRQPONMLKJIHGFEDCBA9876543210zyxwvut"
	componentToken        = "ComponentTokenSecret"
	apiToken              = "api-token-secret-0123456789"
	apiTokenBefore        = "api-token-previous-0123456789"
)

// secrets must never be seen outside.
func secrets() []string {
	return []string{tokenNow, tokenBefore, keyNow, keyBefore, componentToken, apiToken, apiTokenBefore, "UpstreamPassword"}
}

// fakeLog is a Publisher that keeps what it is given.
type fakeLog struct {
	mu      sync.Mutex
	records []events.Record
	fail    error
	hook    func(ctx context.Context) error // called before anything is kept
}

func (l *fakeLog) Publish(ctx context.Context, r events.Record) error {
	l.mu.Lock()
	hook, fail := l.hook, l.fail
	l.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return err
		}
	}
	if fail != nil {
		return fail
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

func (l *fakeLog) set(fail error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

func (l *fakeLog) all() []events.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]events.Record(nil), l.records...)
}

func (l *fakeLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = nil
}

// decoded reads the records back.
func (l *fakeLog) decoded(t *testing.T) []events.Event {
	t.Helper()
	var out []events.Event
	for _, r := range l.all() {
		e, err := events.Decode(events.Message{Record: r})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// finished returns the only event's data.
func (l *fakeLog) finished(t *testing.T) *events.Finished {
	t.Helper()
	all := l.decoded(t)
	if len(all) != 1 {
		t.Fatalf("%d events, want 1", len(all))
	}
	return all[0].Data.(*events.Finished)
}

// syncBuffer catches a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// bench is a running server with everything around it.
type bench struct {
	t      *testing.T
	server *Server
	events *fakeLog
	dead   *fakeLog
	reg    *prometheus.Registry
	logs   *syncBuffer
	client *http.Client
	stop   func()
}

type option func(*Config, *Deps, *fixture)

// fixture is the directory's content before it is made.
type fixture struct {
	accounts  []Account
	platforms []Platform
}

func verifier(t testing.TB, k wechat.Keys) *wechat.Verifier {
	t.Helper()
	v, err := wechat.NewVerifier(k)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newFixture(t testing.TB) *fixture {
	return &fixture{
		accounts: []Account{
			{AppID: plainApp, OriginalID: "gh_plain", Plain: true, UpstreamMass: true,
				Verifier: verifier(t, wechat.Keys{AppID: plainApp, Tokens: []string{tokenNow, tokenBefore}})},
			{AppID: safeApp, OriginalID: "gh_safe", UpstreamMass: true,
				Verifier: verifier(t, wechat.Keys{AppID: safeApp, Tokens: []string{tokenNow, tokenBefore}, AESKeys: []string{keyNow, keyBefore}})},
		},
		platforms: []Platform{{ComponentAppID: component, Accounts: map[string]string{childApp: "gh_child"}, UpstreamMass: true,
			Verifier: verifier(t, wechat.Keys{AppID: component, Tokens: []string{componentToken}, AESKeys: []string{keyNow}})}},
	}
}

func newServer(t testing.TB, opts ...option) (*Server, *bench) {
	t.Helper()
	b := &bench{events: &fakeLog{}, dead: &fakeLog{}, reg: prometheus.NewRegistry(), logs: &syncBuffer{}}
	cfg := Config{Listen: "127.0.0.1:0", Internal: "127.0.0.1:0", API: APIConfig{Tokens: []string{apiToken, apiTokenBefore}}}
	cfg.Upstream.RetryDelay = time.Millisecond
	deps := Deps{Publisher: b.events, DeadLetters: b.dead, Registerer: b.reg,
		Logger: slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	fix := newFixture(t)
	for _, o := range opts {
		o(&cfg, &deps, fix)
	}
	var err error
	if deps.Directory, err = NewDirectory(fix.accounts, fix.platforms); err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	b.server = s
	return s, b
}

// start runs a server until the test ends.
func start(t *testing.T, opts ...option) *bench {
	t.Helper()
	s, b := newServer(t, opts...)
	b.t = t
	b.client = &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			b.client.CloseIdleConnections()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		b.stop()
		b.checkSecrets()
	})
	return b
}

// checkSecrets runs after every test.
func (b *bench) checkSecrets() {
	b.t.Helper()
	for _, s := range secrets() {
		if strings.Contains(b.logs.String(), s) {
			b.t.Errorf("the log holds the secret %q:\n%s", s, b.logs)
		}
	}
}

func (b *bench) url(path string) string { return "http://" + b.server.Addr().String() + path }

// sent is a push that a test makes.
type sent struct {
	path   string
	mode   string
	format string
	token  string
	key    string
	appid  string // at the end of the encrypted text
	msg    string
	at     time.Time // timestamp, default now
	nonce  string
}

func plainPush(msg string) sent {
	return sent{path: "/callback/" + plainApp, mode: wechat.ModePlain, format: "xml", token: tokenNow, msg: msg}
}

func safePush(msg string) sent {
	return sent{path: "/callback/" + safeApp, mode: wechat.ModeSafe, format: "xml", token: tokenNow, key: keyNow, appid: safeApp, msg: msg}
}

func platformPush(msg string) sent {
	return sent{path: "/platform/" + component + "/callback/" + childApp, mode: wechat.ModeSafe, format: "xml",
		token: componentToken, key: keyNow, appid: component, msg: msg}
}

// build returns query and body as WeChat would send them.
func (s sent) build(t testing.TB) (url.Values, string) {
	t.Helper()
	if s.at.IsZero() {
		s.at = time.Now()
	}
	var random [16]byte
	if s.nonce == "" {
		s.nonce = rand.Text()
		_, _ = rand.Read(random[:])
	} // else every process that fuzzes makes the same bytes
	ts := strconv.FormatInt(s.at.Unix(), 10)
	q := url.Values{"timestamp": {ts}, "nonce": {s.nonce}, "signature": {wechat.Sign(s.token, ts, s.nonce)}, "openid": {"o1"}}
	if s.mode == wechat.ModePlain {
		return q, s.msg
	}
	encrypted, err := wechat.Encrypt(s.key, s.appid, random, []byte(s.msg))
	if err != nil {
		t.Fatal(err)
	}
	q.Set("encrypt_type", "aes")
	q.Set("msg_signature", wechat.Sign(s.token, ts, s.nonce, encrypted))
	return q, s.envelope(encrypted)
}

func (s sent) envelope(encrypted string) string {
	if s.format == "json" {
		clear := ""
		if s.mode == wechat.ModeCompatible {
			clear = strings.TrimSuffix(strings.TrimPrefix(s.msg, "{"), "}") + ","
		}
		return `{` + clear + `"Encrypt":"` + encrypted + `"}`
	}
	clear := "<ToUserName>gh_x</ToUserName>"
	if s.mode == wechat.ModeCompatible {
		clear = strings.TrimSuffix(strings.TrimPrefix(s.msg, "<xml>"), "</xml>")
	}
	return "<xml>" + clear + "<Encrypt><![CDATA[" + encrypted + "]]></Encrypt></xml>"
}

type response struct {
	status int
	body   string
	header http.Header
}

func (b *bench) do(req *http.Request) response {
	b.t.Helper()
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response{resp.StatusCode, string(body), resp.Header}
}

func (b *bench) push(s sent) response {
	b.t.Helper()
	q, body := s.build(b.t)
	return b.post(s.path+"?"+q.Encode(), body)
}

func (b *bench) post(path, body string) response {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.url(path), strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/xml")
	return b.do(req)
}

func (b *bench) wantSuccess(r response) {
	b.t.Helper()
	if r.status != 200 || r.body != "success" || r.header.Get("Content-Type") != textPlain {
		b.t.Errorf("got %d %q (%s), want 200 success", r.status, r.body, r.header.Get("Content-Type"))
	}
}

func (b *bench) wantFailure(r response, status int, result string) {
	b.t.Helper()
	if r.status != status || r.body != result {
		b.t.Errorf("got %d %q, want %d %q", r.status, r.body, status, result)
	}
	b.wantCount("qunfa_callbacks_total", map[string]string{"result": result}, 1)
}

// value reads one series; it must exist.
func (b *bench) value(name string, labels map[string]string) float64 {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue series
				}
			}
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue()
			case m.Gauge != nil:
				return m.Gauge.GetValue()
			case m.Histogram != nil:
				return float64(m.Histogram.GetSampleCount())
			}
		}
	}
	b.t.Fatalf("no series %s%v", name, labels)
	return 0
}

func (b *bench) wantCount(name string, labels map[string]string, want float64) {
	b.t.Helper()
	if got := b.value(name, labels); got != want {
		b.t.Errorf("%s%v is %v, want %v", name, labels, got, want)
	}
}

// eventually polls, for what happens after an answer.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// lintMetrics is for the names.
func lintMetrics(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// massXML is a MASSSENDJOBFINISH of an account, in XML.
func massXML(original string, msgID int64, status string) string {
	return fmt.Sprintf(`<xml><ToUserName><![CDATA[%s]]></ToUserName>
<FromUserName><![CDATA[ov7hP6b1X_yWfnX7Jy3IFQnwJzzM]]></FromUserName>
<CreateTime>1650896441</CreateTime>
<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[MASSSENDJOBFINISH]]></Event>
<MsgID>%d</MsgID>
<Status><![CDATA[%s]]></Status>
<TotalCount>100</TotalCount><FilterCount>80</FilterCount><SentCount>75</SentCount><ErrorCount>5</ErrorCount>
<CopyrightCheckResult><Count>1</Count><ResultList><item><ArticleIdx>1</ArticleIdx><UserDeclareState>0</UserDeclareState><AuditState>2</AuditState><OriginalArticleUrl><![CDATA[http://o/1]]></OriginalArticleUrl><OriginalArticleType>1</OriginalArticleType><CanReprint>1</CanReprint><NeedReplaceContent>0</NeedReplaceContent><NeedShowReprintSource>1</NeedShowReprintSource></item></ResultList><CheckState>2</CheckState></CopyrightCheckResult>
<ArticleUrlResult><Count>1</Count><ResultList><item><ArticleIdx>1</ArticleIdx>
<ArticleUrl><![CDATA[http://mp.weixin.qq.com/s/8yzT20EvmDg37Jso9nsIIw]]></ArticleUrl></item></ResultList></ArticleUrlResult>
</xml>`, original, msgID, status)
}

// massJSON is the same in JSON.
func massJSON(original string, msgID int64, status string) string {
	b, err := json.Marshal(map[string]any{
		"ToUserName": original, "FromUserName": "ov7hP6b1X_yWfnX7Jy3IFQnwJzzM", "CreateTime": 1650896441,
		"MsgType": "event", "Event": "MASSSENDJOBFINISH", "MsgID": msgID, "Status": status,
		"TotalCount": "100", "FilterCount": 80, "SentCount": 75, "ErrorCount": 5,
		"CopyrightCheckResult": map[string]any{"Count": 1, "CheckState": 2, "ResultList": map[string]any{"item": []any{map[string]any{
			"ArticleIdx": 1, "UserDeclareState": 0, "AuditState": 2, "OriginalArticleUrl": "http://o/1", "OriginalArticleType": 1,
			"CanReprint": 1, "NeedReplaceContent": 0, "NeedShowReprintSource": 1}}}},
		"ArticleUrlResult": map[string]any{"Count": 1, "ResultList": map[string]any{"item": map[string]any{
			"ArticleIdx": 1, "ArticleUrl": "http://mp.weixin.qq.com/s/8yzT20EvmDg37Jso9nsIIw"}}},
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func massOf(format, original string, msgID int64, status string) string {
	if format == "json" {
		return massJSON(original, msgID, status)
	}
	return massXML(original, msgID, status)
}

const chat = `<xml><ToUserName>gh_plain</ToUserName><FromUserName>o1</FromUserName><CreateTime>1650896441</CreateTime><MsgType>text</MsgType><Content>hello MASSSENDJOBFINISH</Content><MsgId>9</MsgId></xml>`
