package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"qunfa/internal/events"
)

// pending is a record on its way, with the caller that waits for it.
type pending struct {
	rec       events.Record
	size      int // bytes in a batch, at most
	partition int32
	done      chan outcome // holds one; the lane never waits for the caller
	left      atomic.Bool  // the caller has gone
}

type outcome struct {
	offset int64
	err    error
}

// lane sends the records of a partition (or of all), one request at a time, so
// that they keep their order. Whatever arrives during a request goes into the
// next one: the batch adapts to the round trip without any timer.
type lane struct {
	p       *Producer
	queue   chan *pending
	held    *pending // taken from the queue, but did not fit into the batch
	failing atomic.Pointer[failure]
}

// failure is since when a lane has been failing, and why.
type failure struct {
	since time.Time
	err   error
	// retry says that the cluster looks well, so the next record may be tried;
	// but only a record that is taken proves that this failure is over.
	retry bool
}

func newLane(p *Producer) *lane {
	return &lane{p: p, queue: make(chan *pending, p.cfg.QueueRecords)}
}

// run ends when the producer closes and the queue is empty, or its drain time is over.
func (l *lane) run() {
	for {
		first := l.next()
		if first == nil {
			return
		}
		for partition, batch := range byPartition(l.fill(first)) {
			l.send(partition, batch)
		}
	}
}

func (l *lane) next() *pending {
	if w := l.held; w != nil {
		l.held = nil
		return w
	}
	select {
	case w := <-l.queue:
		return w
	case <-l.p.closing:
	}
	select {
	case w := <-l.queue:
		return w
	default:
		return nil
	}
}

// fill takes what else is queued, up to the size of a batch.
func (l *lane) fill(first *pending) []*pending {
	batch, size := []*pending{first}, batchOverhead+first.size
	for len(batch) < l.p.cfg.MaxBatchRecords {
		select {
		case w := <-l.queue:
			if size += w.size; size > l.p.cfg.MaxMessageBytes {
				l.held = w
				return batch
			}
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// byPartition splits a batch; in a lane of one partition it is one piece.
func byPartition(batch []*pending) map[int32][]*pending {
	parts := map[int32][]*pending{}
	for _, w := range batch {
		parts[w.partition] = append(parts[w.partition], w)
	}
	return parts
}

// send produces a batch until every caller has an answer or has gone.
func (l *lane) send(partition int32, batch []*pending) {
	others := false // go through, while this batch does not
	for attempt := 0; ; attempt++ {
		if batch = l.stillWaiting(batch); len(batch) == 0 {
			return
		}
		start := time.Now()
		base, bad, err := l.produce(partition, batch)
		switch {
		case err == nil:
			l.acked(batch, base)
			return
		case l.p.ctx.Err() != nil:
			l.answer(batch, fmt.Errorf("%w: %w", ErrClosed, err))
			return
		case blamesRecords(err):
			l.separate(partition, batch, bad, err)
			return
		case attempt == 0 && l.restamp(batch, bad, err):
			continue
		case doubtful(err, attempt):
			sieve := sieve{lane: l, partition: partition}
			rest := sieve.sift(batch)
			switch {
			case sieve.taken:
				batch, attempt, others = rest, -1, true
				continue
			case others && sieve.misses < maxMisses:
				l.recovered()
				l.answer(rest, refused(err))
				return
			}
		}
		l.failed(start, err)
		if !sleep(l.p.ctx, backoff()) {
			l.answer(batch, fmt.Errorf("%w: %w", ErrClosed, err))
			return
		}
	}
}

// backoff is 50 to 100 ms: shorter hammers a broker in trouble, longer adds to
// every recovery. Random, so that lanes do not march in step.
func backoff() time.Duration {
	return 50*time.Millisecond + rand.N(50*time.Millisecond)
}

// stillWaiting drops the records whose callers have gone: they have made other
// arrangements (spooled the event, told WeChat to retry), so writing them now
// would only add a copy.
func (l *lane) stillWaiting(batch []*pending) []*pending {
	kept := batch[:0]
	for _, w := range batch {
		if w.left.Load() {
			l.finish(w, outcome{err: context.Canceled})
			continue
		}
		kept = append(kept, w)
	}
	return kept
}

// produce makes one request. bad names records that the broker complains about.
func (l *lane) produce(partition int32, batch []*pending) (base int64, bad map[int]error, err error) {
	ctx, cancel := context.WithTimeout(l.p.ctx, l.p.cfg.AttemptTimeout)
	defer cancel()
	start := time.Now()
	res, err := l.p.client.kc.Produce(ctx, &kafka.ProduceRequest{
		Topic:        l.p.cfg.Topic,
		Partition:    int(partition),
		RequiredAcks: kafka.RequireAll,
		Records:      kafka.NewRecordReader(kafkaRecords(batch)...),
	})
	if err == nil {
		err = res.Error
	}
	if errors.Is(err, protocol.ErrNoTopic) {
		err = l.p.client.whyNoTopic(ctx, l.p.cfg.Topic, err)
	}
	l.p.measure(time.Since(start), err)
	if err != nil {
		return 0, recordErrors(res), fmt.Errorf("produce %d records to %s/%d: %w", len(batch), l.p.cfg.Topic, partition, err)
	}
	return res.BaseOffset, nil, nil
}

func recordErrors(res *kafka.ProduceResponse) map[int]error {
	if res == nil {
		return nil
	}
	return res.RecordErrors
}

func kafkaRecords(batch []*pending) []kafka.Record {
	out := make([]kafka.Record, len(batch))
	for i, w := range batch {
		out[i] = kafka.Record{Key: kafka.NewBytes(w.rec.Key), Value: kafka.NewBytes(w.rec.Value), Time: w.rec.Time}
		for _, h := range w.rec.Headers {
			out[i].Headers = append(out[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	return out
}

// blamesRecords tells errors that come from what is in the batch. The broker
// then refuses the whole batch and, for size, does not say because of which
// record.
func blamesRecords(err error) bool {
	switch ClassOf(err) {
	case ClassTooLarge, ClassRejected:
		return true
	}
	return false
}

// separate makes each bad record fail alone. Those that the broker names fail at
// once; without names the batch is halved until what fails is a single record,
// which keeps the order and costs few requests for a few bad ones.
func (l *lane) separate(partition int32, batch []*pending, bad map[int]error, err error) {
	l.recovered() // the broker answers; it is the records that are wrong
	if len(batch) == 1 {
		l.answer(batch, refused(err))
		return
	}
	if good := l.withoutBad(batch, bad, err); len(good) < len(batch) {
		l.send(partition, good)
		return
	}
	half := len(batch) / 2
	l.send(partition, batch[:half:half])
	l.send(partition, batch[half:])
}

func (l *lane) withoutBad(batch []*pending, bad map[int]error, err error) []*pending {
	good := make([]*pending, 0, len(batch))
	for i, w := range batch {
		if why, isBad := bad[i]; isBad {
			l.answer([]*pending{w}, fmt.Errorf("%w: %w", refused(err), why))
			continue
		}
		good = append(good, w)
	}
	return good
}

func refused(err error) error {
	if ClassOf(err) == ClassTooLarge {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrRejected, err)
}

func (l *lane) acked(batch []*pending, base int64) {
	l.recovered()
	bytes := 0
	for i, w := range batch {
		bytes += w.size
		l.finish(w, outcome{offset: base + int64(i)})
	}
	l.p.metrics.batches.Inc()
	l.p.metrics.records.Add(float64(len(batch)))
	l.p.metrics.bytes.Add(float64(bytes))
}

func (l *lane) answer(batch []*pending, err error) {
	for _, w := range batch {
		l.finish(w, outcome{err: err})
	}
}

// finish is called exactly once for every record that was queued.
func (l *lane) finish(w *pending, o outcome) {
	l.p.bytes.Release(int64(w.size))
	l.p.metrics.queued.Dec()
	w.done <- o
}

// failed notes a request, made at since, that will be made again.
func (l *lane) failed(since time.Time, err error) {
	if f := l.failing.Load(); f != nil {
		since = f.since
	}
	if f := l.failing.Swap(&failure{since: since, err: err}); f == nil || f.retry {
		l.p.metrics.down.Inc()
	}
	l.p.client.nudge()
	l.p.wakeProbe()
	l.p.sampler.Warn("kafka does not take records; trying again", append(l.p.client.told(err), "topic", l.p.cfg.Topic)...)
}

func (l *lane) recovered() {
	if f := l.failing.Swap(nil); f != nil && !f.retry {
		l.p.metrics.down.Dec()
	}
}

// forgive lets the next record be tried although f was the last that happened
// here. A failure that a look at the cluster would have shown is over; any other
// stays known until a record is taken.
func (l *lane) forgive(f *failure) {
	var after *failure
	if !seenByLooking(f.err) {
		after = &failure{since: f.since, err: f.err, retry: true}
	}
	if l.failing.CompareAndSwap(f, after) {
		l.p.metrics.down.Dec()
	}
}

// seenByLooking tells failures that [Client.Ready] notices as long as they last.
// It does not notice a disk that is full, or a missing right to write.
func seenByLooking(err error) bool {
	return transient(err) && !errors.Is(err, kafka.KafkaStorageError) || ClassOf(err) == ClassTopic
}

// Sizes of Kafka's record batch, version 2.
const (
	batchOverhead  = 61
	recordOverhead = 5 + 1 + 10 + 5 + 5 + 5 + 5 // length, attributes, time, offset, key length, value length, number of headers
	headerOverhead = 5 + 5
)

// recordSize is the most that a record takes in a batch, without compression.
func recordSize(r events.Record) int {
	n := recordOverhead + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += headerOverhead + len(h.Key) + len(h.Value)
	}
	return n
}
