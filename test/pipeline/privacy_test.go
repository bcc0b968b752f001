package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qunfa/internal/config"
	"qunfa/internal/events"
	"qunfa/internal/wechat"
	"qunfa/internal/wechat/wechattest"
	"qunfa/test/internal/proc"
)

// What must not be seen anywhere.
const (
	person   = "oMarkedPersonsOpenid00000001"
	words    = "what-a-marked-person-wrote"
	upstream = "MarkedUpstreamPassword"
	query    = "MarkedUpstreamQuery"
	bearer   = "MarkedTokenServerBearer"
	tokenURL = "MarkedTokenServerQuery"
	access   = "MarkedAccessToken"
)

const markedResult = `<xml><ToUserName>GH</ToUserName><FromUserName>` + person + `</FromUserName><CreateTime>TIME</CreateTime><MsgType>event</MsgType>` +
	`<Event>MASSSENDJOBFINISH</Event><MsgID>ID</MsgID><Status>send success</Status><TotalCount>COUNT</TotalCount><FilterCount>9</FilterCount><SentCount>9</SentCount><ErrorCount>0</ErrorCount></xml>`

// wechatAPI gives out an access token, or says that the secret is wrong, and
// hangs up on everything else, so that errors quote the URL with the token.
func wechatAPI(t *testing.T, refused string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		switch {
		case !strings.HasSuffix(r.URL.Path, "/stable_token"):
			panic(http.ErrAbortHandler)
		case bytes.Contains(body, []byte(refused)):
			fmt.Fprintf(w, `{"errcode":40125,"errmsg":"invalid appsecret, rid: 1"}`)
		default:
			fmt.Fprintf(w, `{"access_token":%q,"expires_in":7200}`, access)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// markedWorld is a world whose every secret is marked, or known.
func markedWorld(t *testing.T) (w *world, secrets []string) {
	t.Helper()
	w = newWorld(t, wechattest.Config{
		Seed: 46, Scale: 3600, Accounts: accounts("")[:4],
		Plans: func(wechattest.Call) wechattest.Plan { return wechattest.Success().Never() },
	})
	w.cfg.Ingest.SpoolDir = t.TempDir()
	w.cfg.Reconcile.FirstPoll, w.cfg.Reconcile.Schedule = 10*time.Millisecond, []time.Duration{100 * time.Millisecond}
	w.cfg.WeChat.BaseURL = config.MustURL(wechatAPI(t, w.sim.Accounts()[2].AppID))
	w.cfg.Accounts[0].Upstream = config.MustURL("http://me:" + upstream + "@127.0.0.1:1/hook?key=" + query)
	last := &w.cfg.Accounts[3]
	last.AppSecret = config.Secret{}
	last.TokenURL, last.TokenURLBearer = config.MustURL("http://127.0.0.1:1/token?key="+tokenURL), config.NewSecret(bearer)
	secrets = []string{upstream, query, bearer, tokenURL, access, apiToken}
	for _, a := range w.sim.Accounts() {
		secrets = append(secrets, a.Token, a.AESKey, a.Secret)
	}
	if p := w.cfg.ClickHouse.Password.Reveal(); len(p) > 8 {
		secrets = append(secrets, p)
	}
	return w, slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
}

// knock posts what ingest must refuse or pass on: a message of a person, a wrong
// signature, an old time, nonsense where the encrypted document should be.
func (w *world) knock(in *service) (signatures []string) {
	w.t.Helper()
	chat := "<xml><ToUserName>gh_1</ToUserName><FromUserName>" + person + "</FromUserName><CreateTime>1</CreateTime><MsgType>text</MsgType><Content>" + words + "</Content><MsgId>1</MsgId></xml>"
	now, old := strconv.FormatInt(time.Now().Unix(), 10), strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	for i, a := range w.sim.Accounts() {
		for _, at := range []string{now, old} {
			for _, token := range []string{a.Token, a.Token + "x"} {
				q := url.Values{"timestamp": {at}, "nonce": {"12345"}, "signature": {wechat.Sign(token, at, "12345")}}
				if i > 0 {
					q.Set("encrypt_type", "aes")
					q.Set("msg_signature", wechat.Sign(token, at, "12345", "AAAA"))
				}
				signatures = append(signatures, q.Get("signature"))
				for _, body := range []string{chat, "<xml><Encrypt>AAAA</Encrypt></xml>"} {
					resp, err := w.http.Post(in.url()+"/callback/"+a.AppID+"?"+q.Encode(), "text/xml", strings.NewReader(body))
					if err != nil {
						w.t.Fatal(err)
					}
					resp.Body.Close()
				}
			}
		}
	}
	return signatures
}

// TestLogsNameNobody takes callbacks with a marked openid, with marked secrets
// in the configuration, through everything that can go wrong: refused, broken,
// passed on in vain, set aside, kept in the spool, not insertable, polled in
// vain. Nothing of what is marked may be in a log, at any level, on a page for
// people, or in a metric; account and message must be.
func TestLogsNameNobody(t *testing.T) {
	t.Parallel()
	w, secrets := markedWorld(t)
	logs, pages := &proc.Log{}, &proc.Log{}
	w.logs = logs
	w.migrate()
	in, sink, rec := w.startIngest(), w.start("sink"), w.start("reconcile")
	w.awaitReady(in, sink)
	look := func() {
		for _, s := range []*service{in, sink, rec} {
			for _, page := range []string{"/readyz", "/metrics"} {
				_, body := s.get(page)
				fmt.Fprintln(pages, body)
			}
		}
	}
	said := func(line string) {
		w.until("the log says: "+line, func() string {
			if strings.Contains(logs.String(), line) {
				return ""
			}
			return "it does not; it says:\n" + logs.String()
		})
	}
	good, broken := strings.ReplaceAll(markedResult, "COUNT", "9"), strings.ReplaceAll(markedResult, "COUNT", person)

	signatures := w.knock(in)
	w.post(in, 0, 101, good)
	w.post(in, 0, 102, broken)
	w.post(in, 2, 103, broken)
	appid := w.sim.Accounts()[0].AppID
	w.produce(events.Record{Key: []byte(appid), Value: []byte(`{"appid": 7, "from_user": "` + person + `"`), Time: time.Now(), Headers: []events.Header{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(strings.Repeat("ab", 16))}, {Key: "ce_source", Value: []byte("test")},
		{Key: "ce_type", Value: []byte("qunfa.mass.finished.v1")}, {Key: "content-type", Value: []byte("application/json")},
	}})
	for _, a := range w.sim.Accounts() {
		w.send(in, a.AppID, wechattest.All())
	}
	for _, line := range []string{"callback not accepted", "a mass send's result cannot be understood", "push not passed on to upstream", "account is not asked about until people mend this", "account is held back"} {
		said(line)
	}
	look()

	w.query("RENAME TABLE event_rows TO event_rows_away")
	w.post(in, 0, 104, good)
	said("cannot write")
	look()
	w.query("RENAME TABLE event_rows_away TO event_rows")

	w.kafka.Cut()
	w.until("ingest takes a callback without Kafka", func() string {
		_, refusal := w.tryPost(in, 0, 105, good)
		return refusal
	})
	w.post(in, 1, 106, `{"ToUserName":"GH","FromUserName":"`+person+`","CreateTime":TIME,"MsgType":"event","Event":"MASSSENDJOBFINISH","MsgID":ID,"Status":"send success","TotalCount":"`+person+`"}`)
	said("kafka does not take records")
	look()
	w.kafka.Mend()
	w.until("everything is in the database", func() string {
		return w.missingOf([]int64{101, 104, 105})
	})
	w.deadLetters(4)
	look()
	for _, s := range []*service{rec, sink, in} {
		s.stop()
	}

	for name, text := range map[string]string{"the logs": logs.String(), "the pages": pages.String()} {
		for _, s := range slices.Concat(secrets, signatures, []string{person, words}) {
			if i := strings.Index(text, s); i >= 0 {
				t.Errorf("%s hold %q:\n%s", name, s, text[strings.LastIndexByte(text[:i], '\n')+1:i+len(s)])
			}
		}
	}
	for _, want := range []string{appid, "msg_id=104"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the logs do not name %s", want)
		}
	}
}

// missingOf says which callbacks the database does not have.
func (w *world) missingOf(ids []int64) string {
	w.t.Helper()
	var have []int64
	for _, r := range w.query("SELECT msg_id FROM messages WHERE callback_received AND sent = 9 ORDER BY msg_id") {
		have = append(have, r[0].(int64))
	}
	if slices.Equal(have, ids) {
		return ""
	}
	return fmt.Sprintf("have %v, want %v", have, ids)
}
