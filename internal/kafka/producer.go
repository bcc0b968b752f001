package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"qunfa/internal/events"
	"qunfa/internal/sample"
)

// Producer writes records to one topic and waits for acks=all. It is safe for
// concurrent use. What it promises:
//
//   - Produce returns nil only after every in-sync replica has the record.
//   - Records of one partition are written in the order in which they were
//     queued, except that a bad one fails alone, and that one to which the
//     broker gives an answer nobody knows may be overtaken.
//   - A failed or given-up record may be in the log all the same: a broker that
//     did not answer in time may have written it, and a retry adds a copy.
//     Events carry deterministic ids, so copies are harmless.
//   - Memory is bounded: a full queue refuses at once with [ErrOverloaded].
type Producer struct {
	client  *Client
	cfg     ProducerConfig
	metrics *producerMetrics
	sampler *sample.Logger
	bytes   *semaphore.Weighted // room in the queues
	started time.Time

	lanes atomic.Pointer[[]*lane] // nil until the number of partitions is known
	count atomic.Int32            // partitions
	known chan struct{}           // closed when lanes is set
	asked atomic.Pointer[failure] // why the number of partitions is not known
	probe chan struct{}           // holds one: some lane fails

	closeOnce sync.Once
	closing   chan struct{}   // closed: take no more, send what is queued
	ctx       context.Context // ended: give up
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	stopped   chan struct{} // closed: every goroutine has ended
}

// NewProducer starts the producer's goroutines; [Producer.Close] ends them.
// Kafka need not be reachable.
func NewProducer(client *Client, cfg ProducerConfig, log *slog.Logger, reg prometheus.Registerer) (*Producer, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	metrics, err := newProducerMetrics(reg, cfg.Topic)
	if err != nil {
		return nil, fmt.Errorf("kafka: producer of topic %s: %w", cfg.Topic, err)
	}
	p := &Producer{
		client: client, cfg: cfg, metrics: metrics,
		sampler: sample.New(cmp.Or(log, slog.New(slog.DiscardHandler)), sample.Config{Every: sampleEvery}),
		bytes:   semaphore.NewWeighted(int64(cfg.QueueBytes)),
		started: time.Now(),
		known:   make(chan struct{}),
		probe:   make(chan struct{}, 1),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if cfg.Partitions > 0 {
		p.open(cfg.Partitions)
	} else {
		p.wg.Go(p.discover)
	}
	p.wg.Go(p.watch)
	return p, nil
}

// open starts the lanes.
func (p *Producer) open(partitions int) {
	n := partitions
	if p.cfg.SingleLane {
		n = 1
	}
	lanes := make([]*lane, n)
	for i := range lanes {
		lanes[i] = newLane(p)
		p.wg.Go(lanes[i].run)
	}
	p.count.Store(int32(partitions))
	p.lanes.Store(&lanes)
	close(p.known)
}

// discover asks for the number of partitions until it is told.
func (p *Producer) discover() {
	ctx, stop := mergeDone(p.ctx, p.closing)
	defer stop()
	for {
		t, err := describe(ctx, p.client.kc, p.cfg.Topic)
		if err == nil {
			p.open(len(t.Partitions))
			return
		}
		if ctx.Err() != nil {
			return
		}
		err = orDenied(ctx, p.client.kc, p.cfg.Topic, err)
		p.asked.Store(&failure{since: p.started, err: err})
		p.client.nudge()
		p.sampler.Warn("the topic's partitions are not known yet; trying again", append(p.client.told(err), "topic", p.cfg.Topic)...)
		if !sleep(ctx, nudgeInterval) {
			return
		}
	}
}

// mergeDone returns a context that also ends when done is closed.
func mergeDone(parent context.Context, done <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-ended }
}

// Produce writes one record and returns its place in the log. It waits until
// the cluster has acknowledged the record or ctx ends. Errors: [ErrOverloaded]
// (at once, nothing was queued), [ErrTooLarge] and [ErrRejected] (final),
// [ErrClosed], or ctx's error together with what the last attempt ran into; after
// that last kind the record may be in the log or not.
func (p *Producer) Produce(ctx context.Context, rec events.Record) (events.Position, error) {
	w, err := p.submit(ctx, rec, false)
	if err != nil {
		return events.Position{}, err
	}
	return p.wait(ctx, w)
}

// ProduceAll writes records that belong to no waiting HTTP request (dead
// letters, polls, imports) and returns when all are acknowledged. It waits for
// room instead of failing with [ErrOverloaded]. Records of one key keep their
// order. If some fail the others are written all the same and the error joins
// what happened to the first few.
func (p *Producer) ProduceAll(ctx context.Context, recs []events.Record) error {
	waiting := make([]*pending, 0, len(recs))
	var failed failures
	for i, rec := range recs {
		w, err := p.submit(ctx, rec, true)
		if err != nil {
			failed.add(i, err)
			continue
		}
		waiting = append(waiting, w)
	}
	for _, w := range waiting {
		if _, err := p.wait(ctx, w); err != nil {
			failed.add(-1, err)
		}
	}
	return failed.err(len(recs))
}

// failures joins the first few of many errors.
type failures struct {
	first []error
	n     int
}

func (f *failures) add(index int, err error) {
	f.n++
	if len(f.first) < 3 {
		if index >= 0 {
			err = fmt.Errorf("record %d: %w", index, err)
		}
		f.first = append(f.first, err)
	}
}

func (f *failures) err(of int) error {
	if f.n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d records were not acknowledged: %w", f.n, of, errors.Join(f.first...))
}

// submit queues a record; with patience it waits for room.
func (p *Producer) submit(ctx context.Context, rec events.Record, patient bool) (*pending, error) {
	size := recordSize(rec)
	if batchOverhead+size > p.cfg.MaxMessageBytes {
		return nil, p.refuse(fmt.Errorf("%w: %d bytes with headers, topic %s takes %d", ErrTooLarge, size, p.cfg.Topic, p.cfg.MaxMessageBytes-batchOverhead))
	}
	l, partition, err := p.lane(ctx, rec.Key)
	if err != nil {
		return nil, err
	}
	w := &pending{rec: rec, size: size, partition: partition, done: make(chan outcome, 1)}
	if err := p.reserve(ctx, w, patient); err != nil {
		return nil, p.refuse(err)
	}
	p.metrics.queued.Inc()
	if err := p.enqueue(ctx, l, w, patient); err != nil {
		p.metrics.queued.Dec()
		p.bytes.Release(int64(size))
		return nil, p.refuse(err)
	}
	return w, nil
}

func (p *Producer) refuse(err error) error {
	p.metrics.failed(err)
	return err
}

// lane returns the lane of a key as soon as the number of partitions is known.
func (p *Producer) lane(ctx context.Context, key []byte) (*lane, int32, error) {
	select {
	case <-p.closing:
		return nil, 0, ErrClosed
	case <-p.known:
	default:
		select {
		case <-p.known:
		case <-p.closing:
			return nil, 0, ErrClosed
		case <-ctx.Done():
			return nil, 0, p.gaveUp(ctx, p.asked.Load())
		}
	}
	lanes := *p.lanes.Load()
	partition := PartitionFor(key, int(p.count.Load()))
	return lanes[int(partition)%len(lanes)], partition, nil
}

func (p *Producer) reserve(ctx context.Context, w *pending, patient bool) error {
	if p.bytes.TryAcquire(int64(w.size)) {
		return nil
	}
	if !patient {
		return fmt.Errorf("%w: topic %s: %d bytes wait", ErrOverloaded, p.cfg.Topic, p.cfg.QueueBytes)
	}
	wctx, stop := mergeDone(ctx, p.closing)
	defer stop()
	if p.bytes.Acquire(wctx, int64(w.size)) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return p.gaveUp(ctx, p.worst(false))
	}
	return ErrClosed
}

func (p *Producer) enqueue(ctx context.Context, l *lane, w *pending, patient bool) error {
	select {
	case l.queue <- w:
		return nil
	default:
	}
	if !patient {
		return fmt.Errorf("%w: topic %s: %d records wait for partition %d", ErrOverloaded, p.cfg.Topic, cap(l.queue), w.partition)
	}
	select {
	case l.queue <- w:
		return nil
	case <-p.closing:
		return ErrClosed
	case <-ctx.Done():
		return p.gaveUp(ctx, l.failing.Load())
	}
}

// wait returns the answer to a queued record.
func (p *Producer) wait(ctx context.Context, w *pending) (events.Position, error) {
	var o outcome
	select {
	case o = <-w.done:
	case <-ctx.Done():
		o = p.leave(ctx, w)
	case <-p.stopped:
		o = p.leave(ctx, w)
	}
	if o.err != nil {
		return events.Position{}, o.err
	}
	return events.Position{Topic: p.cfg.Topic, Partition: w.partition, Offset: o.offset}, nil
}

// leave returns the answer if there is one after all, or why there is none.
func (p *Producer) leave(ctx context.Context, w *pending) outcome {
	w.left.Store(true)
	select {
	case o := <-w.done:
		return o
	default:
	}
	if ctx.Err() == nil {
		// Queued in the instant in which the lane ended: nobody will answer.
		p.metrics.queued.Dec()
		return outcome{err: ErrClosed}
	}
	lanes := *p.lanes.Load()
	return outcome{err: p.gaveUp(ctx, lanes[int(w.partition)%len(lanes)].failing.Load())}
}

// gaveUp says why a caller got no answer in its time.
func (p *Producer) gaveUp(ctx context.Context, f *failure) error {
	if f == nil {
		return fmt.Errorf("kafka: topic %s did not acknowledge in time: %w", p.cfg.Topic, ctx.Err())
	}
	return fmt.Errorf("kafka: topic %s did not acknowledge in time: %w: %w", p.cfg.Topic, ctx.Err(), f.err)
}

func (p *Producer) measure(took time.Duration, err error) {
	if err != nil {
		p.metrics.seconds.WithLabelValues(resultError).Observe(took.Seconds())
		p.metrics.failed(err)
		return
	}
	p.metrics.seconds.WithLabelValues(resultOK).Observe(took.Seconds())
}

// Healthy returns nil if the last request of every lane succeeded, or what one
// of them ran into. Where the cluster looks well since, and only the next record
// can show whether it is, the error is an [Unproven].
func (p *Producer) Healthy() error {
	f := p.worst(false)
	if f == nil {
		if f = p.worst(true); f != nil {
			return &Unproven{Topic: p.cfg.Topic, Since: f.since, Err: f.err}
		}
		return nil
	}
	return fmt.Errorf("topic %s: no acknowledgement for %s: %w", p.cfg.Topic, time.Since(f.since).Round(100*time.Millisecond), f.err)
}

// Unproven is the health of a producer that was refused a record for a reason
// which only another record can prove to be over, and none has come since.
type Unproven struct {
	Topic string
	Since time.Time // of the first refusal
	Err   error
}

func (u *Unproven) Error() string {
	return fmt.Sprintf("topic %s: the last record was not taken, and none has come since %s: %v", u.Topic, u.Since.Format(time.RFC3339), u.Err)
}

// Unwrap returns what the last record ran into.
func (u *Unproven) Unwrap() error { return u.Err }

// Degraded tells readiness checks that records may be sent.
func (u *Unproven) Degraded() bool { return true }

// Down tells whether some lane has been failing for DownAfter, so that a caller
// with a deadline need not wait for Kafka. It turns false by itself when the
// cluster is well again, even if nobody produces.
func (p *Producer) Down() bool {
	f := p.worst(false)
	return f != nil && time.Since(f.since) >= p.cfg.DownAfter
}

// worst returns the oldest failure that lasts, of those after which the next
// record may be tried or of those after which there is no sense in it.
func (p *Producer) worst(retry bool) *failure {
	lanes := p.lanes.Load()
	if lanes == nil {
		if retry {
			return nil
		}
		return p.asked.Load()
	}
	var worst *failure
	for _, l := range *lanes {
		if f := l.failing.Load(); f != nil && f.retry == retry && (worst == nil || f.since.Before(worst.since)) {
			worst = f
		}
	}
	return worst
}

func (p *Producer) wakeProbe() {
	select {
	case p.probe <- struct{}{}:
	default:
	}
}

// watch looks at the cluster while lanes fail. Callers that see Down stop
// producing, so without it nothing would ever show that Kafka is back.
func (p *Producer) watch() {
	ctx, stop := mergeDone(p.ctx, p.closing)
	defer stop()
	for {
		select {
		case <-p.probe:
		case <-ctx.Done():
			return
		}
		for p.worst(false) != nil {
			if !sleep(ctx, p.cfg.ProbeInterval) {
				return
			}
			p.look(ctx)
		}
	}
}

// look forgives the lanes that have been idle since before the cluster turned
// out to be ready. A lane that still fails will say so again.
func (p *Producer) look(ctx context.Context) {
	lanes := *p.lanes.Load()
	before := make([]*failure, len(lanes))
	for i, l := range lanes {
		before[i] = l.failing.Load()
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.AttemptTimeout)
	defer cancel()
	if p.client.Ready(ctx, p.cfg.Topic) != nil {
		return
	}
	for i, l := range lanes {
		if f := before[i]; f != nil && !f.retry {
			l.forgive(f)
		}
	}
}

// Close takes no more records, sends what is queued for up to DrainTimeout or
// until ctx ends, answers the rest with [ErrClosed] and waits for the
// goroutines. It may be called more than once.
func (p *Producer) Close(ctx context.Context) error {
	p.closeOnce.Do(func() {
		close(p.closing)
		go func() {
			p.wg.Wait()
			close(p.stopped)
		}()
	})
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DrainTimeout)
	defer cancel()
	var err error
	select {
	case <-p.stopped:
	case <-ctx.Done():
		err = fmt.Errorf("kafka: producer of topic %s: queued records were given up: %w", p.cfg.Topic, ctx.Err())
	}
	p.cancel()
	<-p.stopped
	return err
}
