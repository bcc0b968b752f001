package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is all that a reconciler sees: a log, a sink with its projection, and
// WeChat. Time is that of the synctest bubble it is made in.
type world struct {
	t          *testing.T
	partitions int32
	lag        time.Duration // from the log to the projection

	mu         sync.Mutex
	log        map[int32][]events.Record
	applied    map[int32]int64
	stalled    bool // the sink stands still
	storeDown  bool
	clockDown  bool
	skew       time.Duration // of the reconciler's clock
	logDown    bool
	frozen     bool // the projection no longer changes although the sink commits
	history    map[events.Key][]events.Event
	rows       map[events.Key]events.Row
	noSecret   map[string]bool
	badSecret  map[string]error
	quotas     map[string]wechat.Quota
	quotaAsked map[string]int
	asked      []asked
	answer     func(k events.Key, n int) (string, error) // n-th poll of the message, from 1
	onAsk      func(ctx context.Context)
}

// asked is one call of mass/get.
type asked struct {
	Key events.Key
	At  time.Time
	By  string
}

// epoch is when tests begin: the bubble's own start lies before any event may.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t *testing.T) *world {
	<-time.After(time.Until(epoch))
	return &world{
		t: t, partitions: 4, lag: 300 * time.Millisecond,
		log: map[int32][]events.Record{}, applied: map[int32]int64{},
		history: map[events.Key][]events.Event{}, rows: map[events.Key]events.Row{},
		noSecret: map[string]bool{}, badSecret: map[string]error{}, quotas: map[string]wechat.Quota{}, quotaAsked: map[string]int{},
		answer: func(events.Key, int) (string, error) { return events.PollSending, nil },
	}
}

// ClockSkew compares with the database's clock, which is right.
func (w *world) ClockSkew(context.Context) (time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clockDown {
		return 0, errors.New("connection refused")
	}
	return w.skew, nil
}

func (w *world) PartitionOf(appid string) int32 {
	n := int32(0)
	for _, c := range []byte(appid) {
		n += int32(c)
	}
	return n % w.partitions
}

func (w *world) EndOffsets(context.Context) (map[int32]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.logDown {
		return nil, errors.New("connection refused")
	}
	ends := map[int32]int64{}
	for p, records := range w.log {
		ends[p] = int64(len(records))
	}
	return ends, nil
}

func (w *world) SinkCommitted(context.Context) (map[int32]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.log {
		w.sink(p)
	}
	committed := map[int32]int64{}
	for p := range w.partitions {
		committed[p] = -1
		if n := w.applied[p]; n > 0 {
			committed[p] = n
		}
	}
	return committed, nil
}

// sink does what the sink would have done by now.
func (w *world) sink(p int32) {
	for !w.stalled && w.applied[p] < int64(len(w.log[p])) {
		offset := w.applied[p]
		rec := w.log[p][offset]
		if time.Since(rec.Time) < w.lag {
			return
		}
		w.applied[p]++
		if w.frozen {
			continue
		}
		e, err := events.Decode(events.Message{Record: rec, Position: events.Position{Topic: "t", Partition: p, Offset: offset}})
		if err != nil {
			w.t.Errorf("the log holds a record that cannot be read: %v", err)
			continue
		}
		w.history[e.Key] = append(w.history[e.Key], e)
		w.rows[e.Key], _ = events.Fold(w.history[e.Key], time.UTC)
	}
}

func (w *world) Pending(_ context.Context, q PendingQuery) ([]Pending, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.storeDown {
		return nil, errors.New("table is missing")
	}
	var page []Pending
	for k, r := range w.rows {
		if r.Outcome != events.OutcomePending || r.SubmittedAt == nil || !r.SubmittedAt.Before(q.SubmittedBefore) || compareKeys(k, q.After) <= 0 {
			continue
		}
		page = append(page, Pending{
			Key: k, SubmittedAt: r.SubmittedAt, Chase: r.Chase, Polls: r.Polls,
			LastPollAt: r.LastPollAt, LastPollStatus: r.LastPollStatus, LastPollError: r.LastPollError,
		})
	}
	slices.SortFunc(page, func(a, b Pending) int { return compareKeys(a.Key, b.Key) })
	return page[:min(len(page), q.Limit)], nil
}

func (w *world) Publish(ctx context.Context, r events.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.logDown {
		return errors.New("connection refused")
	}
	p := w.PartitionOf(string(r.Key))
	w.log[p] = append(w.log[p], r)
	return nil
}

// asker is WeChat as one replica sees it.
type asker struct {
	*world
	by string
}

func (a asker) CanAsk(appid string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.noSecret[appid] {
		return ErrNoCredentials
	}
	return a.badSecret[appid]
}

func (a asker) MassGet(ctx context.Context, appid string, msgID int64) (wechat.MassStatus, error) {
	a.mu.Lock()
	onAsk := a.onAsk
	a.mu.Unlock()
	if onAsk != nil {
		onAsk(ctx)
	}
	if err := ctx.Err(); err != nil {
		return wechat.MassStatus{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	k := events.Key{AppID: appid, MsgID: msgID}
	a.asked = append(a.asked, asked{k, time.Now(), a.by})
	status, err := a.answer(k, len(timesOf(a.asked, k)))
	return wechat.MassStatus{MsgID: msgID, Status: status}, err
}

func (a asker) Quota(_ context.Context, appid string) (wechat.Quota, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quotaAsked[appid]++
	q, ok := a.quotas[appid]
	if !ok {
		return q, apiError(48001)
	}
	return q, nil
}

func apiError(code int64) error {
	return &wechat.APIError{Code: code, Message: "no", RID: "1-2-3", Class: wechat.ClassOf(code)}
}

func timesOf(list []asked, k events.Key) []time.Time {
	var at []time.Time
	for _, a := range list {
		if a.Key == k {
			at = append(at, a.At)
		}
	}
	return at
}

// append puts an event into the log, received now.
func (w *world) append(d events.Data) {
	w.t.Helper()
	e, err := events.New("test", d)
	if err != nil {
		w.t.Fatal(err)
	}
	e.ReceivedAt = time.Now()
	r, err := events.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	p := w.PartitionOf(e.Key.AppID)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log[p] = append(w.log[p], r)
}

// submit records a send of now.
func (w *world) submit(appid string, msgID int64) events.Key {
	w.t.Helper()
	w.append(&events.Submitted{AppID: appid, MsgID: msgID, SubmittedAt: time.Now(), Recorder: "test", Chase: true})
	return events.Key{AppID: appid, MsgID: msgID}
}

// finish delivers the callback.
func (w *world) finish(k events.Key) {
	w.t.Helper()
	w.append(&events.Finished{AppID: k.AppID, MsgID: k.MsgID, CreateTime: time.Now().Unix(), Status: "send success", StatusKind: events.StatusSent})
}

// row returns what the projection says once it has everything.
func (w *world) row(k events.Key) events.Row {
	<-time.After(w.lag)
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.log {
		w.sink(p)
	}
	return w.rows[k]
}

// set changes the world under its lock.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// asks returns all calls of mass/get so far.
func (w *world) asks() []asked {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// ages returns how long after start the message was asked about.
func (w *world) ages(k events.Key, start time.Time) []time.Duration {
	var ages []time.Duration
	for _, at := range timesOf(w.asks(), k) {
		ages = append(ages, at.Sub(start))
	}
	return ages
}

// data returns the data of all events of one type in the log.
func data[D events.Data](w *world) []D {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []D
	for p := range w.partitions {
		for _, r := range w.log[p] {
			e, err := events.Decode(events.Message{Record: r})
			if err != nil {
				w.t.Errorf("the log holds a record that cannot be read: %v", err)
				continue
			}
			if d, ok := e.Data.(D); ok {
				list = append(list, d)
			}
		}
	}
	return list
}

type owned map[int32]int64

func (o owned) Owned() map[int32]int64 { return o }

func (w *world) all() owned {
	o := owned{}
	for p := range w.partitions {
		o[p] = 0
	}
	return o
}

// replica is a running reconciler.
type replica struct {
	*Reconciler
	reg    *prometheus.Registry
	logs   *safeBuffer
	cancel context.CancelFunc
	done   chan struct{}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs a reconciler named by on the partitions of o.
func (w *world) start(by string, o owned, change ...func(*Config)) *replica {
	w.t.Helper()
	rep := &replica{reg: prometheus.NewRegistry(), logs: &safeBuffer{}, done: make(chan struct{})}
	cfg := Config{Instance: by, Registerer: rep.reg, Logger: slog.New(slog.NewTextHandler(rep.logs, nil))}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if rep.Reconciler, err = New(cfg, w, w, w, asker{w, by}); err != nil {
		w.t.Fatal(err)
	}
	rep.resume(w.t, o)
	return rep
}

func (rep *replica) resume(t *testing.T, o owned) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	rep.cancel, rep.done = cancel, done
	go func() {
		defer close(done)
		if err := rep.Run(ctx, o); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
}

func (rep *replica) stop() {
	rep.cancel()
	<-rep.done
}

func (rep *replica) counter(t *testing.T, name, label, value string) float64 {
	t.Helper()
	families, err := rep.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	t.Fatalf("no series %s{%s=%q}", name, label, value)
	return 0
}

func (rep *replica) rounds(t *testing.T, result string) float64 {
	t.Helper()
	return rep.counter(t, "qunfa_reconcile_rounds_total", "result", result)
}

// during runs f in a bubble of its own time.
func during(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

// counterValue returns the only series of a family.
func (rep *replica) counterValue(t *testing.T, name string) float64 {
	t.Helper()
	families, err := rep.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// quotaReads returns how often the account's quota was read.
func (w *world) quotaReads(appid string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.quotaAsked[appid]
}
