package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"qunfa/internal/sample"
)

// passedHeaders are the headers of a push that upstream gets to see.
var passedHeaders = []string{"Content-Type", "User-Agent", "Accept", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"}

// forwarder passes pushes on to the applications behind us.
type forwarder struct {
	cfg     UpstreamConfig
	http    http.RoundTripper
	metrics *metrics
	log     *sample.Logger
	clock   func() time.Time
	asking  *limit // who waits for an answer, by host

	queue chan *push // copies to be passed on
	mu    sync.Mutex // guards the rest
	bytes int64      // bodies in queue or being passed on
	shut  bool
}

func newForwarder(cfg UpstreamConfig, rt http.RoundTripper, m *metrics, log *sample.Logger, clock func() time.Time) *forwarder {
	return &forwarder{
		cfg: cfg, http: rt, metrics: m, log: log, clock: clock,
		asking: newLimit(cfg.MaxInFlight, cfg.MaxPerHost),
		queue:  make(chan *push, cfg.Queue),
	}
}

func newTransport(cfg UpstreamConfig) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
		TLSHandshakeTimeout:   cfg.Timeout,
		ResponseHeaderTimeout: cfg.Timeout,
		MaxIdleConnsPerHost:   cfg.MaxPerHost,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true, // an answer goes back as it is
		ForceAttemptHTTP2:     true,
	}
}

func newPush(t *target, r *http.Request, body []byte, received time.Time) *push {
	h := http.Header{}
	for _, name := range passedHeaders {
		if values := r.Header.Values(name); len(values) > 0 {
			h[name] = values
		}
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		h.Add("X-Forwarded-For", host)
	}
	if h.Get("X-Forwarded-Host") == "" {
		h.Set("X-Forwarded-Host", r.Host)
	}
	if h.Get("User-Agent") == "" {
		h["User-Agent"] = nil // not Go's own
	}
	return &push{target: t, query: r.URL.RawQuery, header: h, body: body, received: received}
}

// ask passes a push on and returns upstream's answer for WeChat. Whatever goes
// wrong there, WeChat gets success: after repeated failures it suspends the
// whole URL, and our own results with it.
func (f *forwarder) ask(ctx context.Context, p *push) answer {
	if p.target.upstream == nil {
		return succeed(resultPassed)
	}
	host := p.target.upstream.Host
	if !f.asking.enter(host) {
		f.failed(p, kindAnswer, &upstreamFault{upstreamDropped, errors.New("too many pushes wait for this upstream")})
		return succeed(resultPassed)
	}
	defer f.asking.leave(host)
	// Upstream gets the push also when WeChat hangs up meanwhile.
	a, err := f.send(context.WithoutCancel(ctx), p, f.cfg.Timeout-f.clock().Sub(p.received))
	if err != nil {
		f.failed(p, kindAnswer, err)
		return succeed(resultPassed)
	}
	f.metrics.upstream.WithLabelValues(kindAnswer, upstreamOK).Inc()
	a.result = resultPassed
	return a
}

// copy queues one of our own pushes for upstream, if it is to have them. It
// never waits.
func (f *forwarder) copy(p *push) {
	if p.target.upstream == nil || !p.target.upstreamMass {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.shut && f.bytes+int64(len(p.body)) <= f.cfg.QueueBytes {
		select {
		case f.queue <- p:
			f.bytes += int64(len(p.body))
			f.metrics.upstreamQueue.Inc()
			return
		default:
		}
	}
	f.failed(p, kindCopy, &upstreamFault{upstreamDropped, errors.New("too many copies wait for upstream")})
}

// run passes copies on until close, and then what is still queued. Cancelling
// ctx gives the rest up. It returns when nothing is at work.
func (f *forwarder) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range f.cfg.Workers {
		workers.Go(func() {
			for p := range f.queue {
				f.passOn(ctx, p)
				f.done(p)
			}
		})
	}
	workers.Wait()
}

// close takes no more copies.
func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.shut {
		f.shut = true
		close(f.queue)
	}
}

func (f *forwarder) done(p *push) {
	f.metrics.upstreamQueue.Dec()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes -= int64(len(p.body))
}

// passOn tries a copy several times: WeChat has our success and will not repeat it.
func (f *forwarder) passOn(ctx context.Context, p *push) {
	delay := f.cfg.RetryDelay
	for attempt := 1; ; attempt++ {
		_, err := f.send(ctx, p, f.cfg.Timeout)
		if err == nil {
			f.metrics.upstream.WithLabelValues(kindCopy, upstreamOK).Inc()
			return
		}
		if attempt >= f.cfg.Attempts || !wait(ctx, delay) {
			f.failed(p, kindCopy, err)
			return
		}
		delay *= 2
	}
}

// wait reports whether the time has passed; it ends early with ctx.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// upstreamFault says how passing a push on went wrong. It holds no URL: the
// query has WeChat's signature in it.
type upstreamFault struct {
	result string
	err    error
}

func (e *upstreamFault) Error() string { return e.err.Error() }

// send makes one request. Redirects are not followed: a push is not for elsewhere.
func (f *forwarder) send(ctx context.Context, p *push, within time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	start := time.Now()
	defer func() { f.metrics.upstreamSeconds.Observe(time.Since(start).Seconds()) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url().String(), bytes.NewReader(p.body))
	if err != nil {
		return answer{}, classify(err)
	}
	req.Header = p.header.Clone()
	if user := p.target.upstream.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	resp, err := f.http.RoundTrip(req)
	if err != nil {
		return answer{}, classify(err)
	}
	defer resp.Body.Close()
	return f.read(resp)
}

func (f *forwarder) read(resp *http.Response) (answer, error) {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return answer{}, &upstreamFault{upstreamBadStatus, fmt.Errorf("answered with status %d", resp.StatusCode)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, f.cfg.AnswerLimit+1))
	if err != nil {
		return answer{}, classify(err)
	}
	if int64(len(body)) > f.cfg.AnswerLimit {
		return answer{}, &upstreamFault{upstreamTooLarge, fmt.Errorf("answer is larger than %d bytes", f.cfg.AnswerLimit)}
	}
	return answer{status: http.StatusOK, body: body, contentType: resp.Header.Get("Content-Type")}, nil
}

// classify tells a timeout from other errors, and takes the URL out.
func classify(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	var net net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &net) && net.Timeout() {
		return &upstreamFault{upstreamTimeout, errors.New("did not answer in time")}
	}
	return &upstreamFault{upstreamError, err}
}

func (f *forwarder) failed(p *push, kind string, err error) {
	result := upstreamError
	var fault *upstreamFault
	if errors.As(err, &fault) {
		result = fault.result
	}
	f.metrics.upstream.WithLabelValues(kind, result).Inc()
	f.log.Line(slog.LevelWarn, "upstream "+kind+" "+result, "push not passed on to upstream",
		"appid", p.target.appid, "upstream", p.target.upstream.Host, "kind", kind, "result", result, "error", err)
}
