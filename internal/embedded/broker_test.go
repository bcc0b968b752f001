package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"qunfa/internal/embedded"
)

const topic = "qunfa.events"

func startBroker(t *testing.T, config embedded.BrokerConfig) *embedded.Broker {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	broker, err := embedded.StartBroker(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBroker(t, broker) })
	return broker
}

func closeBroker(t *testing.T, broker *embedded.Broker) {
	t.Helper()
	if err := broker.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// client is a Kafka client of a broker, closed at the end of the test.
func client(t *testing.T, broker *embedded.Broker) *kafka.Client {
	transport := &kafka.Transport{Dial: broker.Dial}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(broker.Addr()), Transport: transport, Timeout: 10 * time.Second}
}

func createTopic(ctx context.Context, c *kafka.Client) error {
	resp, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}},
	})
	if err != nil {
		return err
	}
	return resp.Errors[topic]
}

func produce(ctx context.Context, c *kafka.Client, values ...string) (int64, error) {
	records := make([]kafka.Record, len(values))
	for i, value := range values {
		records[i] = kafka.Record{Value: kafka.NewBytes([]byte(value))}
	}
	resp, err := c.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	if err != nil {
		return 0, err
	}
	return resp.BaseOffset, resp.Error
}

// readAll returns the values of all records from an offset on.
func readAll(t *testing.T, c *kafka.Client, from int64) []string {
	t.Helper()
	var values []string
	for {
		resp, err := c.Fetch(t.Context(), &kafka.FetchRequest{
			Topic: topic, Offset: from, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 100 * time.Millisecond,
		})
		if err != nil || resp.Error != nil {
			t.Fatalf("fetch at %d: %v, %v", from, err, resp)
		}
		for {
			record, err := resp.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("fetch at %d: %v", from, err)
			}
			if record.Offset < from { // batches are sent whole
				continue
			}
			value, err := kafka.ReadAll(record.Value)
			if err != nil {
				t.Fatal(err)
			}
			values, from = append(values, string(value)), record.Offset+1
		}
		if from >= resp.HighWatermark {
			return values
		}
	}
}

func numbers(from, to int) []string {
	var values []string
	for i := from; i < to; i++ {
		values = append(values, strconv.Itoa(i))
	}
	return values
}

// fill makes the topic and n records, one request each.
func fill(t *testing.T, c *kafka.Client, n int) {
	t.Helper()
	if err := createTopic(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, value := range numbers(0, n) {
		if _, err := produce(t.Context(), c, value); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBrokerKeepsItsLog(t *testing.T) {
	dir := t.TempDir()
	first := startBroker(t, embedded.BrokerConfig{Dir: dir})
	fill(t, client(t, first), 10)
	closeBroker(t, first)

	second := startBroker(t, embedded.BrokerConfig{Dir: dir})
	if diff := cmp.Diff(numbers(0, 10), readAll(t, client(t, second), 0)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if second.Warnings() != 0 {
		t.Errorf("%d warnings after a clean stop", second.Warnings())
	}
}

func TestBrokerRefusesDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	startBroker(t, embedded.BrokerConfig{Dir: dir})
	_, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{Dir: dir})
	if !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second broker: %v, want ErrInUse with the directory", err)
	}
}

func TestBrokersAreIndependent(t *testing.T) {
	one, two := startBroker(t, embedded.BrokerConfig{}), startBroker(t, embedded.BrokerConfig{Dir: t.TempDir()})
	fill(t, client(t, one), 1)
	fill(t, client(t, two), 3)
	if got := readAll(t, client(t, one), 0); len(got) != 1 {
		t.Errorf("first broker has %v, want one record", got)
	}
	if got := readAll(t, client(t, two), 0); len(got) != 3 {
		t.Errorf("second broker has %v, want three records", got)
	}
}

func TestBrokerDialKnowsOnlyItself(t *testing.T) {
	broker := startBroker(t, embedded.BrokerConfig{})
	conn, err := broker.Dial(t.Context(), "tcp", "localhost:9092")
	if err == nil {
		conn.Close()
		t.Error("dialed localhost:9092")
	}
	closeBroker(t, broker)
	if conn, err := broker.Dial(t.Context(), "tcp", broker.Addr()); err == nil {
		conn.Close()
		t.Error("dialed a closed broker")
	}
}

// TestBrokerRefusesTruncatedLog puts an old copy of the log under the offsets
// that a group has committed since.
func TestBrokerRefusesTruncatedLog(t *testing.T) {
	dir := t.TempDir()
	broker := startBroker(t, embedded.BrokerConfig{Dir: dir})
	c := client(t, broker)
	fill(t, c, 5)
	resp, err := c.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
		GroupID: "sink", GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 0, Offset: 5}}},
	})
	if err != nil || resp.Topics[topic][0].Error != nil {
		t.Fatalf("commit: %v, %+v", err, resp)
	}
	closeBroker(t, broker)
	closeBroker(t, startBroker(t, embedded.BrokerConfig{Dir: dir})) // committed to the end is fine

	partition := filepath.Join(dir, "log", "partitions", topic+"-0")
	if err := os.RemoveAll(partition); err != nil {
		t.Fatal(err)
	}
	_, err = embedded.StartBroker(t.Context(), embedded.BrokerConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, embedded.ErrLogTruncated) {
		t.Fatalf("start: %v, want ErrLogTruncated", err)
	}
	for _, word := range []string{dir, "group sink", topic, "up to offset 5", "ends at 0", "kafka.topic"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	if _, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{Dir: dir}); errors.Is(err, embedded.ErrInUse) {
		t.Error("the refused broker kept the directory")
	}
}

func TestBrokerTrim(t *testing.T) {
	broker := startBroker(t, embedded.BrokerConfig{Dir: t.TempDir()})
	c := client(t, broker)
	fill(t, c, 10)
	for _, step := range []struct{ before, want int64 }{{4, 4}, {2, 4}, {10, 9}, {100, 9}} {
		got, err := broker.Trim(t.Context(), topic, 0, step.before)
		if err != nil || got != step.want {
			t.Errorf("Trim before %d: first offset %d, %v, want %d", step.before, got, err, step.want)
		}
	}
	if diff := cmp.Diff([]string{"9"}, readAll(t, c, 9)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if _, err := broker.Trim(t.Context(), "absent", 0, 1); err == nil {
		t.Error("trimmed a topic that does not exist")
	}
}

// TestBrokerCap fills a log over its cap. What ClickHouse has goes; when it
// has nothing, there is a warning and everything stays.
func TestBrokerCap(t *testing.T) {
	for _, stored := range []int64{0, 20} {
		t.Run(fmt.Sprint("stored ", stored), func(t *testing.T) {
			var log syncBuffer
			registry := prometheus.NewPedanticRegistry()
			trimmed := make(chan struct{})
			var once sync.Once
			broker := startBroker(t, embedded.BrokerConfig{
				Dir: t.TempDir(), MaxLogBytes: 20_000, WatchInterval: 5 * time.Millisecond, Registerer: registry,
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Stored: func(context.Context) (map[string]map[int32]int64, error) {
					defer once.Do(func() { close(trimmed) })
					return map[string]map[int32]int64{topic: {0: stored}}, nil
				},
			})
			c := client(t, broker)
			if err := createTopic(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				if _, err := produce(t.Context(), c, strings.Repeat("x", 1500)); err != nil {
					t.Fatal(err)
				}
			}
			<-trimmed
			waitFor(t, "warning", func() bool { return strings.Contains(log.String(), "over its cap") })
			if stored == 0 {
				waitFor(t, "sign of being full", broker.Full)
			}
			if got := len(readAll(t, c, max(stored-1, 0))); stored == 0 && got != 20 || stored > 0 && got != 1 {
				t.Errorf("%d records are left", got)
			}
			if size := gauge(t, registry, "qunfa_embedded_broker_log_bytes"); size < 20_000 {
				t.Errorf("size in the metric = %v", size)
			}
		})
	}
}

func TestBrokerSizeInMemory(t *testing.T) {
	broker := startBroker(t, embedded.BrokerConfig{})
	fill(t, client(t, broker), 3)
	if size, err := broker.LogBytes(t.Context()); err != nil || size < 3*60 {
		t.Errorf("size %d, %v", size, err)
	}
}

// TestBrokerSurvivesKill kills a process that produces as fast as it can, a
// few times in a row. Every record whose acknowledgement was printed has to be
// there afterwards, in order.
func TestBrokerSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := 0
	for round := range 4 {
		acknowledged = killProducer(t, dir, acknowledged, acknowledged+300*(round+1))
	}
	broker := startBroker(t, embedded.BrokerConfig{Dir: dir})
	values := readAll(t, client(t, broker), 0)
	seen := make(map[string]bool, len(values))
	for _, value := range values {
		seen[value] = true
	}
	for _, value := range numbers(0, acknowledged) {
		if !seen[value] {
			t.Fatalf("record %s was acknowledged and is gone; %d of %d are there", value, len(seen), acknowledged)
		}
	}
}

// killProducer runs the producer from a number on, kills it when it has
// acknowledged up to another, and returns the next that was not acknowledged.
func killProducer(t *testing.T, dir string, from, until int) int {
	t.Helper()
	cmd := helper(t, "producer", dir, strconv.Itoa(from))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next := from
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Errorf("producer: %q", lines.Text())
		}
		next = n + 1
		if next == until {
			_ = cmd.Process.Kill() // the rest of what it printed still comes
		}
	}
	_ = cmd.Wait() // killed
	if next < until {
		t.Fatalf("the producer ended at %d: %s", next, &stderr)
	}
	return next
}

func init() {
	helpers["producer"] = func() {
		if err := runProducer(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// runProducer prints the number of each record once it was acknowledged.
func runProducer(dir, from string) error {
	ctx := context.Background()
	broker, err := embedded.StartBroker(ctx, embedded.BrokerConfig{Dir: dir})
	if err != nil {
		return err
	}
	c := &kafka.Client{Addr: kafka.TCP(broker.Addr()), Transport: &kafka.Transport{Dial: broker.Dial}}
	if err := createTopic(ctx, c); err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return err
	}
	i, err := strconv.Atoi(from)
	if err != nil {
		return err
	}
	for {
		batch := numbers(i, i+10)
		if _, err := produce(ctx, c, batch...); err != nil {
			return err
		}
		for _, value := range batch {
			fmt.Println(value)
		}
		i += len(batch)
	}
}
