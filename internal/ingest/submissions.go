package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"qunfa/internal/events"
	"qunfa/internal/ingest/submission"
	"qunfa/internal/sample"
)

// What became of one record of a call.
const (
	itemAccepted    = "accepted"    // durable
	itemRejected    = "rejected"    // cannot be used; the error says why
	itemUnavailable = "unavailable" // not durable: repeat the call, which changes nothing of what was accepted
)

// Reply answers a call of POST /v1/submissions.
type Reply struct {
	Accepted    int      `json:"accepted"`
	Rejected    int      `json:"rejected"`
	Unavailable int      `json:"unavailable"`
	Error       string   `json:"error,omitempty"` // about the call as a whole
	Results     []Result `json:"results"`         // in the order of the records
}

// Result says what became of one record.
type Result struct {
	Index  int    `json:"index"` // from 0
	Status string `json:"status"`
	ID     string `json:"id,omitempty"` // of the event: the same record always has the same
	AppID  string `json:"appid,omitempty"`
	MsgID  int64  `json:"msg_id,omitempty"`
	Error  string `json:"error,omitempty"`
}

// submissions serves the record API.
type submissions struct {
	cfg     APIConfig
	source  string
	dir     *Directory
	events  Publisher
	auth    *bearer
	metrics *metrics
	log     *sample.Logger
	clock   func() time.Time
	places  *limit
}

func (s *submissions) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/submissions", s)
	return s.authenticated(mux)
}

// authenticated stands before everything on the internal listener, so that
// without a token not even the paths can be told apart.
func (s *submissions) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.auth.allows(r) {
			s.metrics.calls.WithLabelValues(callUnauthorized).Inc()
			s.log.Line(slog.LevelWarn, "api "+callUnauthorized, "call without a valid bearer token", "remote", r.RemoteAddr)
			w.Header().Set("WWW-Authenticate", `Bearer realm="qunfa"`)
			w.Header().Set("Connection", "close") // else the server would read the body
			reply(w, http.StatusUnauthorized, Reply{Error: "a valid bearer token is needed"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// outcome is how a call ends; one place turns it into response, counter and log line.
type outcome struct {
	status int
	result string // one of callResults
	reply  Reply
	err    error // for the log
}

func (s *submissions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o := s.serve(w, r)
	s.metrics.calls.WithLabelValues(o.result).Inc()
	for status, n := range map[string]int{
		itemAccepted: o.reply.Accepted, itemRejected: o.reply.Rejected, itemUnavailable: o.reply.Unavailable,
	} {
		s.metrics.submissions.WithLabelValues(status).Add(float64(n))
	}
	if o.err != nil {
		s.log.Line(slog.LevelWarn, "api "+o.result, "submissions not all accepted", "result", o.result,
			"accepted", o.reply.Accepted, "rejected", o.reply.Rejected, "unavailable", o.reply.Unavailable, "error", o.err)
	}
	if o.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	reply(w, o.status, o.reply)
}

func (s *submissions) serve(w http.ResponseWriter, r *http.Request) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = callFailed(http.StatusInternalServerError, callInternal, "internal error", fmt.Errorf("panic: %v", p))
		}
	}()
	if !s.places.enter("") {
		return callFailed(http.StatusServiceUnavailable, callOverload, "too many calls at once", errors.New("too many calls at once"))
	}
	defer s.places.leave("")
	body, err := readBody(w, r, s.cfg.BodyLimit, s.cfg.BodyTimeout)
	if a := unread(err); err != nil {
		if a.result == resultTooLarge {
			return callFailed(a.status, callTooLarge, a.err.Error(), a.err)
		}
		return callFailed(a.status, callBadRequest, "the body could not be read", a.err)
	}
	items, err := s.parse(r.Header.Get("Content-Type"), body)
	switch {
	case errors.Is(err, errTooMany):
		return callFailed(http.StatusRequestEntityTooLarge, callTooLarge, fmt.Sprintf("more than %d records: split them over several calls", s.cfg.MaxItems), err)
	case err != nil:
		return callFailed(http.StatusBadRequest, callBadRequest, err.Error(), err)
	case len(bytes.TrimSpace(body)) == 0: // an empty list is fine: a job that had nothing to send
		return callFailed(http.StatusBadRequest, callBadRequest, "the body is empty", errors.New("empty body"))
	}
	return s.record(r.Context(), items)
}

func callFailed(status int, result, text string, err error) outcome {
	return outcome{status: status, result: result, reply: Reply{Error: text}, err: err}
}

var errTooMany = errors.New("too many records in one call")

// parse reads the whole body first: a call that cannot be read to its end records nothing.
func (s *submissions) parse(contentType string, body []byte) ([]submission.Item, error) {
	var items []submission.Item
	for it, err := range submission.Parse(formatOf(contentType), bytes.NewReader(body), s.options()) {
		if err != nil {
			return nil, err
		}
		if len(items) == s.cfg.MaxItems {
			return nil, errTooMany
		}
		items = append(items, it)
	}
	return items, nil
}

// formatOf goes by the content type where it says something; curl, for one, calls everything a form.
func formatOf(contentType string) submission.Format {
	media, _, _ := mime.ParseMediaType(contentType)
	switch media {
	case "text/csv":
		return submission.CSV
	case "application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/json-lines":
		return submission.Lines
	}
	return submission.JSON
}

func (s *submissions) options() submission.Options {
	return submission.Options{Source: s.source, Recorder: "api", Now: s.clock(), Location: s.cfg.Location, Known: s.known}
}

func (s *submissions) known(appid string) error {
	if s.cfg.AllowUnknown || s.dir.Known(appid) {
		return nil
	}
	return fmt.Errorf("account %q is not in the configuration of qunfa", appid)
}

// record publishes what can be used, whatever is wrong with the rest.
func (s *submissions) record(ctx context.Context, items []submission.Item) outcome {
	errs := s.publish(ctx, items)
	o := outcome{reply: Reply{Results: make([]Result, len(items))}}
	for i, it := range items {
		res := result(it, errs[i])
		o.reply.Results[i] = res
		switch res.Status {
		case itemAccepted:
			o.reply.Accepted++
		case itemRejected:
			o.reply.Rejected++
		default:
			o.reply.Unavailable++
		}
		if o.err == nil {
			o.err = errors.Join(it.Err, errs[i]) // the first stands for all
		}
	}
	o.status, o.result, o.reply.Error = verdict(o.reply, errors.Join(errs...))
	return o
}

func result(it submission.Item, err error) Result {
	res := Result{Index: it.Index, AppID: it.Key.AppID, MsgID: it.Key.MsgID, Status: itemAccepted}
	if it.Err != nil {
		res.Status, res.Error = itemRejected, it.Err.Error()
		return res
	}
	res.ID = it.Event.ID.String()
	switch {
	case errors.Is(err, ErrTooLarge):
		res.Status, res.Error = itemRejected, ErrTooLarge.Error()
	case err != nil: // its text may tell about our network
		res.Status, res.Error = itemUnavailable, "not recorded: the log did not take it in time; repeat the call"
	}
	return res
}

// verdict is the status of the whole call. A caller who looks at nothing else
// must see that something is missing: only 200 means everything was accepted.
func verdict(r Reply, publishErr error) (status int, result, text string) {
	switch {
	case r.Unavailable > 0 && errors.Is(publishErr, ErrOverloaded):
		return http.StatusServiceUnavailable, callOverload, "too much is waiting for the log; repeat the call"
	case r.Unavailable > 0:
		return http.StatusServiceUnavailable, callUnavailable, "the log did not take everything; repeat the call"
	case r.Rejected == 0:
		return http.StatusOK, callOK, ""
	case r.Accepted == 0:
		return http.StatusUnprocessableEntity, callRejected, "no record could be used"
	}
	return http.StatusMultiStatus, callPartial, "some records could not be used"
}

// errNotTried is for records that came after the log had failed: more tries
// would only hold the caller up.
var errNotTried = errors.New("not tried")

// publish sends the good items on their way, several at once so that they share
// the log's commits. It returns the error of each.
func (s *submissions) publish(ctx context.Context, items []submission.Item) []error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	errs := make([]error, len(items))
	var next atomic.Int64
	var failed atomic.Bool
	var workers sync.WaitGroup
	for range min(s.cfg.Concurrency, len(items)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(items)); i = next.Add(1) - 1 {
				switch {
				case items[i].Err != nil:
				case failed.Load():
					errs[i] = errNotTried
				default:
					errs[i] = s.publishOne(ctx, items[i].Event)
					if errs[i] != nil && !errors.Is(errs[i], ErrTooLarge) {
						failed.Store(true)
					}
				}
			}
		})
	}
	workers.Wait()
	return errs
}

// publishOne must not panic: it runs in a goroutine that nothing recovers for.
func (s *submissions) publishOne(ctx context.Context, e events.Event) error {
	rec, err := events.Encode(e)
	if err != nil {
		return err
	}
	return s.events.Publish(ctx, rec)
}

func reply(w http.ResponseWriter, status int, r Reply) {
	if r.Results == nil {
		r.Results = []Result{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(r) // the caller may be gone; a repeated call gives the same answer
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
