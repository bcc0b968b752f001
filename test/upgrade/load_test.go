package upgrade

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"qunfa/internal/wechat"
)

// load is a WeChat with one account that sends without end. Every third send is
// recorded, and every fifth callback comes twice.
type load struct {
	t    *testing.T
	http *http.Client
	end  chan struct{}
	done chan struct{}
	stop func()

	mu    sync.Mutex
	to    []*process // the ingests behind the load balancer
	taken map[int64]string
}

func startLoad(t *testing.T, to *process) *load {
	l := &load{
		t: t, http: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second},
		end: make(chan struct{}), done: make(chan struct{}), to: []*process{to}, taken: map[int64]string{},
	}
	l.stop = sync.OnceFunc(func() {
		close(l.end)
		<-l.done
		l.http.CloseIdleConnections()
	})
	go l.run()
	t.Cleanup(l.stop)
	return l
}

func (l *load) run() {
	defer close(l.done)
	pace := time.NewTicker(15 * time.Millisecond)
	defer pace.Stop()
	for id := int64(1_000_000); ; id++ {
		select {
		case <-l.end:
			return // between two messages: what was begun is in the ledger
		case <-pace.C:
		}
		recorded := id%3 == 0
		if recorded {
			l.insist(func(p *process) *http.Request { return l.record(p, id) })
		}
		for range 1 + id%5/4 {
			l.insist(func(p *process) *http.Request { return l.callback(p, id) })
		}
		l.mu.Lock()
		l.taken[id] = row(id, recorded)
		l.mu.Unlock()
	}
}

// insist repeats a request until one of the ingests takes it.
func (l *load) insist(request func(*process) *http.Request) {
	wait := time.NewTicker(20 * time.Millisecond)
	defer wait.Stop()
	for n := range int(patience / (20 * time.Millisecond)) {
		l.mu.Lock()
		to := l.to[n%len(l.to)]
		l.mu.Unlock()
		resp, err := l.http.Do(request(to))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		<-wait.C
	}
	l.t.Error("nobody takes a request")
}

func (l *load) record(p *process, id int64) *http.Request {
	body := fmt.Sprintf(`{"appid":%q,"msg_id":%d,"submitted_at":%q,"audience":{"kind":"all"}}`, appid, id, time.Now().UTC().Format(time.RFC3339))
	r := l.request("http://"+p.records+"/v1/submissions", body)
	r.Header.Set("Authorization", "Bearer "+apiToken)
	r.Header.Set("Content-Type", "application/json")
	return r
}

func (l *load) callback(p *process, id int64) *http.Request {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	q := url.Values{"timestamp": {at}, "nonce": {"1"}, "signature": {wechat.Sign(token, at, "1")}}
	// A repeated push has the CreateTime of the first.
	body := fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><CreateTime>%d</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>"+
		"<MsgID>%d</MsgID><Status>send success</Status><TotalCount>%d</TotalCount><FilterCount>%d</FilterCount><SentCount>%d</SentCount><ErrorCount>%d</ErrorCount></xml>",
		created, id, total(id), total(id)-20, total(id)-20-id%7, id%7)
	return l.request("http://"+p.callbacks+"/callback/"+appid+"?"+q.Encode(), body)
}

func (l *load) request(to, body string) *http.Request {
	r, err := http.NewRequest(http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		panic(err) // of constants and numbers
	}
	return r
}

// created is when WeChat says all messages ended: a second of this test.
var created = time.Now().Unix()

func total(id int64) int64 { return 100 + id%1000 }

// row is a message as the database must show it.
func row(id int64, recorded bool) string {
	return fmt.Sprint([]any{"sent", total(id), total(id) - 20, int64(20), total(id) - 20 - id%7, id % 7, int64(1), recorded})
}

// ledger is what was taken, by msg_id.
func (l *load) ledger() map[int64]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[int64]string, len(l.taken))
	for id, r := range l.taken {
		m[id] = r
	}
	return m
}

// goTo changes the ingests that the load balancer knows.
func (l *load) goTo(to ...*process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}
