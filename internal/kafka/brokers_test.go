package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCluster is what the tests run against.
type testCluster struct {
	addrs []string
	dial  dialFunc
	fake  *kfake.Cluster // nil: real brokers
	login embeddedtest.Security
}

// brokers returns the real cluster named by the environment, or a fake one.
func brokers(t testing.TB) testCluster {
	if given := embeddedtest.GivenKafka(); given != nil {
		return testCluster{addrs: given.Addrs, dial: new(net.Dialer).DialContext, login: given.Security}
	}
	return fakeBrokers(t, 1)
}

// fakeBrokers starts kfake in memory: for tests that need faults or settings
// which no broker has on request.
func fakeBrokers(t testing.TB, n int, opts ...kfake.Opt) testCluster {
	t.Helper()
	var network kfake.VirtualNetwork
	ports := make([]int, n)
	addrs := make([]string, n)
	for i := range ports {
		ports[i] = 9092 + i
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", ports[i])
	}
	opts = append([]kfake.Opt{kfake.Ports(ports...), kfake.ListenFn(network.Listen), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return testCluster{addrs: addrs, dial: network.DialContext, fake: c}
}

// tcpBroker starts kfake on a port of the loopback interface. TLS needs it: over
// a pipe, which holds no bytes, both sides of a handshake may wait to be read.
func tcpBroker(t testing.TB, opts ...kfake.Opt) testCluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return testCluster{addrs: c.ListenAddrs(), dial: new(net.Dialer).DialContext, fake: c}
}

func (c testCluster) real() bool { return c.fake == nil }

// client returns a client through its own gate, closed at the end of the test.
func (c testCluster) client(t testing.TB, change ...func(*Config)) (*Client, *gate) {
	t.Helper()
	g := newGate(c.dial)
	cfg := Config{Brokers: c.addrs, Dial: g.Dial, Logger: quiet()}
	c.secure(t, &cfg)
	for _, f := range change {
		f(&cfg)
	}
	client, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		client.Close()
	})
	return client, g
}

// secure adds what the cluster asks of clients.
func (c testCluster) secure(t testing.TB, cfg *Config) {
	t.Helper()
	var err error
	if s := c.login; s.TLS {
		if cfg.TLS, err = TLSConfig(TLSFiles{CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile}); err != nil {
			t.Fatal(err)
		}
	}
	if cfg.SASL, err = SASLMechanism(c.login.Mechanism, c.login.Username, c.login.Password); err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// gate is a network that can be broken: it refuses, or it freezes.
type gate struct {
	dial dialFunc

	mu      sync.Mutex
	refuse  bool
	thawed  chan struct{} // closed: not frozen
	conns   map[net.Conn]struct{}
	delay   atomic.Int64 // of every write, in nanoseconds
	dials   atomic.Int64
	allDone chan struct{}
}

func newGate(dial dialFunc) *gate {
	thawed := make(chan struct{})
	close(thawed)
	return &gate{dial: dial, thawed: thawed, conns: map[net.Conn]struct{}{}, allDone: make(chan struct{})}
}

var errRefused = errors.New("connection refused by the test")

func (g *gate) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	g.dials.Add(1)
	g.mu.Lock()
	refuse := g.refuse
	g.mu.Unlock()
	if refuse {
		return nil, errRefused
	}
	c, err := g.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	gc := &gateConn{Conn: c, gate: g, closed: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[gc] = struct{}{}
	return gc, nil
}

// Refuse breaks every connection and takes no new one.
func (g *gate) Refuse() {
	g.mu.Lock()
	g.refuse = true
	conns := g.conns
	g.conns = map[net.Conn]struct{}{}
	g.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// Freeze lets connections be made but nothing come back.
func (g *gate) Freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.thawed = make(chan struct{})
}

// Open ends Refuse and Freeze.
func (g *gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = false
	select {
	case <-g.thawed:
	default:
		close(g.thawed)
	}
}

func (g *gate) Close() {
	g.Open()
	g.Refuse()
}

func (g *gate) thaw() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.thawed
}

type gateConn struct {
	net.Conn
	gate     *gate
	once     sync.Once
	closed   chan struct{}
	deadline atomic.Pointer[time.Time]
}

func (c *gateConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	var late <-chan time.Time
	if d := c.deadline.Load(); d != nil && !d.IsZero() {
		timer := time.NewTimer(time.Until(*d))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.gate.thaw():
		return n, err
	case <-c.closed:
		return 0, net.ErrClosed
	case <-late:
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *gateConn) Write(b []byte) (int, error) {
	if d := c.gate.delay.Load(); d > 0 {
		timer := time.NewTimer(time.Duration(d))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(b)
}

func (c *gateConn) SetDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return c.Conn.SetDeadline(t)
}

func (c *gateConn) SetReadDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return c.Conn.SetReadDeadline(t)
}

func (c *gateConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// names makes topics and groups of different tests, and of repeated runs
// against the same real cluster, different.
var names atomic.Int64

func unique(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())
	return fmt.Sprintf("%s-%d-%d", name, time.Now().UnixNano(), names.Add(1))
}

// topic creates a topic with so many partitions.
func (c testCluster) topic(t testing.TB, partitions int, change ...func(*TopicConfig)) string {
	t.Helper()
	client, _ := c.client(t)
	cfg := TopicConfig{Name: unique(t), Partitions: partitions, ReplicationFactor: 1}
	for _, f := range change {
		f(&cfg)
	}
	ctx := timeout(t, 20*time.Second)
	if warnings, err := client.EnsureTopic(ctx, cfg); err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if _, err := client.WaitForTopic(ctx, cfg.Name); err != nil {
		t.Fatal(err)
	}
	return cfg.Name
}

func timeout(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// producer returns a producer that is closed before its client.
func producer(t testing.TB, client *Client, cfg ProducerConfig, reg prometheus.Registerer) *Producer {
	t.Helper()
	p, err := NewProducer(client, cfg, quiet(), reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what a test left in the queue is of no interest
		p.Close(ctx)
	})
	return p
}

func record(key string, n int) events.Record {
	return events.Record{
		Key:     []byte(key),
		Value:   fmt.Appendf(nil, "%s-%d", key, n),
		Headers: []events.Header{{Key: "ce_id", Value: fmt.Appendf(nil, "%d", n)}},
		Time:    time.UnixMilli(1_700_000_000_000 + int64(n)).UTC(),
	}
}

func sequence(key string, n int) []events.Record {
	recs := make([]events.Record, n)
	for i := range recs {
		recs[i] = record(key, i)
	}
	return recs
}

// fill writes records and fails the test if it cannot.
func (c testCluster) fill(t testing.TB, topic string, recs []events.Record) {
	t.Helper()
	client, _ := c.client(t)
	p := producer(t, client, ProducerConfig{Topic: topic}, nil)
	if err := p.ProduceAll(timeout(t, 20*time.Second), recs); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(timeout(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// readAll reads everything in a topic without any of the package's consumer code.
func (c testCluster) readAll(t testing.TB, topic string) map[int32][]kafka.Message {
	t.Helper()
	client, _ := c.client(t)
	ctx := timeout(t, 20*time.Second)
	ends, err := client.EndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int32][]kafka.Message{}
	for p, end := range ends {
		res, err := client.kc.Fetch(ctx, &kafka.FetchRequest{Topic: topic, Partition: int(p), Offset: 0, MinBytes: 1, MaxBytes: 64 << 20, MaxWait: 100 * time.Millisecond})
		for next := int64(0); err == nil && next < end; {
			var rec *kafka.Record
			if rec, err = res.Records.ReadRecord(); errors.Is(err, io.EOF) {
				res, err = client.kc.Fetch(ctx, &kafka.FetchRequest{Topic: topic, Partition: int(p), Offset: next, MinBytes: 1, MaxBytes: 64 << 20, MaxWait: 100 * time.Millisecond})
				continue
			}
			if err != nil {
				break
			}
			key, _ := kafka.ReadAll(rec.Key)
			value, _ := kafka.ReadAll(rec.Value)
			all[p] = append(all[p], kafka.Message{Offset: rec.Offset, Key: key, Value: value, Headers: rec.Headers, Time: rec.Time})
			next = rec.Offset + 1
		}
		if err != nil {
			t.Fatalf("read %s/%d: %v", topic, p, err)
		}
	}
	return all
}

// eventually polls a condition.
func eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", within, what)
		}
		<-time.After(5 * time.Millisecond) // between two looks, not instead of one
	}
}

// DeleteRecords, which kafka-go lacks: it trims the beginning of a partition.
type deleteRecordsRequest struct {
	Topics    []deleteRecordsTopic `kafka:"min=v0,max=v1"`
	TimeoutMs int32                `kafka:"min=v0,max=v1"`
}

type deleteRecordsTopic struct {
	Name       string                   `kafka:"min=v0,max=v1"`
	Partitions []deleteRecordsPartition `kafka:"min=v0,max=v1"`
}

type deleteRecordsPartition struct {
	Partition int32 `kafka:"min=v0,max=v1"`
	Offset    int64 `kafka:"min=v0,max=v1"`
}

type deleteRecordsResponse struct {
	ThrottleTimeMs int32                   `kafka:"min=v0,max=v1"`
	Topics         []deleteRecordsResTopic `kafka:"min=v0,max=v1"`
}

type deleteRecordsResTopic struct {
	Name       string                      `kafka:"min=v0,max=v1"`
	Partitions []deleteRecordsResPartition `kafka:"min=v0,max=v1"`
}

type deleteRecordsResPartition struct {
	Partition    int32 `kafka:"min=v0,max=v1"`
	LowWatermark int64 `kafka:"min=v0,max=v1"`
	ErrorCode    int16 `kafka:"min=v0,max=v1"`
}

func (*deleteRecordsRequest) ApiKey() protocol.ApiKey  { return protocol.DeleteRecords }
func (*deleteRecordsResponse) ApiKey() protocol.ApiKey { return protocol.DeleteRecords }

func (r *deleteRecordsRequest) Broker(c protocol.Cluster) (protocol.Broker, error) {
	t := r.Topics[0]
	return c.Brokers[c.Topics[t.Name].Partitions[t.Partitions[0].Partition].Leader], nil
}

func init() { protocol.Register(&deleteRecordsRequest{}, &deleteRecordsResponse{}) }

// trim deletes the records before offset.
func (c testCluster) trim(t testing.TB, topic string, partition int32, offset int64) {
	t.Helper()
	client, _ := c.client(t)
	res, err := client.transport.RoundTrip(timeout(t, 10*time.Second), client.kc.Addr, &deleteRecordsRequest{
		Topics:    []deleteRecordsTopic{{Name: topic, Partitions: []deleteRecordsPartition{{partition, offset}}}},
		TimeoutMs: 5000,
	})
	if err != nil {
		t.Fatal(err)
	}
	if code := res.(*deleteRecordsResponse).Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatal(kafka.Error(code))
	}
}
