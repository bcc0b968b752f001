package ingest

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"qunfa/internal/wechat"
)

// series is one that a hostile request must move by one.
type series struct{ name, label, value string }

func callbackResult(r string) series { return series{"qunfa_callbacks_total", "result", r} }

func connResult(r string) series { return series{"qunfa_callback_connections_total", "result", r} }

// hostile is what is written to a fresh connection, byte for byte, and what must
// come of it. Status 0: the connection is closed without an answer.
type hostile struct {
	send   string
	status int
	counts series
}

// raw writes a request with these header lines.
func raw(method, target, version, body string, headers ...string) string {
	return fmt.Sprintf("%s %s %s\r\nHost: x\r\n%s\r\n%s", method, target, version, strings.Join(append(headers, ""), "\r\n"), body)
}

func length(body string) string { return fmt.Sprintf("Content-Length: %d", len(body)) }

// posted is a whole push on the wire.
func posted(t *testing.T, s sent, change func(q url.Values, body string) string, headers ...string) string {
	t.Helper()
	q, body := s.build(t)
	if change != nil {
		body = change(q, body)
	}
	return raw("POST", s.path+"?"+q.Encode(), "HTTP/1.1", body, append(headers, length(body), "Content-Type: text/xml", "Connection: close")...)
}

func packed(pack func(io.Writer) io.WriteCloser, size int) string {
	var b bytes.Buffer
	w := pack(&b)
	_, _ = w.Write(make([]byte, size))
	_ = w.Close()
	return b.String()
}

const huge = 200 << 20 // what a bomb would become

// most is what one hostile request may allocate, test included.
const most = 24 << 20

// TestHostileInput sends everything that no WeChat would send over real
// connections. Each must get the right answer, be counted under the right name,
// be recorded nowhere, and cost little memory.
func TestHostileInput(t *testing.T) {
	for name, c := range hostiles(t) {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.BodyTimeout = 200 * time.Millisecond })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if got := b.wire(c.send); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > most {
				t.Errorf("it cost %d MiB of memory", n>>20)
			}
			eventually(t, "counted as "+c.counts.value, func() bool {
				return b.value(c.counts.name, map[string]string{c.counts.label: c.counts.value}) == 1
			})
			if n := len(b.events.all()) + len(b.dead.all()); n != 0 {
				t.Errorf("%d records were written", n)
			}
			b.wantSuccess(b.push(safePush(massXML("gh_safe", 1, "send success")))) // and others are served
		})
	}
}

func hostiles(t *testing.T) map[string]hostile {
	mass, plainMass := massXML("gh_safe", 7, "send success"), massXML("gh_plain", 7, "send success")
	plain, safe := plainPush(plainMass), safePush(mass)
	at := func(s sent, d time.Duration) sent { s.at = time.Now().Add(d); return s }
	with := func(s sent, change func(*sent)) sent { change(&s); return s }
	gz := packed(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, huge)
	fl := packed(func(w io.Writer) io.WriteCloser { f, _ := flate.NewWriter(w, 9); return f }, huge)
	big := strings.Repeat("x", 1<<20+1)
	replace := func(body string) func(url.Values, string) string {
		return func(url.Values, string) string { return body }
	}
	entities := `<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "` + strings.Repeat("lol", 1000) + `">` +
		`<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><xml><ToUserName>&c;</ToUserName></xml>`
	nested := "<xml>" + strings.Repeat("<a>", 300_000) + "</xml>"
	q, body := plain.build(t)
	target := plain.path + "?" + q.Encode()
	return map[string]hostile{
		"oversize body":                   {posted(t, plain, replace(big)), 413, callbackResult(resultTooLarge)},
		"oversize body that only says so": {raw("POST", target, "HTTP/1.1", "", "Content-Length: 99999999999"), 413, callbackResult(resultTooLarge)},
		"oversize body, no length":        {raw("POST", target, "HTTP/1.1", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big), "Transfer-Encoding: chunked", "Connection: close"), 413, callbackResult(resultTooLarge)},
		"body that stops":                 {raw("POST", target, "HTTP/1.1", "<xml>", "Content-Length: 500"), 408, callbackResult(resultUnread)},
		"chunked rubbish":                 {raw("POST", target, "HTTP/1.1", "zzz\r\nnonsense", "Transfer-Encoding: chunked"), 408, callbackResult(resultUnread)},
		"unknown transfer encoding":       {raw("POST", target, "HTTP/1.1", body, "Transfer-Encoding: gzip"), 501, connResult(connNoRequest)},
		"two lengths":                     {raw("POST", target, "HTTP/1.1", body, "Content-Length: 1", "Content-Length: 2"), 400, connResult(connNoRequest)},
		// Nothing is unpacked, and a push that is not ours is upstream's to judge.
		"gzip bomb, plain":                   {posted(t, plain, replace(gz), "Content-Encoding: gzip"), 200, callbackResult(resultPassed)},
		"deflate bomb, plain":                {posted(t, plain, replace(fl), "Content-Encoding: deflate"), 200, callbackResult(resultPassed)},
		"gzip bomb, safe":                    {posted(t, safe, replace(gz), "Content-Encoding: gzip"), 400, callbackResult(string(wechat.ReasonBadBody))},
		"gzip bomb, called brotli":           {posted(t, safe, replace(gz), "Content-Encoding: br"), 400, callbackResult(string(wechat.ReasonBadBody))},
		"entities in XML":                    {posted(t, safe, replace(entities)), 400, callbackResult(string(wechat.ReasonBadBody))},
		"nested XML":                         {posted(t, safe, replace(nested)), 400, callbackResult(string(wechat.ReasonBadBody))},
		"nested JSON":                        {posted(t, safe, replace(strings.Repeat(`{"a":`, 200_000))), 400, callbackResult(string(wechat.ReasonBadBody))},
		"bad base64":                         {posted(t, safe, forged("!!!! not base64 !!!!")), 403, callbackResult(string(wechat.ReasonDecrypt))},
		"base64 of no whole blocks":          {posted(t, safe, forged("YWJj")), 403, callbackResult(string(wechat.ReasonDecrypt))},
		"safe, replayed with another body":   {posted(t, safe, func(_ url.Values, _ string) string { _, other := safePush(mass + " ").build(t); return other }), 403, callbackResult(string(wechat.ReasonSignature))},
		"plain, replayed after the window":   {posted(t, at(plain, -6*time.Minute), nil), 403, callbackResult(string(wechat.ReasonTimestamp))},
		"plain, from the future":             {posted(t, at(plain, time.Hour), nil), 403, callbackResult(string(wechat.ReasonTimestamp))},
		"plain, another account's body":      {posted(t, plain, replace(mass)), 403, callbackResult(resultMismatch)},
		"safe, another account's ciphertext": {posted(t, with(safe, func(s *sent) { s.appid = plainApp }), nil), 403, callbackResult(string(wechat.ReasonAppID))},
		"platform, another component's":      {posted(t, with(platformPush(mass), func(s *sent) { s.appid = "wx00000000000000ff" }), nil), 403, callbackResult(string(wechat.ReasonAppID))},
		"platform, another account's body":   {posted(t, platformPush(mass), nil), 403, callbackResult(resultMismatch)},
		"unknown account":                    {posted(t, with(plain, func(s *sent) { s.path = "/callback/wxnobody" }), nil), 404, callbackResult(resultUnknownAccount)},
		"wrong path":                         {raw("GET", "/wp-login.php", "HTTP/1.1", "", "Connection: close"), 404, callbackResult(resultWrongPath)},
		"path above the root":                {raw("GET", "/callback/a/b/c", "HTTP/1.1", "", "Connection: close"), 404, callbackResult(resultWrongPath)},
		"wrong method":                       {raw("DELETE", target, "HTTP/1.1", "", "Connection: close"), 405, callbackResult(resultMethod)},
		"method nobody knows":                {raw("BREW", target, "HTTP/1.1", "", "Connection: close"), 405, callbackResult(resultMethod)},
		"huge header":                        {raw("POST", target, "HTTP/1.1", "", "X-Padding: "+strings.Repeat("x", 64<<10)), 431, connResult(connNoRequest)},
		"huge query":                         {raw("POST", target+"&x="+strings.Repeat("x", 64<<10), "HTTP/1.1", ""), 431, connResult(connNoRequest)},
		"no HTTP":                            {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n", 400, connResult(connNoRequest)},
		"HTTP of another age":                {raw("POST", target, "HTTP/3.7", ""), 505, connResult(connNoRequest)},
		"no Host":                            {"GET " + target + " HTTP/1.1\r\n\r\n", 400, connResult(connNoRequest)},
		"headers, and no end":                {"POST " + target + " HTTP/1.1\r\nHost: x\r\nX-A: b\r\n", 0, connResult(connNoRequest)},
		"half a body, then gone":             {raw("POST", target, "HTTP/1.0", body[:40], length(body)), 408, callbackResult(resultUnread)},
	}
}

// forged replaces the ciphertext by another that is signed as it should be: as
// only somebody with the token, and without the key, could.
func forged(encrypted string) func(url.Values, string) string {
	return func(q url.Values, _ string) string {
		q.Set("msg_signature", wechat.Sign(tokenNow, q.Get("timestamp"), q.Get("nonce"), encrypted))
		return "<xml><Encrypt>" + encrypted + "</Encrypt></xml>"
	}
}

// wire writes to a connection of its own and returns the status of the answer,
// or 0 if it was closed without one.
func (b *bench) wire(send string) (status int) {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.server.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	_, _ = io.WriteString(conn, send) // the server may have answered and closed before the end
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if isTimeout(err) {
			b.t.Fatal("the connection was held open")
		}
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// HTTP 1.0 is old, and not hostile.
func TestOldHTTP(t *testing.T) {
	b := start(t)
	s := safePush(massXML("gh_safe", 7, "send success"))
	q, body := s.build(t)
	if got := b.wire(raw("POST", s.path+"?"+q.Encode(), "HTTP/1.0", body, length(body))); got != 200 {
		t.Errorf("status %d", got)
	}
	b.wantCount("qunfa_callbacks_total", map[string]string{"result": resultFinished}, 1)
}

// A plain URL can be used again with another body while it is young: that is
// WeChat's plain mode, and said so at start. What it says is another event.
func TestPlainReplayWithinTheWindow(t *testing.T) {
	b := start(t)
	s := plainPush(massXML("gh_plain", 7, "send success"))
	q, body := s.build(t)
	b.wantSuccess(b.post(s.path+"?"+q.Encode(), body))
	b.wantSuccess(b.post(s.path+"?"+q.Encode(), massXML("gh_plain", 8, "send fail")))
	if n := len(b.events.all()); n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestManyConnections opens more than are allowed. Those beyond are turned away
// at once and counted, memory stays bounded, and with room there is service again.
func TestManyConnections(t *testing.T) {
	const allowed, asked = 500, 1200
	b := start(t, func(c *Config, _ *Deps, _ *fixture) { c.MaxConnections = allowed })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var open []net.Conn
	for range asked {
		c, err := net.Dial("tcp", b.server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	refused := func() float64 {
		return b.value("qunfa_callback_connections_total", map[string]string{"result": connRefused})
	}
	eventually(t, "the rest is refused", func() bool { return refused() >= asked-allowed })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := b.value("qunfa_callback_connections_open", nil); n > allowed {
		t.Errorf("%v connections are open, want %d at most", n, allowed)
	}
	used := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)
	if most := int64(allowed * 64 << 10); used > most {
		t.Errorf("%d connections hold %d KiB each", allowed, used/allowed>>10)
	}
	for _, c := range open {
		c.Close()
	}
	eventually(t, "there is room again", func() bool { return b.value("qunfa_callback_connections_open", nil) == 0 })
	b.wantSuccess(b.push(safePush(massXML("gh_safe", 1, "send success"))))
}
