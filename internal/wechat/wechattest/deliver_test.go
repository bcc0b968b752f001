package wechattest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func say(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// The documentation wants 200 with nothing or the bare word; JSON quotes around
// it are reported as an illegal answer.
func TestWhatCountsAsSuccess(t *testing.T) {
	for _, v := range []struct {
		status int
		body   string
		want   PushState
	}{
		{200, "success", PushDelivered},
		{200, "", PushDelivered},
		{200, `"success"`, PushGivenUp},
		{200, "ok", PushGivenUp},
		{200, "success\n", PushGivenUp},
		{200, "<xml></xml>", PushGivenUp}, // an event takes no message for an answer
		{204, "", PushGivenUp},
		{503, "success", PushGivenUp},
		{302, "", PushGivenUp},
	} {
		s := start(t, Config{Accounts: []Account{{Mode: Plain}}})
		newReceiver(t, s, func(_ int, w http.ResponseWriter, _ *http.Request) { say(w, v.status, v.body) })
		submit(t, s, s.Accounts()[0].AppID, Send{Audience: All()})
		drain(t, s)
		e := s.Ledger().Entries[0]
		attempts := 1
		if v.want == PushGivenUp {
			attempts = 3
		}
		if e.Callback != v.want || e.Attempts != attempts || e.Taken != (v.want == PushDelivered) || e.Uncertain != (v.status == 503) {
			t.Errorf("%d %q: %s after %d attempts, taken %v", v.status, v.body, e.Callback, e.Attempts, e.Taken)
		}
	}
}

// Every attempt has a nonce, random bytes and signatures of its own; what was
// encrypted stays the same.
func TestRedeliveryIsEncryptedAnew(t *testing.T) {
	s := start(t, Config{Seed: 3, Accounts: []Account{{Mode: Safe}}})
	r := newReceiver(t, s, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 3 {
			say(w, 503, "")
		}
	})
	submit(t, s, s.Accounts()[0].AppID, Send{Audience: All()})
	drain(t, s)
	pushes := r.all()
	if len(pushes) != 3 {
		t.Fatalf("%d attempts, want 3", len(pushes))
	}
	for _, differs := range []func(got) string{
		func(g got) string { return g.query.Get("nonce") },
		func(g got) string { return g.query.Get("signature") },
		func(g got) string { return g.query.Get("msg_signature") },
		func(g got) string { return string(g.body) },
	} {
		values := []string{differs(pushes[0]), differs(pushes[1]), differs(pushes[2])}
		slices.Sort(values)
		if len(slices.Compact(values)) != 3 {
			t.Errorf("not three different values: %q", values)
		}
	}
	if string(pushes[0].clear) != string(pushes[1].clear) || string(pushes[0].clear) != string(pushes[2].clear) {
		t.Error("the document changed between attempts")
	}
	e := s.Ledger().Entries[0]
	if !e.Taken || e.Answered != 1 || e.Attempts != 3 || e.DecidedBy != "callback" {
		t.Errorf("entry %+v", e)
	}
}

func TestCallbackPlans(t *testing.T) {
	for _, v := range []struct {
		plan                       Plan
		pushes, attempts, answered int
		state                      PushState
		decided, outcome           string
	}{
		{Success(), 1, 1, 1, PushDelivered, "callback", OutcomeSent},
		{Success().Redelivered(1), 1, 2, 2, PushDelivered, "callback", OutcomeSent},
		{Success().Redelivered(2), 1, 3, 3, PushDelivered, "callback", OutcomeSent},
		{Success().Redelivered(3), 1, 3, 3, PushGivenUp, "callback", OutcomeSent},
		{Success().Twice(), 2, 2, 2, PushDelivered, "callback", OutcomeSent},
		{Success().Late(time.Hour), 1, 1, 1, PushDelivered, "callback", OutcomeSent},
		{Fail(), 1, 1, 1, PushDelivered, "callback", OutcomeFailed},
		{Rejected(20431), 1, 1, 1, PushDelivered, "callback", OutcomeRejected},
		{Odd("send partial"), 1, 1, 1, PushDelivered, "callback", OutcomeUnknown},
		{DeletedAfterSuccess(), 1, 1, 1, PushDelivered, "callback", OutcomeSent},
		{Success().Never(), 1, 0, 0, PushNever, "poll", OutcomeSent},
		{Rejected(20001).Never(), 1, 0, 0, PushNever, "poll", OutcomeFailed},
		{Success().Never().Deleted(time.Second), 1, 0, 0, PushNever, "poll", OutcomeDeleted},
		{Success().Lost("40059"), 1, 0, 0, PushNever, "", OutcomeMissing},
		{Success().Lost(PollSending), 1, 0, 0, PushNever, "", OutcomeMissing},
		{Success().Never().Told(History), 1, 0, 0, PushNever, "", OutcomeMissing},
		{Success().Never().Told(Unrecorded), 1, 0, 0, PushNever, "", OutcomeUnseen},
		{Success().Told(Unrecorded), 1, 1, 1, PushDelivered, "callback", OutcomeSent},
	} {
		s := start(t, Config{Accounts: []Account{{}}})
		r := newReceiver(t, s, nil)
		appid := s.Accounts()[0].AppID
		arrange(t, s, appid, v.plan)
		submit(t, s, appid, Send{Audience: All()})
		drain(t, s)
		e := s.Ledger().Entries[0]
		if e.Pushes != v.pushes || e.Attempts != v.attempts || e.Answered != v.answered || len(r.all()) != v.attempts ||
			e.Callback != v.state || e.DecidedBy != v.decided || e.Outcome != v.outcome {
			t.Errorf("%s: %d pushes, %d attempts, %d answered, %s, %s by %q", v.plan.Case,
				e.Pushes, e.Attempts, e.Answered, e.Callback, e.Outcome, e.DecidedBy)
		}
	}
}

func TestHeldCallbackWaits(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}})
	r := newReceiver(t, s, nil)
	appid := s.Accounts()[0].AppID
	arrange(t, s, appid, Success().Held(), Rejected(10001).Held())
	first := submit(t, s, appid, Send{Audience: All()})
	submit(t, s, appid, Send{Audience: All()})
	drain(t, s)
	if e := s.Ledger().Entries[0]; len(r.all()) != 0 || e.Callback != PushHeld || e.DecidedBy != "poll" {
		t.Fatalf("%d pushes, %s, decided by %s", len(r.all()), e.Callback, e.DecidedBy)
	}
	if !s.Release(appid, first.MsgID) || s.Release(appid, first.MsgID) || s.ReleaseAll() != 1 {
		t.Error("released other than one and one")
	}
	drain(t, s)
	if e := s.Ledger().Entries[1]; len(r.all()) != 2 || e.Outcome != OutcomeRejected {
		t.Errorf("%d pushes, %s", len(r.all()), e.Outcome)
	}
}

func TestSlowReceiverIsUncertain(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}, AttemptTimeout: 20 * time.Millisecond})
	newReceiver(t, s, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	submit(t, s, s.Accounts()[0].AppID, Send{Audience: All()})
	drain(t, s)
	e := s.Ledger().Entries[0]
	if e.Callback != PushGivenUp || e.Attempts != 3 || e.Taken || !e.Uncertain {
		t.Errorf("%s after %d attempts, taken %v, uncertain %v", e.Callback, e.Attempts, e.Taken, e.Uncertain)
	}
}

func TestBrokenConnectionIsRetried(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}})
	newReceiver(t, s, nil)
	appid := s.Accounts()[0].AppID
	arrange(t, s, appid, Success().HungUp(2))
	submit(t, s, appid, Send{Audience: All()})
	drain(t, s)
	e := s.Ledger().Entries[0]
	if e.Callback != PushDelivered || e.Attempts != 3 || e.Answered != 1 {
		t.Errorf("%s after %d attempts, %d answered", e.Callback, e.Attempts, e.Answered)
	}
}

func TestPlatformPushes(t *testing.T) {
	s := start(t, Config{Components: []Component{{}}, Accounts: []Account{{Mode: Plain, Format: JSON}, {}}})
	component := s.Components()[0].AppID
	r := newReceiver(t, s, nil)
	both, only := s.Accounts()[0].AppID, s.Accounts()[1].AppID
	for appid, url := range map[string]string{both: r.URL + "/callback/" + both, only: ""} {
		if err := s.Update(appid, func(a *Account) { a.Component, a.CallbackURL = component, url }); err != nil {
			t.Fatal(err)
		}
	}
	arrange(t, s, both, Success().Twice())
	submit(t, s, both, Send{Audience: All()})
	submit(t, s, only, Send{Audience: All()})
	drain(t, s)
	var paths []string
	for _, p := range r.all() {
		paths = append(paths, p.path)
		if strings.HasPrefix(p.path, "/platform/") && (p.contentType != "text/xml" || !p.query.Has("msg_signature")) {
			t.Errorf("a platform gets XML in safe mode, not %s", p.contentType)
		}
	}
	slices.Sort(paths)
	want := []string{"/callback/" + both, "/platform/" + component + "/callback/" + both, "/platform/" + component + "/callback/" + only}
	slices.Sort(want)
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	if err := s.VerifyURL(context.Background(), only); err != nil {
		t.Error(err)
	}
}

func TestTicket(t *testing.T) {
	s := start(t, Config{Components: []Component{{AppID: "wxc", TicketURL: "http://127.0.0.1:1/"}}, Accounts: []Account{{Component: "wxc"}}})
	r := newReceiver(t, s, nil)
	s.mu.Lock()
	s.components["wxc"].TicketURL = r.URL + "/ticket/wxc"
	s.mu.Unlock()
	if err := s.PushTicket("wxc"); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	p := r.all()[0]
	if !strings.Contains(string(p.clear), "<InfoType><![CDATA[component_verify_ticket]]>") || strings.Contains(string(p.clear), "ToUserName") || p.query.Has("openid") {
		t.Errorf("notice %s", p.clear)
	}
	if err := s.PushTicket("wxd"); err == nil {
		t.Error("a ticket for an unknown platform")
	}
}

func TestOtherPushes(t *testing.T) {
	for _, format := range []Format{XML, JSON} {
		s := start(t, Config{Accounts: []Account{{Format: format}}})
		r := newReceiver(t, s, func(_ int, w http.ResponseWriter, _ *http.Request) { say(w, 200, "<xml><MsgType/></xml>") })
		appid := s.Accounts()[0].AppID
		for _, push := range []error{
			s.PushText(appid, "a <b> & ]]> \"c\""), s.PushTemplateResult(appid, "failed:user block"), s.PushPublishResult(appid, 0), s.PushPublishResult(appid, 2),
		} {
			if push != nil {
				t.Fatal(push)
			}
		}
		drain(t, s)
		var states []PushState
		for _, o := range s.Ledger().Others {
			states = append(states, o.State)
			if o.Kind == "TEMPLATESENDJOBFINISH" && o.ID <= 1<<53 {
				t.Errorf("template MsgID %d fits a float", o.ID)
			}
		}
		// Only an ordinary message may be answered with a message.
		if diff := cmp.Diff([]PushState{PushDelivered, PushGivenUp, PushGivenUp, PushGivenUp}, states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if len(s.Ledger().Entries) != 0 {
			t.Error("other pushes are in the ledger of mass sends")
		}
		for _, p := range r.all() {
			checkOther(t, format, p.clear)
		}
	}
}

func TestVerifyURL(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}})
	appid := s.Accounts()[0].AppID
	if err := s.VerifyURL(context.Background(), appid); err == nil {
		t.Error("verified without a URL")
	}
	newReceiver(t, s, nil)
	if err := s.VerifyURL(context.Background(), appid); err != nil {
		t.Error(err)
	}
	bad := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { say(w, 200, `"`+r.FormValue("echostr")+`"`) })
	s.delivery.client.Transport = handlerTransport{bad}
	if err := s.VerifyURL(context.Background(), appid); !errors.Is(err, errEcho) {
		t.Errorf("error %v for a quoted echostr", err)
	}
}

func TestRotation(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}})
	r := newReceiver(t, s, nil)
	appid := s.Accounts()[0].AppID
	next := draw(9, "rotation")
	if err := s.Update(appid, func(a *Account) { a.Token, a.AESKey = next.text(8), next.text(43) }); err != nil {
		t.Fatal(err)
	}
	submit(t, s, appid, Send{Audience: All()}) // the receiver checks by the new ones
	drain(t, s)
	if got := len(r.all()); got != 1 {
		t.Errorf("%d pushes", got)
	}
	if err := s.Update(appid, func(a *Account) { a.AESKey = "short" }); err == nil {
		t.Error("took a short key")
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	s := start(t, Config{Accounts: []Account{{}}, Scale: 1})
	submit(t, s, s.Accounts()[0].AppID, Send{Audience: All()})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 pushes") {
		t.Errorf("error %v", err)
	}
	if e := s.Ledger().Entries[0]; e.Callback != PushDue || e.DecidedBy != "callback" {
		t.Errorf("%s, decided by %s", e.Callback, e.DecidedBy)
	}
}

// Close while a receiver hangs: the attempt is cut off and the push stays due.
func TestCloseCutsAttemptsOff(t *testing.T) {
	s, err := New(Config{Accounts: []Account{{}}, Scale: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	arrived := make(chan struct{}, 3)
	newReceiver(t, s, func(_ int, _ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	submit(t, s, s.Accounts()[0].AppID, Send{Audience: All()})
	<-arrived
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if e := s.Ledger().Entries[0]; e.Callback != PushDue || e.Attempts != 1 || !e.Uncertain {
		t.Errorf("%s after %d attempts", e.Callback, e.Attempts)
	}
}

func TestCloseWithoutStart(t *testing.T) {
	s, err := New(Config{Accounts: []Account{{}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
