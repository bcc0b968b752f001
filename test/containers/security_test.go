//go:build containers

package containers

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
	"qunfa/test/internal/proc"
)

// testLogins logs in to Apache Kafka in each way that the configuration offers.
func testLogins(t *testing.T, b *broker) {
	withLogin := func(listener, mechanism string) *config.Config {
		cfg := b.config(listener)
		cfg.Kafka.SASL = config.SASL{Mechanism: mechanism, Username: "admin", Password: config.NewSecret(password)}
		return cfg
	}
	ways := map[string]*config.Config{
		"plain":                      b.config(open),
		"TLS, PLAIN":                 withLogin(secure, "plain"),
		"TLS, SCRAM-SHA-256":         withLogin(secure, "scram-sha-256"),
		"TLS, SCRAM-SHA-512":         withLogin(secure, "scram-sha-512"),
		"SCRAM-SHA-512":              withLogin(login, "scram-sha-512"),
		"TLS, certificate of client": b.withCertificate(t, b.authority, "admin"),
	}
	for name, cfg := range ways {
		t.Run(name, func(t *testing.T) {
			cfg.Kafka.Topic = "login-" + strings.NewReplacer(" ", "", ",", "-").Replace(name)
			cfg.Kafka.DeadTopic = cfg.Kafka.Topic + ".dead"
			roundTrip(t, cfg)
		})
	}
}

// withCertificate presents a certificate for a name, signed by an authority.
func (b *broker) withCertificate(t *testing.T, a authority, name string) *config.Config {
	t.Helper()
	file := writeFile(t, "client.pem", a.issue(t, name))
	cfg := b.config(mutual)
	cfg.Kafka.TLS.CertFile, cfg.Kafka.TLS.KeyFile = file, file
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

// refusal is a configuration that is wrong, and what the user must be told.
type refusal struct {
	name   string
	cfg    *config.Config
	advice string
	change func(*config.Config)
}

// refusals are all the reasons for which a broker is not reached or does not let
// us in.
func (b *broker) refusals(t *testing.T) []refusal {
	nobodyListens, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := nobodyListens.Addr().String()
	nobodyListens.Close()
	sasl := func(mechanism, user, password string) func(*config.Config) {
		return func(c *config.Config) {
			c.Kafka.SASL = config.SASL{Mechanism: mechanism, Username: user, Password: config.NewSecret(password)}
		}
	}
	at := func(addr string) func(*config.Config) {
		return func(c *config.Config) { c.Kafka.Brokers = []string{addr} }
	}
	const credentials = "refuses the user name or password: check kafka.sasl"
	return []refusal{
		{"PLAIN, wrong password", b.config(secure), credentials, sasl("plain", "admin", "wrong "+password)},
		{"PLAIN, unknown user", b.config(secure), credentials, sasl("plain", "stranger", password)},
		{"SCRAM, wrong password", b.config(secure), credentials, sasl("scram-sha-512", "admin", "wrong "+password)},
		{"SCRAM, unknown user", b.config(secure), credentials, sasl("scram-sha-256", "stranger", password)},
		{"mechanism not enabled", b.config(login), "does not offer this SASL mechanism: check kafka.sasl.mechanism", sasl("plain", "admin", password)},
		{"no login where one is wanted", b.config(login), "does its port need TLS or SASL?", nil},
		{"no login where one is wanted, over TLS", b.config(secure), "does its port speak TLS, and does it need SASL?", nil},
		{"a login where none is wanted", b.config(open), "does not use SASL: remove kafka.sasl", sasl("scram-sha-512", "admin", password)},
		{"wrong authority", b.config(secure), "signed by an unknown authority: set kafka.tls.ca_file", func(c *config.Config) { c.Kafka.TLS.CAFile = newAuthority(t).file }},
		{"wrong name", b.config(secure), "is for another name: use that name in kafka.brokers or set kafka.tls.server_name",
			func(c *config.Config) { c.Kafka.TLS.ServerName = "elsewhere.example" }},
		{"no TLS where it is wanted", b.config(mutual), "speaks TLS: configure tls for kafka", func(c *config.Config) { c.Kafka.TLS = config.TLS{} }},
		{"no TLS where it and a login are wanted", b.config(secure), "speaks TLS: configure tls for kafka", func(c *config.Config) {
			c.Kafka.TLS = config.TLS{}
			sasl("scram-sha-512", "admin", password)(c)
		}},
		{"TLS where none is wanted", b.config(secure), "does its port speak TLS", at(b.addrs[open])},
		{"no certificate of the client", b.config(mutual), "refuses our certificate: check kafka.tls.cert_file and key_file", nil},
		{"certificate of an unknown authority", b.withCertificate(t, newAuthority(t), "admin"), "refuses our certificate: check kafka.tls.cert_file and key_file", nil},
		{"nothing listens", b.config(open), "nothing listens at the broker's address: check host and port", at(gone)},
		{"unknown host", b.config(open), `host name "kafka.invalid" is not known here: check kafka.brokers`, at("kafka.invalid:9092")},
	}
}

// testRefusals looks at what a user sees in each case: what qunfa migrate says
// while it waits or when it gives up, the log of a service, and its /readyz.
func testRefusals(t *testing.T, b *broker) {
	for _, r := range b.refusals(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if r.change != nil {
				r.change(r.cfg)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r.checkMigrate(ctx, t)
			r.checkService(ctx, t)
		})
	}
}

func (r refusal) checkMigrate(ctx context.Context, t *testing.T) {
	t.Helper()
	waiting, enough := context.WithCancel(ctx)
	defer enough()
	said := ""
	err := app.Migrate(waiting, r.cfg, app.Options{}, func(line string) {
		said += line + "\n"
		if has(line, r.advice) {
			enough()
		}
	})
	if err == nil {
		t.Fatalf("migrate was let in that ought to hear: %s", r.advice)
	}
	r.check(t, "migrate", said+err.Error())
}

// check wants the advice, and no password.
func (r refusal) check(t *testing.T, who, said string) {
	t.Helper()
	if !has(said, r.advice) || strings.Contains(said, password) {
		t.Errorf("%s says %q, want %q and no password", who, said, r.advice)
	}
}

func (r refusal) checkService(ctx context.Context, t *testing.T) {
	t.Helper()
	log := &proc.Log{}
	s := startService(t, "ingest", r.cfg, log)
	waitFor(ctx, t, r.advice, func() string {
		_, ready := s.ready()
		return ready
	})
	waitFor(ctx, t, r.advice, log.String)
	r.check(t, "the log", log.String())
}

// running is a service in a host of its own.
type running struct{ host *app.Host }

// startService runs a service until the test ends.
func startService(t *testing.T, name string, cfg *config.Config, log *proc.Log) *running {
	t.Helper()
	c := *cfg
	c.Admin.Listen, c.Ingest.Listen, c.Ingest.Internal = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	h, err := app.NewHost(&c, app.Options{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: unquoted}))}, name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", name, err)
		}
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, log.String())
		}
	})
	return &running{h}
}

// unquoted keeps the quotation marks of a text from being escaped in the log.
func unquoted(_ []string, a slog.Attr) slog.Attr {
	a.Value = slog.StringValue(strings.ReplaceAll(a.Value.String(), `"`, `'`))
	return a
}

// ready is what /readyz says.
func (s *running) ready() (bool, string) {
	ok, results := s.host.Ready()
	var lines []string
	for _, r := range results {
		lines = append(lines, r.String())
	}
	return ok, strings.Join(lines, "\n")
}

// has tells whether a text says so. The log has other quotation marks.
func has(text, want string) bool {
	return strings.Contains(strings.ReplaceAll(text, `"`, `'`), strings.ReplaceAll(want, `"`, `'`))
}

// waitFor polls until a text is there.
func waitFor(ctx context.Context, t *testing.T, want string, said func() string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		have := said()
		if has(have, want) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("nothing says %q:\n%s", want, have)
		}
	}
}
