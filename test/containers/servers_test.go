//go:build containers

package containers

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/clickhouse"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	kafkaImage      = "apache/kafka:4.3.0"
	clickhouseImage = "clickhouse/clickhouse-server:26.7"
)

// kafkaEnv is a single broker that is its own controller. A variable replaces
// the whole configuration of the image, so everything has to be said.
func kafkaEnv() map[string]string {
	return map[string]string{
		"KAFKA_NODE_ID":                          "1",
		"KAFKA_PROCESS_ROLES":                    "broker,controller",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":         "1@localhost:9093",
		"KAFKA_CONTROLLER_LISTENER_NAMES":        "CONTROLLER",
		"KAFKA_LISTENERS":                        "HOST://:9092,BROKER://localhost:9094,CONTROLLER://localhost:9093",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":   "HOST:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"KAFKA_INTER_BROKER_LISTENER_NAME":       "BROKER",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":     "1",
		// The transaction log too, for those tests that write markers.
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0", // a group of a test is complete at once
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
	}
}

// The address that the broker tells its clients is known only once its port is
// mapped, which is after the start: so the start waits for a file with it.
const (
	waitForAddress = "while [ ! -f /tmp/start.sh ]; do sleep 0.05; done; exec bash /tmp/start.sh"
	startScript    = "#!/bin/bash\nexport KAFKA_ADVERTISED_LISTENERS=%s,BROKER://localhost:9094\nexec /etc/kafka/docker/run\n"
)

// startKafka returns the address of a broker that asks nobody who they are.
func startKafka(ctx context.Context, t *testing.T) string {
	t.Helper()
	return runKafka(ctx, t, kafkaEnv(), nil, nil)
}

// runKafka starts a broker and returns its address. prepare, if not nil, is
// called before the broker reads its configuration, and ready when it runs.
func runKafka(ctx context.Context, t *testing.T, env map[string]string, prepare, ready testcontainers.ContainerHook) string {
	t.Helper()
	hooks := testcontainers.ContainerLifecycleHooks{}
	if prepare != nil {
		hooks.PostStarts = append(hooks.PostStarts, prepare)
	}
	hooks.PostStarts = append(hooks.PostStarts, tellAddress)
	if ready != nil {
		hooks.PostReadies = append(hooks.PostReadies, ready)
	}
	c, err := testcontainers.Run(ctx, kafkaImage,
		testcontainers.WithEnv(env),
		testcontainers.WithExposedPorts("9092/tcp"),
		testcontainers.WithEntrypoint("sh", "-c", waitForAddress),
		testcontainers.WithAdditionalLifecycleHooks(hooks),
		testcontainers.WithWaitStrategyAndDeadline(2*time.Minute, wait.ForLog("Kafka Server started")),
	)
	if c != nil {
		endAtTheEnd(t, c)
	}
	if err != nil {
		t.Fatalf("%s does not start: %v", kafkaImage, err)
	}
	addr, err := c.PortEndpoint(ctx, "9092/tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// tellAddress lets the broker start.
func tellAddress(ctx context.Context, c testcontainers.Container) error {
	endpoint, err := c.PortEndpoint(ctx, "9092/tcp", "HOST")
	if err != nil {
		return fmt.Errorf("find the port of Kafka: %w", err)
	}
	return c.CopyToContainer(ctx, fmt.Appendf(nil, startScript, endpoint), "/tmp/start.sh", 0o755)
}

// startClickHouse returns a server, as a URL with a user who may do everything:
// what migrates needs that, and the tests make the users with fewer rights.
func startClickHouse(ctx context.Context, t *testing.T) string {
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
	return fmt.Sprintf("clickhouse://%s:%s@%s", c.User, c.Password, addr)
}

// endAtTheEnd removes a container without waiting for it to end in order.
func endAtTheEnd(t *testing.T, c testcontainers.Container) {
	t.Cleanup(func() {
		if err := testcontainers.TerminateContainer(c, testcontainers.StopTimeout(0)); err != nil {
			t.Errorf("remove the container: %v", err)
		}
	})
}
