package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"qunfa/internal/config"
	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// callbackCmd is about callbacks.
type callbackCmd struct {
	Sign callbackSignCmd `cmd:"" help:"Sign, and encrypt, a body as WeChat does; print the request, print it for curl, or send it."`
}

// callbackSignCmd makes a request like WeChat's.
type callbackSignCmd struct {
	File string `arg:"" optional:"" help:"The body, XML or JSON; - is standard input. Without one, a MASSSENDJOBFINISH is made of the flags."`

	AppID  string `help:"The account. Its keys are taken from the configuration; it may be left out if that has one account only." name:"appid" placeholder:"APPID"`
	Token  string `help:"Token to sign with, instead of the configuration's." env:"QUNFA_WECHAT_TOKEN" placeholder:"TOKEN"`
	AESKey string `help:"EncodingAESKey, likewise." name:"aes-key" env:"QUNFA_WECHAT_AES_KEY" placeholder:"KEY"`
	Mode   string `help:"plain, compatible or safe. Default: safe if there is an EncodingAESKey." enum:"auto,plain,compatible,safe" default:"auto" placeholder:"MODE"`

	BodyFormat string `help:"Format of the sample: xml or json." enum:"xml,json" default:"xml" placeholder:"FORMAT"`
	MsgID      int64  `help:"Its MsgID." name:"msg-id" default:"3147483661"`
	Status     string `help:"Its Status: \"send success\", \"send fail\", \"err(10001)\"." default:"send success"`
	Total      int64  `help:"People addressed (TotalCount)." default:"100"`
	Filtered   int64  `help:"People filtered out. WeChat's FilterCount is the others: total less filtered." default:"0" placeholder:"N"`
	Sent       *int64 `help:"People reached (SentCount). Default: all that were not filtered and did not fail." placeholder:"N"`
	Errors     int64  `help:"People not reached (ErrorCount)." default:"0" placeholder:"N"`
	OriginalID string `help:"ToUserName. Default: the account's original_id." placeholder:"GH_ID"`
	OpenID     string `help:"FromUserName." name:"openid" default:"oQunfaCallbackSignSample0000"`
	CreateTime int64  `help:"CreateTime in Unix seconds. Default: now." placeholder:"SECONDS"`

	Timestamp int64  `help:"Timestamp of the signature. Default: now." placeholder:"SECONDS"`
	Nonce     string `help:"Nonce of the signature. Default: a random one." placeholder:"TEXT"`

	Curl string `help:"Print the request to this URL as a curl command. Without a path, the account's callback path is used." xor:"out" placeholder:"URL"`
	Post string `help:"Send the request to this URL and print the answer." xor:"out" placeholder:"URL"`
}

// signKeys are what a callback is made with.
type signKeys struct {
	appid      string // in the URL
	owner      string // whose keys they are, at the end of what is encrypted: the account or its platform
	token      string
	aesKey     string // empty: plain mode alone
	originalID string
	path       string // where ingest expects it
}

// signed is a request like WeChat's.
type signed struct {
	query       url.Values
	contentType string
	body        []byte
}

// Run implements the command.
func (c *callbackSignCmd) Run(g *globals) error {
	keys, err := c.keys(g)
	if err != nil {
		return err
	}
	body, err := c.body(g, keys)
	if err != nil {
		return err
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	req, err := c.sign(keys, body, time.Now(), random)
	if err != nil {
		return err
	}
	switch {
	case c.Curl != "":
		return c.printCurl(g, keys, req)
	case c.Post != "":
		return c.post(g, keys, req)
	}
	_, err = fmt.Fprintf(g.Stdout, "POST %s?%s\nContent-Type: %s\n\n%s\n", keys.path, req.encodeQuery(), req.contentType, req.body)
	return err
}

// keys come from the flags, and what these leave open from the configuration.
func (c *callbackSignCmd) keys(g *globals) (signKeys, error) {
	k := signKeys{appid: c.AppID}
	if c.Token == "" || c.AppID == "" {
		cfg, err := g.loadConfig()
		if err != nil {
			return k, err
		}
		if k, err = configuredKeys(cfg, c.AppID); err != nil {
			return k, fmt.Errorf("%w; or give --appid, --token and, for encrypted modes, --aes-key", err)
		}
	}
	if k.owner == "" {
		k.owner = k.appid
	}
	k.token = cmp.Or(c.Token, k.token)
	if c.Token != "" || c.AESKey != "" { // never a token of one and a key of another
		k.aesKey = c.AESKey
	}
	k.originalID = cmp.Or(c.OriginalID, k.originalID, "gh_0123456789ab")
	if k.path == "" {
		k.path = "/callback/" + k.appid
	}
	if k.token == "" {
		return k, usagef("account %s has no token: give --token", k.appid)
	}
	return k, nil
}

func configuredKeys(cfg *config.Config, appid string) (signKeys, error) {
	if appid == "" {
		if len(cfg.Accounts) != 1 {
			return signKeys{}, usagef("which account? The configuration has %d: give --appid", len(cfg.Accounts))
		}
		appid = cfg.Accounts[0].AppID
	}
	for i := range cfg.Accounts {
		a := &cfg.Accounts[i]
		if a.AppID != appid {
			continue
		}
		k := signKeys{appid: appid, owner: appid, token: firstOf(a.Tokens), aesKey: firstOf(a.AESKeys), originalID: a.OriginalID}
		if k.token == "" && a.Platform != "" {
			return platformKeys(cfg, k, a.Platform)
		}
		return k, nil
	}
	return signKeys{}, usagef("account %s is not in the configuration", appid)
}

// platformKeys are those of the platform through which the account's callbacks come.
func platformKeys(cfg *config.Config, k signKeys, component string) (signKeys, error) {
	for i := range cfg.Platforms {
		if p := &cfg.Platforms[i]; p.ComponentAppID == component {
			k.owner, k.token, k.aesKey = component, firstOf(p.Tokens), firstOf(p.AESKeys)
			k.path = "/platform/" + component + "/callback/" + k.appid
			return k, nil
		}
	}
	return k, usagef("platform %s is not in the configuration", component)
}

func firstOf(secrets []config.Secret) string {
	if len(secrets) == 0 {
		return ""
	}
	return secrets[0].Reveal()
}

func (c *callbackSignCmd) body(g *globals, k signKeys) ([]byte, error) {
	switch c.File {
	case "":
		return c.sample(k)
	case "-":
		return readAllBounded(g.Stdin, wechat.MaxBody)
	}
	b, err := readBounded(c.File, wechat.MaxBody)
	if err != nil {
		return nil, &usageError{err}
	}
	return bytes.TrimRight(b, "\r\n"), nil
}

// element is a field of a callback.
type element struct {
	name  string
	value any // string or int64
}

// sample makes a MASSSENDJOBFINISH. With err(num) WeChat reports zeros.
func (c *callbackSignCmd) sample(k signKeys) ([]byte, error) {
	eligible := c.Total - c.Filtered
	sent := eligible - c.Errors
	if c.Sent != nil {
		sent = *c.Sent
	}
	total, errs := c.Total, c.Errors
	switch kind, _ := events.ParseStatus(c.Status); {
	case kind == events.StatusRejected:
		total, eligible, sent, errs = 0, 0, 0, 0
	case kind == events.StatusFailed && c.Sent == nil && c.Errors == 0:
		sent, errs = 0, eligible
	}
	if eligible < 0 || sent < 0 {
		return nil, usagef("%d addressed, %d filtered, %d errors: more than there are", c.Total, c.Filtered, c.Errors)
	}
	fields := []element{
		{"ToUserName", k.originalID}, {"FromUserName", c.OpenID}, {"CreateTime", cmp.Or(c.CreateTime, time.Now().Unix())},
		{"MsgType", "event"}, {"Event", "MASSSENDJOBFINISH"}, {"MsgID", c.MsgID}, {"Status", c.Status},
		{"TotalCount", total}, {"FilterCount", eligible}, {"SentCount", sent}, {"ErrorCount", errs},
	}
	return writeFields(c.BodyFormat, fields)
}

func writeFields(format string, fields []element) ([]byte, error) {
	if format == wechat.FormatJSON {
		o := ordered{}
		for _, f := range fields {
			o = append(o, member(f))
		}
		return json.Marshal(o)
	}
	var b bytes.Buffer
	b.WriteString("<xml>")
	for _, f := range fields {
		text, ok := f.value.(string)
		if !ok {
			fmt.Fprintf(&b, "<%s>%d</%[1]s>", f.name, f.value)
			continue
		}
		if strings.Contains(text, "]]>") {
			return nil, usagef("%s: \"]]>\" cannot stand in a callback", f.name)
		}
		fmt.Fprintf(&b, "<%s><![CDATA[%s]]></%[1]s>", f.name, text)
	}
	b.WriteString("</xml>")
	return b.Bytes(), nil
}

// sign makes the request. random goes into what is encrypted.
func (c *callbackSignCmd) sign(k signKeys, body []byte, now time.Time, random [16]byte) (signed, error) {
	format := wechat.FormatXML
	if bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))), []byte("{")) {
		format = wechat.FormatJSON
	}
	head, err := wechat.ParsePush(format, body)
	if err != nil {
		return signed{}, fmt.Errorf("the body cannot be read: %w", err)
	}
	timestamp := strconv.FormatInt(cmp.Or(c.Timestamp, now.Unix()), 10)
	nonce := cmp.Or(c.Nonce, strconv.FormatUint(uint64(random[0])<<24|uint64(random[1])<<16|uint64(random[2])<<8|uint64(random[3]), 10))
	req := signed{body: body, contentType: "text/xml; charset=utf-8", query: url.Values{
		"signature": {wechat.Sign(k.token, timestamp, nonce)}, "timestamp": {timestamp}, "nonce": {nonce},
	}}
	if format == wechat.FormatJSON {
		req.contentType = "application/json; charset=utf-8"
	}
	if head.FromUserName != "" {
		req.query.Set("openid", head.FromUserName)
	}
	mode := c.mode(k)
	if mode == wechat.ModePlain {
		return req, nil
	}
	if k.aesKey == "" {
		return signed{}, usagef("%s mode needs an EncodingAESKey: give --aes-key, or aes_keys in the configuration", mode)
	}
	encrypted, err := wechat.Encrypt(k.aesKey, k.owner, random, body)
	if err != nil {
		return signed{}, &usageError{err}
	}
	req.query.Set("encrypt_type", "aes")
	req.query.Set("msg_signature", wechat.Sign(k.token, timestamp, nonce, encrypted))
	if mode == wechat.ModeSafe {
		req.body, err = writeFields(format, []element{{"ToUserName", cmp.Or(head.ToUserName, k.originalID)}, {"Encrypt", encrypted}})
		return req, err
	}
	req.body, err = addEncrypt(format, body, encrypted)
	return req, err
}

func (c *callbackSignCmd) mode(k signKeys) string {
	switch {
	case c.Mode != "auto" && c.Mode != "":
		return c.Mode
	case k.aesKey == "":
		return wechat.ModePlain
	}
	return wechat.ModeSafe
}

// addEncrypt puts the encrypted message beside its copy in clear, as in
// compatible mode.
func addEncrypt(format string, body []byte, encrypted string) ([]byte, error) {
	end, more := "</", "<Encrypt><![CDATA["+encrypted+"]]></Encrypt>"
	if format == wechat.FormatJSON {
		end, more = "}", `,"Encrypt":"`+encrypted+`"`
	}
	at := bytes.LastIndex(body, []byte(end))
	if at < 0 {
		return nil, usagef("the body has no end where the encrypted part could stand")
	}
	return bytes.Join([][]byte{body[:at], []byte(more), body[at:]}, nil), nil
}

// encodeQuery writes the parameters in WeChat's order.
func (s signed) encodeQuery() string {
	var parts []string
	for _, name := range []string{"signature", "timestamp", "nonce", "openid", "encrypt_type", "msg_signature"} {
		if s.query.Has(name) {
			parts = append(parts, name+"="+url.QueryEscape(s.query.Get(name)))
		}
	}
	return strings.Join(parts, "&")
}

// url is where to send the request. Without a path it is where ingest expects it.
func (s signed) url(base string, k signKeys) (string, error) {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return "", usagef("%q is not a URL", base)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = k.path
	}
	u.RawQuery = s.encodeQuery()
	return u.String(), nil
}

func (c *callbackSignCmd) printCurl(g *globals, k signKeys, s signed) error {
	to, err := s.url(c.Curl, k)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(g.Stdout, "curl -sS %s \\\n  -H %s \\\n  --data-binary %s\n", shellQuote(to), shellQuote("Content-Type: "+s.contentType), shellQuote(string(s.body)))
	return err
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (c *callbackSignCmd) post(g *globals, k signKeys, s signed) error {
	to, err := s.url(c.Post, k)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(g.ctx, http.MethodPost, to, bytes.NewReader(s.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", s.contentType)
	client := &http.Client{Timeout: 15 * time.Second}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := readAllBounded(res.Body, wechat.MaxBody)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.Stdout, "%s\n%s\n", res.Status, shownBytes(answer))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the callback was not accepted: WeChat would send it again")
	}
	return nil
}
