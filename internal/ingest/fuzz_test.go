package ingest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

var fuzzNow = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)

func fuzzServer(f *testing.F) (*Server, *bench) {
	s, b := newServer(f, func(c *Config, d *Deps, _ *fixture) {
		d.Clock = func() time.Time { return fuzzNow }
		d.Logger = slog.New(slog.DiscardHandler)
		c.BodyLimit = 64 << 10
	})
	f.Cleanup(func() { _ = s.Close() })
	return s, b
}

// Whatever arrives at a callback URL: no panic; success only for a push whose
// signature was made with a token, and anything recorded only together with
// success; what was recorded can be read back; nothing is recorded of a GET.
func FuzzCallback(f *testing.F) {
	s, b := fuzzServer(f)
	made := map[string]bool{} // signatures that were made with a token
	add := func(p sent, query string) {
		p.at, p.nonce = fuzzNow, "n"+p.mode+p.format
		q, body := p.build(f)
		made[q.Get("signature")] = true
		made[q.Get("msg_signature")] = true
		f.Add(http.MethodPost, p.path, q.Encode()+query, "text/xml", body)
	}
	add(plainPush(massXML("gh_plain", 7, "send success")), "")
	add(plainPush(chat), "&echostr=x")
	add(plainPush(massJSON("gh_plain", 7, "err(10001)")), "")
	add(safePush(massXML("gh_safe", 7, "send success")), "")
	add(safePush("<xml><Event>MASSSENDJOBFINISH<"), "")
	add(platformPush(massXML("gh_child", 7, "send success")), "")
	delete(made, "")
	for _, mode := range []string{wechat.ModeCompatible, wechat.ModeSafe} {
		p := safePush(massJSON("gh_safe", 7, "send fail"))
		p.mode, p.format = mode, "json"
		add(p, "")
	}
	f.Add(http.MethodGet, "/callback/"+plainApp, "signature=x&timestamp=1&nonce=1&echostr=1", "", "")
	f.Add("PUT", "/callback/"+plainApp, "%zz;&=", "\x00", "\xff")

	f.Fuzz(func(t *testing.T, method, path, query, contentType, body string) {
		req := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Content-Type": {contentType}},
			Body: http.NoBody, ContentLength: int64(len(body)), RemoteAddr: "192.0.2.1:1", Host: "h", Proto: "HTTP/1.1",
		}
		if body != "" {
			req.Body = io.NopCloser(strings.NewReader(body))
		}
		before := len(b.events.all()) + len(b.dead.all())
		faults := testutil.ToFloat64(s.metrics.callbacks.WithLabelValues(resultInternal))
		w := httptest.NewRecorder()
		s.public.http.Handler.ServeHTTP(w, req.WithContext(context.Background()))
		if now := testutil.ToFloat64(s.metrics.callbacks.WithLabelValues(resultInternal)); now != faults {
			t.Fatal("a panic")
		}
		recorded := len(b.events.all()) + len(b.dead.all()) - before
		checkFuzzed(t, b, made, req, w, recorded)
	})
}

func checkFuzzed(t *testing.T, b *bench, made map[string]bool, req *http.Request, w *httptest.ResponseRecorder, recorded int) {
	t.Helper()
	ok := w.Code >= 200 && w.Code <= 299
	q := req.URL.Query()
	// The 3-argument signature covers no body: it is enough for a URL check and in plain mode only.
	signed := made[q.Get("msg_signature")]
	if req.Method != http.MethodPost || strings.HasSuffix(req.URL.Path, plainApp) {
		signed = signed || made[q.Get("signature")]
	}
	if ok && !signed {
		t.Fatalf("%d for an unsigned %s %s", w.Code, req.Method, req.URL)
	}
	if recorded > 0 && (!ok || w.Body.String() != "success" || req.Method != http.MethodPost) {
		t.Fatalf("recorded, but answered %d %q", w.Code, w.Body)
	}
	if all := b.events.all(); len(all) > 0 {
		if _, err := events.Decode(events.Message{Record: all[len(all)-1]}); err != nil {
			t.Fatal(err)
		}
	}
	b.events.clear()
	b.dead.clear()
}

// Whatever a caller with a token sends to the record API: no panic, an answer
// that is JSON, and numbers in it that add up and agree with what was recorded.
func FuzzSubmissions(f *testing.F) {
	s, b := fuzzServer(f)
	f.Add("application/json", record(safeApp, 1))
	f.Add("", `{"submissions":[`+record(safeApp, 1)+`,{},7]}`)
	f.Add("application/x-ndjson", record(safeApp, 1)+"\n{oops\n")
	f.Add("text/csv", "appid,msg_id\n"+safeApp+",1\nx,2\n")
	f.Add("text/csv; =", "\xff\"")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		req := httptest.NewRequest(http.MethodPost, "/v1/submissions", strings.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Authorization", "Bearer "+apiToken)
		w := httptest.NewRecorder()
		s.internal.http.Handler.ServeHTTP(w, req)
		var got Reply
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("answer %q: %v", w.Body, err)
		}
		recorded := len(b.events.all())
		b.events.clear()
		if w.Code >= 500 || got.Accepted != recorded || got.Accepted+got.Rejected != len(got.Results) {
			t.Fatalf("status %d, %d recorded: %+v", w.Code, recorded, got)
		}
		if (w.Code == 200) != (got.Rejected == 0 && got.Error == "") {
			t.Fatalf("status %d: %+v", w.Code, got)
		}
	})
}
