//go:build containers

package containers

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/clickhouse"
	"github.com/testcontainers/testcontainers-go/wait"

	"qunfa/internal/config"
)

const (
	kafkaImage      = "apache/kafka:4.3.0"
	oldKafkaImage   = "apache/kafka:3.9.2"
	clickhouseImage = "clickhouse/clickhouse-server:26.7"
)

// listeners of a broker, in the order of their ports from 9092 on. One broker
// has them all, so that all ways to log in cost one start.
var listeners = []struct{ name, protocol string }{
	{open, "PLAINTEXT"},
	{login, "SASL_PLAINTEXT"},
	{secure, "SASL_SSL"},
	{mutual, "SSL"},
}

// Names of listeners. The image takes exception to SASL_... and SSL.
const (
	open   = "OPEN"   // whoever connects is super
	login  = "LOGIN"  // knows SCRAM-SHA-512 alone
	secure = "SECURE" // TLS and a login
	mutual = "MUTUAL" // TLS with a certificate of the client
)

// Files of the broker.
const (
	keystore   = "/etc/kafka/secrets/server.pem"
	truststore = "/etc/kafka/secrets/ca.pem"
)

const password = "correct horse"

// broker is a single broker that is its own controller.
type broker struct {
	container testcontainers.Container
	host      string
	addrs     map[string]string // by listener
	authority authority         // signed its certificate, and those of clients
}

// brokerEnv configures a broker. A variable replaces the whole configuration of
// the image, so everything has to be said.
func brokerEnv() map[string]string {
	env := map[string]string{
		"KAFKA_NODE_ID":                          "1",
		"KAFKA_PROCESS_ROLES":                    "broker,controller",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":         "1@localhost:9193",
		"KAFKA_CONTROLLER_LISTENER_NAMES":        "CONTROLLER",
		"KAFKA_INTER_BROKER_LISTENER_NAME":       "BROKER",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":     "1",
		// The transaction log too, for those tests that write markers.
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0", // a group of a test is complete at once
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",

		"KAFKA_AUTHORIZER_CLASS_NAME":                       "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"KAFKA_SUPER_USERS":                                 "User:admin;User:ANONYMOUS",
		"KAFKA_SASL_ENABLED_MECHANISMS":                     "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN",
		"KAFKA_SSL_KEYSTORE_TYPE":                           "PEM",
		"KAFKA_SSL_KEYSTORE_LOCATION":                       keystore,
		"KAFKA_SSL_TRUSTSTORE_TYPE":                         "PEM",
		"KAFKA_SSL_TRUSTSTORE_LOCATION":                     truststore,
		"KAFKA_SSL_PRINCIPAL_MAPPING_RULES":                 "RULE:^CN=([^,]*).*$/$1/,DEFAULT",
		"KAFKA_LISTENER_NAME_MUTUAL_SSL_CLIENT_AUTH":        "required",
		"KAFKA_LISTENER_NAME_LOGIN_SASL_ENABLED_MECHANISMS": "SCRAM-SHA-512",
		"KAFKA_LISTENER_NAME_SECURE_PLAIN_SASL_JAAS_CONFIG": fmt.Sprintf(
			"org.apache.kafka.common.security.plain.PlainLoginModule required user_admin=%q user_nobody=%[1]q;", password),
	}
	for _, l := range []string{login, secure} {
		for _, hash := range []string{"256", "512"} { // three underscores stand for a dash
			env["KAFKA_LISTENER_NAME_"+l+"_SCRAM___SHA___"+hash+"_SASL_JAAS_CONFIG"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		}
	}
	listen, protocols := []string{"BROKER://localhost:9194", "CONTROLLER://localhost:9193"}, []string{"BROKER:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	for i, l := range listeners {
		listen = append(listen, fmt.Sprintf("%s://:%d", l.name, 9092+i))
		protocols = append(protocols, l.name+":"+l.protocol)
	}
	env["KAFKA_LISTENERS"], env["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"] = strings.Join(listen, ","), strings.Join(protocols, ",")
	return env
}

// The addresses that the broker tells its clients are known only once its ports
// are mapped, which is after the start: so the start waits for a file with them.
const (
	waitForAddress = "while [ ! -f /tmp/start.sh ]; do sleep 0.05; done; exec bash /tmp/start.sh"
	startScript    = "#!/bin/bash\nexport KAFKA_ADVERTISED_LISTENERS=%s,BROKER://localhost:9194\nexec /etc/kafka/docker/run\n"
)

// startKafka starts a broker with the users admin, who may do everything, and
// nobody and the services', who may do nothing yet.
func startKafka(ctx context.Context, t *testing.T, image string) *broker {
	t.Helper()
	b := &broker{addrs: map[string]string{}, authority: newAuthority(t)}
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithEnv(brokerEnv()),
		testcontainers.WithEntrypoint("sh", "-c", waitForAddress),
		testcontainers.WithAdditionalLifecycleHooks(testcontainers.ContainerLifecycleHooks{PostStarts: []testcontainers.ContainerHook{
			func(ctx context.Context, c testcontainers.Container) error { return b.configure(ctx, t, c) },
		}}),
		testcontainers.WithWaitStrategyAndDeadline(2*time.Minute, wait.ForLog("Kafka Server started")),
	}
	for i := range listeners {
		options = append(options, testcontainers.WithExposedPorts(fmt.Sprintf("%d/tcp", 9092+i)))
	}
	c, err := testcontainers.Run(ctx, image, options...)
	if c != nil {
		endAtTheEnd(t, c)
	}
	if err != nil {
		t.Fatalf("%s does not start: %v", image, err)
	}
	b.container = c
	b.addUsers(ctx, t, slices.Concat([]string{"admin", "nobody"}, slices.Collect(maps.Values(principals)))...)
	return b
}

// configure lets the broker start.
func (b *broker) configure(ctx context.Context, t *testing.T, c testcontainers.Container) error {
	var err error
	if b.host, err = c.Host(ctx); err != nil {
		return err
	}
	var advertised []string
	for i, l := range listeners {
		if b.addrs[l.name], err = c.PortEndpoint(ctx, fmt.Sprintf("%d/tcp", 9092+i), ""); err != nil {
			return fmt.Errorf("find the port of %s: %w", l.name, err)
		}
		advertised = append(advertised, l.name+"://"+b.addrs[l.name])
	}
	for file, content := range map[string][]byte{keystore: b.authority.issue(t, b.host), truststore: b.authority.pem} {
		if err := c.CopyToContainer(ctx, content, file, 0o644); err != nil {
			return err
		}
	}
	return c.CopyToContainer(ctx, fmt.Appendf(nil, startScript, strings.Join(advertised, ",")), "/tmp/start.sh", 0o755)
}

// admin is a client that may do everything.
func (b *broker) admin(t *testing.T) *kafka.Client {
	transport := &kafka.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(b.addrs[open]), Timeout: 20 * time.Second, Transport: transport}
}

// addUsers makes the users that SCRAM logs in; brokers keep them in their metadata.
func (b *broker) addUsers(ctx context.Context, t *testing.T, names ...string) {
	t.Helper()
	for _, m := range []kafka.ScramMechanism{kafka.ScramMechanismSha256, kafka.ScramMechanismSha512} {
		req := &kafka.AlterUserScramCredentialsRequest{} // takes a user once
		for _, name := range names {
			req.Upsertions = append(req.Upsertions, scramUser(t, name, m))
		}
		res, err := b.admin(t).AlterUserScramCredentials(ctx, req)
		for i := 0; err == nil && i < len(res.Results); i++ {
			err = res.Results[i].Error
		}
		if err != nil {
			t.Fatalf("make users: %v", err)
		}
	}
}

// config is how to reach a listener.
func (b *broker) config(listener string) *config.Config {
	cfg := config.Default()
	cfg.Kafka.Brokers = []string{b.addrs[listener]}
	cfg.Kafka.Partitions, cfg.Kafka.ReplicationFactor, cfg.Kafka.MinInsyncReplicas = 2, 1, 1
	if listener == secure || listener == mutual {
		cfg.Kafka.TLS = config.TLS{Enabled: true, CAFile: b.authority.file}
	}
	return cfg
}

// as logs in over TLS.
func (b *broker) as(user string) *config.Config {
	cfg := b.config(secure)
	cfg.Kafka.SASL = config.SASL{Mechanism: "scram-sha-512", Username: user, Password: config.NewSecret(password)}
	return cfg
}

// clickHouse is a server, and a user who may do everything: what migrates needs
// that, and the tests make the users with fewer rights.
type clickHouse struct{ addr, user, password string }

func startClickHouse(ctx context.Context, t *testing.T) clickHouse {
	t.Helper()
	c, err := clickhouse.Run(ctx, clickhouseImage,
		clickhouse.WithUsername("migrator"),
		clickhouse.WithPassword(rand.Text()),
		testcontainers.WithEnv(map[string]string{"CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT": "1"}),
	)
	if c != nil {
		endAtTheEnd(t, c)
	}
	if err != nil {
		t.Fatalf("%s does not start: %v", clickhouseImage, err)
	}
	addr, err := c.ConnectionHost(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return clickHouse{addr, c.User, c.Password}
}

// secured puts TLS before the server: not every build of ClickHouse brings it.
func (s clickHouse) secured(t *testing.T, a authority) clickHouse {
	t.Helper()
	pem := a.issue(t, "127.0.0.1")
	cert, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	server := s.addr
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait() // the clients have gone: they are processes that have ended
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { join(c, server) })
		}
	})
	s.addr = l.Addr().String()
	return s
}

// join carries bytes between a connection and a server until one hangs up.
func join(near net.Conn, addr string) {
	defer near.Close()
	far, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
	wg.Wait()
}

// endAtTheEnd removes a container without waiting for it to end in order.
func endAtTheEnd(t *testing.T, c testcontainers.Container) {
	t.Cleanup(func() {
		if err := testcontainers.TerminateContainer(c, testcontainers.StopTimeout(0)); err != nil {
			t.Errorf("remove the container: %v", err)
		}
	})
}
