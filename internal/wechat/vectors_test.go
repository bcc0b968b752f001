package wechat

import (
	"crypto/cipher"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vectors are the samples that WeChat's documentation publishes.
type vectors struct {
	URLVerify vector   `json:"url_verify"`
	PlainPost vector   `json:"plain_post"`
	Decrypt   []vector `json:"decrypt"`
	Encrypt   []vector `json:"encrypt"`
}

type vector struct {
	Name, Token, Key, AppID, Timestamp, Nonce, Echostr, Signature string
	MsgSignature                                                  string `json:"msg_signature"`
	Encrypt, Random, Msg                                          string
}

func (v vector) query() url.Values {
	q := url.Values{"timestamp": {v.Timestamp}, "nonce": {v.Nonce}, "signature": {v.Signature}}
	if v.Echostr != "" {
		q.Set("echostr", v.Echostr)
	}
	if v.MsgSignature != "" {
		q.Set("msg_signature", v.MsgSignature)
		q.Set("encrypt_type", "aes")
	}
	return q
}

func (v vector) verifier(t testing.TB) *Verifier {
	t.Helper()
	k := Keys{AppID: v.AppID, Tokens: []string{v.Token}}
	if v.Key != "" {
		k.AESKeys = []string{v.Key}
	}
	return mustVerifier(t, k)
}

func mustVerifier(t testing.TB, k Keys) *Verifier {
	t.Helper()
	v, err := NewVerifier(k)
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	return v
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func publishedVectors(t testing.TB) vectors {
	t.Helper()
	var v vectors
	if err := json.Unmarshal(readFile(t, "vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Decrypt) != 2 || len(v.Encrypt) != 1 || v.URLVerify.Signature == "" || v.PlainPost.Signature == "" {
		t.Fatal("testdata/vectors.json lacks vectors")
	}
	return v
}

func TestPublishedURLVerification(t *testing.T) {
	v := publishedVectors(t).URLVerify
	echo, err := v.verifier(t).VerifyURL(v.query())
	if err != nil || echo != v.Echostr {
		t.Errorf("VerifyURL = %q, %v; want %q", echo, err, v.Echostr)
	}
}

func TestPublishedPlainPost(t *testing.T) {
	v := publishedVectors(t).PlainPost
	body := []byte("<xml><MsgType>event</MsgType></xml>")
	p, err := v.verifier(t).Open(v.query(), "text/xml", body)
	if err != nil {
		t.Fatal(err)
	}
	if p.Mode != ModePlain || p.Format != FormatXML || string(p.Body) != string(body) || p.Timestamp.Unix() != 1714037059 || p.KeyIndex != -1 {
		t.Errorf("Open = %+v", p)
	}
}

func TestPublishedEncryptedPosts(t *testing.T) {
	for _, v := range publishedVectors(t).Decrypt {
		t.Run(v.Name, func(t *testing.T) {
			p, err := v.verifier(t).Open(v.query(), "", encryptedJSON(v.Encrypt))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]struct {
				len         int
				format, has string
			}{
				"F-json-mp":              {167, FormatJSON, `"Event":"debug_demo"`},
				"C-python-sample-compat": {280, FormatXML, "<MsgId>6054768590064713728</MsgId>"},
			}[v.Name]
			if p.Mode != ModeSafe || p.Format != want.format || len(p.Body) != want.len || !strings.Contains(string(p.Body), want.has) {
				t.Errorf("Open = mode %s, format %s, %d bytes %q", p.Mode, p.Format, len(p.Body), p.Body)
			}
		})
	}
}

func TestPublishedReply(t *testing.T) {
	for _, v := range publishedVectors(t).Encrypt {
		t.Run(v.Name, func(t *testing.T) {
			got, err := Encrypt(v.Key, v.AppID, [16]byte([]byte(v.Random)), []byte(v.Msg))
			if err != nil || got != v.Encrypt {
				t.Errorf("Encrypt = %q, %v; want %q", got, err, v.Encrypt)
			}
			if got := Sign(v.Token, v.Timestamp, v.Nonce, v.Encrypt); got != v.MsgSignature {
				t.Errorf("Sign = %s, want %s", got, v.MsgSignature)
			}
		})
	}
}

func encryptedJSON(encrypt string) []byte {
	b, _ := json.Marshal(map[string]string{"ToUserName": "gh_97417a04a28d", "Encrypt": encrypt})
	return b
}

func encryptedXML(encrypt string) []byte {
	return []byte("<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName><Encrypt><![CDATA[" + encrypt + "]]></Encrypt></xml>")
}

func jsonString(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func jsonNumber(v int64) string { return strconv.FormatInt(v, 10) }

// randomOf returns the random bytes at the start of an encrypted message.
func randomOf(k key, raw []byte) (random [randomLen]byte) {
	cipher.NewCBCDecrypter(k.block, k.iv).CryptBlocks(random[:], raw[:randomLen])
	return random
}
