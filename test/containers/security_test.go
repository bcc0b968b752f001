//go:build containers

package containers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
)

const (
	saslUser     = "app"
	saslPassword = "correct horse"
)

// secureEnv asks for TLS and a login on the listener for clients.
func secureEnv() map[string]string {
	env := kafkaEnv()
	maps.Copy(env, map[string]string{
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "HOST:SASL_SSL,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"KAFKA_SASL_ENABLED_MECHANISMS":        "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN",
		"KAFKA_SSL_KEYSTORE_TYPE":              "PEM",
		"KAFKA_SSL_KEYSTORE_LOCATION":          keystore,
		// Three underscores stand for a dash.
		"KAFKA_LISTENER_NAME_HOST_SCRAM___SHA___256_SASL_JAAS_CONFIG": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"KAFKA_LISTENER_NAME_HOST_SCRAM___SHA___512_SASL_JAAS_CONFIG": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"KAFKA_LISTENER_NAME_HOST_PLAIN_SASL_JAAS_CONFIG": fmt.Sprintf(
			"org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=%q;", saslUser, saslPassword),
	})
	return env
}

const keystore = "/etc/kafka/secrets/server.pem"

// addScramUser makes the user that SCRAM logs in; brokers keep them in their metadata.
func addScramUser(ctx context.Context, c testcontainers.Container) error {
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		code, out, err := c.Exec(ctx, []string{"/opt/kafka/bin/kafka-configs.sh", "--bootstrap-server", "localhost:9094", "--alter",
			"--entity-type", "users", "--entity-name", saslUser, "--add-config", mechanism + "=[password=" + saslPassword + "]"}, exec.Multiplexed())
		if err != nil {
			return err
		}
		if said, _ := io.ReadAll(out); code != 0 {
			return fmt.Errorf("make the user for %s: %s", mechanism, said)
		}
	}
	return nil
}

// TestKafkaSecurity logs in to Apache Kafka in each way that the configuration
// offers, over TLS; and is told what is wrong when something is.
func TestKafkaSecurity(t *testing.T) {
	ctx := t.Context()
	authority := newAuthority(t)
	addr := runKafka(ctx, t, secureEnv(), func(ctx context.Context, c testcontainers.Container) error {
		host, err := c.Host(ctx)
		if err != nil {
			return err
		}
		return c.CopyToContainer(ctx, authority.issue(t, host), keystore, 0o644)
	}, addScramUser)

	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		t.Run(mechanism, func(t *testing.T) {
			cfg := secureConfig(addr, authority.file, mechanism, saslPassword)
			cfg.Kafka.Topic = "secure-" + mechanism
			cfg.Kafka.DeadTopic = cfg.Kafka.Topic + ".dead"
			roundTrip(t, cfg)
		})
	}
	wrong := secureConfig(addr, authority.file, "scram-sha-512", "wrong "+saslPassword)
	refused(t, wrong, "refuses the user name or password")
	noTLS := secureConfig(addr, "", "scram-sha-512", saslPassword)
	noTLS.Kafka.TLS = config.TLS{}
	refused(t, noTLS, "configure tls for kafka")
	stranger := secureConfig(addr, newAuthority(t).file, "scram-sha-512", saslPassword)
	refused(t, stranger, "unknown authority")
}

func secureConfig(addr, caFile, mechanism, password string) *config.Config {
	cfg := config.Default()
	cfg.Kafka.Brokers = []string{addr}
	cfg.Kafka.Partitions, cfg.Kafka.ReplicationFactor, cfg.Kafka.MinInsyncReplicas = 2, 1, 1
	cfg.Kafka.TLS = config.TLS{Enabled: true, CAFile: caFile}
	cfg.Kafka.SASL = config.SASL{Mechanism: mechanism, Username: saslUser, Password: config.NewSecret(password)}
	return cfg
}

// roundTrip makes the topics, writes a record and reads it as a group.
func roundTrip(t *testing.T, cfg *config.Config) {
	t.Helper()
	if err := app.Migrate(t.Context(), cfg, app.Options{}, nil); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	client, err := app.NewKafka(cfg, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Ready(t.Context(), cfg.Kafka.Topic); err != nil {
		t.Errorf("not ready: %v", err)
	}
	producer, err := app.NewProducer(client, cfg.Kafka.Topic, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := producer.Produce(ctx, events.Record{Key: []byte("key"), Value: []byte("value"), Time: time.Now()}); err != nil {
		t.Fatalf("produce: %v", err)
	}
	if err := producer.Close(ctx); err != nil {
		t.Error(err)
	}
	if got := readOne(ctx, t, client, cfg.Kafka.Topic); got != "value" {
		t.Errorf("read %q", got)
	}
}

func readOne(ctx context.Context, t *testing.T, client *kafka.Client, topic string) (value string) {
	t.Helper()
	group, err := kafka.NewGroup(client, kafka.GroupConfig{GroupID: topic + "-readers", Topic: topic}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = group.Run(ctx, func(ctx context.Context, g *kafka.Generation) error {
		if err := g.Begin(nil); err != nil {
			return err
		}
		messages, err := g.Poll(ctx, 10, 1<<20)
		if err != nil {
			return err
		}
		value = string(messages[0].Value)
		cancel()
		return nil
	})
	if err != nil {
		t.Fatalf("read as a group: %v", err)
	}
	return value
}

// refused checks that nothing works, that the error says what to do about it,
// and that it does not repeat the password.
func refused(t *testing.T, cfg *config.Config, advice string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client, err := app.NewKafka(cfg, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.Ready(ctx, "any")
	if err == nil {
		t.Fatalf("a client was let in that ought to hear: %s", advice)
	}
	if said := client.Diagnose(ctx, err).Error(); !strings.Contains(said, advice) || strings.Contains(said, saslPassword) {
		t.Errorf("the diagnosis is %q, want %q and no password", said, advice)
	}
}

// authority signs the certificate of the broker.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate, PEM
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, template := newCertificate(t, "test authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return authority{template, key, file}
}

// issue returns a key and a certificate for a host, as Kafka reads them from one file.
func (a authority) issue(t *testing.T, host string) []byte {
	t.Helper()
	key, template := newCertificate(t, host)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = []string{host}
	if ip := net.ParseIP(host); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Join([][]byte{
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}, nil)
}

func newCertificate(t *testing.T, name string) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}
