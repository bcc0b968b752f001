package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qunfa/internal/events"
)

func TestProduceWritesTheRecord(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 3)
	client, _ := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic}, nil)
	rec := events.Record{
		Key:     []byte("wx0123456789abcdef"),
		Value:   []byte(`{"msg_id":1}`),
		Headers: []events.Header{{Key: "ce_type", Value: []byte("qunfa.mass.finished.v1")}, {Key: "ce_id", Value: nil}},
		Time:    time.UnixMilli(1_785_000_000_123).UTC(),
	}
	for want := range int64(3) {
		at, err := p.Produce(timeout(t, 10*time.Second), rec)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(events.Position{Topic: topic, Partition: PartitionFor(rec.Key, 3), Offset: want}, at); diff != "" {
			t.Errorf("position (-want +got):\n%s", diff)
		}
	}
	got := c.readAll(t, topic)[PartitionFor(rec.Key, 3)]
	if len(got) != 3 {
		t.Fatalf("the log has %d records, want 3", len(got))
	}
	if !bytes.Equal(got[0].Key, rec.Key) || !bytes.Equal(got[0].Value, rec.Value) || !got[0].Time.Equal(rec.Time) {
		t.Errorf("the log has %q=%q at %s", got[0].Key, got[0].Value, got[0].Time)
	}
	if len(got[0].Headers) != 2 || got[0].Headers[0].Key != "ce_type" || string(got[0].Headers[0].Value) != "qunfa.mass.finished.v1" {
		t.Errorf("headers: %v", got[0].Headers)
	}
}

// While a request is on its way the records that arrive share the next one.
func TestCallersShareRequests(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	reg := prometheus.NewRegistry()
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1}, reg)
	if _, err := p.Produce(timeout(t, 10*time.Second), record("warm", 0)); err != nil {
		t.Fatal(err)
	}
	gate.delay.Store(int64(20 * time.Millisecond))
	ctx := timeout(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := p.Produce(ctx, record("wx1", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	batches := testutil.ToFloat64(p.metrics.batches) - 1
	if batches < 1 || batches > 20 {
		t.Errorf("200 callers at once made %v requests, want a few", batches)
	}
	if n := testutil.ToFloat64(p.metrics.records); n != 201 {
		t.Errorf("%v records counted, want 201", n)
	}
	if n := testutil.ToFloat64(p.metrics.queued); n != 0 {
		t.Errorf("%v records in the queue after all were answered", n)
	}
}

func TestRecordsKeepTheirOrder(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single=%v", single), func(t *testing.T) {
			c := brokers(t)
			topic := c.topic(t, 4)
			client, _ := c.client(t)
			p := producer(t, client, ProducerConfig{Topic: topic, SingleLane: single, QueueRecords: 16, MaxBatchRecords: 7}, nil)
			var recs []events.Record
			for i := range 200 {
				recs = append(recs, record(fmt.Sprintf("wx%d", i%9), i))
			}
			if err := p.ProduceAll(timeout(t, 20*time.Second), recs); err != nil {
				t.Fatal(err)
			}
			seen, last := 0, map[string]int{}
			for partition, msgs := range c.readAll(t, topic) {
				for _, m := range msgs {
					seen++
					var n int
					key := string(m.Key)
					if _, err := fmt.Sscanf(strings.TrimPrefix(string(m.Value), key+"-"), "%d", &n); err != nil {
						t.Fatal(err)
					}
					if before, any := last[key]; any && n <= before {
						t.Errorf("%s: %d comes after %d", key, n, before)
					}
					last[key] = n
					if want := PartitionFor(m.Key, 4); partition != want {
						t.Errorf("%s is in partition %d, want %d", key, partition, want)
					}
				}
			}
			if seen != len(recs) {
				t.Errorf("the log has %d records, want %d", seen, len(recs))
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	c := brokers(t)
	const limit = 20_000
	topic := c.topic(t, 1, func(cfg *TopicConfig) { cfg.MaxMessageBytes = limit })
	big := record("wx1", 7)
	big.Value = bytes.Repeat([]byte("x"), limit+1000)

	t.Run("we know the limit", func(t *testing.T) {
		client, _ := c.client(t)
		p := producer(t, client, ProducerConfig{Topic: topic, MaxMessageBytes: limit}, nil)
		if _, err := p.Produce(timeout(t, time.Second), big); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
		fits := record("wx1", 0)
		fits.Value = bytes.Repeat([]byte("x"), limit-batchOverhead-recordSize(events.Record{Key: fits.Key, Headers: fits.Headers}))
		if _, err := p.Produce(timeout(t, 10*time.Second), fits); err != nil {
			t.Errorf("the largest record that we let through: %v", err)
		}
	})
	t.Run("only the broker knows it", func(t *testing.T) {
		client, gate := c.client(t)
		p := producer(t, client, ProducerConfig{Topic: topic}, nil)
		if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
			t.Fatal(err)
		}
		gate.delay.Store(int64(50 * time.Millisecond)) // so that the records share a batch
		ctx := timeout(t, 20*time.Second)
		var wg sync.WaitGroup
		for i := range 16 {
			rec := record("wx1", i)
			if i == 5 {
				rec = big
			}
			wg.Go(func() {
				_, err := p.Produce(ctx, rec)
				if i == 5 && !errors.Is(err, ErrTooLarge) {
					t.Errorf("the large record: got %v, want ErrTooLarge", err)
				}
				if i != 5 && err != nil {
					t.Errorf("a small record beside it: %v", err)
				}
			})
		}
		wg.Wait()
		if err := p.Healthy(); err != nil {
			t.Errorf("a record that is too large is not the broker's fault: %v", err)
		}
	})
}

// A broker may refuse what is in a record, and name it; kfake refuses nothing,
// so its answer is made up.
func TestOneRejectedRecordCostsOnlyItself(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	for _, named := range []bool{true, false} {
		t.Run(fmt.Sprintf("named=%v", named), func(t *testing.T) {
			client, gate := c.client(t)
			p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1}, nil)
			if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
				t.Fatal(err)
			}
			refuse(c, kerr.InvalidRecord, func(r kmsg.Record, _ time.Time) string {
				if string(r.Value) == "bad" {
					return "it is bad"
				}
				return ""
			}, named)
			gate.delay.Store(int64(50 * time.Millisecond))
			onlyBad(timeout(t, 20*time.Second), t, p, 3, 4)
		})
	}
}

// onlyBad produces ten records at once, of which those with these numbers must be rejected.
func onlyBad(ctx context.Context, t *testing.T, p *Producer, bad ...int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 10 {
		rec, isBad := record("wx1", i), slices.Contains(bad, i)
		if isBad {
			rec.Value = []byte("bad")
		}
		wg.Go(func() {
			_, err := p.Produce(ctx, rec)
			if isBad != errors.Is(err, ErrRejected) || !isBad && err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// refuse makes the broker answer with e where complaint has something to say
// about a record of the batch and its time; named: with the complaint, as Kafka does.
func refuse(c testCluster, e *kerr.Error, complaint func(kmsg.Record, time.Time) string, named bool) {
	c.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		sent := req.(*kmsg.ProduceRequest).Topics[0]
		p := kmsg.NewProduceResponseTopicPartition()
		p.ErrorCode = e.Code
		found := false
		for i, r := range recordsOf(sent.Partitions[0].Records) {
			why := complaint(r.Record, r.at)
			if why == "" {
				continue
			}
			found = true
			bad := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			bad.RelativeOffset, bad.ErrorMessage = int32(i), &why
			if named {
				p.ErrorRecords = append(p.ErrorRecords, bad)
			}
		}
		if !found {
			return nil, nil, false
		}
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.Partitions = sent.Topic, append(topic.Partitions, p)
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
}

type timedRecord struct {
	kmsg.Record
	at time.Time
}

// recordsOf reads a batch. The records of these tests are shorter than 8191 bytes.
func recordsOf(b []byte) (records []timedRecord) {
	var batch kmsg.RecordBatch
	if err := batch.ReadFrom(b); err != nil {
		panic(err)
	}
	rest := batch.Records
	for range batch.NumRecords {
		size, n := int(rest[0])>>1, 1
		if rest[0]&0x80 != 0 {
			size, n = (int(rest[0]&0x7f)|int(rest[1])<<7)>>1, 2
		}
		var r kmsg.Record
		if err := r.ReadFrom(rest[:size+n]); err != nil {
			panic(err)
		}
		records = append(records, timedRecord{r, time.UnixMilli(batch.FirstTimestamp + r.TimestampDelta64)})
		rest = rest[size+n:]
	}
	return records
}

// Kafka 4 refuses times more than an hour ahead of its clock and says which it
// takes. A wrong clock must not lose what came.
func TestATimeFromTheFutureIsBroughtBack(t *testing.T) {
	for _, named := range []bool{true, false} {
		t.Run(fmt.Sprintf("named=%v", named), func(t *testing.T) {
			c := fakeBrokers(t, 1)
			topic := c.topic(t, 1)
			client, gate := c.client(t)
			reg := prometheus.NewRegistry()
			p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1}, reg)
			if _, err := p.Produce(timeout(t, 10*time.Second), record("warm", 0)); err != nil {
				t.Fatal(err)
			}
			latest := time.Now().Add(time.Hour).Truncate(time.Millisecond)
			refuse(c, kerr.InvalidTimestamp, func(_ kmsg.Record, at time.Time) string {
				if at.After(latest) {
					return fmt.Sprintf("Timestamp %d of message with offset 0 is out of range. The timestamp should be within [-9223370241286971272, %d]", at.UnixMilli(), latest.UnixMilli())
				}
				return ""
			}, named)
			gate.delay.Store(int64(20 * time.Millisecond))
			ctx := timeout(t, 20*time.Second)
			right, wrong := time.Now().Add(-time.Minute).Truncate(time.Millisecond), time.Now().Add(48*time.Hour)
			var wg sync.WaitGroup
			for i := range 8 {
				rec := record("wx1", i)
				if rec.Time = right; i%2 == 1 {
					rec.Time = wrong
				}
				wg.Go(func() {
					if _, err := p.Produce(ctx, rec); err != nil {
						t.Errorf("record %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			kept, moved := 0, 0
			for _, m := range c.readAll(t, topic)[0][1:] {
				switch {
				case m.Time.Equal(right):
					kept++
				case m.Time.After(right) && !m.Time.After(latest):
					moved++
				}
			}
			if kept != 4 || moved != 4 {
				t.Errorf("%d records kept their time and %d were brought back, want 4 and 4", kept, moved)
			}
			if n := testutil.ToFloat64(p.metrics.errors.WithLabelValues(string(ClassClock))); n == 0 {
				t.Error("nothing tells of the clock")
			}
		})
	}
}

// A broker that takes none of the times we can think of is tried again: who
// waits for it spools the event, or lets WeChat repeat it.
func TestAClockThatCannotBeHelpedIsNoRejection(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	client, _ := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1, DownAfter: 50 * time.Millisecond}, nil)
	refuse(c, kerr.InvalidTimestamp, func(kmsg.Record, time.Time) string { return "no time is right" }, true)
	_, err := p.Produce(timeout(t, time.Second), record("wx1", 0))
	if !errors.Is(err, context.DeadlineExceeded) || ClassOf(err) != ClassClock || errors.Is(err, ErrRejected) {
		t.Errorf("got %v, want the caller's deadline and the cause", err)
	}
	if d := client.Diagnose(timeout(t, 5*time.Second), p.Healthy()); !strings.Contains(d.Error(), "set the clock") {
		t.Errorf("diagnosis: %v", d)
	}
}

// An answer that nobody knows is believed to be about a record only if others
// go through meanwhile.
func TestAnUnknownErrorBlamesARecordOnlyIfOthersGoThrough(t *testing.T) {
	for _, named := range []bool{true, false} {
		t.Run(fmt.Sprintf("named=%v", named), func(t *testing.T) {
			c := fakeBrokers(t, 1)
			topic := c.topic(t, 1)
			client, gate := c.client(t)
			p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1}, nil)
			if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
				t.Fatal(err)
			}
			refuse(c, kerr.UnknownServerError, func(r kmsg.Record, _ time.Time) string {
				if string(r.Value) == "bad" {
					return "?"
				}
				return ""
			}, named)
			gate.delay.Store(int64(20 * time.Millisecond))
			// The first record may travel alone, so it must not be the one that nothing can be compared with.
			onlyBad(timeout(t, 30*time.Second), t, p, 1, 6)
		})
	}
}

func TestAnUnknownErrorForEverythingBlamesNoRecord(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1}, nil)
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
		t.Fatal(err)
	}
	h := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.UnknownServerError, Count: -1})
	gate.delay.Store(int64(5 * time.Millisecond))
	ctx := timeout(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := p.Produce(ctx, record("wx1", i)); err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	eventually(t, 10*time.Second, "each record was tried more often than blame would take", func() bool { return h.Hits() > 30 })
	h.Remove()
	wg.Wait()
	if p.Healthy() != nil {
		t.Error(p.Healthy())
	}
}

// A full disk is not seen by looking at the cluster. Once it looks well, records
// may be tried again, but that all is well is known only when one was taken.
func TestARefusalStaysKnownUntilARecordIsTaken(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	client, _ := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1, DownAfter: 100 * time.Millisecond, ProbeInterval: 50 * time.Millisecond}, nil)
	h := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.KafkaStorageError, Count: -1})
	unproven := func() bool {
		var u *Unproven
		return errors.As(p.Healthy(), &u) && u.Degraded() && errors.Is(u, kafka.KafkaStorageError) && !p.Down()
	}
	for range 2 { // once more after having been forgiven
		if _, err := p.Produce(timeout(t, 400*time.Millisecond), record("wx1", 0)); !errors.Is(err, kafka.KafkaStorageError) {
			t.Fatalf("got %v", err)
		}
		eventually(t, 10*time.Second, "forgiven, but not forgotten", unproven)
		if n := testutil.ToFloat64(p.metrics.down); n != 0 {
			t.Errorf("%v lanes are said to fail", n)
		}
	}
	for range 10 { // nobody produces
		p.look(timeout(t, 5*time.Second))
	}
	if !unproven() {
		t.Errorf("forgotten without a record that was taken: %v", p.Healthy())
	}
	h.Remove()
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 1)); err != nil {
		t.Fatal(err)
	}
	if p.Healthy() != nil || testutil.ToFloat64(p.metrics.down) != 0 {
		t.Errorf("after a record was taken: %v", p.Healthy())
	}
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1, QueueRecords: 4, MaxBatchRecords: 1}, nil)
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
		t.Fatal(err)
	}
	gate.Freeze()
	ctx := timeout(t, time.Second)
	var wg sync.WaitGroup
	for i := range 5 { // one on its way, four in the queue
		wg.Go(func() {
			if _, err := p.Produce(ctx, record("wx1", i)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the caller's deadline", err)
			}
		})
		eventually(t, 5*time.Second, "queued", func() bool { return testutil.ToFloat64(p.metrics.queued) == float64(i+1) })
		if i == 0 {
			eventually(t, 5*time.Second, "on its way", func() bool { return len((*p.lanes.Load())[0].queue) == 0 })
		}
	}
	start := time.Now()
	if _, err := p.Produce(context.Background(), record("wx1", 9)); !errors.Is(err, ErrOverloaded) {
		t.Errorf("got %v, want ErrOverloaded", err)
	}
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("the refusal took %s", took)
	}
	wg.Wait()
}

func TestAQueueIsBoundedInBytes(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1, MaxMessageBytes: 2048, QueueBytes: 3000}, nil)
	gate.Freeze()
	rec := record("wx1", 0)
	rec.Value = bytes.Repeat([]byte("x"), 1600)
	ctx := timeout(t, 500*time.Millisecond)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Produce(ctx, rec); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	eventually(t, 5*time.Second, "queued", func() bool { return testutil.ToFloat64(p.metrics.queued) == 1 })
	if _, err := p.Produce(ctx, rec); !errors.Is(err, ErrOverloaded) {
		t.Errorf("got %v, want ErrOverloaded", err)
	}
	wg.Wait()
}

func TestKafkaDownAndBack(t *testing.T) {
	for _, how := range []string{"refused", "frozen"} {
		t.Run(how, func(t *testing.T) {
			c := brokers(t)
			topic := c.topic(t, 2)
			client, gate := c.client(t)
			p := producer(t, client, ProducerConfig{Topic: topic, AttemptTimeout: 200 * time.Millisecond, DownAfter: 300 * time.Millisecond, ProbeInterval: 50 * time.Millisecond}, nil)
			if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
				t.Fatal(err)
			}
			if p.Down() || p.Healthy() != nil {
				t.Fatal("down while all is well:", p.Healthy())
			}
			if how == "refused" {
				gate.Refuse()
			} else {
				gate.Freeze()
			}
			const patience = 600 * time.Millisecond
			start := time.Now()
			_, err := p.Produce(timeout(t, patience), record("wx1", 1))
			if took := time.Since(start); took < patience || took > patience+300*time.Millisecond {
				t.Errorf("the caller got its answer after %s, want %s", took, patience)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the caller's deadline", err)
			}
			if !p.Down() || p.Healthy() == nil {
				t.Error("not reported as down")
			}
			gate.Open()
			eventually(t, 10*time.Second, "up again without any traffic", func() bool { return !p.Down() && p.Healthy() == nil })
			if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 2)); err != nil {
				t.Errorf("after the outage: %v", err)
			}
			if n := testutil.ToFloat64(p.metrics.down); n != 0 {
				t.Errorf("%v lanes are said to fail", n)
			}
		})
	}
}

// A caller who waits long enough gets its record through an outage.
func TestACallerMayOutlastAnOutage(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, AttemptTimeout: 200 * time.Millisecond}, nil)
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
		t.Fatal(err)
	}
	gate.Refuse()
	answered := make(chan error, 1)
	go func() {
		_, err := p.Produce(timeout(t, 20*time.Second), record("wx1", 1))
		answered <- err
	}()
	eventually(t, 5*time.Second, "failing", func() bool { return p.Healthy() != nil })
	gate.Open()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// Who has gone has made other arrangements: writing the record later would only
// add a copy.
func TestTheRecordOfACallerWhoLeftIsNotTriedAgain(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic}, nil)
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
		t.Fatal(err)
	}
	gate.Refuse()
	if _, err := p.Produce(timeout(t, 200*time.Millisecond), record("wx1", 1)); err == nil {
		t.Fatal("acknowledged by a broker that is down")
	}
	eventually(t, 5*time.Second, "dropped", func() bool { return testutil.ToFloat64(p.metrics.queued) == 0 })
	gate.Open()
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 2)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range c.readAll(t, topic)[0] {
		got = append(got, string(m.Value))
	}
	if diff := cmp.Diff([]string{"wx1-0", "wx1-2"}, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// ingest must start while Kafka is down.
func TestAProducerStartsWithoutKafka(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 3)
	client, gate := c.client(t)
	gate.Refuse()
	p := producer(t, client, ProducerConfig{Topic: topic, DownAfter: 100 * time.Millisecond}, nil)
	_, err := p.Produce(timeout(t, 300*time.Millisecond), record("wx1", 0))
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errRefused) {
		t.Errorf("got %v, want the deadline and the cause", err)
	}
	eventually(t, 5*time.Second, "down", p.Down)
	if p.Healthy() == nil {
		t.Error("healthy without a broker")
	}
	gate.Open()
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
		t.Error(err)
	}
	if p.Down() {
		t.Error("down after an acknowledgement")
	}
}

func TestCloseSendsWhatIsQueued(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1, MaxBatchRecords: 5}, nil)
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
		t.Fatal(err)
	}
	gate.delay.Store(int64(10 * time.Millisecond))
	ctx := timeout(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := p.Produce(ctx, record("wx1", i)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, 5*time.Second, "queued", func() bool {
		return testutil.ToFloat64(p.metrics.queued)+testutil.ToFloat64(p.metrics.records) == 21
	})
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := p.Produce(ctx, record("wx1", 0)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := p.ProduceAll(ctx, sequence("wx1", 2)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := p.Close(ctx); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestCloseIsBounded(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 1)
	client, gate := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic, Partitions: 1, DrainTimeout: 200 * time.Millisecond}, nil)
	if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
		t.Fatal(err)
	}
	gate.Freeze()
	answered := make(chan error, 1)
	go func() {
		_, err := p.Produce(context.Background(), record("wx1", 1))
		answered <- err
	}()
	eventually(t, 5*time.Second, "queued", func() bool { return testutil.ToFloat64(p.metrics.queued) == 1 })
	start := time.Now()
	if err := p.Close(context.Background()); err == nil {
		t.Error("Close does not say that a record was given up")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("Close took %s", took)
	}
	if err := <-answered; !errors.Is(err, ErrClosed) {
		t.Errorf("the record that was given up: %v", err)
	}
}

func TestProduceAllTellsWhatFailed(t *testing.T) {
	c := brokers(t)
	topic := c.topic(t, 2)
	client, _ := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic}, nil)
	recs := sequence("wx1", 5)
	recs[2].Value = bytes.Repeat([]byte("x"), 2<<20)
	err := p.ProduceAll(timeout(t, 10*time.Second), recs)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "1 of 5 records") || !strings.Contains(err.Error(), "record 2") {
		t.Errorf("got %v", err)
	}
	if n := len(c.readAll(t, topic)[PartitionFor([]byte("wx1"), 2)]); n != 4 {
		t.Errorf("the log has %d records, want the other 4", n)
	}
	if err := p.ProduceAll(timeout(t, time.Second), nil); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
}

// A leader that has moved answers [6]; one whose replicas are missing [19].
func TestPassingErrorsAreTriedAgain(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.UnknownTopicOrPartition, kerr.UnknownServerError} {
		t.Run(e.Message, func(t *testing.T) {
			client, _ := c.client(t)
			p := producer(t, client, ProducerConfig{Topic: topic}, nil)
			h := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: e, Count: 2})
			if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
				t.Error(err)
			}
			if h.Hits() != 2 {
				t.Errorf("%d answers were errors, want 2", h.Hits())
			}
		})
	}
}

func TestProducerMetrics(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	client, _ := c.client(t)
	reg := prometheus.NewPedanticRegistry()
	p := producer(t, client, ProducerConfig{Topic: topic}, reg)
	twin := producer(t, client, ProducerConfig{Topic: topic}, reg) // shares the series instead of failing
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotEnoughReplicas})
	for _, p := range []*Producer{p, twin} {
		if _, err := p.Produce(timeout(t, 10*time.Second), record("wx1", 0)); err != nil {
			t.Fatal(err)
		}
	}
	big := record("wx1", 1)
	big.Value = make([]byte, 2<<20)
	if _, err := p.Produce(timeout(t, time.Second), big); err == nil {
		t.Fatal("too large a record was taken")
	}
	want := `
# HELP qunfa_kafka_produce_errors_total Failed produce requests and records refused before any request, by class of error.
# TYPE qunfa_kafka_produce_errors_total counter
`
	for _, class := range Classes() {
		n := 0
		if class == ClassReplicas || class == ClassTooLarge {
			n = 1
		}
		want += fmt.Sprintf("qunfa_kafka_produce_errors_total{class=%q,topic=%q} %d\n", class, topic, n)
	}
	want += fmt.Sprintf(`
# HELP qunfa_kafka_produce_records_total Acknowledged records.
# TYPE qunfa_kafka_produce_records_total counter
qunfa_kafka_produce_records_total{topic=%[1]q} 2
# HELP qunfa_kafka_produce_batches_total Acknowledged batches of records.
# TYPE qunfa_kafka_produce_batches_total counter
qunfa_kafka_produce_batches_total{topic=%[1]q} 2
# HELP qunfa_kafka_produce_queue_records Records that wait for the broker's acknowledgement.
# TYPE qunfa_kafka_produce_queue_records gauge
qunfa_kafka_produce_queue_records{topic=%[1]q} 0
# HELP qunfa_kafka_produce_failing_lanes Lanes (partitions) whose last produce request failed.
# TYPE qunfa_kafka_produce_failing_lanes gauge
qunfa_kafka_produce_failing_lanes{topic=%[1]q} 0
`, topic)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "qunfa_kafka_produce_errors_total", "qunfa_kafka_produce_records_total",
		"qunfa_kafka_produce_batches_total", "qunfa_kafka_produce_queue_records", "qunfa_kafka_produce_failing_lanes"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestProducerConfig(t *testing.T) {
	client, err := NewClient(Config{Brokers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]ProducerConfig{
		"no topic":            {},
		"negative partitions": {Topic: "t", Partitions: -1},
		"queue below message": {Topic: "t", QueueBytes: 2000, MaxMessageBytes: 4000},
		"tiny messages":       {Topic: "t", MaxMessageBytes: 10},
	} {
		if p, err := NewProducer(client, cfg, quiet(), nil); err == nil {
			p.Close(t.Context())
			t.Errorf("%s: accepted", name)
		}
	}
}
