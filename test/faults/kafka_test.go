package faults

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/local"
)

// fakeKafka starts a broker of the test's own, on a port.
func fakeKafka(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, *embeddedtest.Brokers) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &embeddedtest.Brokers{Addrs: c.ListenAddrs(), Dial: new(net.Dialer).DialContext}
}

// TestKafkaDenied takes the rights of the services' user away.
func TestKafkaDenied(t *testing.T) {
	t.Parallel()
	f := newFault(t, deniedParts(t))
	admin, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...), kgo.SASL(plain.Auth{User: "admin", Pass: "admin"}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	allow(t, admin)
	f.begin()

	deny(t, admin, kmsg.ACLResourceTypeTopic)
	f.until("the sink says that it cannot read", func() string { return f.lacks("sink", "sink.kafka: not ready: ") })
	deny(t, admin, kmsg.ACLResourceTypeAny)
	if taken := f.tell(3); taken != 0 {
		t.Errorf("%d callbacks were answered with success, which Kafka cannot have", taken)
	}
	f.sees()
	allow(t, admin)
	f.settle()
	f.awaitReady()
}

func deniedParts(t *testing.T) parts {
	t.Helper()
	_, brokers := fakeKafka(t, kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "services", "services"))
	as := func(c *config.Config, name string) {
		c.Kafka.SASL = config.SASL{Mechanism: "plain", Username: name, Password: config.NewSecret(name)}
	}
	return parts{
		brokers: brokers,
		change:  func(c *config.Config, _ *app.Options) { as(c, "services") },
		admin:   func(c *config.Config) { as(c, "admin") },
	}
}

// rights are what the services need: see kafka's diagnosis.
var rights = map[kmsg.ACLResourceType][]kmsg.ACLOperation{
	kmsg.ACLResourceTypeTopic: {kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribeConfigs},
	kmsg.ACLResourceTypeGroup: {kmsg.ACLOperationRead},
}

func allow(t *testing.T, admin *kgo.Client) {
	t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	for kind, ops := range rights {
		for _, op := range ops {
			c := kmsg.NewCreateACLsRequestCreation()
			c.ResourceType, c.ResourceName, c.ResourcePatternType = kind, "test-", kmsg.ACLResourcePatternTypePrefixed
			c.Principal, c.Host, c.Operation, c.PermissionType = "User:services", "*", op, kmsg.ACLPermissionTypeAllow
			req.Creations = append(req.Creations, c)
		}
	}
	resp, err := req.RequestWith(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resp.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			t.Fatal(err)
		}
	}
}

// deny takes away all rights to a kind of thing.
func deny(t *testing.T, admin *kgo.Client, what kmsg.ACLResourceType) {
	t.Helper()
	req := kmsg.NewPtrDeleteACLsRequest()
	filter := kmsg.NewDeleteACLsRequestFilter()
	filter.ResourceType, filter.ResourcePatternType = what, kmsg.ACLResourcePatternTypeAny
	filter.Operation, filter.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	req.Filters = append(req.Filters, filter)
	resp, err := req.RequestWith(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, r := range resp.Results {
		gone += len(r.MatchingACLs)
	}
	if gone == 0 {
		t.Fatal("no rights were taken away")
	}
}

// TestKafkaDown cuts the services off from Kafka.
func TestKafkaDown(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.begin()
	f.kafka.Cut()
	if taken := f.tell(3); taken != 0 {
		t.Errorf("%d callbacks were answered with success, which Kafka cannot have", taken)
	}
	f.sees()
	f.kafka.Mend()
	f.settle()
	f.awaitReady()
}

// TestKafkaDownWithSpool does the same to an ingest that has a spool.
func TestKafkaDownWithSpool(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{change: func(c *config.Config, _ *app.Options) { c.Ingest.SpoolDir = t.TempDir() }})
	f.begin()
	f.kafka.Cut()
	f.takenMeanwhile(3)
	f.sees()
	f.kafka.Mend()
	f.settle()
	f.until("ingest is as it was", func() string { return f.lacks("ingest", "ingest.kafka: ok") })
}

// TestSpoolFull lets Kafka be away for longer than the spool has room.
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{change: func(c *config.Config, _ *app.Options) { c.Ingest.SpoolDir, c.Ingest.SpoolMaxBytes = t.TempDir(), 1<<20 }})
	f.begin()
	f.kafka.Cut()
	for _, padding := range []int{60_000, 5_000} { // large ones first, then what fits beside them
		f.padding = padding
		for f.tell(1) == 1 {
			if len(f.told) > 1000 {
				t.Fatal("the spool does not fill")
			}
		}
	}
	f.sees(func() { f.tell(1) })
	f.kafka.Mend()
	f.settle()
	f.until("ingest is as it was", func() string { return f.lacks("ingest", "ingest.kafka: ok") })
}

// TestKafkaFull lets the broker answer as one whose disk is full.
func TestKafkaFull(t *testing.T) {
	t.Parallel()
	cluster, brokers := fakeKafka(t)
	f := newFault(t, parts{brokers: brokers})
	f.begin()
	var full atomic.Bool
	full.Store(true)
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !full.Load() {
			return nil, nil, false
		}
		return refuseAll(r.(*kmsg.ProduceRequest), kerr.KafkaStorageError), nil, true
	})
	if taken := f.tell(3); taken != 0 {
		t.Errorf("%d callbacks were answered with success, which Kafka cannot have", taken)
	}
	f.sees(func() { f.tell(1) })
	full.Store(false)
	f.settle()
	f.awaitReady()
}

func refuseAll(req *kmsg.ProduceRequest, why *kerr.Error) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition, partition.ErrorCode = p.Partition, why.Code
			topic.Partitions = append(topic.Partitions, partition)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

// TestEmbeddedLogFull fills the log of the embedded broker while ClickHouse is away.
func TestEmbeddedLogFull(t *testing.T) {
	t.Parallel()
	var f *fault
	var stored atomic.Bool
	broker, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{
		MaxLogBytes: 4000, WatchInterval: 50 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
		Stored: func(ctx context.Context) (map[string]map[int32]int64, error) {
			if !stored.Load() {
				return nil, nil
			}
			ends, err := f.db.CurrentEnds(ctx, f.cfg.Kafka.Topic)
			return map[string]map[int32]int64{f.cfg.Kafka.Topic: ends}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	f = newFault(t, parts{
		brokers: &embeddedtest.Brokers{Addrs: []string{broker.Addr()}, Dial: broker.Dial},
		change: func(c *config.Config, o *app.Options) {
			c.Kafka.Partitions = 1
			o.Admit, o.Embedded = local.AdmitUntilFull(broker), true
		},
	})
	f.begin()
	f.server.Cut()
	f.until("the log is full", func() string {
		if f.tell(1) == 1 {
			return fmt.Sprintf("%d callbacks were taken", len(f.told))
		}
		return ""
	})
	f.sees()
	f.server.Mend()
	stored.Store(true)
	f.settle()
	f.awaitReady()
}

// topics makes and deletes topics behind the services' backs.
func (f *fault) topics() *kafkago.Client {
	transport := &kafkago.Transport{Dial: f.kafka.Dial}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &kafkago.Client{Addr: kafkago.TCP(f.cfg.Kafka.Brokers...), Transport: transport, Timeout: 10 * time.Second}
}

func (f *fault) deleteTopic() {
	f.t.Helper()
	resp, err := f.topics().DeleteTopics(f.t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{f.cfg.Kafka.Topic}})
	if err == nil {
		err = resp.Errors[f.cfg.Kafka.Topic]
	}
	if err != nil {
		f.t.Fatalf("delete the topic: %v", err)
	}
}

// migrate makes what is missing, as `qunfa migrate` does.
func (f *fault) migrate() {
	f.t.Helper()
	if err := app.Migrate(f.t.Context(), f.cfg, app.Options{KafkaDial: f.kafka.Dial}, nil); err != nil {
		f.t.Fatalf("migrate: %v", err)
	}
}

// adopt is `qunfa topic adopt`.
func (f *fault) adopt() {
	f.t.Helper()
	if err := app.AdoptTopic(f.t.Context(), f.cfg, app.Options{KafkaDial: f.kafka.Dial}, false, func(string) {}); err != nil {
		f.t.Fatalf("adopt: %v", err)
	}
}

// TestTopicDeleted deletes the topic while everything runs.
func TestTopicDeleted(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.begin()
	f.deleteTopic()
	if taken := f.tell(3); taken != 0 {
		t.Errorf("%d callbacks were answered with success, for which there is no topic", taken)
	}
	f.sees()
	f.migrate()
	f.retell() // ingest needs no more
	f.until("the sink says that the topic is another", func() string { return f.lacks("sink", "run: qunfa topic adopt") })
	f.adopt()
	f.settle()
	f.awaitReady()
}

// lacks returns a service's page of /readyz if it does not say something.
func (f *fault) lacks(name, text string) string {
	f.t.Helper()
	page := f.page(name, "/readyz")
	if containsAll(page, text) {
		return ""
	}
	return page
}

// TestTopicRecreated deletes the topic and makes it anew at once. Its offsets
// begin at 0 again, where records are stored already.
func TestTopicRecreated(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.begin()
	f.tell(20)
	f.settle()
	f.deleteTopic()
	f.migrate()
	f.until("a callback is taken again", func() string {
		if f.tell(1) == 0 {
			return "not yet"
		}
		return ""
	})
	f.sees()
	before := f.query("SELECT count() FROM events")[0][0]
	f.stays("nothing is stored before somebody has decided", func() string {
		if n := f.query("SELECT count() FROM events")[0][0]; n != before {
			return fmt.Sprint(n)
		}
		return ""
	})
	f.adopt()
	f.settle()
	f.awaitReady()
	f.saidOnce("was deleted and created anew")
	if err := app.AdoptTopic(t.Context(), f.cfg, app.Options{KafkaDial: f.kafka.Dial}, false, nil); err == nil {
		t.Error("a topic was adopted twice")
	}
}

// TestClockOff sets the clock of ingest an hour wrong.
func TestClockOff(t *testing.T) {
	t.Parallel()
	var wrong atomic.Int64
	f := newFault(t, parts{change: func(c *config.Config, o *app.Options) {
		c.Accounts = append(c.Accounts, safeAccount())
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
	}})
	f.begin()
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		wrong.Store(int64(off))
		if taken := f.tell(2); taken != 0 {
			t.Errorf("%d callbacks were taken in plain mode by a clock that is %s off", taken, off)
		}
		if status := f.tellSafe(); status != http.StatusOK {
			t.Errorf("a callback in safe mode was answered %d by a clock that is %s off", status, off)
		}
	}
	f.sees()
	wrong.Store(0)
	f.settle()
	f.awaitReady()
}
