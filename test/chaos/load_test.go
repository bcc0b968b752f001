//go:build chaos

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"qunfa/internal/wechat/wechattest"
)

const (
	stopSignal = syscall.SIGSTOP
	contSignal = syscall.SIGCONT
)

// The accounts receive pushes in every way there is.
const component = "wx00c0ffee00c0ffee"

func accounts() []wechattest.Account {
	var all []wechattest.Account
	for i := range 2 {
		for _, a := range []wechattest.Account{
			{Name: "plain, XML", Mode: wechattest.Plain, Format: wechattest.XML, Fans: 40_311},
			{Name: "plain, JSON", Mode: wechattest.Plain, Format: wechattest.JSON, Fans: 5_011},
			{Name: "compatible, XML", Mode: wechattest.Compatible, Format: wechattest.XML, Fans: 77_000},
			{Name: "compatible, JSON", Mode: wechattest.Compatible, Format: wechattest.JSON, Fans: 902_774},
			{Name: "safe, XML", Mode: wechattest.Safe, Format: wechattest.XML, Fans: 7_120},
			{Name: "safe, JSON", Mode: wechattest.Safe, Format: wechattest.JSON, Fans: 15_003_226},
			{Name: "of a platform", Component: component, Mode: wechattest.Safe, Format: wechattest.XML, Fans: 611},
		} {
			a.Name = fmt.Sprintf("%s, %d", a.Name, i+1)
			all = append(all, a)
		}
	}
	return all
}

// scale is how many times faster than life WeChat's own delays pass: a callback
// that is some hours late is some seconds late.
const scale = 900

// startWeChat starts the simulator, with a balancer before the ingests.
func (s *stage) startWeChat(ingests ...string) {
	s.t.Helper()
	carrier := &http.Transport{MaxIdleConnsPerHost: 16}
	s.front = newBalancer(carrier, ingests...)
	weights := wechattest.DefaultWeights()
	weights.Deleted = 0 // when a poll finds it deleted is a matter of time
	mix := wechattest.Mix{Seed: s.seed, Weights: weights, After: [2]time.Duration{5 * time.Minute, 20 * time.Minute}}
	sim, err := wechattest.New(wechattest.Config{
		Seed: s.seed, Scale: scale, Transport: s.front, Accounts: accounts(), Components: []wechattest.Component{{AppID: component}},
		Plans: func(c wechattest.Call) wechattest.Plan { return fate(c, mix.Plan(c)) },
		// How long WeChat pauses before it repeats is not documented.
		RetrySpacing: []time.Duration{2 * time.Second * scale, 5 * time.Second * scale},
		Deliveries:   64,
		Limits:       wechattest.Limits{PerMinute: 1 << 40, GetPerDay: 1 << 40, Token: 1 << 40},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.sim = sim
	s.t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			s.t.Errorf("close the simulator: %v", err)
		}
		carrier.CloseIdleConnections()
	})
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { s.front.watch(ctx) })
	s.t.Cleanup(func() {
		stop()
		watching.Wait()
	})
	sim.PointAt("http://balancer")
	sim.Start()
}

// watch notes when this process does not get to run, until ctx ends: then the
// services do not either, and nobody can answer in time.
func (b *balancer) watch(ctx context.Context) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		b.beat(last, now)
		last = now
	}
}

// fate makes sure that there are messages that nobody recorded, and some of
// which WeChat knows nothing.
func fate(c wechattest.Call, p wechattest.Plan) wechattest.Plan {
	switch {
	case c.Ordinal%10 == 3:
		return p.Told(wechattest.Unrecorded)
	case c.Ordinal%60 == 7:
		return wechattest.Success().Lost("40059")
	}
	return p
}

const apiToken = "token-of-the-record-api"

// load sends and records messages until it is stopped.
type load struct {
	*stage
	apis   []string // record APIs
	client *http.Client
	end    context.CancelFunc // no more sends
	give   context.CancelFunc // no more attempts to record
	wg     sync.WaitGroup
	turn   atomic.Int64

	mu       sync.Mutex
	accepted map[string]bool
	failed   int
	waiting  int
}

// senders share the rate.
const senders = 16

func (s *stage) startLoad(perSecond float64, apis ...string) *load {
	l := &load{
		stage: s, apis: apis, accepted: map[string]bool{},
		client: &http.Client{Timeout: 6 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: senders}},
	}
	sending, end := context.WithCancel(context.Background())
	recording, give := context.WithCancel(context.Background())
	l.end, l.give = end, give
	all := s.sim.Accounts()
	for i := range senders {
		l.wg.Go(func() { l.send(sending, recording, all, i, time.Duration(float64(time.Second)*senders/perSecond)) })
	}
	s.t.Cleanup(func() {
		l.end()
		l.give()
		l.wg.Wait()
		l.client.CloseIdleConnections()
	})
	return l
}

// send is one sender.
func (l *load) send(sending, recording context.Context, all []wechattest.Account, n int, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := n; ; i += senders {
		select {
		case <-sending.Done():
			return
		case <-tick.C:
		}
		to := wechattest.All()
		if i%3 == 0 {
			to = wechattest.OpenIDs(int64(100 + i%1000))
		}
		r, err := l.sim.Submit(all[i%len(all)].AppID, wechattest.Send{Audience: to, Label: "群发"})
		if err != nil {
			l.find("the simulator refuses a send: %v", err)
			return
		}
		if r.Record != wechattest.Unrecorded {
			l.record(recording, r)
		}
	}
}

// record tells the record API of a send until it accepts, as its callers must.
func (l *load) record(ctx context.Context, r wechattest.Receipt) {
	l.count(func() { l.waiting++ })
	defer l.count(func() { l.waiting-- })
	body, err := json.Marshal([]wechattest.Receipt{r})
	if err != nil {
		l.find("encode a record: %v", err)
		return
	}
	for !l.post(ctx, body) {
		l.count(func() { l.failed++ })
		pause(ctx, 300*time.Millisecond)
		if ctx.Err() != nil {
			l.find("the record of %s was never accepted", key(r.AppID, r.MsgID))
			return
		}
	}
	l.count(func() { l.accepted[key(r.AppID, r.MsgID)] = true })
}

func (l *load) count(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *load) post(ctx context.Context, body []byte) bool {
	api := l.apis[int(l.turn.Add(1))%len(l.apis)]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+api+"/v1/submissions", bytes.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+apiToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// finish stops sending and waits until everything is recorded and pushed.
func (l *load) finish() {
	l.t.Helper()
	l.end()
	why := l.await(context.Background(), 2*time.Minute, func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.waiting > 0 {
			return fmt.Sprintf("%d records are not accepted", l.waiting)
		}
		return ""
	})
	if why != "" {
		l.find("%s", why)
	}
	l.give()
	l.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := l.sim.Drain(ctx); err != nil {
		l.find("callbacks are not delivered: %v", err)
	}
}

// progress is how far the load is.
func (l *load) progress() string {
	s := l.sim.Stats()
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d messages; callbacks: %d delivered, %d given up, %d to come, %d attempts; records: %d accepted, %d waiting, %d attempts failed; %d polls",
		s.Messages, s.Delivered, s.GivenUp, s.Due, s.Attempts, len(l.accepted), l.waiting, l.failed, s.Polls)
}

// truth is what must be in the database.
func (l *load) truth() truth {
	l.mu.Lock()
	defer l.mu.Unlock()
	return truth{l.sim.Ledger().Entries, maps.Clone(l.accepted)}
}

func fetch(c *http.Client, url string) (status int, body string, err error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
