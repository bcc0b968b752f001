package wechat

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzOpen: Open never panics, refuses with a *VerifyError of a known reason and without
// secrets, and opens only what carries a signature made with the token: over the encrypted
// message if the account has a key, whatever else the request says.
func FuzzOpen(f *testing.F) {
	q, encrypt := sealed(f, testToken, testKey, testAppID, testBody)
	f.Add(q.Encode(), "text/xml", encryptedXML(encrypt))
	f.Add(q.Encode(), "application/json", encryptedJSON(encrypt))
	f.Add(plainQuery(testToken).Encode(), "text/xml", []byte(testBody))
	f.Add("encrypt_type=aes&timestamp=1&nonce=2&msg_signature=3", "", []byte("<xml><Encrypt>"))
	safe := mustVerifier(f, safeKeys())
	plain := mustVerifier(f, Keys{Tokens: []string{testToken}})
	f.Fuzz(func(t *testing.T, query, contentType string, body []byte) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		for _, v := range []*Verifier{safe, plain} {
			p, err := v.Open(q, contentType, body)
			if err != nil {
				checkRefusal(t, err)
				continue
			}
			if p.Format != FormatXML && p.Format != FormatJSON {
				t.Errorf("format %q", p.Format)
			}
			ts, nonce := q.Get("timestamp"), q.Get("nonce")
			if v == plain {
				if p.Mode != ModePlain || q.Get("signature") != Sign(testToken, ts, nonce) {
					t.Errorf("opened in mode %s with signature %q", p.Mode, q.Get("signature"))
				}
				continue
			}
			encrypted, _, err := findEncrypted(body)
			if err != nil || p.Mode == ModePlain || q.Get("msg_signature") != Sign(testToken, ts, nonce, encrypted) {
				t.Errorf("opened in mode %s with msg_signature %q, %v", p.Mode, q.Get("msg_signature"), err)
			}
		}
	})
}

func checkRefusal(t *testing.T, err error) {
	var ve *VerifyError
	if !errors.As(err, &ve) || !slices.Contains(Reasons(), ve.Reason) {
		t.Errorf("refused with %v", err)
	}
	if s := err.Error(); strings.Contains(s, testToken) || strings.Contains(s, testKey) || len(s) > 500 {
		t.Errorf("error is too long or holds a secret: %q", s)
	}
}

// FuzzParsePush: never panics; reads alike each time; what is the result of a mass send
// by its head is read as one, with the same ids, or gives an error.
func FuzzParsePush(f *testing.F) {
	for _, name := range []string{"finished-2022.xml", "finished-err30003.xml", "finished.json"} {
		body := readFile(f, name)
		f.Add(sniff(body), body)
	}
	f.Add(FormatXML, []byte("<xml><MsgType><![CDATA[text]]></MsgType><MsgId>1</MsgId></xml>"))
	f.Add(FormatJSON, []byte(`{"a":[[{"b":null}]],"MsgId":"1"}`))
	f.Fuzz(func(t *testing.T, format string, body []byte) {
		e, err := ParsePush(format, body)
		again, _ := ParsePush(format, body)
		if e != again {
			t.Errorf("first %+v, then %+v", e, again)
		}
		m, merr := ParseMassSendJobFinish(format, body)
		switch {
		case merr == nil && (err != nil || !e.IsMassSendJobFinish() || e.MsgID != m.MsgID || e.CreateTime != m.CreateTime || e.ToUserName != m.ToUserName):
			t.Errorf("head %+v, %v of %+v", e, err, m)
		case merr != nil && len(merr.Error()) > 600:
			t.Errorf("error of %d bytes", len(merr.Error()))
		}
	})
}

// FuzzParseMassSendJobFinishXML: never panics; what was read, written anew in the plainest
// JSON, is read as the same (so nothing is read that cannot be said).
func FuzzParseMassSendJobFinishXML(f *testing.F) {
	f.Add(readFile(f, "finished-2022.xml"))
	f.Add(readFile(f, "finished-err30003.xml"))
	f.Add([]byte("<xml>" + headXML + "<TotalCount/><Status>&#x41;]</Status></xml>"))
	f.Fuzz(func(t *testing.T, body []byte) { checkRewrite(t, FormatXML, body) })
}

// FuzzParseMassSendJobFinishJSON: as for XML.
func FuzzParseMassSendJobFinishJSON(f *testing.F) {
	f.Add(readFile(f, "finished.json"))
	f.Add([]byte("{" + headJSON + `,"ArticleUrlResult":{"ResultList":[{"ArticleIdx":"1"},{"item":{"ArticleIdx":2}}]}}`))
	f.Add([]byte("{" + headJSON + `,"TotalCount":1e3,"SentCount":true,"Status":"\ud800"}`))
	f.Fuzz(func(t *testing.T, body []byte) { checkRewrite(t, FormatJSON, body) })
}

func checkRewrite(t *testing.T, format string, body []byte) {
	m, err := ParseMassSendJobFinish(format, body)
	if err != nil {
		return
	}
	got, err := ParseMassSendJobFinish(FormatJSON, []byte(plainJSON(fieldsOf(m))))
	if err != nil {
		t.Fatalf("rewritten: %v", err)
	}
	if diff := cmp.Diff(got, dropEmptyItems(m)); diff != "" {
		t.Errorf("rewritten as JSON (-got, +want):\n%s", diff)
	}
}

// plainJSON writes fields in the one obvious way, with characters that cleanJSON
// would change escaped.
func plainJSON(fs []field) string {
	var members []string
	for _, f := range fs {
		switch v := f.value.(type) {
		case []field:
			if f.name == "ResultList" {
				var list []string
				for _, i := range v {
					list = append(list, plainJSON(i.value.([]field)))
				}
				members = append(members, `"ResultList":[`+strings.Join(list, ",")+"]")
				continue
			}
			members = append(members, `"`+f.name+`":`+plainJSON(v))
		case string:
			if v != "" {
				members = append(members, `"`+f.name+`":`+jsonString(v))
			}
		case *int64:
			if v != nil {
				members = append(members, `"`+f.name+`":`+jsonNumber(*v))
			}
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// dropEmptyItems removes articles that say nothing: written as {} they are gone.
func dropEmptyItems(m MassSendJobFinish) MassSendJobFinish {
	if c := m.CopyrightCheckResult; c != nil {
		c.ResultList = slices.DeleteFunc(c.ResultList, func(i CopyrightCheckItem) bool { return i == CopyrightCheckItem{} })
		if len(c.ResultList) == 0 {
			c.ResultList = nil
		}
	}
	if a := m.ArticleURLResult; a != nil {
		a.ResultList = slices.DeleteFunc(a.ResultList, func(i ArticleURLItem) bool { return i == ArticleURLItem{} })
		if len(a.ResultList) == 0 {
			a.ResultList = nil
		}
	}
	return m
}

// FuzzDecrypt: never panics; the message and appid are no longer than the input; and since
// padding, length and order are all checked, only what encrypt makes is accepted:
// encrypting anew gives the same bytes.
func FuzzDecrypt(f *testing.F) {
	for _, v := range publishedVectors(f).Decrypt {
		raw, err := base64.StdEncoding.DecodeString(v.Encrypt)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(v.Key, raw)
	}
	f.Add(testKey, []byte{})
	f.Add(testKey, make([]byte, 32))
	f.Fuzz(func(t *testing.T, encoded string, raw []byte) {
		k, err := parseKey(encoded)
		if err != nil {
			if encoded != "" && strings.Contains(err.Error(), encoded) && len(encoded) > 8 {
				t.Errorf("error quotes the key: %v", err)
			}
			return
		}
		msg, appid, err := k.decrypt(base64.StdEncoding.EncodeToString(raw))
		if err != nil {
			return
		}
		if len(msg)+len(appid)+headLen >= len(raw) {
			t.Errorf("%d bytes of message and %d of appid from %d", len(msg), len(appid), len(raw))
		}
		// The random bytes are lost on decryption; take them from the plaintext.
		again, err := k.encrypt(appid, randomOf(k, raw), msg)
		if err != nil || again != base64.StdEncoding.EncodeToString(raw) {
			t.Errorf("encrypted anew: %q, %v", again, err)
		}
	})
}

// FuzzAnswer: whatever WeChat, or a proxy before it, answers: no panic, a result or
// an error with a class, never both, and no error that holds the token.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{`{"msg_id":7,"msg_status":"SEND_SUCCESS"}`, refusal(40001), `{"quota":{"daily_limit":1,"used":0,"remain":1}}`,
		`{"ip_list":["10.0.0.0/8"]}`, `{"access_token":"T1","expires_in":7200}`, `<html>`} {
		f.Add(200, []byte(body))
	}
	f.Add(502, []byte(""))
	const token = "a-very-secret-token"
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if strings.Contains(string(body), token) {
			return
		}
		c := (&fake{answer: func(int, call) (int, string) { return status, string(body) }}).client(t)
		m, err := c.MassGet(t.Context(), deaf(token), 7)
		checkAnswer(t, err, m == MassStatus{}, token)
		_, err = c.Quota(t.Context(), deaf(token), "/a")
		checkAnswer(t, err, err != nil, token)
		ips, err := c.GetCallbackIP(t.Context(), deaf(token))
		checkAnswer(t, err, len(ips) == 0, token)
		got, err := NewStableToken(c, "wx1", "the-app-secret").Token(t.Context(), "")
		checkAnswer(t, err, got == "", "the-app-secret")
	})
}

func checkAnswer(t *testing.T, err error, empty bool, secret string) {
	t.Helper()
	if (err != nil) != empty {
		t.Errorf("error %v, empty result: %v", err, empty)
	}
	if err != nil && (!slices.Contains(Classes(), Classify(err)) || strings.Contains(err.Error(), secret) || len(err.Error()) > 1000) {
		t.Errorf("class %q of error %q", Classify(err), err)
	}
}
