package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

func TestURLVerificationEchoesByteForByte(t *testing.T) {
	b := start(t)
	for _, path := range []string{"/callback/" + plainApp, "/callback/" + safeApp} {
		for _, token := range []string{tokenNow, tokenBefore} {
			q, _ := sent{mode: wechat.ModePlain, token: token}.build(t)
			q.Set("echostr", "4375120948345356249<&>\n\"")
			req, _ := http.NewRequest(http.MethodGet, b.url(path+"?"+q.Encode()), nil)
			r := b.do(req)
			if r.status != 200 || r.body != q.Get("echostr") || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
				t.Errorf("got %d %q %s", r.status, r.body, r.header)
			}
		}
	}
	b.wantCount("qunfa_callbacks_total", map[string]string{"result": resultURLVerified}, 4)
}

func TestURLVerificationOfTheDocumentation(t *testing.T) {
	b := start(t, func(_ *Config, _ *Deps, f *fixture) {
		f.accounts = append(f.accounts, Account{AppID: "wxdoc", Verifier: verifier(t, wechat.Keys{AppID: "wxdoc", Tokens: []string{"AAAAA"}})})
	})
	req, _ := http.NewRequest(http.MethodGet, b.url("/callback/wxdoc?signature=f464b24fc39322e44b38aa78f5edd27bd1441696&timestamp=1714036504&nonce=1514711492&echostr=4375120948345356249"), nil)
	if r := b.do(req); r.status != 200 || r.body != "4375120948345356249" {
		t.Errorf("got %d %q", r.status, r.body)
	}
	req, _ = http.NewRequest(http.MethodGet, b.url("/callback/wxdoc?signature=f464b24fc39322e44b38aa78f5edd27bd1441697&timestamp=1714036504&nonce=1514711492&echostr=4375120948345356249"), nil)
	b.wantFailure(b.do(req), 403, "url_refused")
}

// Every mode, format, token and key gives the same event with every field.
func TestEveryModeAndFormat(t *testing.T) {
	cases := map[string]sent{}
	for _, format := range []string{"xml", "json"} {
		for _, token := range []string{tokenNow, tokenBefore} {
			p := plainPush(massOf(format, "gh_plain", 3147483650, "err(20008)"))
			p.format, p.token = format, token
			cases[fmt.Sprintf("plain %s %s", format, token)] = p
			for _, key := range []string{keyNow, keyBefore} {
				for _, mode := range []string{wechat.ModeSafe, wechat.ModeCompatible} {
					p := safePush(massOf(format, "gh_safe", 3147483650, "err(20008)"))
					p.mode, p.format, p.token, p.key = mode, format, token, key
					cases[fmt.Sprintf("%s %s %s %s", mode, format, token, key)] = p
				}
			}
		}
	}
	cases["platform"] = platformPush(massXML("gh_child", 3147483650, "err(20008)"))
	for name, p := range cases {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			before := time.Now().Truncate(time.Millisecond)
			b.wantSuccess(b.push(p))
			got := b.events.finished(t)
			appid, original := pathAccount(p)
			if diff := cmp.Diff(got, wantFinished(appid, original, p)); diff != "" {
				t.Errorf("(-got, +want)\n%s", diff)
			}
			rec := b.events.all()[0]
			if rec.Time.Before(before) || rec.Time.After(time.Now()) || string(rec.Key) != appid {
				t.Errorf("record of %s at %s", rec.Key, rec.Time)
			}
			b.wantCount("qunfa_callbacks_total", map[string]string{"result": resultFinished}, 1)
			b.wantCount("qunfa_callback_statuses_total", map[string]string{"status": events.StatusRejected}, 1)
			b.wantCount("qunfa_callback_pushes_total", map[string]string{"mode": p.mode, "format": p.format}, 1)
			b.wantCount("qunfa_callback_ack_seconds", nil, 1)
		})
	}
}

func pathAccount(p sent) (appid, original string) {
	appid = p.path[strings.LastIndex(p.path, "/")+1:]
	return appid, map[string]string{plainApp: "gh_plain", safeApp: "gh_safe", childApp: "gh_child"}[appid]
}

func wantFinished(appid, original string, p sent) *events.Finished {
	return &events.Finished{
		AppID: appid, MsgID: 3147483650, OriginalID: original, FromUser: "ov7hP6b1X_yWfnX7Jy3IFQnwJzzM", CreateTime: 1650896441,
		Status: "err(20008)", StatusKind: events.StatusRejected, ErrCode: new(int64(20008)),
		TotalCount: new(int64(100)), FilterCount: new(int64(80)), SentCount: new(int64(75)), ErrorCount: new(int64(5)),
		Copyright: &events.Copyright{Count: new(int64(1)), CheckState: new(int64(2)), Articles: []events.ArticleCheck{{
			Index: 1, UserDeclareState: new(int64(0)), AuditState: new(int64(2)), OriginalArticleURL: "http://o/1",
			OriginalArticleType: new(int64(1)), CanReprint: new(int64(1)), NeedReplaceContent: new(int64(0)), NeedShowReprintSource: new(int64(1))}}},
		ArticleURLs: []events.Link{{Index: 1, URL: "http://mp.weixin.qq.com/s/8yzT20EvmDg37Jso9nsIIw"}},
		Mode:        p.mode, Format: p.format, Raw: p.msg,
	}
}

func TestPreviousSecretsAreCounted(t *testing.T) {
	b := start(t)
	p := safePush(massXML("gh_safe", 1, "send success"))
	b.wantSuccess(b.push(p))
	b.wantCount("qunfa_callback_previous_secrets_total", map[string]string{"kind": "token"}, 0)
	p.token, p.key = tokenBefore, keyBefore
	b.wantSuccess(b.push(p))
	b.wantCount("qunfa_callback_previous_secrets_total", map[string]string{"kind": "token"}, 1)
	b.wantCount("qunfa_callback_previous_secrets_total", map[string]string{"kind": "aes_key"}, 1)
}

// A redelivery is signed and encrypted anew, and may come by another road.
func TestRedeliveryHasTheSameID(t *testing.T) {
	b := start(t)
	p := safePush(massXML("gh_safe", 7, "send success"))
	for range 3 {
		b.wantSuccess(b.push(p))
	}
	p.mode, p.format, p.msg = wechat.ModeCompatible, "json", massJSON("gh_safe", 7, "send success")
	b.wantSuccess(b.push(p))
	ids := map[events.ID]bool{}
	for _, e := range b.events.decoded(t) {
		ids[e.ID] = true
	}
	if len(b.events.all()) != 4 || len(ids) != 1 {
		t.Errorf("%d records with %d ids, want 4 with 1", len(b.events.all()), len(ids))
	}
}

// The event keeps what WeChat may invent tomorrow.
func TestUnknownValuesAreNoErrors(t *testing.T) {
	for status, kind := range map[string]string{
		"err(20431)": events.StatusRejected, "err(99999)": events.StatusRejected, "send later": events.StatusUnknown,
		"": events.StatusUnknown, "sendsuccess": events.StatusSent, "send fail": events.StatusFailed,
	} {
		t.Run(status, func(t *testing.T) {
			b := start(t)
			msg := strings.Replace(massXML("gh_safe", 7, status), "<MsgID>", "<Novelty><a>1</a></Novelty><MsgID>", 1)
			b.wantSuccess(b.push(safePush(msg)))
			f := b.events.finished(t)
			if f.Status != status || f.StatusKind != kind || f.Raw != msg {
				t.Errorf("status %q of kind %s", f.Status, f.StatusKind)
			}
			b.wantCount("qunfa_callback_statuses_total", map[string]string{"status": kind}, 1)
		})
	}
}

func TestAbsentIsNotZero(t *testing.T) {
	b := start(t)
	b.wantSuccess(b.push(safePush(`<xml><Event>masssendjobfinish</Event><MsgID> 5 </MsgID><CreateTime>1650896441</CreateTime></xml>`)))
	f := b.events.finished(t)
	if f.TotalCount != nil || f.FilterCount != nil || f.SentCount != nil || f.ErrorCount != nil || f.Copyright != nil || f.ArticleURLs != nil {
		t.Errorf("%+v", f)
	}
}

// success must not be on its way before the log has the event.
func TestNoSuccessBeforeTheAck(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	b := start(t, func(_ *Config, d *Deps, _ *fixture) {
		d.Publisher.(*fakeLog).hook = func(ctx context.Context) error {
			close(reached)
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	q, body := safePush(massXML("gh_safe", 7, "send success")).build(t)
	answered := make(chan response, 1)
	go func() { answered <- b.post("/callback/"+safeApp+"?"+q.Encode(), body) }()
	<-reached
	select {
	case r := <-answered:
		t.Fatalf("answered %d %q before the ack", r.status, r.body)
	case <-time.After(100 * time.Millisecond): // long enough for an answer over loopback
	}
	close(release)
	b.wantSuccess(<-answered)
}

func TestNotDurableIsNeverSuccess(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		result string
	}{
		"down":       {errors.New("connection refused"), 503, resultUnavailable},
		"overloaded": {fmt.Errorf("kafka: %w", ErrOverloaded), 503, resultOverload},
		"too large":  {fmt.Errorf("kafka: %w", ErrTooLarge), 413, resultRecordTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			b.events.set(c.err)
			b.dead.set(c.err)
			p := safePush(massXML("gh_safe", 7, "send success"))
			b.wantFailure(b.push(p), c.status, c.result)
			b.wantCount("qunfa_callback_ack_seconds", nil, 0)
			b.events.set(nil)
			b.wantSuccess(b.push(p)) // WeChat's repetition
		})
	}
}

func TestSilentLogIsGivenUpInTime(t *testing.T) {
	b := start(t, func(c *Config, d *Deps, _ *fixture) {
		c.PublishTimeout = 50 * time.Millisecond
		d.Publisher.(*fakeLog).hook = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	})
	b.wantFailure(b.push(safePush(massXML("gh_safe", 7, "send success"))), 503, resultUnavailable)
}

// An event that no log takes leaves its body, which is smaller, as a dead letter.
func TestEventTooLargeBecomesADeadLetter(t *testing.T) {
	b := start(t)
	b.events.set(ErrTooLarge)
	msg := massXML("gh_safe", 7, "send success")
	b.wantSuccess(b.push(safePush(msg)))
	if got := b.dead.all(); len(got) != 1 || string(got[0].Value) != msg {
		t.Errorf("dead letters: %v", got)
	}
}

func TestDeadLetters(t *testing.T) {
	mass := massXML("gh_safe", 7, "send success")
	for name, msg := range map[string]string{
		"no MsgID":        strings.Replace(mass, "MsgID", "Other", 2),
		"MsgID no number": strings.Replace(mass, "<MsgID>7", "<MsgID>seven", 1),
		"MsgID negative":  strings.Replace(mass, "<MsgID>7", "<MsgID>-7", 1),
		"time of 1970":    strings.Replace(mass, "1650896441", "5", 1),
		"cut off":         mass[:len(mass)-200],
		"broken":          "<xml><Event>MASSSENDJOBFINISH<",
		"bytes":           "<xml><Event>MASSSENDJOBFINISH</Event><MsgID>\xff\xfe</MsgID></xml>",
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			b.wantSuccess(b.push(safePush(msg)))
			if n := len(b.events.all()); n != 0 {
				t.Errorf("%d events", n)
			}
			got := b.dead.all()
			if len(got) != 1 || string(got[0].Value) != msg || string(got[0].Key) != safeApp {
				t.Fatalf("dead letters: %+v", got)
			}
			letter, err := events.DecodeDeadLetter(events.Message{Record: got[0]})
			if err != nil {
				t.Fatal(err)
			}
			if letter.Reason != events.DeadUnparsable || letter.Error == "" || letter.From != "qunfa/ingest" || letter.Origin != nil {
				t.Errorf("dead letter %+v", letter)
			}
			h := map[string]string{}
			for _, x := range letter.Headers {
				h[x.Key] = string(x.Value)
			}
			want := map[string]string{HeaderCallbackMode: "safe", HeaderCallbackFormat: "xml", "content-type": "text/xml"}
			if diff := cmp.Diff(h, want); diff != "" {
				t.Errorf("headers (-got, +want)\n%s", diff)
			}
			b.wantCount("qunfa_callbacks_total", map[string]string{"result": resultDeadLetter}, 1)
			b.wantCount("qunfa_callback_ack_seconds", nil, 1)
		})
	}
}

func TestDeadLettersDown(t *testing.T) {
	b := start(t)
	b.dead.set(errors.New("down"))
	b.wantFailure(b.push(safePush("<xml><Event>MASSSENDJOBFINISH<")), 503, resultUnavailable)
}

func TestTimestampRule(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		at := time.Now().Add(off)
		t.Run("plain "+off.String(), func(t *testing.T) {
			b := start(t)
			p := plainPush(massXML("gh_plain", 7, "send success"))
			p.at = at
			b.wantFailure(b.push(p), 403, "timestamp")
			if len(b.events.all()) != 0 {
				t.Error("taken")
			}
		})
		t.Run("safe "+off.String(), func(t *testing.T) {
			b := start(t)
			p := safePush(massXML("gh_safe", 7, "send success"))
			p.at = at
			b.wantSuccess(b.push(p))
			b.wantCount("qunfa_callback_clock_skewed_total", nil, 1)
		})
	}
	t.Run("configurable", func(t *testing.T) {
		b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.MaxClockSkew = 2 * time.Hour })
		p := plainPush(massXML("gh_plain", 7, "send success"))
		p.at = time.Now().Add(-time.Hour)
		b.wantSuccess(b.push(p))
	})
}

func TestRefusedPushes(t *testing.T) {
	safeMass, plainMass, childMass := massXML("gh_safe", 7, "send success"), massXML("gh_plain", 7, "send success"), massXML("gh_child", 7, "send success")
	with := func(p sent, change func(*sent)) sent { change(&p); return p }
	for name, c := range map[string]struct {
		p      sent
		status int
		result string
	}{
		"unknown account":                    {with(plainPush(plainMass), func(p *sent) { p.path = "/callback/wxnobody" }), 404, resultUnknownAccount},
		"unknown component":                  {with(platformPush(childMass), func(p *sent) { p.path = "/platform/wxnobody/callback/" + childApp }), 404, resultUnknownAccount},
		"account by the wrong path":          {with(plainPush(plainMass), func(p *sent) { p.path = "/platform/" + component + "/callback/" + plainApp }), 404, resultUnknownAccount},
		"child without platform":             {with(platformPush(childMass), func(p *sent) { p.path = "/callback/" + childApp }), 404, resultUnknownAccount},
		"wrong token":                        {with(plainPush(plainMass), func(p *sent) { p.token = "another" }), 403, "signature"},
		"wrong token, safe":                  {with(safePush(safeMass), func(p *sent) { p.token = "another" }), 403, "signature"},
		"wrong key":                          {with(safePush(safeMass), func(p *sent) { p.key = strings.Repeat("A", 43) }), 403, "decrypt"},
		"other appid":                        {with(safePush(safeMass), func(p *sent) { p.appid = plainApp }), 403, "appid"},
		"child's appid, not the component's": {with(platformPush(childMass), func(p *sent) { p.appid = childApp }), 403, "appid"},
		"plain, but has keys":                {with(safePush(safeMass), func(p *sent) { p.mode = wechat.ModePlain }), 403, "plain_refused"},
		"empty body":                         {plainPush(""), 400, "bad_body"},
		"plain, other account":               {plainPush(safeMass), 403, resultMismatch},
		"platform, other account":            {platformPush(safeMass), 403, resultMismatch},
		"platform, no account":               {platformPush(strings.Replace(childMass, "ToUserName", "X", 2)), 403, resultMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			b.wantFailure(b.push(c.p), c.status, c.result)
			if len(b.events.all())+len(b.dead.all()) != 0 {
				t.Error("something was recorded")
			}
		})
	}
}

// The encryption has proved whose push it is: a typing error in the
// configuration must not lose results.
func TestOriginalIDMismatchOfAnEncryptedPushIsAccepted(t *testing.T) {
	b := start(t)
	b.wantSuccess(b.push(safePush(massXML("gh_other", 7, "send success"))))
	if f := b.events.finished(t); f.OriginalID != "gh_other" {
		t.Errorf("original id %s", f.OriginalID)
	}
	b.wantCount("qunfa_callback_original_id_mismatches_total", nil, 1)
}

func TestMissingParameters(t *testing.T) {
	for _, name := range []string{"signature", "timestamp", "nonce"} {
		b := start(t)
		q, body := plainPush(massXML("gh_plain", 7, "send success")).build(t)
		q.Del(name)
		b.wantFailure(b.post("/callback/"+plainApp+"?"+q.Encode(), body), 400, "missing_parameter")
	}
}

func TestOtherMethods(t *testing.T) {
	b := start(t)
	req, _ := http.NewRequest(http.MethodDelete, b.url("/callback/"+plainApp), nil)
	r := b.do(req)
	b.wantFailure(r, 405, resultMethod)
	if r.header.Get("Allow") == "" {
		t.Error("no Allow header")
	}
}

func TestBodyLimit(t *testing.T) {
	b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.BodyLimit = 5000 })
	fits := massXML("gh_plain", 7, "send success")
	fits += strings.Repeat(" ", 5000-len(fits))
	b.wantSuccess(b.push(plainPush(fits)))
	b.wantFailure(b.push(plainPush(fits+" ")), 413, resultTooLarge)

	// Without a Content-Length the limit is met while reading.
	q, body := plainPush(fits + " ").build(t)
	req, _ := http.NewRequest(http.MethodPost, b.url("/callback/"+plainApp+"?"+q.Encode()), struct{ *strings.Reader }{strings.NewReader(body)})
	req.ContentLength = -1
	if r := b.do(req); r.status != 413 {
		t.Errorf("chunked: %d %s", r.status, r.body)
	}
	b.wantCount("qunfa_callbacks_total", map[string]string{"result": resultTooLarge}, 2)
}

func TestOverload(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	b := start(t, func(c *Config, d *Deps, _ *fixture) {
		c.MaxInFlight = 1
		d.Publisher.(*fakeLog).hook = func(context.Context) error { close(entered); <-release; return nil }
	})
	first := safePush(massXML("gh_safe", 7, "send success"))
	q, body := first.build(t)
	answered := make(chan response, 1)
	go func() { answered <- b.post(first.path+"?"+q.Encode(), body) }()
	<-entered
	b.wantCount("qunfa_callbacks_in_flight", nil, 1)
	b.wantFailure(b.push(first), 503, resultOverload)
	close(release)
	b.wantSuccess(<-answered)
	eventually(t, "nothing in flight", func() bool { return b.value("qunfa_callbacks_in_flight", nil) == 0 })
}

func TestPanicIsAnswered(t *testing.T) {
	b := start(t, func(_ *Config, d *Deps, _ *fixture) {
		d.Publisher.(*fakeLog).hook = func(context.Context) error { panic("oops") }
	})
	for range 3 { // the place at work must be given back
		r := b.push(safePush(massXML("gh_safe", 7, "send success")))
		if r.status != 500 || r.body != resultInternal {
			t.Errorf("got %d %q", r.status, r.body)
		}
	}
	b.wantCount("qunfa_callbacks_in_flight", nil, 0)
}

// WeChat hanging up must not take the event with it.
func TestEventIsKeptWhenWeChatHangsUp(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	b := start(t, func(_ *Config, d *Deps, _ *fixture) {
		d.Publisher.(*fakeLog).hook = func(ctx context.Context) error {
			close(entered)
			<-release
			return ctx.Err()
		}
	})
	p := safePush(massXML("gh_safe", 7, "send success"))
	q, body := p.build(t)
	ctx, hangUp := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, b.url(p.path+"?"+q.Encode()), strings.NewReader(body))
	gone := make(chan error, 1)
	go func() {
		resp, err := b.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	<-entered
	hangUp()
	if err := <-gone; err == nil {
		t.Fatal("an answer came")
	}
	close(release)
	eventually(t, "the event is kept", func() bool { return len(b.events.all()) == 1 })
}

func TestReplacedDirectory(t *testing.T) {
	b := start(t)
	fresh := verifier(t, wechat.Keys{AppID: "wxnew", Tokens: []string{"fresh"}})
	if err := b.server.deps.Directory.Replace([]Account{{AppID: "wxnew", Verifier: fresh}}, nil); err != nil {
		t.Fatal(err)
	}
	p := plainPush(massXML("gh_new", 7, "send success"))
	p.path, p.token = "/callback/wxnew", "fresh"
	b.wantSuccess(b.push(p))
	b.wantFailure(b.push(plainPush(massXML("gh_plain", 7, "send success"))), 404, resultUnknownAccount)
}
