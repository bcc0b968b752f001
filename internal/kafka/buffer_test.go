package kafka

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"pgregory.net/rapid"

	"qunfa/internal/events"
)

// Whatever is pushed and taken in whatever steps: every message comes out once,
// in the order of its partition, with trimmed ranges between the right ones;
// limits hold; and the bytes add up.
func TestBufferModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 4).Draw(t, "partitions")
		var ids []int32
		for p := range partitions {
			ids = append(ids, int32(p))
		}
		b := newBuffer(ids, 10_000)
		pushed, got := map[int32]int64{}, map[int32]int64{} // next offset
		waiting, bytes := 0, 0
		push := func(t *rapid.T) {
			part := b.parts[rapid.IntRange(0, partitions-1).Draw(t, "part")]
			var items []item
			for range rapid.IntRange(0, 5).Draw(t, "n") {
				at := pushed[part.partition]
				if rapid.IntRange(0, 4).Draw(t, "kind") == 0 {
					pushed[part.partition] = at + 10
					items = append(items, item{trimmed: &Range{Partition: part.partition, From: at, To: at + 10}})
					continue
				}
				size := rapid.IntRange(1, 100).Draw(t, "size")
				pushed[part.partition], waiting, bytes = at+1, waiting+1, bytes+size
				items = append(items, item{msg: events.Message{Position: events.Position{Partition: part.partition, Offset: at}}, size: size})
			}
			b.push(part, items, pushed[part.partition])
		}
		take := func(t *rapid.T) {
			maxRecords, maxBytes := rapid.IntRange(1, 10).Draw(t, "records"), rapid.IntRange(0, 300).Draw(t, "bytes")
			r := b.take(maxRecords, maxBytes)
			if len(r.messages) > maxRecords || len(r.messages) > 1 && r.bytes > maxBytes {
				t.Fatalf("take(%d, %d) returned %d messages of %d bytes", maxRecords, maxBytes, len(r.messages), r.bytes)
			}
			if waiting > 0 && len(r.messages) == 0 && len(r.trimmed) == 0 {
				t.Fatalf("nothing, although %d messages wait", waiting)
			}
			gone := map[Range]bool{}
			for _, g := range r.trimmed {
				gone[g] = true
			}
			skip := func(p int32) { // the trimmed ranges that come next
				for at := got[p]; gone[Range{Partition: p, From: at, To: at + 10}]; at = got[p] {
					delete(gone, Range{Partition: p, From: at, To: at + 10})
					got[p] = at + 10
				}
			}
			for _, m := range r.messages {
				skip(m.Partition)
				if m.Offset != got[m.Partition] {
					t.Fatalf("partition %d: %d, want %d", m.Partition, m.Offset, got[m.Partition])
				}
				got[m.Partition]++
			}
			for _, p := range ids {
				skip(p)
			}
			if len(gone) > 0 {
				t.Fatalf("reported before the messages in front of it: %v", gone)
			}
			waiting, bytes = waiting-len(r.messages), bytes-r.bytes
		}
		t.Repeat(map[string]func(*rapid.T){"push": push, "take": take, "": func(t *rapid.T) {
			if n := b.size(); n != bytes {
				t.Fatalf("%d bytes counted, %d there", n, bytes)
			}
		}})
	})
}

func TestNoPartitionStarves(t *testing.T) {
	b := newBuffer([]int32{0, 1, 2}, 1<<20)
	for _, p := range b.parts {
		for i := range int64(1000) {
			b.push(p, []item{{msg: events.Message{Position: events.Position{Partition: p.partition, Offset: i}}, size: 1}}, 1000)
		}
	}
	seen := map[int32]int{}
	for range 9 {
		for _, m := range b.take(10, 1<<20).messages {
			seen[m.Partition]++
		}
	}
	for p, n := range seen {
		if n != 30 {
			t.Errorf("partition %d had %d of 90 records, want 30", p, n)
		}
	}
}

func TestAPartitionsErrorComesLast(t *testing.T) {
	b := newBuffer([]int32{0, 1}, 100)
	broken := errors.New("broken")
	b.push(b.parts[1], []item{{size: 1}}, 1)
	b.end(b.parts[1], broken)
	if r := b.take(10, 10); len(r.messages) != 1 || r.err != nil {
		t.Errorf("first %d messages and %v", len(r.messages), r.err)
	}
	for range 2 {
		if r := b.take(10, 10); len(r.messages) != 0 || !errors.Is(r.err, broken) {
			t.Errorf("then %d messages and %v", len(r.messages), r.err)
		}
	}
}

func TestWaitRoom(t *testing.T) {
	b := newBuffer([]int32{0}, 10)
	p := b.parts[0]
	if room := b.waitRoom(t.Context(), p); room != 10 {
		t.Errorf("room for %d, want 10", room)
	}
	b.push(p, []item{{size: 10}}, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if room := b.waitRoom(ctx, p); room != 0 {
		t.Errorf("room for %d in a full buffer", room)
	}
	b.take(1, 10)
	if room := b.waitRoom(t.Context(), p); room != 10 {
		t.Errorf("room for %d after it was emptied, want 10", room)
	}
}

// A batch is never larger than we think: else a full one would be refused.
func TestRecordSizeIsAnUpperBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blob := rapid.SliceOfN(rapid.Byte(), 0, 300)
		var recs []kafka.Record
		size := batchOverhead
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			rec := events.Record{Key: blob.Draw(t, "key"), Value: blob.Draw(t, "value"), Time: time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "time"))}
			for range rapid.IntRange(0, 8).Draw(t, "headers") {
				rec.Headers = append(rec.Headers, events.Header{Key: rapid.StringN(0, 20, -1).Draw(t, "name"), Value: blob.Draw(t, "header")})
			}
			size += recordSize(rec)
			recs = append(recs, kafkaRecords([]*pending{{rec: rec}})...)
		}
		set := protocol.RecordSet{Version: 2, Records: kafka.NewRecordReader(recs...)}
		var out bytes.Buffer
		if _, err := set.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if n := out.Len() - 4; n > size { // without the size prefix
			t.Fatalf("%d bytes on the wire, %d expected at most", n, size)
		}
	})
}
