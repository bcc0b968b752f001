package wechat

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	testToken = "tokenOne"
	oldToken  = "tokenTwo"
	testAppID = "wxba5fad812f8e6fb9"
	testBody  = "<xml><ToUserName>gh_1</ToUserName>" + headXML + "</xml>"
)

var (
	testKey = strings.Repeat("abcdefghijk", 4)[:43]
	oldKey  = strings.Repeat("ABCDEFGHIJK", 4)[:43]
)

// sealed returns the query and the encrypted member of a push.
func sealed(t testing.TB, token, aesKey, appid, msg string) (url.Values, string) {
	t.Helper()
	encrypt, err := Encrypt(aesKey, appid, [16]byte([]byte("0123456789abcdef")), []byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	return sign(token, encrypt), encrypt
}

func sign(token, encrypt string) url.Values {
	return url.Values{"timestamp": {"1714112445"}, "nonce": {"415670741"}, "openid": {"o1"}, "encrypt_type": {"aes"},
		"signature": {Sign(token, "1714112445", "415670741")}, "msg_signature": {Sign(token, "1714112445", "415670741", encrypt)}}
}

func plainQuery(token string) url.Values {
	return url.Values{"timestamp": {"1714112445"}, "nonce": {"415670741"}, "signature": {Sign(token, "1714112445", "415670741")}}
}

func without(q url.Values, names ...string) url.Values { return with(q, "", names...) }

func with(q url.Values, value string, names ...string) url.Values {
	c := url.Values{}
	for k, v := range q {
		if !slices.Contains(names, k) {
			c[k] = v
		}
	}
	for _, n := range names {
		if value != "" {
			c.Set(n, value)
		}
	}
	return c
}

func safeKeys() Keys {
	return Keys{AppID: testAppID, Tokens: []string{testToken}, AESKeys: []string{testKey}}
}

func reasonOf(t testing.TB, err error) Reason {
	t.Helper()
	var ve *VerifyError
	if !errors.As(err, &ve) {
		t.Fatalf("error %v (%T) is no *VerifyError", err, err)
	}
	return ve.Reason
}

func TestOpenModesAndFormats(t *testing.T) {
	const bom = "\xef\xbb\xbf"
	q, encrypt := sealed(t, testToken, testKey, testAppID, testBody)
	jq, jencrypt := sealed(t, testToken, testKey, testAppID, "{"+headJSON+"}")
	compatible := strings.Replace(testBody, "</xml>", "<Encrypt>"+encrypt+"</Encrypt></xml>", 1)
	forged := strings.Replace(compatible, "gh_1", "gh_2", 1)
	for _, c := range []struct {
		name, body, contentType string
		q                       url.Values
		mode, format, want      string
	}{
		{"safe XML", string(encryptedXML(encrypt)), "text/xml", q, ModeSafe, FormatXML, testBody},
		{"safe JSON", string(encryptedJSON(jencrypt)), "application/json", jq, ModeSafe, FormatJSON, "{" + headJSON + "}"},
		{"wrong content type", string(encryptedXML(encrypt)), "application/json", q, ModeSafe, FormatXML, testBody},
		{"JSON around XML", string(encryptedJSON(encrypt)), "", q, ModeSafe, FormatXML, testBody},
		{"BOM", bom + "\n" + string(encryptedXML(encrypt)), "", q, ModeSafe, FormatXML, testBody},
		{"compatible", compatible, "text/xml", q, ModeCompatible, FormatXML, testBody},
		{"compatible, clear part forged", forged, "text/xml", q, ModeCompatible, FormatXML, testBody},
		{"without the 3-part signature", string(encryptedXML(encrypt)), "", without(q, "signature"), ModeSafe, FormatXML, testBody},
		{"AES in capitals", string(encryptedXML(encrypt)), "", with(q, "AES", "encrypt_type"), ModeSafe, FormatXML, testBody},
		{"Encrypt among white space", string(encryptedXML("\n" + encrypt + "\n")), "", q, ModeSafe, FormatXML, testBody},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := mustVerifier(t, safeKeys()).Open(c.q, c.contentType, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if p.Mode != c.mode || p.Format != c.format || string(p.Body) != c.want || p.Timestamp.Unix() != 1714112445 || p.KeyIndex != 0 {
				t.Errorf("Open = %+v with body %q", p, p.Body)
			}
		})
	}
}

func TestOpenPlain(t *testing.T) {
	q := plainQuery(testToken)
	for _, c := range []struct {
		name, body, contentType, format string
		q                               url.Values
	}{
		{"XML", testBody, "", FormatXML, q},
		{"JSON", " {}", "text/xml", FormatJSON, q},
		{"raw", testBody, "", FormatXML, with(q, "raw", "encrypt_type")},
		{"the content type decides where the body does not", "[1]", "Application/JSON; charset=utf-8", FormatJSON, q},
		{"neither tells", "hello", "", FormatXML, q},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := mustVerifier(t, Keys{Tokens: []string{testToken}}).Open(c.q, c.contentType, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if p.Mode != ModePlain || p.Format != c.format || string(p.Body) != c.body || p.KeyIndex != -1 {
				t.Errorf("Open = %+v with body %q", p, p.Body)
			}
		})
	}
}

// An account with keys takes no unencrypted push: the signature in the URL of a real,
// encrypted push is valid for any body in clear.
func TestOpenRefusesDowngrade(t *testing.T) {
	q, _ := sealed(t, testToken, testKey, testAppID, testBody)
	for name, q := range map[string]url.Values{
		"parameter dropped": without(q, "encrypt_type", "msg_signature"),
		"said to be raw":    with(q, "raw", "encrypt_type"),
	} {
		_, err := mustVerifier(t, safeKeys()).Open(q, "", []byte(testBody))
		if r := reasonOf(t, err); r != ReasonPlainRefused {
			t.Errorf("%s: reason %s", name, r)
		}
		k := safeKeys()
		k.AllowPlain = true
		if p, err := mustVerifier(t, k).Open(q, "", []byte(testBody)); err != nil || p.Mode != ModePlain {
			t.Errorf("%s with AllowPlain: %+v, %v", name, p, err)
		}
	}
}

func TestOpenRotation(t *testing.T) {
	k := Keys{AppID: testAppID, Tokens: []string{testToken, oldToken}, AESKeys: []string{testKey, oldKey}}
	for ti, token := range k.Tokens {
		for ki, aesKey := range k.AESKeys {
			q, encrypt := sealed(t, token, aesKey, testAppID, testBody)
			p, err := mustVerifier(t, k).Open(q, "", encryptedXML(encrypt))
			if err != nil || string(p.Body) != testBody || p.TokenIndex != ti || p.KeyIndex != ki {
				t.Errorf("token %d, key %d: %+v, %v", ti, ki, p, err)
			}
		}
		q := with(plainQuery(token), "hello", "echostr")
		if echo, err := mustVerifier(t, k).VerifyURL(q); echo != "hello" || err != nil {
			t.Errorf("VerifyURL with token %d = %q, %v", ti, echo, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	q, encrypt := sealed(t, testToken, testKey, testAppID, testBody)
	otherKeyQ, otherKey := sealed(t, testToken, oldKey, testAppID, testBody)
	otherAppQ, otherApp := sealed(t, testToken, testKey, "wx0000000000000000", testBody)
	noAppQ, noApp := sealed(t, testToken, testKey, "", testBody)
	longerQ, longer := sealed(t, testToken, testKey, testAppID+"0", testBody)
	body := string(encryptedXML(encrypt))
	for _, c := range []struct {
		name   string
		q      url.Values
		body   string
		reason Reason
	}{
		{"signature of another token", sign("other", encrypt), body, ReasonSignature},
		{"signature of the 3 parts", with(q, q.Get("signature"), "msg_signature"), body, ReasonSignature},
		{"signature cut", with(q, q.Get("msg_signature")[:39], "msg_signature"), body, ReasonSignature},
		{"another timestamp", with(q, "1714112446", "timestamp"), body, ReasonSignature},
		{"another nonce", with(q, "1", "nonce"), body, ReasonSignature},
		{"another message", q, string(encryptedXML(otherKey)), ReasonSignature},
		{"no timestamp", without(q, "timestamp"), body, ReasonMissingParameter},
		{"no nonce", without(q, "nonce"), body, ReasonMissingParameter},
		{"no msg_signature", without(q, "msg_signature"), body, ReasonMissingParameter},
		{"no time", with(q, "yesterday", "timestamp"), body, ReasonMissingParameter},
		{"time before 1970", with(q, "-1", "timestamp"), body, ReasonMissingParameter},
		{"time past all calendars", with(q, "9223372036854775807", "timestamp"), body, ReasonMissingParameter},
		{"unknown encryption", with(q, "rot13", "encrypt_type"), body, ReasonMissingParameter},
		{"nothing", q, "", ReasonBadBody},
		{"only a BOM", q, "\xef\xbb\xbf \n", ReasonBadBody},
		{"too large", q, body + strings.Repeat(" ", MaxBody), ReasonBadBody},
		{"no document", q, "Encrypt=" + encrypt, ReasonBadBody},
		{"broken document", q, body[:len(body)-3], ReasonBadBody},
		{"no Encrypt", q, testBody, ReasonBadBody},
		{"empty Encrypt", q, "<xml><Encrypt> </Encrypt></xml>", ReasonBadBody},
		{"another key", otherKeyQ, string(encryptedXML(otherKey)), ReasonDecrypt},
		{"not Base64", sign(testToken, "!!!!"), string(encryptedXML("!!!!")), ReasonDecrypt},
		{"another appid", otherAppQ, string(encryptedXML(otherApp)), ReasonAppID},
		{"no appid", noAppQ, string(encryptedXML(noApp)), ReasonAppID},
		{"longer appid", longerQ, string(encryptedXML(longer)), ReasonAppID},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := mustVerifier(t, safeKeys()).Open(c.q, "", []byte(c.body))
			if r := reasonOf(t, err); r != c.reason || p.Body != nil {
				t.Errorf("reason %s (%v), want %s; push %+v", r, err, c.reason, p)
			}
			if !slices.Contains(Reasons(), reasonOf(t, err)) {
				t.Error("reason is not among Reasons()")
			}
			for _, secret := range []string{testToken, testKey} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("error %q holds a secret", err)
				}
			}
		})
	}
	t.Run("encrypted without a key", func(t *testing.T) {
		_, err := mustVerifier(t, Keys{Tokens: []string{testToken}}).Open(q, "", []byte(body))
		if r := reasonOf(t, err); r != ReasonDecrypt {
			t.Errorf("reason %s", r)
		}
	})
	t.Run("plain without signature", func(t *testing.T) {
		_, err := mustVerifier(t, Keys{Tokens: []string{testToken}}).Open(without(plainQuery(testToken), "signature"), "", []byte(body))
		if r := reasonOf(t, err); r != ReasonMissingParameter {
			t.Errorf("reason %s", r)
		}
	})
	t.Run("plain with another token", func(t *testing.T) {
		_, err := mustVerifier(t, Keys{Tokens: []string{testToken}}).Open(plainQuery(oldToken), "", []byte(body))
		if r := reasonOf(t, err); r != ReasonSignature {
			t.Errorf("reason %s", r)
		}
	})
}

func TestVerifyURLRefuses(t *testing.T) {
	q := with(plainQuery(testToken), "hello", "echostr")
	for name, c := range map[string]struct {
		q      url.Values
		reason Reason
	}{
		"another token": {with(plainQuery(oldToken), "hello", "echostr"), ReasonSignature},
		"no echostr":    {without(q, "echostr"), ReasonMissingParameter},
		"no signature":  {without(q, "signature"), ReasonMissingParameter},
		"no nonce":      {without(q, "nonce"), ReasonMissingParameter},
	} {
		echo, err := mustVerifier(t, safeKeys()).VerifyURL(c.q)
		if r := reasonOf(t, err); r != c.reason || echo != "" {
			t.Errorf("%s: %q, reason %s, want %s", name, echo, r, c.reason)
		}
	}
}

func TestNewVerifierNamesFaultsByPosition(t *testing.T) {
	_, err := NewVerifier(Keys{Tokens: []string{"good", "", "bad\n"}, AESKeys: []string{testKey, "short", strings.Repeat("!", 43)}})
	if err == nil {
		t.Fatal("bad keys are accepted")
	}
	want := strings.Join([]string{
		"tokens[1] is empty",
		"tokens[2] has white space in it",
		"aes_keys[1]: EncodingAESKey has 5 characters, want 43",
		"aes_keys[2]: EncodingAESKey is not made of letters and digits only",
		"appid is missing: encrypted pushes cannot be checked without it",
	}, "\n")
	if diff := cmp.Diff(err.Error(), want); diff != "" {
		t.Errorf("(-got, +want):\n%s", diff)
	}
	if _, err := NewVerifier(Keys{}); err == nil || !strings.Contains(err.Error(), "tokens") {
		t.Errorf("no tokens at all: %v", err)
	}
	if _, err := Encrypt("short", testAppID, [16]byte{}, nil); err == nil {
		t.Error("Encrypt takes a short key")
	}
}

// Whatever stands in the plaintext, decrypt neither panics nor believes it.
func TestDecryptChecksThePlaintext(t *testing.T) {
	k, err := parseKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	plain := func(length uint32, rest string, pad ...byte) string {
		buf := binary.BigEndian.AppendUint32([]byte("0123456789abcdef"), length)
		buf = append(append(buf, rest...), pad...)
		cipher.NewCBCEncrypter(k.block, k.iv).CryptBlocks(buf, buf)
		return base64.StdEncoding.EncodeToString(buf)
	}
	pad := func(n int) []byte { return []byte(strings.Repeat(string(rune(n)), n)) }
	for _, c := range []struct{ name, encrypted, want string }{
		{"nothing", "", "no whole number"},
		{"half a block", base64.StdEncoding.EncodeToString(make([]byte, 48)), "no whole number"},
		{"not a multiple of AES blocks", base64.StdEncoding.EncodeToString(make([]byte, 33)), "no whole number"},
		{"padding 0", plain(4, "abcd", 1, 1, 1, 1, 1, 1, 1, 0), "padding"},
		{"padding 33", plain(4, "abcd", 33, 33, 33, 33, 33, 33, 33, 33), "padding"},
		{"33 bytes of padding", plain(11, "01234567890", pad(33)...), "padding"},
		{"padding not all alike", plain(4, "abcd", 8, 8, 8, 7, 8, 8, 8, 8), "padding"},
		{"first byte of padding wrong", plain(4, "abcd", 9, 8, 8, 8, 8, 8, 8, 8), "padding"},
		{"length beyond the end", plain(9, "abcd", pad(8)...), "claims a message of 9 bytes, has 4"},
		{"length of 4 GiB", plain(0xffffffff, "abcd", pad(8)...), "claims a message of 4294967295 bytes"},
		{"only padding", encryptRaw(k, pad(32)), "too few"},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg, appid, err := k.decrypt(c.encrypted)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("decrypt = %q, %q, %v; want an error with %q", msg, appid, err, c.want)
			}
		})
	}
	msg, appid, err := k.decrypt(plain(0, "wx1234567890abcdef", pad(26)...))
	if err != nil || len(msg) != 0 || appid != "wx1234567890abcdef" {
		t.Errorf("empty message: %q, %q, %v", msg, appid, err)
	}
}

func encryptRaw(k key, buf []byte) string {
	cipher.NewCBCEncrypter(k.block, k.iv).CryptBlocks(buf, buf)
	return base64.StdEncoding.EncodeToString(buf)
}

// All paddings of 1 to 32 are made and taken off again.
func TestEncryptEveryPadding(t *testing.T) {
	k, err := parseKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 70 {
		want := strings.Repeat("x", n)
		encrypted, err := Encrypt(testKey, testAppID, [16]byte{1}, []byte(want))
		if err != nil {
			t.Fatal(err)
		}
		msg, appid, err := k.decrypt(encrypted)
		if err != nil || string(msg) != want || appid != testAppID {
			t.Errorf("%d bytes: %q, %q, %v", n, msg, appid, err)
		}
	}
}
