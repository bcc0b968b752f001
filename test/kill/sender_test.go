package kill

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qunfa/internal/wechat"
)

// The accounts of the sender: one in plain XML, one in safe JSON.
const (
	token  = "a-token-for-tests"
	aesKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"

	plainAccount = "wx1111111111111111"
	safeAccount  = "wx2222222222222222"

	accountsYAML = `  - {appid: ` + plainAccount + `, name: plain, tokens: [` + token + `]}
  - {appid: ` + safeAccount + `, name: safe, tokens: [` + token + `], aes_keys: [` + aesKey + `]}
`
)

// callback is one of the sender's: everything follows from its number.
type callback struct{ n int64 }

func (c callback) appid() string {
	if c.n%2 == 0 {
		return plainAccount
	}
	return safeAccount
}

func (c callback) status() string {
	if c.n%10 == 7 {
		return "err(20001)"
	}
	return "send success"
}

func (c callback) counts() (total, eligible, sent, failed int64) {
	if c.n%10 == 7 {
		return 0, 0, 0, 0
	}
	total = 50 + 7*c.n
	eligible = total - c.n%11
	failed = c.n % 5
	return total, eligible, eligible - failed, failed
}

// row is what the view messages must say of it.
func (c callback) row() string {
	total, eligible, sent, failed := c.counts()
	if c.n%10 == 7 { // WeChat reports zeros, but nobody knows
		return fmt.Sprintf("%s,%d,rejected,20001,,,0,0,1", c.appid(), c.n)
	}
	return fmt.Sprintf("%s,%d,sent,,%d,%d,%d,%d,1", c.appid(), c.n, total, eligible, sent, failed)
}

func (c callback) xml(created int64) string {
	total, eligible, sent, failed := c.counts()
	return fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><FromUserName>o</FromUserName><CreateTime>%d</CreateTime><MsgType>event</MsgType>"+
		"<Event>MASSSENDJOBFINISH</Event><MsgID>%d</MsgID><Status>%s</Status><TotalCount>%d</TotalCount><FilterCount>%d</FilterCount>"+
		"<SentCount>%d</SentCount><ErrorCount>%d</ErrorCount></xml>", created, c.n, c.status(), total, eligible, sent, failed)
}

func (c callback) json(created int64) string {
	total, eligible, sent, failed := c.counts()
	return fmt.Sprintf(`{"ToUserName":"gh_2","FromUserName":"o","CreateTime":%d,"MsgType":"event","Event":"MASSSENDJOBFINISH","MsgID":%d,`+
		`"Status":%q,"TotalCount":%d,"FilterCount":%d,"SentCount":%d,"ErrorCount":%d}`, created, c.n, c.status(), total, eligible, sent, failed)
}

// request makes a push of it, signed and encrypted anew as every redelivery is.
func (c callback) request(created int64) (query url.Values, body string, err error) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	q := url.Values{"timestamp": {now}, "nonce": {rand.Text()[:10]}}
	q.Set("signature", wechat.Sign(token, now, q.Get("nonce")))
	if c.appid() == plainAccount {
		return q, c.xml(created), nil
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, "", err
	}
	sealed, err := wechat.Encrypt(aesKey, safeAccount, random, []byte(c.json(created)))
	if err != nil {
		return nil, "", err
	}
	q.Set("encrypt_type", "aes")
	q.Set("msg_signature", wechat.Sign(token, now, q.Get("nonce"), sealed))
	b, err := json.Marshal(map[string]string{"ToUserName": "gh_2", "Encrypt": sealed})
	return q, string(b), err
}

// sender posts callbacks, one after the other in each of several workers, and
// keeps a ledger of those that were answered with success.
type sender struct {
	t      *testing.T
	target atomic.Pointer[string] // host:port of ingest
	client *http.Client
	next   atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	sent   map[int64]bool // by number; true: acknowledged
	acked  int
	failed int // attempts without success
}

const workers = 12

func startSender(t *testing.T) *sender {
	ctx, cancel := context.WithCancel(context.Background())
	s := &sender{t: t, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: workers}}, cancel: cancel, sent: map[int64]bool{}}
	for range workers {
		s.wg.Go(func() { s.work(ctx) })
	}
	t.Cleanup(s.stop)
	return s
}

func (s *sender) stop() {
	s.cancel()
	s.wg.Wait()
	s.client.CloseIdleConnections()
}

// work is one worker: about 25 callbacks a second.
func (s *sender) work(ctx context.Context) {
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.deliver(ctx, callback{s.next.Add(1)})
		}
	}
}

// deliver tries three times, as WeChat does.
func (s *sender) deliver(ctx context.Context, c callback) {
	s.note(c, false)
	created := time.Now().Unix()
	for _, pause := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 0} {
		if s.attempt(c, created) {
			s.note(c, true)
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (s *sender) note(c callback, acked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[c.n] = acked
	if acked {
		s.acked++
	}
}

func (s *sender) attempt(c callback, created int64) bool {
	ok := s.post(c, created)
	if !ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed++
	}
	return ok
}

func (s *sender) post(c callback, created int64) bool {
	target := s.target.Load()
	if target == nil {
		return false
	}
	q, body, err := c.request(created)
	if err != nil {
		s.t.Error(err)
		return false
	}
	resp, err := s.client.Post("http://"+*target+"/callback/"+c.appid()+"?"+q.Encode(), "text/xml", bytes.NewReader([]byte(body)))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && string(answer) == "success"
}

func (s *sender) acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}
