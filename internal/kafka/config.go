package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
)

// Config says how to reach a cluster. Only Brokers is required.
type Config struct {
	// Brokers are bootstrap addresses, host:port; the port defaults to 9092.
	Brokers []string
	TLS     *tls.Config    // nil: no TLS; see [TLSConfig]
	SASL    sasl.Mechanism // nil: no SASL; see [SASLMechanism]
	// ClientID appears in the broker's logs, metrics and quotas. Default "qunfa".
	ClientID string
	// Topics limits the metadata that is fetched every MetadataTTL to these
	// topics; no other can then be used through the client. Empty: all topics,
	// which is wasteful in a cluster that holds thousands.
	Topics []string
	// Dial opens connections, nil for TCP. The embedded broker listens in memory.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds every request that has no shorter context. Default 10 s.
	// It is never zero: kafka-go would let brokers wait for replicas for half a second only.
	Timeout time.Duration
	// DialTimeout bounds a connection with its handshakes. Default 1.5 s.
	DialTimeout time.Duration
	// MetadataTTL bounds the age of what is known about leaders. Default 1 s.
	MetadataTTL time.Duration
	// Logger receives what nobody is there to receive as an error. Default: nothing.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Brokers) == 0 {
		return c, errors.New("kafka: no brokers: give at least one address host:port")
	}
	brokers := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addr, err := brokerAddress(b)
		if err != nil {
			return c, err
		}
		brokers[i] = addr
	}
	c.Brokers = brokers
	c.ClientID = cmp.Or(c.ClientID, "qunfa")
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 1500*time.Millisecond)
	c.MetadataTTL = cmp.Or(c.MetadataTTL, time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Dial == nil {
		// kafka-go tries the bootstrap addresses one after the other within one
		// DialTimeout: an address that swallows packets must leave time for the next.
		c.Dial = (&net.Dialer{Timeout: max(c.DialTimeout/time.Duration(len(brokers)), 300*time.Millisecond)}).DialContext
	}
	return c, nil
}

func brokerAddress(s string) (string, error) {
	s = strings.TrimSpace(s)
	host, port, err := net.SplitHostPort(s)
	if err != nil && !strings.Contains(s, ":") {
		host, port, err = s, "9092", nil
	}
	if err != nil || host == "" || port == "" || strings.ContainsAny(host, "/ ,") {
		return "", fmt.Errorf("kafka: broker %q: want host:port", s)
	}
	return net.JoinHostPort(host, port), nil
}

// ProducerConfig says what a [Producer] writes to. Only Topic is required.
type ProducerConfig struct {
	Topic string
	// Partitions of the topic. 0: the broker is asked, and until it has answered
	// records wait. The number is then kept: an account must not change partition.
	Partitions int
	// SingleLane sends one request at a time over all partitions. The embedded
	// broker syncs its file with every request, and these syncs exclude each other.
	SingleLane bool
	// MaxMessageBytes is the topic's max.message.bytes: no record and no batch
	// is larger. Default 1048588, Kafka's own.
	MaxMessageBytes int
	// MaxBatchRecords bounds the records of one request. Default 2000.
	MaxBatchRecords int
	// QueueRecords bounds the records that wait in one lane. Default 4096.
	QueueRecords int
	// QueueBytes bounds the bytes that wait in all lanes. Default 64 MiB.
	QueueBytes int
	// AttemptTimeout bounds one request. Default 1.5 s: a shorter one gives up
	// while the cluster replaces a leader, a longer one holds up the lane.
	AttemptTimeout time.Duration
	// DownAfter is how long a lane must fail before [Producer.Down] says so. Default 1 s.
	DownAfter time.Duration
	// ProbeInterval is how often a failing cluster is looked at when nobody produces. Default 1 s.
	ProbeInterval time.Duration
	// DrainTimeout bounds how long [Producer.Close] waits for queued records. Default 3 s.
	DrainTimeout time.Duration
}

func (c ProducerConfig) withDefaults() (ProducerConfig, error) {
	if c.Topic == "" {
		return c, errors.New("kafka: a producer needs a topic")
	}
	if c.Partitions < 0 || c.Partitions > maxPartitions {
		return c, fmt.Errorf("kafka: topic %s: %d partitions: want 0 to %d", c.Topic, c.Partitions, maxPartitions)
	}
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, defaultMaxMessageBytes)
	c.MaxBatchRecords = cmp.Or(c.MaxBatchRecords, 2000)
	c.QueueRecords = cmp.Or(c.QueueRecords, 4096)
	c.QueueBytes = cmp.Or(c.QueueBytes, 64<<20)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, 1500*time.Millisecond)
	c.DownAfter = cmp.Or(c.DownAfter, time.Second)
	c.ProbeInterval = cmp.Or(c.ProbeInterval, time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 3*time.Second)
	if c.MaxMessageBytes < 1024 || c.QueueBytes < c.MaxMessageBytes {
		return c, fmt.Errorf("kafka: topic %s: want at least 1024 bytes a message, have %d, and room for one in the queue's %d", c.Topic, c.MaxMessageBytes, c.QueueBytes)
	}
	return c, nil
}

// GroupConfig says what a member of a consumer group reads. GroupID and Topic are required.
type GroupConfig struct {
	GroupID string
	Topic   string
	// SessionTimeout is how long the others wait before they take over from a
	// member that has vanished. Default 6 s, the least that brokers allow.
	SessionTimeout time.Duration
	// HeartbeatInterval is also how soon a rebalance is noticed. Default 1 s.
	HeartbeatInterval time.Duration
	// RebalanceTimeout is how long the others wait for a member whose handler
	// finishes its work. Default 30 s; keep it above the longest insert.
	RebalanceTimeout time.Duration
	// JoinBackoff is the pause after a failed attempt to join. Default 1 s.
	JoinBackoff time.Duration
	// WatchInterval is how often the number of partitions is looked at. Default 5 s.
	WatchInterval time.Duration
	// MaxWait is how long the broker holds back an empty answer. Default 500 ms.
	MaxWait time.Duration
	// FetchBytes bounds one answer of the broker. Default 4 MiB.
	FetchBytes int
	// PrefetchBytes bounds what is read ahead over all partitions of a
	// generation, counted after decompression. Default 32 MiB. It is shared out
	// evenly; each partition may exceed its share by one batch.
	PrefetchBytes int
	// CommitTimeout bounds one commit with its retries. Default 10 s.
	CommitTimeout time.Duration
	// RequestTimeout bounds every other answer of the coordinator, heartbeats
	// among them. Default 5 s.
	RequestTimeout time.Duration
	// LeaveTimeout bounds the farewell when Run ends; without one the others
	// wait for SessionTimeout. Default 3 s.
	LeaveTimeout time.Duration
}

func (c GroupConfig) withDefaults() (GroupConfig, error) {
	if c.GroupID == "" || c.Topic == "" {
		return c, errors.New("kafka: a consumer group needs an id and a topic")
	}
	c.SessionTimeout = cmp.Or(c.SessionTimeout, 6*time.Second)
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, time.Second)
	c.RebalanceTimeout = cmp.Or(c.RebalanceTimeout, 30*time.Second)
	c.JoinBackoff = cmp.Or(c.JoinBackoff, time.Second)
	c.WatchInterval = cmp.Or(c.WatchInterval, 5*time.Second)
	c.MaxWait = cmp.Or(c.MaxWait, 500*time.Millisecond)
	c.FetchBytes = cmp.Or(c.FetchBytes, 4<<20)
	c.PrefetchBytes = cmp.Or(c.PrefetchBytes, 32<<20)
	c.CommitTimeout = cmp.Or(c.CommitTimeout, 10*time.Second)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 5*time.Second)
	c.LeaveTimeout = cmp.Or(c.LeaveTimeout, 3*time.Second)
	if c.HeartbeatInterval >= c.SessionTimeout {
		return c, fmt.Errorf("kafka: group %s: heartbeat interval %s must be shorter than session timeout %s", c.GroupID, c.HeartbeatInterval, c.SessionTimeout)
	}
	return c, nil
}

const (
	// defaultMaxMessageBytes is Kafka's default of max.message.bytes.
	defaultMaxMessageBytes = 1048588
	// maxPartitions guards against typing errors: a lane costs a goroutine.
	maxPartitions = 10000
)
