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
	// Security is how to log in, as the configuration of the services has it.
	Security Security
}

// Security says how to reach brokers that are protected. Files are in PEM form.
type Security struct {
	TLS                           bool
	CAFile, CertFile, KeyFile     string
	Mechanism, Username, Password string // plain, scram-sha-256 or scram-sha-512
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

// GivenKafka returns the brokers that the environment names, or nil.
func GivenKafka() *Brokers {
	addrs := os.Getenv("QUNFA_TEST_KAFKA")
	if addrs == "" {
		return nil
	}
	env := func(name string) string { return os.Getenv("QUNFA_TEST_KAFKA_" + name) }
	s := Security{
		CAFile: env("TLS_CA_FILE"), CertFile: env("TLS_CERT_FILE"), KeyFile: env("TLS_KEY_FILE"),
		Mechanism: env("SASL_MECHANISM"), Username: env("SASL_USERNAME"), Password: env("SASL_PASSWORD"),
	}
	s.TLS = env("TLS") == "true" || s.CAFile != "" || s.CertFile != ""
	return &Brokers{Addrs: strings.Split(addrs, ","), Security: s}
}

func startBroker() (*Brokers, error) {
	if given := GivenKafka(); given != nil {
		return given, nil
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
