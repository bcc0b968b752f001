package kafka

import (
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/events"
)

func TestReadAt(t *testing.T) {
	c := brokers(t)
	client, _ := c.client(t)
	ctx := timeout(t, 30*time.Second)
	topic := unique(t)
	if _, err := client.EnsureTopic(ctx, TopicConfig{Name: topic, Partitions: 1, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	p, err := NewProducer(client, ProducerConfig{Topic: topic}, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(ctx)
	at := time.UnixMilli(1_700_000_000_000).UTC()
	for i := range 3 {
		if _, err := p.Produce(ctx, events.Record{Key: []byte{byte(i)}, Value: []byte("v"), Time: at.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	m, found, err := client.ReadAt(ctx, topic, 0, 1)
	if err != nil || !found || m.Offset != 1 || m.Key[0] != 1 || !m.Time.Equal(at.Add(time.Second)) {
		t.Errorf("got %+v, %t, %v", m, found, err)
	}
	for _, offset := range []int64{-1, 3, 100} {
		if m, found, err := client.ReadAt(ctx, topic, 0, offset); err != nil || found {
			t.Errorf("at offset %d there is %+v, %v", offset, m, err)
		}
	}
	if _, found, err := client.ReadAt(ctx, topic, 7, 0); err == nil || found {
		t.Errorf("a partition that does not exist: %t, %v", found, err)
	}
}

// A full disk says nothing about the record that was to be written: blaming it
// would make a dead letter of it.
func TestFullDiskBlamesNoRecord(t *testing.T) {
	if class := ClassOf(kafka.KafkaStorageError); class != ClassLeader {
		t.Errorf("class %s", class)
	}
	if blamesRecords(kafka.KafkaStorageError) || doubtful(kafka.KafkaStorageError, 3) {
		t.Error("a record is blamed for the broker's disk")
	}
}
