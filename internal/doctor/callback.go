package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"qunfa/internal/config"
	"qunfa/internal/wechat"
)

// WeChat hangs up after 5 s; from 2 s on there is no room for a bad moment.
const (
	answerLimit = 5 * time.Second
	answerSlow  = 2 * time.Second
)

// receiver is a callback URL with what it has to understand.
type receiver struct {
	appid    string
	owner    string // whose keys they are: the account or its platform
	tokens   []string
	aesKeys  []string
	upstream bool
	url      *url.URL // as WeChat calls it, or ingest itself if that is not known
}

func (d *Doctor) newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{ // no proxy: WeChat uses none
			DialContext:       d.cfg.Network.Dial,
			TLSClientConfig:   &tls.Config{RootCAs: d.cfg.Network.Roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (d *Doctor) callbackChecks() []Check {
	checks := []Check{{Area: AreaCallback, ID: "callback.url", What: "the URL is one that WeChat can call", Doc: runbook + "qunfanocallbacks", Run: d.checkURL}}
	seen := map[string]bool{}
	for _, v := range d.receivers() {
		if base := v.url.Scheme + "://" + v.url.Host; !seen[base] {
			seen[base] = true
			checks = append(checks, d.hostChecks(v)...)
		}
		checks = append(checks, Check{Area: AreaCallback, ID: "callback.verification", Subject: v.appid, What: "WeChat's check of the URL is answered, with every token",
			Doc: runbook + "qunfasignaturefailures", Run: func(ctx context.Context, r Result) { d.checkVerification(ctx, r, v) }})
		if len(v.aesKeys) > 0 {
			checks = append(checks, Check{Area: AreaCallback, ID: "callback.encryption", Subject: v.appid, What: "encrypted pushes are understood, with every EncodingAESKey",
				Doc: runbook + "qunfasignaturefailures", Run: func(ctx context.Context, r Result) { d.checkEncryption(ctx, r, v) }})
		}
	}
	return append(checks, Check{Area: AreaCallback, ID: "callback.received", What: "callbacks come, and were seen lately", Doc: runbook + "qunfacallbacksmissing", Run: d.checkReceived})
}

func (d *Doctor) hostChecks(v receiver) []Check {
	host := v.url.Hostname()
	checks := []Check{
		{Area: AreaCallback, ID: "callback.address", Subject: host, What: "the host's name leads to a public address", Doc: runbook + "qunfanocallbacks",
			Run: func(ctx context.Context, r Result) { d.checkAddress(ctx, r, host) }},
		{Area: AreaCallback, ID: "callback.strangers", Subject: v.url.Host, What: "a wrong signature is refused", Doc: "docs/security.md",
			Run: func(ctx context.Context, r Result) { d.checkStranger(ctx, r, v) }},
	}
	if !d.public() {
		return checks[1:] // its own address needs no name
	}
	if v.url.Scheme == "https" {
		checks = append(checks, Check{Area: AreaCallback, ID: "callback.certificate", Subject: v.url.Host, What: "the certificate is valid, complete and not about to end", Doc: runbook + "qunfanocallbacks",
			Run: func(ctx context.Context, r Result) { d.checkCertificate(ctx, r, v.url) }})
	}
	return checks
}

// public tells whether it is known where WeChat calls.
func (d *Doctor) public() bool { return d.cfg.PublicURL != "" }

// receivers are those of the chosen accounts that have callbacks.
func (d *Doctor) receivers() []receiver {
	var list []receiver
	for i := range d.accounts {
		if v, ok := d.receiver(&d.accounts[i]); ok {
			list = append(list, v)
		}
	}
	return list
}

func (d *Doctor) receiver(a *config.Account) (receiver, bool) {
	v := receiver{appid: a.AppID, owner: a.AppID, tokens: config.Reveal(a.Tokens), aesKeys: config.Reveal(a.AESKeys), upstream: !a.Upstream.IsZero()}
	for i := range d.cfg.Settings.Platforms {
		if p := &d.cfg.Settings.Platforms[i]; p.ComponentAppID == a.Platform {
			v.owner, v.tokens, v.aesKeys, v.upstream = p.ComponentAppID, config.Reveal(p.Tokens), config.Reveal(p.AESKeys), !p.Upstream.IsZero()
		}
	}
	var err error
	if v.url, err = d.publicURL(v.appid, v.owner); err != nil || len(v.tokens) == 0 {
		return v, false
	}
	return v, true
}

// publicURL is where WeChat calls for an account, or ingest itself.
func (d *Doctor) publicURL(appid, owner string) (*url.URL, error) {
	if !d.public() {
		return url.Parse("http://" + reachable(d.cfg.Settings.Ingest.Listen) + callbackPath(appid, owner))
	}
	raw := d.cfg.PublicURL
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	full := strings.NewReplacer("{appid}", appid, "$APPID$", appid, "{component}", owner).Replace(raw)
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the callback URL is none: want something like https://wx.example.com, or https://wx.example.com/callback/{appid}")
	}
	if full == raw {
		u.Path = strings.TrimSuffix(u.Path, "/") + callbackPath(appid, owner)
	}
	return u, nil
}

func callbackPath(appid, owner string) string {
	if owner != appid {
		return "/platform/" + owner + "/callback/" + appid
	}
	return "/callback/" + appid
}

// reachable is a listener's address as one can call it from the same machine.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// checkURL looks at the URL itself.
func (d *Doctor) checkURL(_ context.Context, r Result) {
	d.leftOut(r)
	if !d.public() {
		r.Unchecked("give --url https://YOUR.HOST, or ingest.public_url in the configuration", "it is not known where WeChat reaches ingest, so it is not known whether WeChat can; ingest is asked at %s itself", reachable(d.cfg.Settings.Ingest.Listen))
		return
	}
	u, err := d.publicURL("wx0", "wx0")
	if err != nil {
		r.Fail("give the URL that is entered in WeChat's console", "%v", err)
		return
	}
	r = r.About(u.Scheme + "://" + u.Host)
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	switch {
	case u.Scheme == "https" && port == "443":
		r.OK("https, port 443")
	case u.Scheme == "http" && port == "80":
		r.Warn("use https: the platform's reverse proxy or load balancer ends it", "http, port 80: whoever is on the way can read the callbacks, and in plain mode forge them")
	default:
		r.Fail("put a reverse proxy on port 443 (https) or 80 (http) before it: WeChat's console takes no other", "%s on port %s: WeChat calls only https on 443 and http on 80", u.Scheme, port)
	}
}

// checkAddress looks the name up as anybody can.
func (d *Doctor) checkAddress(ctx context.Context, r Result, host string) {
	addresses, err := d.cfg.Network.Resolve(ctx, host)
	if err != nil || len(addresses) == 0 {
		r.Fail("enter an A record for the name with whoever hosts the domain, and correct ingest.public_url or --url if the name is wrong", "the name has no address: %v", cause(err, "the name service knows none"))
		return
	}
	var names []string
	for _, a := range addresses {
		names = append(names, a.Unmap().String())
	}
	for _, a := range addresses {
		if a = a.Unmap(); !d.cfg.AllowPrivate && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified()) {
			r.Fail("give the name a public address; if it has one outside and this one only in here, say --allow-private", "%s is a private address: WeChat cannot reach it", a)
			return
		}
	}
	r.OK("%s", strings.Join(names, ", "))
}

// cause is the innermost text of an error of the network, without the URL that
// net/http puts around it: it carries a signature.
func cause(err error, none string) string {
	if err == nil {
		return none
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return err.Error()
}

// answer is what came back from a callback URL.
type answer struct {
	status int
	body   string
	took   time.Duration
	err    error
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 10

func (d *Doctor) send(ctx context.Context, method string, u *url.URL, query url.Values, body string) answer {
	to := *u
	if to.RawQuery != "" {
		to.RawQuery += "&"
	}
	to.RawQuery += query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, to.String(), strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("User-Agent", "qunfa-doctor")
	if body != "" {
		req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	}
	start := time.Now()
	res, err := d.callback.Do(req)
	if err != nil {
		return answer{err: err, took: time.Since(start)}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return answer{status: res.StatusCode, body: string(b), took: time.Since(start), err: err}
}

// signed are the query parameters that WeChat signs.
func (d *Doctor) signed(token string) url.Values {
	timestamp, nonce := strconv.FormatInt(d.cfg.Clock().Unix(), 10), number()
	return url.Values{"timestamp": {timestamp}, "nonce": {nonce}, "signature": {wechat.Sign(token, timestamp, nonce)}}
}

// number is a random one, as WeChat's nonces and echostrs are.
func number() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err) // the system has no randomness: nothing can be trusted
	}
	return n.String()
}

// checkVerification does what WeChat does when a URL is entered in its console.
func (d *Doctor) checkVerification(ctx context.Context, r Result, v receiver) {
	var slowest time.Duration
	for i, token := range v.tokens {
		query := d.signed(token)
		query.Set("echostr", number())
		a := d.send(ctx, http.MethodGet, v.url, query, "")
		if a.err != nil {
			d.explainSilence(ctx, r, v, a)
			return
		}
		if a.status != http.StatusOK || a.body != query.Get("echostr") {
			d.explainAnswer(ctx, r, v, i, a, query.Get("echostr"))
			return
		}
		slowest = max(slowest, a.took)
	}
	took := slowest.Round(time.Millisecond)
	switch {
	case slowest >= answerLimit:
		r.See(runbook+"qunfacallbackslow").Fail("see what is slow: the reverse proxy, the network, or ingest's machine", "answered after %s: WeChat hangs up after 5 s", took)
	case slowest >= answerSlow:
		r.See(runbook+"qunfacallbackslow").Warn("see what is slow: the reverse proxy, the network, or ingest's machine", "answered after %s; WeChat hangs up after 5 s", took)
	default:
		r.OK("answered right with %s, in %s", plural(len(v.tokens), "token"), took)
	}
}

// explainSilence says why no answer came. What the checks of the host have said
// already is not said once more for every account.
func (d *Doctor) explainSilence(ctx context.Context, r Result, v receiver, a answer) {
	var name *net.DNSError
	var cert *tls.CertificateVerificationError
	r = r.See(runbook + "qunfanocallbacks")
	switch {
	case errors.As(a.err, &name):
		r.Unchecked("see callback.address", "%s has no address", v.url.Hostname())
	case errors.As(a.err, &cert):
		r.Unchecked("see callback.certificate", "the certificate of %s is not valid", v.url.Host)
	case !d.public():
		r.See(runbook+"qunfareceiverdown").Fail("start ingest; if it runs on another machine, give --url", "ingest does not answer at %s: %s", v.url.Host, cause(a.err, ""))
	case a.took >= answerLimit:
		r.Fail("see whether the firewall lets requests in, and what the reverse proxy waits for"+d.behind(ctx, v), "no answer from %s within %s: %s", v.url.Host, a.took.Round(time.Second), cause(a.err, ""))
	default:
		r.Fail("see whether the reverse proxy runs and the firewall lets requests in; if only this machine cannot call its own public address, look from another"+d.behind(ctx, v), "no answer from %s: %s", v.url.Host, cause(a.err, ""))
	}
}

// explainAnswer says what a wrong answer means.
func (d *Doctor) explainAnswer(ctx context.Context, r Result, v receiver, token int, a answer, echo string) {
	at := v.url.Host + v.url.Path
	switch {
	case a.status == http.StatusOK:
		explainEcho(r, a.body, echo)
	case a.status >= 300 && a.status < 400:
		r.Fail("enter the URL to which it leads in WeChat's console, or let the proxy pass the path on", "%s redirects (status %d): WeChat does not follow", at, a.status)
	case a.status == http.StatusForbidden && token == 0:
		r.Fail("compare tokens[0] with the console's Token, and see whether ingest runs with this configuration: accounts_dir is read anew by itself, the file itself only at a start", "%s refuses the signature of tokens[0] (status 403)", at)
	case a.status == http.StatusForbidden:
		r.Fail("let ingest run with this configuration: it does not know the previous token", "%s refuses the signature of tokens[%d] (status 403): during a rotation callbacks signed with it are lost", at, token)
	case a.status == http.StatusNotFound && a.body == "unknown_account":
		r.See(runbook+"qunfaunknownaccount").Fail("let ingest run with this configuration; see whether the path names the right appid", "the ingest at %s does not know the account", at)
	case a.status == http.StatusNotFound:
		r.Fail("let the reverse proxy pass /callback/ (and /platform/) on to ingest with path and query unchanged"+d.behind(ctx, v), "%s does not exist (status 404), and it is not ingest that says so", at)
	case a.status == http.StatusServiceUnavailable && a.body == "overload":
		r.See(runbook+"qunfacallbackerrors").Fail("more ingest instances, or a higher ingest.max_in_flight", "ingest has too much to do (status 503)")
	case a.status >= 500:
		r.Fail("see whether ingest runs and the reverse proxy leads to it"+d.behind(ctx, v), "%s answers with status %d", at, a.status)
	default:
		r.Fail("let the reverse proxy pass path and query on unchanged, and ask for no login"+d.behind(ctx, v), "%s answers with status %d", at, a.status)
	}
}

// explainEcho says what is wrong with an echostr. WeChat wants it byte by byte.
func explainEcho(r Result, body, echo string) {
	const remedy = "WeChat wants the echostr and nothing else: let nothing between it and ingest change the answer"
	switch {
	case strings.Contains(body, echo):
		r.Fail(remedy, "the answer holds more than the echostr (%d bytes for %d)", len(body), len(echo))
	case strings.Contains(strings.ToLower(body), "<html"):
		r.Fail(remedy+", such as a login page or a web application firewall", "the answer is a web page and not the echostr")
	case body == "success" || body == "":
		r.Fail("enter the URL of ingest: what answers now is not qunfa", "the answer is %q and not the echostr", body)
	default:
		r.Fail(remedy, "the answer is not the echostr")
	}
}

// behind asks ingest itself, to tell a fault before it from one of its own.
func (d *Doctor) behind(ctx context.Context, v receiver) string {
	if !d.public() {
		return ""
	}
	direct := &url.URL{Scheme: "http", Host: reachable(d.cfg.Settings.Ingest.Listen), Path: callbackPath(v.appid, v.owner)}
	query := d.signed(v.tokens[0])
	query.Set("echostr", number())
	ctx, cancel := context.WithTimeout(ctx, answerSlow)
	defer cancel()
	switch a := d.send(ctx, http.MethodGet, direct, query, ""); {
	case a.err != nil:
		return fmt.Sprintf(" (ingest does not answer at %s either, or runs elsewhere)", direct.Host)
	case a.status == http.StatusOK && a.body == query.Get("echostr"):
		return fmt.Sprintf(" (ingest itself answers right at %s: the fault is in what stands before it)", direct.Host)
	default:
		return fmt.Sprintf(" (ingest itself, at %s, answers with status %d)", direct.Host, a.status)
	}
}

// checkStranger makes sure that not everybody is taken for WeChat.
func (d *Doctor) checkStranger(ctx context.Context, r Result, v receiver) {
	query := d.signed(number())
	query.Set("echostr", number())
	a := d.send(ctx, http.MethodGet, v.url, query, "")
	switch {
	case a.err != nil:
		r.Unchecked("see callback.verification", "no answer")
	case a.status == http.StatusOK && a.body == query.Get("echostr"):
		r.Fail("enter the URL of ingest in WeChat's console: what answers there now is not qunfa, or checks nothing", "a request with a wrong signature is answered like WeChat's: anybody can forge callbacks")
	case a.status == http.StatusForbidden:
		r.OK("refused")
	default:
		r.Unchecked("see callback.verification", "answered with status %d, which is not ingest's refusal", a.status)
	}
}
