package ingest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
)

// Everything that can go wrong goes wrong, and nothing that comes out of the
// service, by whatever way, holds a secret. The log and the metrics hold
// neither bodies nor the signatures of queries either.
func TestNothingSecretComesOut(t *testing.T) {
	const person, words = "oPersonsOpenID", "what a person wrote"
	b := start(t, behind(t, "http://me:UpstreamPassword@127.0.0.1:1/"))
	var out strings.Builder
	note := func(r response) { fmt.Fprintln(&out, r.status, r.body, r.header) }

	text := strings.NewReplacer("o1", person, "hello", words).Replace(chat)
	mass := strings.ReplaceAll(massXML("gh_safe", 7, "send success"), "ov7hP6b1X_yWfnX7Jy3IFQnwJzzM", person)
	pushes := []sent{plainPush(text), safePush(text), safePush(mass), safePush(mass[:300]), plainPush(mass), platformPush(mass)}
	var signatures []string
	send := func(change func(*sent)) {
		for _, p := range pushes {
			change(&p)
			q, body := p.build(t)
			signatures = append(signatures, q.Get("signature"), q.Get("msg_signature"))
			note(b.post(p.path+"?"+q.Encode(), body))
		}
	}
	send(func(*sent) {})
	send(func(p *sent) { p.token += "x" })
	send(func(p *sent) { p.at = time.Now().Add(-time.Hour) })
	send(func(p *sent) { p.appid = "wx9" })
	send(func(p *sent) { p.mode = "plain" })
	b.events.set(errors.New("down"))
	send(func(*sent) {})
	note(b.callWith("Bearer "+apiToken, "", record(safeApp, 1)))
	note(b.callWith("Bearer "+apiToken+"x", "", record(safeApp, 1)))
	req, _ := http.NewRequest(http.MethodGet, b.url("/callback/"+safeApp+"?echostr=a&"+"token="+tokenNow), nil)
	note(b.do(req))
	b.stop()

	service := b.logs.String() + metricsText(t, b)
	for _, r := range append(b.events.all(), b.dead.all()...) {
		fmt.Fprintf(&out, "%s %s %s\n", r.Key, r.Headers, r.Value)
	}
	for _, s := range secrets() {
		if strings.Contains(service, s) || strings.Contains(out.String(), s) {
			t.Errorf("the secret %q came out", s)
		}
	}
	for _, s := range append(signatures, person, words) {
		if s != "" && strings.Contains(service, s) {
			t.Errorf("%q is in the log or the metrics", s)
		}
	}
	if len(b.logs.String()) < 1000 || !strings.Contains(service, "qunfa_callbacks_total") {
		t.Errorf("nothing to look at:\n%s", service)
	}
}

// metricsText must be called while the server still has its metrics; a stopped
// one has none, so a fresh look at the collectors is taken.
func metricsText(t *testing.T, b *bench) string {
	t.Helper()
	if err := b.server.metrics.register(b.reg); err != nil {
		t.Fatal(err)
	}
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}
