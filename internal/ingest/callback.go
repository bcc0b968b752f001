package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"qunfa/internal/events"
	"qunfa/internal/sample"
	"qunfa/internal/wechat"
)

// answerLimit is when WeChat must have its answer: it hangs up 5 s after it
// began, and the way back takes time as well.
const answerLimit = 4500 * time.Millisecond

const textPlain = "text/plain; charset=utf-8"

// callbacks serves the callback URLs.
type callbacks struct {
	cfg     Config
	dir     *Directory
	events  Publisher
	dead    DeadLetters
	forward *forwarder
	metrics *metrics
	log     *sample.Logger
	clock   func() time.Time
	places  *limit
}

// answer is how a request ends. Handlers return it, and one place turns it into
// a response, a counter and a log line. The public text never carries the cause.
type answer struct {
	status      int
	result      string // one of callbackResults
	body        []byte
	contentType string
	err         error // why, where it is not a success
	pass        *push // another push: upstream is to answer it
}

var success = []byte("success")

func succeed(result string) answer {
	return answer{status: http.StatusOK, result: result, body: success}
}

func fail(status int, result string, err error) answer {
	return answer{status: status, result: result, err: err}
}

// handler routes the public listener.
func (c *callbacks) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/callback/{appid}", c)
	mux.Handle("/platform/{component}/callback/{appid}", c)
	mux.HandleFunc("/", c.elsewhere)
	return mux
}

// elsewhere answers what is addressed to no account: scanners, and typing errors
// in WeChat's console.
func (c *callbacks) elsewhere(w http.ResponseWriter, r *http.Request) {
	a := fail(http.StatusNotFound, resultWrongPath, errors.New("callbacks go to /callback/APPID or /platform/COMPONENT/callback/APPID"))
	c.count(r, a, c.clock())
	write(w, a)
}

func (c *callbacks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := c.clock()
	a := c.serve(w, r, received)
	c.count(r, a, received)
	write(w, a)
}

// serve does not let a fault of ours take the connection down uncounted.
func (c *callbacks) serve(w http.ResponseWriter, r *http.Request, received time.Time) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = fail(http.StatusInternalServerError, resultInternal, fmt.Errorf("panic: %v", p))
		}
	}()
	t := c.dir.find(r.PathValue("component"), r.PathValue("appid"))
	if t == nil {
		return fail(http.StatusNotFound, resultUnknownAccount, errors.New("account is not configured"))
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return c.verifyURL(t, r)
	case http.MethodPost:
		return c.post(w, r, t, received)
	}
	w.Header().Set("Allow", "GET, POST")
	return fail(http.StatusMethodNotAllowed, resultMethod, errors.New("neither GET nor POST"))
}

// verifyURL answers WeChat's check of the URL. It is ours to answer also where
// there is an upstream: WeChat checks who stands here. A check that is refused is
// counted by itself: no callback is lost by it, and who entered the URL sees it.
func (c *callbacks) verifyURL(t *target, r *http.Request) answer {
	echo, err := t.verifier.VerifyURL(r.URL.Query())
	if err != nil {
		a := refused(err)
		a.result = resultURLRefused
		return a
	}
	return answer{status: http.StatusOK, result: resultURLVerified, body: []byte(echo)}
}

func (c *callbacks) post(w http.ResponseWriter, r *http.Request, t *target, received time.Time) answer {
	a := c.take(w, r, t, received)
	if a.pass == nil {
		return a
	}
	// Out of the limit for our own work: waiting for upstream must not keep results out.
	return c.forward.ask(r.Context(), a.pass)
}

// take reads a push, checks it and, if it is ours, makes it durable.
func (c *callbacks) take(w http.ResponseWriter, r *http.Request, t *target, received time.Time) answer {
	if !c.places.enter("") {
		return fail(http.StatusServiceUnavailable, resultOverload, errors.New("too many callbacks at once"))
	}
	defer c.places.leave("")
	c.metrics.inFlight.Inc()
	defer c.metrics.inFlight.Dec()

	body, err := readBody(w, r, c.cfg.BodyLimit, c.cfg.BodyTimeout)
	if err != nil {
		return unread(err)
	}
	query := r.URL.Query()
	opened, err := t.verifier.Open(query, r.Header.Get("Content-Type"), body)
	if err != nil {
		return refused(err)
	}
	if err := c.checkTime(t, opened, received); err != nil {
		return fail(http.StatusForbidden, string(wechat.ReasonTimestamp), err)
	}
	c.metrics.opened(opened)
	p := newPush(t, r, body, received)
	head, err := wechat.ParsePush(opened.Format, opened.Body)
	if !isOurs(head, err, opened.Body) {
		return answer{pass: p}
	}
	a := c.record(t, head, opened, received)
	if a.status == http.StatusOK {
		c.forward.copy(p)
	}
	return a
}

// isOurs tells whether a push reports the end of a mass send. One that is too
// broken to say is ours if it has the word in it: a dead letter too many does
// no harm.
func isOurs(head wechat.Envelope, parseErr error, body []byte) bool {
	return head.IsMassSendJobFinish() || parseErr != nil && wechat.MentionsMassSendJobFinish(body)
}

// record makes a result durable. It is answered with success only after that.
func (c *callbacks) record(t *target, head wechat.Envelope, p wechat.Push, received time.Time) answer {
	if err := c.checkOriginalID(t, head, p); err != nil {
		return fail(http.StatusForbidden, resultMismatch, err)
	}
	// What is in hand is made durable also when WeChat hangs up meanwhile.
	ctx, cancel := context.WithTimeout(context.Background(), c.publishTime(received))
	defer cancel()
	status, err := c.publish(ctx, t, p, received)
	result := resultFinished
	var unusable *unusableError
	if errors.As(err, &unusable) {
		c.log.Line(slog.LevelError, resultDeadLetter, "a mass send's result cannot be understood; it goes to the dead letters",
			"appid", t.appid, "reason", unusable.err)
		result = resultDeadLetter
		err = c.dead.Publish(ctx, deadLetter(c.cfg.Source, t.appid, p, unusable.err, received))
	}
	if err != nil {
		return notDurable(err)
	}
	if result == resultFinished {
		c.metrics.statuses.WithLabelValues(status).Inc()
	}
	c.metrics.ackSeconds.Observe(c.clock().Sub(received).Seconds())
	return succeed(result)
}

// publishTime is what is left for the log.
func (c *callbacks) publishTime(received time.Time) time.Duration {
	return min(c.cfg.PublishTimeout, answerLimit-c.clock().Sub(received))
}

// unusableError means that a result can never become an event.
type unusableError struct{ err error }

func (e *unusableError) Error() string { return e.err.Error() }

// publish writes the event. It returns what the status means.
func (c *callbacks) publish(ctx context.Context, t *target, p wechat.Push, received time.Time) (status string, err error) {
	m, err := wechat.ParseMassSendJobFinish(p.Format, p.Body)
	if err != nil {
		return "", &unusableError{err}
	}
	data := finished(t.appid, p, m)
	e, err := events.New(c.cfg.Source, data)
	if err != nil {
		return "", &unusableError{err}
	}
	e.ReceivedAt = received
	rec, err := events.Encode(e)
	if err != nil {
		return "", &unusableError{err}
	}
	err = c.events.Publish(ctx, rec)
	if errors.Is(err, ErrTooLarge) {
		err = &unusableError{err} // the body alone is smaller than the event
	}
	if err == nil {
		c.log.Unsampled().Debug("the result of a mass send is durable", "appid", t.appid, "msg_id", data.MsgID, "event_id", e.ID)
	}
	return data.StatusKind, err
}

func notDurable(err error) answer {
	result := publishResult(err)
	status := http.StatusServiceUnavailable
	if result == resultRecordTooLarge {
		status = http.StatusRequestEntityTooLarge
	}
	return fail(status, result, fmt.Errorf("not durable: %w", err))
}

// checkTime applies the rule for timestamps. In plain mode an old signature
// could be used again, so it is refused; in the encrypted modes nothing can be
// forged with it, and a wrong clock of ours must not lose results.
func (c *callbacks) checkTime(t *target, p wechat.Push, received time.Time) error {
	skew := received.Sub(p.Timestamp)
	if skew.Abs() <= c.cfg.MaxClockSkew {
		return nil
	}
	if p.Mode == wechat.ModePlain {
		return fmt.Errorf("timestamp is %s away from our clock: at most %s are accepted in plain mode",
			skew.Round(time.Second), c.cfg.MaxClockSkew)
	}
	c.metrics.skewed.Inc()
	c.log.Line(slog.LevelWarn, "skewed", "a push's timestamp is far from our clock; accepted, since it is encrypted",
		"appid", t.appid, "skew", skew.Round(time.Second))
	return nil
}

// checkOriginalID compares the account that the body names with the one of the
// path. For an account's own encrypted pushes the appid inside the encryption
// has already proved whose they are, so that only the configuration can be wrong, which
// must not lose results. In plain mode it may be a forgery, and on a platform the
// path is not signed at all.
func (c *callbacks) checkOriginalID(t *target, head wechat.Envelope, p wechat.Push) error {
	switch {
	case t.originalID == "" || head.ToUserName == t.originalID:
		return nil
	case t.platform && head.ToUserName == "":
		return errors.New("the body does not name its account")
	case head.ToUserName == "": // nothing contradicts; the rest decides whether it can be read
		return nil
	case t.platform || p.Mode == wechat.ModePlain:
		return fmt.Errorf("the body names account %q, the configuration %q", clip(head.ToUserName), t.originalID)
	}
	c.metrics.mismatches.Inc()
	c.log.Line(slog.LevelWarn, "mismatch", "original_id in the configuration is not that of the account's pushes; correct it",
		"appid", t.appid, "configured", t.originalID, "received", clip(head.ToUserName))
	return nil
}

// readBody reads at most most bytes within the given time.
func readBody(w http.ResponseWriter, r *http.Request, most int64, within time.Duration) ([]byte, error) {
	if r.ContentLength > most {
		w.Header().Set("Connection", "close") // else the server reads on
		return nil, &http.MaxBytesError{Limit: most}
	}
	// An error means that the writer is not a connection, as in tests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within))
	return io.ReadAll(http.MaxBytesReader(w, r.Body, most))
}

func unread(err error) answer {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fail(http.StatusRequestEntityTooLarge, resultTooLarge, fmt.Errorf("body is larger than %d bytes", tooLarge.Limit))
	}
	return fail(http.StatusRequestTimeout, resultUnread, fmt.Errorf("read body: %w", err))
}

// refused maps what the verifier says. A signature that is wrong is 403 like all
// else that may be an attack; what WeChat would never send is 400.
func refused(err error) answer {
	var v *wechat.VerifyError
	if !errors.As(err, &v) {
		return fail(http.StatusInternalServerError, resultInternal, err)
	}
	switch v.Reason {
	case wechat.ReasonMissingParameter, wechat.ReasonBadBody:
		return fail(http.StatusBadRequest, string(v.Reason), err)
	}
	return fail(http.StatusForbidden, string(v.Reason), err)
}

// count counts and logs how a request ended.
func (c *callbacks) count(r *http.Request, a answer, received time.Time) {
	c.metrics.callbacks.WithLabelValues(a.result).Inc()
	if a.err == nil {
		c.log.Unsampled().Debug("callback", "appid", r.PathValue("appid"), "result", a.result, "took", c.clock().Sub(received))
		return
	}
	level := slog.LevelWarn
	if a.status >= http.StatusInternalServerError || a.result == resultRecordTooLarge {
		level = slog.LevelError
	}
	args := []any{"result", a.result, "status", a.status, "appid", clip(r.PathValue("appid"))}
	if component := r.PathValue("component"); component != "" {
		args = append(args, "component", clip(component))
	}
	c.log.Line(level, a.result, "callback not accepted", append(args, "error", a.err)...)
}

// write sends an answer. The text of a failure says what it is and no more.
func write(w http.ResponseWriter, a answer) {
	body, contentType := a.body, a.contentType
	if a.err != nil {
		body = []byte(a.result)
	}
	if contentType == "" {
		contentType = textPlain
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff") // an echostr is no HTML
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // who has hung up repeats the push
}

// push is one request as it came, to be passed on.
type push struct {
	target   *target
	query    string // as it came
	header   http.Header
	body     []byte // as it came
	received time.Time
}

// url is upstream's, with the query of the push after its own.
func (p *push) url() *url.URL {
	u := *p.target.upstream
	switch {
	case u.RawQuery == "":
		u.RawQuery = p.query
	case p.query != "":
		u.RawQuery += "&" + p.query
	}
	return &u
}
