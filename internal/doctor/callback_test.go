package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qunfa/internal/config"
	"qunfa/internal/wechat"
)

const publicHost = "wx.example.com"

// authority signs certificates: itself, or through one between.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T, parent *authority) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key: key, pool: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	signer, by := template, key
	if parent != nil {
		template.Subject.CommonName, signer, by = "Test CA between", parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate that ends after so long, with those that are shown beside it.
func (a authority) issue(t *testing.T, name string, ends time.Duration, beside ...*x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(ends)}
	signer, by := a.cert, a.key
	if by == nil {
		signer, by = template, key // by itself
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for _, b := range beside {
		c.Certificate = append(c.Certificate, b.Raw)
	}
	return c
}

// serve runs a server with TLS and returns what makes a doctor find it at publicHost.
func serve(t *testing.T, handler http.Handler, cert tls.Certificate, roots *x509.CertPool) func(*Config) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are what is tested
	s.StartTLS()
	t.Cleanup(s.Close)
	return public(s.Listener.Addr().String(), roots)
}

func public(address string, roots *x509.CertPool) func(*Config) {
	return func(c *Config) {
		c.PublicURL = "https://" + publicHost
		c.Network.Roots = roots
		c.Network.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("203.0.113.5")}, nil
		}
		c.Network.Dial = func(ctx context.Context, network, to string) (net.Conn, error) {
			if strings.HasPrefix(to, publicHost+":") {
				to = address
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}
	}
}

// receiverOf answers as ingest does, for the test's account.
func receiverOf(t *testing.T, k wechat.Keys) http.HandlerFunc {
	t.Helper()
	v, err := wechat.NewVerifier(k)
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/callback/"+testApp && r.URL.Path != "/platform/"+testOther+"/callback/"+testApp {
			say(w, 404, "unknown_account")
			return
		}
		if r.Method == http.MethodGet {
			echo, err := v.VerifyURL(r.URL.Query())
			if err != nil {
				say(w, 403, "url_refused")
				return
			}
			say(w, 200, echo)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, err := v.Open(r.URL.Query(), r.Header.Get("Content-Type"), body)
		var refused *wechat.VerifyError
		if errors.As(err, &refused) {
			say(w, 403, string(refused.Reason))
			return
		}
		say(w, 200, "success")
	}
}

func say(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func goodKeys() wechat.Keys {
	return wechat.Keys{AppID: testApp, Tokens: []string{testToken, testBefore}, AESKeys: []string{testKey}}
}

// wired is a callback URL that is as it should be, but for what changes.
func wired(t *testing.T, handler http.Handler) func(*Config) {
	t.Helper()
	ca := newAuthority(t, nil)
	return serve(t, handler, ca.issue(t, publicHost, 60*24*time.Hour), ca.pool)
}

func TestWiredCallback(t *testing.T) {
	d := newDoctor(t, wired(t, receiverOf(t, goodKeys())))
	for id, says := range map[string]string{
		"callback.url": "port 443", "callback.address": "203.0.113.5", "callback.certificate": "issued by Test CA", "callback.strangers": "refused",
		"callback.verification": "answered right with 2 tokens", "callback.encryption": "understood, with 1 key",
	} {
		want(t, look(t, d, id), OK, says)
	}
}

func TestCallbackURL(t *testing.T) {
	at := func(url string) func(*Config) { return func(c *Config) { c.PublicURL = url } }
	for url, test := range map[string]struct {
		s     Severity
		words []string
	}{
		"":                                   {Unchecked, []string{"not known", "--url", "127.0.0.1:8080"}},
		"https://wx.example.com":             {OK, []string{"https, port 443"}},
		"wx.example.com":                     {OK, []string{"https://wx.example.com"}},
		"https://wx.example.com:443/a":       {OK, nil},
		"http://wx.example.com":              {Warning, []string{"port 80", "https"}},
		"https://wx.example.com:8443":        {Failure, []string{"port 8443", "443"}},
		"http://wx.example.com:443":          {Failure, []string{"http on port 443"}},
		"https://x.example:80/cb?a={appid}":  {Failure, []string{"https on port 80"}},
		"https://x.example/callback/{appid}": {OK, nil},
	} {
		want(t, look(t, newDoctor(t, at(url)), "callback.url"), test.s, test.words...)
	}
	for template, path := range map[string]string{
		"https://h":                          "/callback/wx1",
		"https://h/pre/":                     "/pre/callback/wx1",
		"https://h/{appid}/x":                "/wx1/x",
		"https://h/$APPID$":                  "/wx1",
		"https://h/p/{component}/c/{appid}/": "/p/wx1/c/wx1/",
	} {
		d := newDoctor(t, at(template))
		if u, err := d.publicURL("wx1", "wx1"); err != nil || u.Path != path {
			t.Errorf("%s gives %v, %v; want the path %s", template, u, err, path)
		}
	}
	d := newDoctor(t, at("https://h"))
	if u, err := d.publicURL("wx1", "wxp"); err != nil || u.Path != "/platform/wxp/callback/wx1" {
		t.Errorf("of a platform: %v, %v", u, err)
	}
}

func TestCallbackAddress(t *testing.T) {
	resolve := func(err error, list ...string) func(*Config) {
		return func(c *Config) {
			c.PublicURL = "https://" + publicHost
			c.Network.Resolve = func(context.Context, string) ([]netip.Addr, error) {
				var all []netip.Addr
				for _, a := range list {
					all = append(all, netip.MustParseAddr(a))
				}
				return all, err
			}
		}
	}
	split := func(c *Config) { c.AllowPrivate = true }
	want(t, look(t, newDoctor(t, resolve(nil, "203.0.113.5", "2001:db8::1")), "callback.address"), OK, "203.0.113.5, 2001:db8::1")
	want(t, look(t, newDoctor(t, resolve(&net.DNSError{Err: "no such host", Name: publicHost})), "callback.address"), Failure, "no address", "A record")
	want(t, look(t, newDoctor(t, resolve(nil)), "callback.address"), Failure, "no address")
	for _, private := range []string{"10.1.2.3", "192.168.1.1", "127.0.0.1", "169.254.1.1", "::1", "fd00::1", "::ffff:10.0.0.1"} {
		want(t, look(t, newDoctor(t, resolve(nil, "203.0.113.5", private)), "callback.address"), Failure, "private", "--allow-private")
		want(t, look(t, newDoctor(t, resolve(nil, private), split), "callback.address"), OK)
	}
}

func TestCallbackCertificate(t *testing.T) {
	root := newAuthority(t, nil)
	between := newAuthority(t, &root)
	other := newAuthority(t, nil)
	year := 365 * 24 * time.Hour
	for name, test := range map[string]struct {
		cert  tls.Certificate
		s     Severity
		words []string
	}{
		"good":            {root.issue(t, publicHost, year), OK, []string{"issued by Test CA, good until"}},
		"whole chain":     {between.issue(t, publicHost, year, between.cert), OK, []string{"issued by Test CA between"}},
		"chain with hole": {between.issue(t, publicHost, year), Failure, []string{"chain is not complete", "fullchain.pem", "Test CA between"}},
		"expired":         {root.issue(t, publicHost, -time.Hour), Failure, []string{"expired on", "renew"}},
		"about to end":    {root.issue(t, publicHost, 5*24*time.Hour), Warning, []string{"expires on", "in 4 days"}},
		"other name":      {root.issue(t, "elsewhere.example", year), Failure, []string{"for other names", "elsewhere.example"}},
		"by itself":       {authority{}.issue(t, publicHost, year), Failure, []string{"signed by itself"}},
		"by a stranger":   {other.issue(t, publicHost, year, other.cert), Failure, []string{"whom nobody here trusts"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoctor(t, serve(t, receiverOf(t, goodKeys()), test.cert, root.pool))
			want(t, look(t, d, "callback.certificate"), test.s, test.words...)
			if test.s == Failure { // it is said once, and not once more for every account
				want(t, look(t, d, "callback.verification"), Unchecked, "see callback.certificate")
			}
		})
	}
	plain := httptest.NewServer(receiverOf(t, goodKeys()))
	defer plain.Close()
	want(t, look(t, newDoctor(t, public(plain.Listener.Addr().String(), root.pool)), "callback.certificate"), Failure, "no TLS there")
}

// What answers instead of ingest, and what that must be called.
func TestVerificationFaults(t *testing.T) {
	good := receiverOf(t, goodKeys())
	after := func(change func(http.ResponseWriter, *http.Request, *httptest.ResponseRecorder)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			good(rec, r)
			change(w, r, rec)
		}
	}
	always := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { say(w, status, body) }
	}
	keys := func(change func(*wechat.Keys)) http.HandlerFunc {
		k := goodKeys()
		change(&k)
		return receiverOf(t, k)
	}
	for name, test := range map[string]struct {
		handler http.Handler
		words   []string
	}{
		"other token":      {keys(func(k *wechat.Keys) { k.Tokens = []string{"another"} }), []string{"refuses the signature of tokens[0]", "accounts_dir"}},
		"previous unknown": {keys(func(k *wechat.Keys) { k.Tokens = k.Tokens[:1] }), []string{"tokens[1]", "rotation"}},
		"unknown account":  {always(404, "unknown_account"), []string{"does not know the account"}},
		"path lost":        {always(404, "<html>nginx</html>"), []string{"not ingest that says so", "/callback/"}},
		"proxy without us": {always(502, "bad gateway"), []string{"status 502", "reverse proxy"}},
		"overload":         {always(503, "overload"), []string{"max_in_flight"}},
		"login":            {always(401, "who are you"), []string{"status 401", "no login"}},
		"redirect":         {http.RedirectHandler("https://elsewhere.example/", http.StatusMovedPermanently), []string{"redirects (status 301)", "does not follow"}},
		"line break behind": {after(func(w http.ResponseWriter, _ *http.Request, r *httptest.ResponseRecorder) {
			say(w, r.Code, r.Body.String()+"\n")
		}), []string{"more than the echostr", "nothing else"}},
		"in quotes": {after(func(w http.ResponseWriter, _ *http.Request, r *httptest.ResponseRecorder) {
			say(w, r.Code, `"`+r.Body.String()+`"`)
		}), []string{"more than the echostr"}},
		"page":         {always(200, "<HTML>please log in</HTML>"), []string{"web page"}},
		"says success": {always(200, "success"), []string{`"success"`, "not qunfa"}},
		"empty":        {always(200, ""), []string{"not qunfa"}},
		"something":    {always(200, "7"), []string{"not the echostr"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, look(t, newDoctor(t, wired(t, test.handler)), "callback.verification"), Failure, test.words...)
		})
	}
}

func TestVerificationWithoutAnswer(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	d := newDoctor(t, public(gone.Listener.Addr().String(), nil))
	want(t, look(t, d, "callback.verification"), Failure, "no answer from "+publicHost, "refused", "firewall")
	if findings := look(t, d, "callback.verification"); strings.Contains(findings[0].Found, "signature=") {
		t.Errorf("it shows a signature: %s", findings[0].Found)
	}
	noName := func(c *Config) {
		c.Network.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: publicHost}
		}
	}
	d = newDoctor(t, public("", nil), noName)
	want(t, look(t, d, "callback.verification"), Unchecked, "see callback.address")
	want(t, look(t, d, "callback.certificate"), Unchecked, "see callback.address")
	want(t, look(t, d, "callback.strangers"), Unchecked, "no answer")
	want(t, look(t, d, "callback.encryption"), Unchecked, "no answer")
	itself := func(c *Config) { c.Settings.Ingest.Listen = gone.Listener.Addr().String() }
	want(t, look(t, newDoctor(t, itself), "callback.verification"), Failure, "ingest does not answer at "+gone.Listener.Addr().String(), "start ingest")
}

// A fault before ingest is told from one of its own.
func TestVerificationComparesWithIngest(t *testing.T) {
	broken := wired(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, 502, "") }))
	for name, test := range map[string]struct {
		ingest http.Handler
		says   string
	}{
		"well":   {receiverOf(t, goodKeys()), "the fault is in what stands before it"},
		"broken": {http.NotFoundHandler(), "answers with status 404"},
	} {
		s := httptest.NewServer(test.ingest)
		defer s.Close()
		itself := func(c *Config) { c.Settings.Ingest.Listen = s.Listener.Addr().String() }
		t.Run(name, func(t *testing.T) {
			want(t, look(t, newDoctor(t, broken, itself), "callback.verification"), Failure, test.says)
		})
	}
}

func TestVerificationSlow(t *testing.T) {
	good := receiverOf(t, goodKeys())
	var rest context.Context
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(rest, answerSlow+100*time.Millisecond)
		defer cancel()
		<-ctx.Done()
		good(w, r)
	})
	rest = t.Context()
	one := func(c *Config) { c.Settings.Accounts[0].Tokens = secrets(testToken) }
	want(t, look(t, newDoctor(t, wired(t, slow), one), "callback.verification"), Warning, "answered after 2.", "hangs up after 5 s")
}

func TestStrangersAreRefused(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { say(w, 200, r.URL.Query().Get("echostr")) })
	want(t, look(t, newDoctor(t, wired(t, echo)), "callback.strangers"), Failure, "anybody can forge")
	want(t, look(t, newDoctor(t, wired(t, http.NotFoundHandler())), "callback.strangers"), Unchecked, "status 404")
}

func TestEncryptionFaults(t *testing.T) {
	keys := func(change func(*wechat.Keys)) func(*Config) {
		k := goodKeys()
		change(&k)
		return wired(t, receiverOf(t, k))
	}
	upstream := func(c *Config) { c.Settings.Accounts[0].Upstream = config.MustURL("https://app.example.com/") }
	otherKey, otherApp := func(k *wechat.Keys) { k.AESKeys = []string{testKey2} }, func(k *wechat.Keys) { k.AppID = testOther }
	otherToken := func(k *wechat.Keys) { k.Tokens = []string{"another"} }
	for name, d := range map[string]struct {
		d     *Doctor
		s     Severity
		words []string
	}{
		"other key":                {newDoctor(t, keys(otherKey)), Failure, []string{"cannot open", "aes_keys[0]"}},
		"other key, with upstream": {newDoctor(t, keys(otherKey), upstream), Failure, []string{"cannot open", "aes_keys[0]"}},
		"other app":                {newDoctor(t, keys(otherApp)), Failure, []string{"another appid"}},
		"other token":              {newDoctor(t, keys(otherToken)), Unchecked, []string{"see callback.verification"}},
		"with upstream":            {newDoctor(t, keys(func(*wechat.Keys) {}), upstream), OK, []string{"understood"}},
		"not ingest":               {newDoctor(t, wired(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, 200, "<xml/>") }))), Failure, []string{"something else"}},
		"no POST":                  {newDoctor(t, wired(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, 405, "") }))), Failure, []string{"status 405", "POST"}},
	} {
		t.Run(name, func(t *testing.T) { want(t, look(t, d.d, "callback.encryption"), d.s, d.words...) })
	}
}

// The application behind ingest must never see what the doctor sends, and
// ingest must not be made to raise an alert.
func TestEncryptionLeavesUpstreamAlone(t *testing.T) {
	var refused atomic.Int32
	good := receiverOf(t, goodKeys())
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		good(rec, r)
		if r.Method == http.MethodPost {
			if refused.Add(1); rec.Code == http.StatusOK {
				t.Error("ingest would pass this on")
			}
		}
		say(w, rec.Code, rec.Body.String())
	})
	many := func(c *Config) {
		c.Settings.Accounts[0].Upstream = config.MustURL("https://app.example.com/")
		for i := range 4 {
			a := c.Settings.Accounts[0]
			a.AppID, a.OriginalID = fmt.Sprintf("wx%016d", i), ""
			c.Settings.Accounts = append(c.Settings.Accounts, a)
		}
	}
	d := newDoctor(t, wired(t, handler), many)
	findings := look(t, d, "callback.encryption")
	want(t, findings, Unchecked, "counts such requests as forgeries", "--account")
	if n := refused.Load(); n > maxRefusals {
		t.Errorf("ingest had to refuse %d", n)
	}
}

func TestCallbackOfAPlatform(t *testing.T) {
	k := wechat.Keys{AppID: testOther, Tokens: []string{"tokenOfThePlatform"}, AESKeys: []string{testKey2}}
	of := func(c *Config) {
		c.Settings.Platforms = platform(testOther)
		a := &c.Settings.Accounts[0]
		a.Platform, a.Tokens, a.AESKeys = testOther, nil, nil
	}
	d := newDoctor(t, wired(t, receiverOf(t, k)), of)
	want(t, look(t, d, "callback.verification"), OK, "1 token")
	want(t, look(t, d, "callback.encryption"), OK)
}
