package embeddedtest

import (
	"testing"

	"github.com/segmentio/kafka-go"
)

func TestKafka(t *testing.T) {
	brokers := Kafka(t)
	transport := &kafka.Transport{Dial: brokers.Dial}
	t.Cleanup(transport.CloseIdleConnections)
	client := &kafka.Client{Addr: kafka.TCP(brokers.Addrs...), Transport: transport}
	topic := brokers.Topic(t)
	resp, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}},
	})
	if err != nil || resp.Errors[topic] != nil {
		t.Fatalf("cannot create a topic: %v, %v", err, resp)
	}
	produced, err := client.Produce(t.Context(), &kafka.ProduceRequest{
		Topic: topic, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte("hello"))}),
	})
	if err != nil || produced.Error != nil || produced.BaseOffset != 0 {
		t.Errorf("produced %+v, %v", produced, err)
	}
	if first, second := brokers.Group(t), brokers.Group(t); first == second {
		t.Error("two groups of one name")
	}
}
