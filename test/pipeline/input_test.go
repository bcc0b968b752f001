package pipeline

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
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/app"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
	"qunfa/internal/wechat"
	"qunfa/internal/wechat/wechattest"
)

// oddities are callbacks as nobody has documented them, and what must be known of them.
var oddities = []struct {
	name    string
	account int    // in accounts
	body    string // TIME and ID are replaced
	want    string // outcome, err code, total, eligible, filtered, sent, errors
}{
	{"JSON, numbers quoted, another order, members added", 1, `{
		"ErrorCount": "17", "ArticleUrlResult": {"ResultList": [{"ArticleUrl": "https://example.com/1", "ArticleIdx": "1", "Title": null}], "Count": "1"},
		"FilterCount": "90210", "SentCount": "90193", "Novelty": {"deep": [1, {"er": true}]}, "Status": "send success", "MsgID": "ID",
		"TotalCount": "90311", "Event": "MASSSENDJOBFINISH", "MsgType": "event", "CreateTime": "TIME", "FromUserName": "mphelper", "ToUserName": "GH", "Extra": ""}`,
		"sent, err <nil>, 90311, 90210, 101, 90193, 17"},
	{"JSON, one item that is no list, numbers bare", 3, `{"ToUserName":"GH","FromUserName":"o","CreateTime":TIME,"MsgType":"event","Event":"massSendJobFinish","MsgID":ID,
		"Status":"err(21987)","TotalCount":0,"FilterCount":0,"SentCount":0,"ErrorCount":0,
		"CopyrightCheckResult":{"Count":1,"ResultList":{"item":{"ArticleIdx":1,"UserDeclareState":0,"AuditState":77,"OriginalArticleUrl":"u"}},"CheckState":9}}`,
		"rejected, err 21987, <nil>, <nil>, <nil>, 0, 0"},
	{"XML, no counts at all", 0, `<xml><MsgID>ID</MsgID><Status><![CDATA[send success]]></Status><Event><![CDATA[MASSSENDJOBFINISH]]></Event>
		<MsgType><![CDATA[event]]></MsgType><CreateTime>TIME</CreateTime><FromUserName><![CDATA[o]]></FromUserName><ToUserName><![CDATA[GH]]></ToUserName></xml>`,
		"sent, err <nil>, <nil>, <nil>, <nil>, <nil>, <nil>"},
	{"XML, numbers in CDATA with spaces, elements added", 2, `<?xml version="1.0" encoding="UTF-8"?><xml lang="zh"><!-- new --><Fresh><a><b>1</b></a></Fresh><ToUserName>GH</ToUserName><FromUserName>o</FromUserName>
		<CreateTime><![CDATA[ TIME ]]></CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event><MsgID><![CDATA[ID]]></MsgID><Status>send fail</Status>
		<ErrorCount> 3 </ErrorCount><SentCount><![CDATA[0]]></SentCount><FilterCount>3</FilterCount><TotalCount>4</TotalCount></xml>`,
		"failed, err <nil>, 4, 3, 1, 0, 3"},
	{"more left than addressed", 0, `<xml><ToUserName>GH</ToUserName><FromUserName>o</FromUserName><CreateTime>TIME</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>
		<MsgID>ID</MsgID><Status>send success</Status><TotalCount>700</TotalCount><FilterCount>712</FilterCount><SentCount>712</SentCount><ErrorCount>0</ErrorCount></xml>`,
		"sent, err <nil>, 700, 712, <nil>, 712, 0"},
	{"a status of next year", 2, `<xml><ToUserName>GH</ToUserName><FromUserName>o</FromUserName><CreateTime>TIME</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>
		<MsgID>ID</MsgID><Status>queued for review</Status><TotalCount>12</TotalCount><FilterCount>12</FilterCount><SentCount>0</SentCount><ErrorCount>0</ErrorCount></xml>`,
		"unknown, err <nil>, 12, 12, 0, 0, 0"},
}

// TestOddInput posts callbacks that no test of a single package has, and puts
// into the log what does not belong there. What can be known is known; what
// cannot be used is set aside with its bytes, and holds nothing up.
func TestOddInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 44, Scale: 3600, Accounts: accounts("")[:4]})
	w.migrate()
	in, sink := w.startIngest(), w.start("sink")
	w.awaitReady(in, sink)

	unparsable := `<xml><ToUserName>GH</ToUserName><FromUserName>o</FromUserName><CreateTime>TIME</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>` +
		`<MsgID>ID</MsgID><Status>send success</Status><TotalCount>dozens</TotalCount></xml>`
	spoilt := w.post(in, 2, 998, unparsable)
	foreign := events.Record{Key: []byte("somebody"), Value: []byte(`{"of": "another application"}`), Time: time.Now()}
	broken := events.Record{Key: []byte(w.sim.Accounts()[0].AppID), Value: []byte(`{"appid": 7`), Time: time.Now(), Headers: []events.Header{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(strings.Repeat("ab", 16))}, {Key: "ce_source", Value: []byte("test")},
		{Key: "ce_type", Value: []byte("qunfa.mass.finished.v1")}, {Key: "content-type", Value: []byte("application/json")},
	}}
	w.produce(foreign, broken)
	want := map[string]string{}
	for i, o := range oddities {
		w.post(in, o.account, int64(1000+i), o.body)
		want[o.name] = o.want
	}

	w.until("every callback is a row", func() string {
		have := map[string]string{}
		for _, r := range w.query("SELECT msg_id, outcome, err_code, total, eligible, filtered, sent, errors FROM messages") {
			name := oddities[r[0].(int64)-1000].name
			have[name] = fmt.Sprintf("%v, err %v, %v, %v, %v, %v, %v", r[1:]...)
		}
		return cmp.Diff(want, have)
	})
	wantKinds := map[string]int64{events.FateEvent: int64(len(oddities)), events.FateForeign: 1, events.FateDead: 1}
	if d := cmp.Diff(wantKinds, w.complete()); d != "" {
		t.Errorf("what became of the records (-want +got):\n%s", d)
	}
	if n := w.query("SELECT toInt64(count()) FROM audit_failures WHERE err_code = 21987 AND category = 'unknown'")[0][0]; n != int64(1) {
		t.Errorf("%v audit failures with the code that nobody knows, want 1", n)
	}

	letters := w.deadLetters(2)
	slices.SortFunc(letters, func(a, b events.DeadLetter) int { return strings.Compare(a.Reason, b.Reason) })
	w.checkLetter(letters[0], events.DeadUndecodable, string(broken.Value), true)
	w.checkLetter(letters[1], events.DeadUnparsable, spoilt, false)
}

// checkLetter checks that a dead letter has all that is needed to use it later.
func (w *world) checkLetter(d events.DeadLetter, reason, body string, origin bool) {
	w.t.Helper()
	if d.Reason != reason || string(d.Value) != body || d.Error == "" || len(d.Key) == 0 || (d.Origin != nil) != origin {
		w.t.Errorf("dead letter %+v\nwant reason %s, from the log: %t, body\n%s", d, reason, origin, body)
	}
	if origin && d.Origin.Topic != w.cfg.Kafka.Topic {
		w.t.Errorf("dead letter of %s", d.Origin)
	}
}

// post signs and encrypts a body as WeChat would for an account, and returns it.
func (w *world) post(in *service, account int, msgID int64, body string) string {
	w.t.Helper()
	body, refusal := w.tryPost(in, account, msgID, body)
	if refusal != "" {
		w.t.Fatalf("%s to\n%s", refusal, body)
	}
	return body
}

// tryPost is post that says why there was no success, which WeChat answers by trying again.
func (w *world) tryPost(in *service, account int, msgID int64, body string) (posted, refusal string) {
	w.t.Helper()
	a := w.sim.Accounts()[account]
	now := strconv.FormatInt(time.Now().Unix(), 10)
	body = strings.NewReplacer("TIME", now, "ID", strconv.FormatInt(msgID, 10), "GH", a.OriginalID).Replace(
		strings.NewReplacer("MsgID", "\x00", "ArticleIdx", "\x01").Replace(body))
	body = strings.NewReplacer("\x00", "MsgID", "\x01", "ArticleIdx").Replace(body)
	q := url.Values{"timestamp": {now}, "nonce": {rand.Text()[:9]}}
	q.Set("signature", wechat.Sign(a.Token, now, q.Get("nonce")))
	sent := body
	if a.Mode != wechattest.Plain {
		sent = w.encrypt(a, q, body)
	}
	resp, err := w.http.Post(in.url()+"/callback/"+a.AppID+"?"+q.Encode(), "text/xml", strings.NewReader(sent))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || string(answer) != "success" {
		return body, fmt.Sprintf("answer %s %s", resp.Status, answer)
	}
	return body, ""
}

func (w *world) encrypt(a wechattest.Account, q url.Values, body string) string {
	w.t.Helper()
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		w.t.Fatal(err)
	}
	sealed, err := wechat.Encrypt(a.AESKey, a.AppID, random, []byte(body))
	if err != nil {
		w.t.Fatal(err)
	}
	q.Set("encrypt_type", "aes")
	q.Set("msg_signature", wechat.Sign(a.Token, q.Get("timestamp"), q.Get("nonce"), sealed))
	if a.Format == wechattest.XML {
		return "<xml><Encrypt><![CDATA[" + sealed + "]]></Encrypt><ToUserName><![CDATA[" + a.OriginalID + "]]></ToUserName></xml>"
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(map[string]string{"Encrypt": sealed, "ToUserName": a.OriginalID}); err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

// produce writes records to the log by hand.
func (w *world) produce(records ...events.Record) {
	w.t.Helper()
	p, err := app.NewProducer(w.client, w.cfg.Kafka.Topic, app.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.ProduceAll(w.t.Context(), records); err != nil {
		w.t.Fatal(err)
	}
	if err := p.Close(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// deadLetters reads the first n records of the dead-letter topic.
func (w *world) deadLetters(n int) []events.DeadLetter {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	group, err := kafka.NewGroup(w.client, kafka.GroupConfig{GroupID: w.cfg.Sink.Group + "-dead", Topic: w.cfg.Kafka.DeadTopic}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var letters []events.DeadLetter
	err = group.Run(ctx, func(ctx context.Context, g *kafka.Generation) error {
		if err := g.Begin(nil); err != nil {
			return err
		}
		for len(letters) < n {
			messages, err := g.Poll(ctx, 100, 1<<20)
			if err != nil {
				return err
			}
			for _, m := range messages {
				d, err := events.DecodeDeadLetter(m)
				if err != nil {
					return err
				}
				letters = append(letters, d)
			}
		}
		cancel()
		return nil
	})
	if err != nil || len(letters) != n {
		w.t.Fatalf("%d dead letters, want %d: %v", len(letters), n, err)
	}
	return letters
}
