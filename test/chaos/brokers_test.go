//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const kafkaImage = "apache/kafka:4.3.0"

// listeners of each broker beside HOST, which is that of the test: each service
// has one of its own, so that its wire can be cut alone.
var listeners = []string{"ingest", "sink", "reconcile"}

// broker is one of three, and a controller at the same time.
type broker struct {
	*container
	id   int32
	disk *disk
}

// brokers are a cluster of Apache Kafka.
type brokers struct {
	*stage
	all    []*broker
	hosts  []string            // for the test: never in trouble by a wire
	behind map[string][]string // for a service: through the proxies
	client *kgo.Client         // of the test
}

// startBrokers starts three brokers and waits until they are one cluster.
func (s *stage) startBrokers(network string) *brokers {
	s.t.Helper()
	b := &brokers{stage: s, behind: map[string][]string{}}
	for id := int32(1); id <= 3; id++ {
		b.start(network, id)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.hosts...), kgo.DialTimeout(3*time.Second), kgo.RetryTimeout(5*time.Second), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	b.client = client
	s.t.Cleanup(client.Close)
	s.until("three brokers are up", 3*time.Minute, func() string {
		r, err := ask(kmsg.NewPtrMetadataRequest(), b.client)
		if err != nil {
			return err.Error()
		}
		if len(r.Brokers) < 3 {
			return fmt.Sprintf("%d brokers", len(r.Brokers))
		}
		return ""
	})
	return b
}

// ask asks the cluster, or gives up after a while.
func ask[R any](req interface {
	RequestWith(context.Context, kmsg.Requestor) (R, error)
}, client *kgo.Client) (R, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
	defer cancel()
	return req.RequestWith(ctx, client)
}

func (b *brokers) start(network string, id int32) {
	b.t.Helper()
	host := b.address()
	b.hosts = append(b.hosts, host)
	name := fmt.Sprintf("kafka-%d", id)
	listen := "HOST://:9190,BROKER://:9094,CONTROLLER://:9093"
	advertise := "HOST://" + host + ",BROKER://" + name + ":9094"
	protocols := "HOST:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"
	args := []string{"--network", network, "--network-alias", name, "--publish", host + ":9190"}
	for i, l := range listeners {
		upper, at, proxy := strings.ToUpper(l), b.address(), b.address()
		listen += fmt.Sprintf(",%s://:%d", upper, 9191+i)
		advertise += fmt.Sprintf(",%s://%s", upper, proxy)
		protocols += "," + upper + ":PLAINTEXT"
		args = append(args, "--publish", fmt.Sprintf("%s:%d", at, 9191+i))
		b.wires.add(proxy, at, l+"–Kafka", "services–"+name)
		b.behind[l] = append(b.behind[l], proxy)
	}
	d := newDisk(b.t, filepath.Join(b.dir, name), 768)
	for k, v := range map[string]string{
		"CLUSTER_ID":                             "4L6g3nShT-eMCtK--X86sw",
		"KAFKA_NODE_ID":                          fmt.Sprint(id),
		"KAFKA_PROCESS_ROLES":                    "broker,controller",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":         "1@kafka-1:9093,2@kafka-2:9093,3@kafka-3:9093",
		"KAFKA_CONTROLLER_LISTENER_NAMES":        "CONTROLLER",
		"KAFKA_LISTENERS":                        listen,
		"KAFKA_ADVERTISED_LISTENERS":             advertise,
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":   protocols,
		"KAFKA_INTER_BROKER_LISTENER_NAME":       "BROKER",
		"KAFKA_LOG_DIRS":                         "/data/log",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "3",
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":     "6",
		"KAFKA_DEFAULT_REPLICATION_FACTOR":       "3",
		"KAFKA_MIN_INSYNC_REPLICAS":              "2",
		"KAFKA_BROKER_SESSION_TIMEOUT_MS":        "3000", // as docs/deploy.md advises
		"KAFKA_BROKER_HEARTBEAT_INTERVAL_MS":     "500",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":        "false",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
		"KAFKA_LOG_INDEX_SIZE_MAX_BYTES":         "262144", // they are allocated ahead
		"KAFKA_HEAP_OPTS":                        "-Xms128m -Xmx320m",
		"KAFKA_JVM_PERFORMANCE_OPTS":             "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
	} {
		args = append(args, "--env", k+"="+v)
	}
	args = append(args, "--volume", d.dir+":/data", kafkaImage)
	b.all = append(b.all, &broker{runContainer(b.t, name, args...), id, d})
}

// byID returns a broker.
func (b *brokers) byID(id int32) (*broker, error) {
	for _, n := range b.all {
		if n.id == id {
			return n, nil
		}
	}
	return nil, fmt.Errorf("there is no broker %d", id)
}

// leader returns the broker that leads a partition.
func (b *brokers) leader(topic string, partition int32) (*broker, error) {
	r, err := b.metadata(topic)
	if err != nil {
		return nil, err
	}
	for _, p := range r.Partitions {
		if p.Partition == partition {
			return b.byID(p.Leader)
		}
	}
	return nil, fmt.Errorf("%s has no partition %d", topic, partition)
}

func (b *brokers) metadata(topic string) (*kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	r, err := ask(req, b.client)
	if err != nil {
		return nil, err
	}
	if len(r.Topics) != 1 {
		return nil, fmt.Errorf("metadata of %s: %d topics", topic, len(r.Topics))
	}
	return &r.Topics[0], kerr.ErrorForCode(r.Topics[0].ErrorCode)
}

// coordinator returns the broker that coordinates a group.
func (b *brokers) coordinator(group string) (*broker, error) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = group, []string{group}
	r, err := ask(req, b.client)
	if err != nil {
		return nil, err
	}
	if len(r.Coordinators) == 1 {
		if err := kerr.ErrorForCode(r.Coordinators[0].ErrorCode); err != nil {
			return nil, err
		}
		return b.byID(r.Coordinators[0].NodeID)
	}
	return b.byID(r.NodeID)
}

// controller returns the broker whose controller is the active one.
func (b *brokers) controller() (*broker, error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic, t.Partitions = "__cluster_metadata", []kmsg.DescribeQuorumRequestTopicPartition{kmsg.NewDescribeQuorumRequestTopicPartition()}
	req.Topics = append(req.Topics, t)
	r, err := ask(req, b.client)
	if err != nil {
		return nil, err
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return nil, errors.New("the quorum is not described")
	}
	return b.byID(r.Topics[0].Partitions[0].LeaderID)
}

// whole says what is missing until every replica is in sync.
func (b *brokers) whole(topics ...string) string {
	for _, topic := range topics {
		t, err := b.metadata(topic)
		if err != nil {
			return fmt.Sprintf("%s: %v", topic, err)
		}
		for _, p := range t.Partitions {
			if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
				return fmt.Sprintf("%s, partition %d: %d of %d replicas in sync", topic, p.Partition, len(p.ISR), len(p.Replicas))
			}
		}
	}
	return ""
}
