package wechattest

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// deliverer keeps pushes until they are due and runs a bounded number of
// attempts at a time.
type deliverer struct {
	try     func(context.Context, *push) (again bool)
	spacing []time.Duration
	client  *http.Client
	slots   chan struct{}
	wake    chan struct{}

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	queue dueQueue
	seq   int64
	open  int           // pushes queued or under way
	idle  chan struct{} // closed while open is 0
}

func newDeliverer(cfg Config, try func(context.Context, *push) bool) *deliverer {
	transport := cfg.Transport
	if transport == nil {
		transport = &http.Transport{MaxIdleConnsPerHost: cfg.Deliveries, IdleConnTimeout: 30 * time.Second}
	}
	d := &deliverer{
		try: try,
		client: &http.Client{
			Transport: transport,
			Timeout:   cfg.AttemptTimeout,
			// WeChat takes the answer of the URL it was given.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		slots: make(chan struct{}, cfg.Deliveries),
		wake:  make(chan struct{}, 1),
		idle:  make(chan struct{}),
	}
	for _, pause := range cfg.RetrySpacing {
		d.spacing = append(d.spacing, cfg.scaled(pause))
	}
	close(d.idle)
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

func (d *deliverer) start() { d.wg.Go(d.run) }

// stop ends the attempts under way and waits for them.
func (d *deliverer) stop() {
	d.cancel()
	d.wg.Wait()
	d.client.CloseIdleConnections()
}

// add queues a push.
func (d *deliverer) add(p *push, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == 0 {
		d.idle = make(chan struct{})
	}
	d.open++
	d.put(p, delay)
}

// put places a push that is already counted as open. The lock is held.
func (d *deliverer) put(p *push, delay time.Duration) {
	d.seq++
	heap.Push(&d.queue, due{push: p, at: time.Now().Add(delay), seq: d.seq})
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *deliverer) outstanding() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

func (d *deliverer) drain(ctx context.Context) error {
	d.mu.Lock()
	idle := d.idle
	d.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run takes pushes as they fall due. A slot is taken before the push, so that
// one that becomes due meanwhile and is earlier still goes first.
func (d *deliverer) run() {
	for d.await() {
		select {
		case d.slots <- struct{}{}:
		case <-d.ctx.Done():
			return
		}
		p := d.take()
		d.wg.Go(func() {
			defer func() { <-d.slots }()
			d.settle(p, d.try(d.ctx, p))
		})
	}
}

// await returns once a push is due, or false when the deliverer is to stop.
func (d *deliverer) await() bool {
	for {
		d.mu.Lock()
		wait := time.Hour
		if len(d.queue) > 0 {
			wait = time.Until(d.queue[0].at)
		}
		d.mu.Unlock()
		if wait <= 0 {
			return d.ctx.Err() == nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-d.wake:
			timer.Stop()
		case <-d.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

func (d *deliverer) take() *push {
	d.mu.Lock()
	defer d.mu.Unlock()
	return heap.Pop(&d.queue).(due).push
}

// settle queues the next attempt or closes the push. The number of attempts
// made is in the push, which nobody else touches while it is under way.
func (d *deliverer) settle(p *push, again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if again {
		d.put(p, d.spacing[len(p.attempts)-1])
		return
	}
	d.open--
	if d.open == 0 {
		close(d.idle)
	}
}

// attempt tries to deliver a push once and reports whether to try again.
func (s *Simulator) attempt(ctx context.Context, p *push) (again bool) {
	s.mu.Lock()
	n := len(p.attempts) + 1
	e, err := s.seal(p, n)
	hangUp := n <= p.callback.HangUps
	lose := !hangUp && n <= p.callback.HangUps+p.callback.LoseAnswers
	s.mu.Unlock()

	a := Attempt{At: s.cfg.Clock()}
	began := time.Now()
	if err == nil {
		err = s.post(ctx, e, hangUp, &a)
	}
	a.Took = time.Since(began)
	if err != nil {
		a.Error = err.Error()
	}
	a.Success = err == nil && accepted(a, p.passive)
	a.Lost = a.Success && lose

	s.mu.Lock()
	defer s.mu.Unlock()
	p.attempts = append(p.attempts, a)
	switch {
	case a.Success && !lose:
		p.state = PushDelivered
	case ctx.Err() != nil:
		// The simulator is closing: the push stays due.
	case n > len(s.cfg.RetrySpacing):
		p.state = PushGivenUp
	default:
		again = true
	}
	s.logAttempt(ctx, p, a, n)
	return again
}

func (s *Simulator) logAttempt(ctx context.Context, p *push, a Attempt, n int) {
	level := slog.LevelDebug
	if p.state == PushGivenUp {
		level = slog.LevelWarn
	}
	s.cfg.Logger.Log(ctx, level, "push", "appid", p.appid, "kind", p.kind, "msg_id", p.msgID,
		"attempt", n, "status", a.Status, "success", a.Success, "lost", a.Lost, "state", p.state, "error", a.Error)
}

var errHungUp = errors.New("connection broken by plan")

// post makes the request of an attempt and notes the answer. The URL of a push
// carries its signature and is left out of errors.
func (s *Simulator) post(ctx context.Context, e envelope, hangUp bool, a *Attempt) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var written atomic.Bool
	defer func() { a.Written = written.Load() }()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			written.Store(i.Err == nil)
			if hangUp {
				cancel(errHungUp)
			}
		},
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(e.body))
	if err != nil {
		return fmt.Errorf("push: %w", withoutURL(err))
	}
	request.Header.Set("Content-Type", e.contentType)
	request.Header.Set("User-Agent", "Mozilla/4.0")
	response, err := s.delivery.client.Do(request)
	if err != nil {
		if errors.Is(context.Cause(ctx), errHungUp) {
			return errHungUp
		}
		return fmt.Errorf("push: %w", withoutURL(err))
	}
	defer response.Body.Close()
	if hangUp {
		// The answer overtook the broken connection; by plan it is never read.
		return errHungUp
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	a.Status, a.Reply = response.StatusCode, clip(string(body), 4096)
	if err != nil {
		return fmt.Errorf("read the answer to a push: %w", withoutURL(err))
	}
	return nil
}

// accepted tells whether WeChat takes an answer for success: 200 with nothing
// or the bare word, or, to an ordinary message, a message. The word in JSON
// quotes is an illegal answer.
func accepted(a Attempt, passive bool) bool {
	if a.Status != http.StatusOK {
		return false
	}
	if a.Reply == "" || a.Reply == "success" {
		return true
	}
	return passive && (strings.HasPrefix(a.Reply, "<xml>") || strings.HasPrefix(a.Reply, "{"))
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// due is a push in the queue.
type due struct {
	push *push
	at   time.Time
	seq  int64 // first come, first served among equals
}

type dueQueue []due

func (q dueQueue) Len() int { return len(q) }
func (q dueQueue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].seq < q[j].seq
	}
	return q[i].at.Before(q[j].at)
}
func (q dueQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *dueQueue) Push(x any)   { *q = append(*q, x.(due)) }
func (q *dueQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = due{}
	*q = old[:len(old)-1]
	return last
}
