package embeddedtest

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"strings"
	"testing"

	"qunfa/internal/embedded"
)

// Brokers is a Kafka cluster for tests.
type Brokers struct {
	// Addrs are host:port, for Dial.
	Addrs []string
	// Dial connects to one of them; nil: the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Kafka returns the broker, in memory, that the tests of this process share.
func Kafka(t testing.TB) *Brokers {
	t.Helper()
	mustBeInMain(t)
	brokers, err := shared.kafka.get(startBroker)
	if err != nil {
		t.Fatalf("no Kafka for tests: %v", err)
	}
	return brokers
}

func startBroker() (*Brokers, error) {
	if given := os.Getenv("QUNFA_TEST_KAFKA"); given != "" {
		return &Brokers{Addrs: strings.Split(given, ",")}, nil
	}
	broker, err := embedded.StartBroker(context.Background(), embedded.BrokerConfig{Logger: logger()})
	if err != nil {
		return nil, err
	}
	atEnd(broker.Close)
	return &Brokers{Addrs: []string{broker.Addr()}, Dial: broker.Dial}, nil
}

// Topic returns a name for a topic that nothing else uses. The test makes it.
func (b *Brokers) Topic(t testing.TB) string { t.Helper(); return uniqueName("topic") }

// Group returns a name for a consumer group that nothing else uses.
func (b *Brokers) Group(t testing.TB) string { t.Helper(); return uniqueName("group") }

func uniqueName(kind string) string { return "test-" + kind + "-" + strings.ToLower(rand.Text()[:12]) }
