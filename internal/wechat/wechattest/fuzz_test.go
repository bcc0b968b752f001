package wechattest

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Whatever is posted to the API: no panic, HTTP 200, a JSON object, and either
// an errcode other than 0 or a message that mass/get then knows.
func FuzzAPI(f *testing.F) {
	for _, body := range []string{toAll + "}", toTag + "}", toList + "}", `{"msg_id":"1000000001"}`, `{"msg_id":1,"article_idx":2}`, `{"cgi_path":"/x"}`, `{}`, `[]`, `null`, "\xff"} {
		for path := range 6 {
			f.Add(path, body)
		}
	}
	s, err := New(Config{Accounts: []Account{{}}, Limits: Limits{PerMinute: 1 << 40, SendPerDay: 1 << 40, GetPerDay: 1 << 40, Delete: 1 << 40, Preview: 1 << 40}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	token, err := s.Token(s.Accounts()[0].AppID)
	if err != nil {
		f.Fatal(err)
	}
	paths := []string{pathSendAll, pathSend, pathGet, pathDelete, pathPreview, pathQuota, pathClear, pathStable}
	f.Fuzz(func(t *testing.T, path int, body string) {
		at := paths[uint(path)%uint(len(paths))]
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, at+"?access_token="+url.QueryEscape(token), strings.NewReader(body)))
		var answer struct {
			Code  int64 `json:"errcode"`
			MsgID int64 `json:"msg_id"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
			t.Fatalf("HTTP %d, %v: %s", w.Code, err, w.Body)
		}
		sent := at == pathSendAll || at == pathSend
		if sent && answer.Code == 0 {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.accounts[s.order[0]].messages[answer.MsgID] == nil {
				t.Fatalf("msg_id %d is not there", answer.MsgID)
			}
		}
	})
}

// Whatever text a document carries, readers get it back: from XML if it is
// legal there, from JSON always, but for bytes that are no UTF-8.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{"", "send success", "]]>", "]]]]>>", "<a>&amp;\"'", "你好\n", "\u2028"} {
		f.Add(s, int64(1), false)
	}
	f.Fuzz(func(t *testing.T, s string, n int64, quoted bool) {
		fields := []field{text("Status", s), number("MsgID", n)}
		var got struct {
			Status string
			MsgID  json.Number
		}
		if err := json.Unmarshal(writeDocument(JSON, Style{Quoted: quoted}, fields), &got); err != nil {
			t.Fatal(err)
		}
		// Every byte that is no UTF-8 becomes U+FFFD, in the conversion as in JSON.
		if got.Status != string([]rune(s)) {
			t.Errorf("JSON gave %q for %q", got.Status, s)
		}
		var x struct {
			Status string
			MsgID  int64
		}
		if err := xml.Unmarshal(writeDocument(XML, Style{}, fields), &x); err != nil {
			return // characters that no XML document may have
		}
		want := strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
		if x.Status != want || x.MsgID != n {
			t.Errorf("XML gave %q %d for %q %d", x.Status, x.MsgID, s, n)
		}
	})
}
