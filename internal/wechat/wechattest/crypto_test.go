package wechattest

import (
	"testing"

	"pgregory.net/rapid"
)

// The vectors are those that WeChat's documentation publishes.

func TestSignPublishedVectors(t *testing.T) {
	for _, v := range []struct{ name, token, timestamp, nonce, want string }{
		{"url verification", "AAAAA", "1714036504", "1514711492", "f464b24fc39322e44b38aa78f5edd27bd1441696"},
		{"plain push", "AAAAA", "1714037059", "486452656", "899cf89e464efb63f54ddac96b0a0a235f53aa78"},
		{"safe push", "AAAAA", "1714112445", "415670741", "6c5c811b55cc85e0e1b54100749188c20beb3f5d"},
	} {
		if got := sign(v.token, v.timestamp, v.nonce); got != v.want {
			t.Errorf("%s: %s, want %s", v.name, got, v.want)
		}
	}
}

const (
	allA   = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	sample = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG" // its last character has bits that a strict decoder refuses
)

func TestSealPublishedVector(t *testing.T) {
	got, err := seal(allA, "wxba5fad812f8e6fb9", [16]byte([]byte("707722b803182950")), []byte(`{"demo_resp":"good luck"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ=="
	if got != want {
		t.Errorf("ciphertext\n%s, want\n%s", got, want)
	}
	if got := sign("AAAAA", "1713424427", "415670741", want); got != "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1" {
		t.Errorf("msg_signature %s", got)
	}
}

// The vectors that are published for decryption are reproduced from their
// plaintext: what WeChat wrote, seal writes byte for byte.
func TestSealReproducesPublishedPushes(t *testing.T) {
	for _, v := range []struct{ name, token, key, appid, timestamp, nonce, signature, encrypt string }{
		{
			"safe JSON", "AAAAA", allA, "wxba5fad812f8e6fb9", "1714112445", "415670741", "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3",
			"+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=",
		},
		{
			"compatible XML", "spamtest", sample, "wx2c2769f8efd9abc2", "1409735669", "1320562132", "5d197aaffba7e9b25a30732f161a50dee96bd5fa",
			"hyzAe4OzmOMbd6TvGdIOO6uBmdJoD0Fk53REIHvxYtJlE2B655HuD0m8KUePWB3+LrPXo87wzQ1QLvbeUgmBM4x6F8PGHQHFVAFmOD2LdJF9FrXpbUAh0B5GIItb52sn896wVsMSHGuPE328HnRGBcrS7C41IzDWyWNlZkyyXwon8T332jisa+h6tEDYsVticbSnyU8dKOIbgU6ux5VTjg3yt+WGzjlpKn6NPhRjpA912xMezR4kw6KWwMrCVKSVCZciVGCgavjIQ6X8tCOp3yZbGpy0VxpAe+77TszTfRd5RJSVO/HTnifJpXgCSUdUue1v6h0EIBYYI1BD1DlD+C0CR8e6OewpusjZ4uBl9FyJvnhvQl+q5rv1ixrcpCumEPo5MJSgM9ehVsNPfUM669WuMyVWQLCzpu9GhglF2PE=",
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			if got := sign(v.token, v.timestamp, v.nonce, v.encrypt); got != v.signature {
				t.Errorf("msg_signature %s, want %s", got, v.signature)
			}
			message, random, appid, err := open(v.key, v.encrypt)
			if err != nil || appid != v.appid {
				t.Fatalf("appid %q, error %v", appid, err)
			}
			got, err := seal(v.key, v.appid, random, message)
			if err != nil {
				t.Fatal(err)
			}
			if got != v.encrypt {
				t.Errorf("ciphertext\n%s, want\n%s", got, v.encrypt)
			}
		})
	}
}

func TestSealOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[A-Za-z0-9]{43}`).Draw(t, "key")
		appid := rapid.StringMatching(`wx[0-9a-f]{16}`).Draw(t, "appid")
		message := rapid.SliceOf(rapid.Byte()).Draw(t, "message")
		random := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "random"))
		encrypted, err := seal(key, appid, random, message)
		if err != nil {
			t.Fatal(err)
		}
		got, gotRandom, gotAppID, err := open(key, encrypted)
		if err != nil || string(got) != string(message) || gotRandom != random || gotAppID != appid {
			t.Fatalf("%q %q %q %v", got, gotRandom, gotAppID, err)
		}
	})
}
