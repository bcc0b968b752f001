package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/wechat"
)

// received is what a server gets of a request, opened as ingest does.
type received struct {
	path string
	push wechat.Push
	err  error
}

// wechatServer opens what it gets, and answers success.
func wechatServer(t *testing.T, keys wechat.Keys) (address string, got *received) {
	t.Helper()
	v, err := wechat.NewVerifier(keys)
	if err != nil {
		t.Fatal(err)
	}
	got = &received{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.path = r.URL.Path
		got.push, got.err = v.Open(r.URL.Query(), r.Header.Get("Content-Type"), body)
		if got.err != nil {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "success")
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

func TestCallbackSignModes(t *testing.T) {
	t.Chdir(t.TempDir())
	url, got := wechatServer(t, wechat.Keys{AppID: "wxsafe", Tokens: []string{testToken}, AESKeys: []string{testKey}, AllowPlain: true})
	for _, mode := range []string{wechat.ModePlain, wechat.ModeCompatible, wechat.ModeSafe} {
		for _, format := range []string{wechat.FormatXML, wechat.FormatJSON} {
			res := runWith(t, "", "callback", "sign", "--appid", "wxsafe", "--token", testToken, "--aes-key", testKey, "--mode", mode, "--body-format", format,
				"--total", "1000", "--filtered", "50", "--errors", "5", "--msg-id", "3147483999", "--post", url)
			if res.code != 0 || !strings.Contains(res.stdout, "200 OK\nsuccess") {
				t.Fatalf("%s %s: code %d\n%s%s", mode, format, res.code, res.stdout, res.stderr)
			}
			if got.push.Mode != mode || got.push.Format != format || got.path != "/callback/wxsafe" {
				t.Errorf("%s %s arrived at %s as %s %s", mode, format, got.path, got.push.Mode, got.push.Format)
			}
			f, err := wechat.ParseMassSendJobFinish(got.push.Format, got.push.Body)
			if err != nil {
				t.Fatal(err)
			}
			counts := []int64{f.MsgID, *f.TotalCount, *f.FilterCount, *f.SentCount, *f.ErrorCount}
			if d := cmp.Diff([]int64{3147483999, 1000, 950, 945, 5}, counts); d != "" {
				t.Errorf("%s %s (-want, +got):\n%s", mode, format, d)
			}
		}
	}
}

// A body of one's own is sent byte for byte, in clear or encrypted.
func TestCallbackSignBody(t *testing.T) {
	t.Chdir(t.TempDir())
	url, got := wechatServer(t, wechat.Keys{AppID: "wxsafe", Tokens: []string{testToken}, AESKeys: []string{testKey}})
	for _, body := range []string{
		"<xml><ToUserName>gh_1</ToUserName><MsgType>text</MsgType><Content>it's 中文 &amp; more</Content></xml>",
		`{"ToUserName":"gh_1","MsgType":"event","Event":"view","note":"it's } in a text"}`,
	} {
		for _, mode := range []string{"safe", "compatible"} {
			res := runWith(t, body, "callback", "sign", "-", "--appid", "wxsafe", "--token", testToken, "--aes-key", testKey, "--mode", mode, "--post", url)
			if res.code != 0 || string(got.push.Body) != body {
				t.Errorf("%s: code %d, %s, arrived: %s", mode, res.code, res.stderr, got.push.Body)
			}
		}
	}
}

// What is printed for curl is taken as it is by a shell, and is a good request.
func TestCallbackSignCurl(t *testing.T) {
	t.Chdir(t.TempDir())
	body := "<xml><ToUserName>gh_1</ToUserName><Content>it's $HOME `id`</Content></xml>"
	res := runWith(t, body, "callback", "sign", "-", "--appid", "wxsafe", "--token", testToken, "--curl", "http://localhost:8080/hook")
	if res.code != 0 {
		t.Fatal(res.stderr)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "curl() { for a; do printf '%s\\n' \"$a\"; done; }; "+res.stdout).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSpace(string(out)), "\n")
	target, err := url.Parse(args[1])
	if err != nil || target.Path != "/hook" {
		t.Fatalf("the URL is %s, %v", args[1], err)
	}
	v, err := wechat.NewVerifier(wechat.Keys{Tokens: []string{testToken}})
	if err != nil {
		t.Fatal(err)
	}
	push, err := v.Open(target.Query(), "text/xml", []byte(args[len(args)-1]))
	if err != nil || string(push.Body) != body {
		t.Errorf("opened %q, %v", push.Body, err)
	}
}

// The configuration has the keys: the first of each, those of a platform for its accounts.
func TestCallbackSignConfigured(t *testing.T) {
	path := writeFile(t, "qunfa.yaml", testConfig+`
  - {appid: wxplatform, original_id: gh_000000000001, platform: wxcomponent}
platforms:
  - {component_appid: wxcomponent, tokens: [componenttoken], aes_keys: [`+testKey2+`]}
`)
	for appid, keys := range map[string]wechat.Keys{
		"wxsafe":     {AppID: "wxsafe", Tokens: []string{testToken}, AESKeys: []string{testKey}},
		"wxplatform": {AppID: "wxcomponent", Tokens: []string{"componenttoken"}, AESKeys: []string{testKey2}},
	} {
		url, got := wechatServer(t, keys)
		res := runWith(t, "", "callback", "sign", "--config", path, "--appid", appid, "--status", "err(20431)", "--post", url)
		if res.code != 0 {
			t.Fatalf("%s: %s%s", appid, res.stdout, res.stderr)
		}
		f, err := wechat.ParseMassSendJobFinish(got.push.Format, got.push.Body)
		if err != nil || *f.TotalCount != 0 || *f.FilterCount != 0 || f.Status != "err(20431)" {
			t.Errorf("%s: %+v, %v", appid, f, err)
		}
		if appid == "wxplatform" && got.path != "/platform/wxcomponent/callback/wxplatform" {
			t.Errorf("a platform's callback arrived at %s", got.path)
		}
	}
	res := runWith(t, "", "callback", "sign", "--config", path)
	if res.code != 2 && !strings.Contains(res.stderr, "give --appid") {
		t.Errorf("with two accounts and none named: %d %s", res.code, res.stderr)
	}
}

func TestCallbackSignRefusals(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, args := range map[string][]string{
		"no keys at all":   {"--appid", "wxnone"},
		"safe without key": {"--appid", "wx1", "--token", "abc", "--mode", "safe"},
		"short key":        {"--appid", "wx1", "--token", "abc", "--aes-key", "tooshort"},
		"more than all":    {"--appid", "wx1", "--token", "abc", "--total", "1", "--filtered", "2"},
		"end of CDATA":     {"--appid", "wx1", "--token", "abc", "--status", "]]>"},
		"two outputs":      {"--appid", "wx1", "--token", "abc", "--curl", "http://h", "--post", "http://h"},
		"no URL":           {"--appid", "wx1", "--token", "abc", "--post", "http://"},
	} {
		if res := runWith(t, "", append([]string{"callback", "sign"}, args...)...); res.code == 0 || res.stdout != "" {
			t.Errorf("%s: code %d, %s", name, res.code, res.stdout)
		}
	}
	url, _ := wechatServer(t, wechat.Keys{Tokens: []string{"another"}})
	res := runWith(t, "", "callback", "sign", "--appid", "wx1", "--token", "abc", "--post", url)
	if res.code != 1 || !strings.Contains(res.stdout, "403") {
		t.Errorf("refused by the server: %d\n%s%s", res.code, res.stdout, res.stderr)
	}
}
