package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qunfa/internal/events"
)

// BenchmarkProduce measures what an HTTP handler sees: one record, acks=all,
// with so many handlers at once.
func BenchmarkProduce(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			c := brokers(b)
			topic := c.topic(b, 6)
			client, _ := c.client(b)
			p := producer(b, client, ProducerConfig{Topic: topic, Partitions: 6}, nil)
			recs := make([]events.Record, 64)
			for i := range recs {
				recs[i] = record(fmt.Sprintf("wx%d", i), i)
				recs[i].Value = make([]byte, 512)
			}
			ctx := timeout(b, 5*time.Minute)
			if _, err := p.Produce(ctx, recs[0]); err != nil {
				b.Fatal(err)
			}
			var n atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for {
						i := n.Add(1)
						if i > int64(b.N) {
							return
						}
						if _, err := p.Produce(ctx, recs[i%int64(len(recs))]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkPoll measures reading ahead and handing out, without any handling.
func BenchmarkPoll(b *testing.B) {
	c := brokers(b)
	topic := c.topic(b, 4)
	var recs []events.Record
	for i := range 50_000 {
		rec := record(fmt.Sprintf("wx%d", i%97), i)
		rec.Value = make([]byte, 512)
		recs = append(recs, rec)
	}
	c.fill(b, topic, recs)
	client, _ := c.client(b)
	b.ReportAllocs()
	for b.Loop() {
		var all counter
		_, stop := runGroup(b, client, c.groupConfig(b, topic), nil, all.handle)
		eventually(b, time.Minute, "all read", func() bool { return all.n.Load() >= int64(len(recs)) })
		stop()
	}
	b.ReportMetric(float64(b.N*len(recs))/b.Elapsed().Seconds(), "records/s")
}

// counter is a handler that only counts.
type counter struct{ n atomic.Int64 }

func (c *counter) handle(ctx context.Context, g *Generation) error {
	if err := g.Begin(nil); err != nil {
		return err
	}
	for {
		msgs, err := g.Poll(ctx, 10_000, 16<<20)
		if err != nil {
			return err
		}
		c.n.Add(int64(len(msgs)))
	}
}
