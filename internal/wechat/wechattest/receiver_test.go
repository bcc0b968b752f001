package wechattest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// open undoes seal, for tests alone: it returns the message, the random bytes
// and the appid of a ciphertext.
func open(encodingKey, encrypted string) (message []byte, random [16]byte, appid string, err error) {
	key, err := base64.StdEncoding.DecodeString(encodingKey + "=")
	if err != nil {
		return nil, random, "", err
	}
	sealed, err := base64.StdEncoding.DecodeString(encrypted)
	if err != nil {
		return nil, random, "", err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, random, "", err
	}
	cipher.NewCBCDecrypter(block, key[:16]).CryptBlocks(sealed, sealed)
	padding := int(sealed[len(sealed)-1])
	if padding < 1 || padding > 32 || len(sealed)%32 != 0 {
		return nil, random, "", fmt.Errorf("padding %d of %d bytes", padding, len(sealed))
	}
	clear := sealed[:len(sealed)-padding]
	n := int(binary.BigEndian.Uint32(clear[16:20]))
	if n > len(clear)-20 {
		return nil, random, "", errors.New("length exceeds the text")
	}
	return clear[20 : 20+n], [16]byte(clear[:16]), string(clear[20+n:]), nil
}

// got is a push as a receiver saw it.
type got struct {
	path        string
	query       url.Values
	contentType string
	body        []byte
	clear       []byte // decrypted; the body in plain mode
}

// receiver is the application behind a callback URL. It checks what it can of
// every push and answers as told.
type receiver struct {
	*httptest.Server
	t      *testing.T
	reply  func(n int, w http.ResponseWriter, r *http.Request) // n from 1; nil answers success
	secret func(path string) (token, key, appid string)

	mu     sync.Mutex
	pushes []got
}

func newReceiver(t *testing.T, s *Simulator, reply func(int, http.ResponseWriter, *http.Request)) *receiver {
	t.Helper()
	r := &receiver{t: t, reply: reply}
	r.secret = func(path string) (string, string, string) {
		for _, c := range s.Components() {
			if strings.Contains(path, c.AppID) {
				return c.Token, c.AESKey, c.AppID
			}
		}
		for _, a := range s.Accounts() {
			if strings.Contains(path, a.AppID) {
				return a.Token, a.AESKey, a.AppID
			}
		}
		return "", "", ""
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	s.PointAt(r.URL)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	query := q.URL.Query()
	token, key, appid := r.secret(q.URL.Path)
	if query.Get("signature") != sign(token, query.Get("timestamp"), query.Get("nonce")) {
		r.t.Errorf("%s: signature does not match", q.URL.Path)
	}
	if q.Method == http.MethodGet {
		_, _ = io.WriteString(w, query.Get("echostr"))
		return
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		r.t.Errorf("read a push: %v", err)
	}
	g := got{path: q.URL.Path, query: query, contentType: q.Header.Get("Content-Type"), body: body, clear: body}
	if query.Get("encrypt_type") == "aes" {
		g.clear = r.decrypt(g, token, key, appid)
	}
	r.mu.Lock()
	r.pushes = append(r.pushes, g)
	n := len(r.pushes)
	r.mu.Unlock()
	if r.reply == nil {
		_, _ = io.WriteString(w, "success")
		return
	}
	r.reply(n, w, q)
}

func (r *receiver) decrypt(g got, token, key, appid string) []byte {
	var outer struct {
		Encrypt string `xml:"Encrypt"`
	}
	decode := xml.Unmarshal
	if g.contentType == "application/json" {
		decode = json.Unmarshal
	}
	if err := decode(g.body, &outer); err != nil {
		r.t.Errorf("outer document: %v: %s", err, g.body)
		return nil
	}
	if g.query.Get("msg_signature") != sign(token, g.query.Get("timestamp"), g.query.Get("nonce"), outer.Encrypt) {
		r.t.Errorf("msg_signature does not match")
	}
	clear, _, trailing, err := open(key, outer.Encrypt)
	if err != nil || trailing != appid {
		r.t.Errorf("decrypt: appid %q, error %v", trailing, err)
	}
	return clear
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.pushes...)
}

// job is the push that reports a mass send, as XML.
type job struct {
	ToUserName, FromUserName string
	CreateTime               int64
	MsgType, Event           string
	MsgID                    int64
	Status                   string
	TotalCount, FilterCount  int64
	SentCount, ErrorCount    int64
	Checks                   []checkItem   `xml:"CopyrightCheckResult>ResultList>item"`
	CheckCount               *int64        `xml:"CopyrightCheckResult>Count"`
	CheckState               *int64        `xml:"CopyrightCheckResult>CheckState"`
	ArticleCount             *int64        `xml:"ArticleUrlResult>Count"`
	Articles                 []articleItem `xml:"ArticleUrlResult>ResultList>item"`
}

type checkItem struct {
	ArticleIdx, UserDeclareState, AuditState, OriginalArticleType int64
	OriginalArticleUrl                                            string
	CanReprint, NeedReplaceContent, NeedShowReprintSource         int64
}

type articleItem struct {
	ArticleIdx int64
	ArticleUrl string
}

func parseJob(t *testing.T, clear []byte) job {
	t.Helper()
	var j job
	if err := xml.Unmarshal(clear, &j); err != nil {
		t.Fatalf("parse %s: %v", clear, err)
	}
	return j
}

// start runs a simulator until the end of the test, 100,000 times faster
// than WeChat unless told otherwise.
func start(t *testing.T, cfg Config) *Simulator {
	t.Helper()
	if cfg.Scale == 0 {
		cfg.Scale = 100_000
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func drain(t *testing.T, s *Simulator) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

func submit(t *testing.T, s *Simulator, appid string, send Send) Receipt {
	t.Helper()
	r, err := s.Submit(appid, send)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func arrange(t *testing.T, s *Simulator, appid string, plans ...Plan) {
	t.Helper()
	if err := s.Arrange(appid, plans...); err != nil {
		t.Fatal(err)
	}
}

// handlerTransport answers requests by a handler, without a network.
type handlerTransport struct{ http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// checkOther checks the head of a push that reports no mass send, and that text
// survives the rendering.
func checkOther(t *testing.T, format Format, clear []byte) {
	t.Helper()
	var p struct {
		ToUserName, FromUserName, MsgType, Event, Content string
		CreateTime, MsgId, MsgID                          int64
		PublishEventInfo                                  struct {
			ID   int64 `xml:"publish_id" json:"publish_id"`
			Fail []int `xml:"fail_idx" json:"fail_idx"`
			Item []struct {
				URL string `xml:"article_url" json:"article_url"`
			} `xml:"article_detail>item" json:"-"`
		}
	}
	if format == JSON {
		// Quoted numbers are made bare, as a lenient reader would.
		clear = []byte(quotedNumber.ReplaceAllString(string(clear), `$1$2`))
		if err := json.Unmarshal(clear, &p); err != nil {
			t.Fatalf("%v: %s", err, clear)
		}
	} else if err := xml.Unmarshal(clear, &p); err != nil {
		t.Fatalf("%v: %s", err, clear)
	}
	if p.ToUserName == "" || p.FromUserName == "" || p.CreateTime == 0 {
		t.Errorf("head of %s", clear)
	}
	if p.MsgType == "text" && p.Content != "a <b> & ]]> \"c\"" {
		t.Errorf("content %q", p.Content)
	}
	if p.Event == "PUBLISHJOBFINISH" && p.PublishEventInfo.ID == 0 {
		t.Errorf("publication %s", clear)
	}
}

var quotedNumber = regexp.MustCompile(`([:,\[])"(\d+)"`)
