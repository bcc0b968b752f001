package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/kafka"
)

// Options are what a service takes from the process it runs in.
type Options struct {
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: those of a [Host] go to its registry, others nowhere
	// Registry is what a [Host] shows on /metrics, for those who have metrics of
	// their own to show; nil: it makes one.
	Registry *prometheus.Registry

	// Embedded says that Kafka and ClickHouse are the embedded ones: the broker
	// syncs its file with every request and wants them one at a time, and
	// ClickHouse has no replica that would survive a power cut.
	Embedded bool
	// KafkaDial replaces the network; the embedded broker listens in memory.
	KafkaDial func(ctx context.Context, network, address string) (net.Conn, error)
	// Admit says why no more events can be taken at the moment; nil: they always can.
	Admit func() error
	// Version is what the program was built as.
	Version string
	// Reload asks to read accounts_dir again, as on SIGHUP; nil: it is only watched.
	Reload <-chan os.Signal
	// Clock is for decisions about time; nil is time.Now.
	Clock func() time.Time
}

// forService returns the options as one service of several in a process sees them.
func (o Options) forService(name string) Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("service", name)
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	o.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"service": name}, o.Registerer)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

// Service is one of ingest, sink and reconcile.
type Service interface {
	// Name is "ingest", "sink" or "reconcile".
	Name() string
	// Run works until ctx ends; that is no error.
	Run(ctx context.Context) error
	// AddTo shows the service on an admin listener: its readiness checks and pages.
	AddTo(a *daemon.Admin)
	// Reload takes over the accounts of a configuration that was read anew.
	Reload(ctx context.Context, cfg *config.Config) error
	// Close releases what New acquired. It is called once, after Run.
	Close(ctx context.Context) error
}

// New makes the service of that name. Nothing runs before [Service.Run], but listeners are bound.
func New(name string, cfg *config.Config, o Options) (Service, error) {
	switch name {
	case nameIngest:
		return NewIngest(cfg, o)
	case nameSink:
		return NewSink(cfg, o)
	case nameReconcile:
		return NewReconcile(cfg, o)
	}
	return nil, fmt.Errorf("there is no service %q", name)
}

const (
	nameIngest    = "ingest"
	nameSink      = "sink"
	nameReconcile = "reconcile"
)

// Services lists the names of all services, in the order of the flow.
func Services() []string { return []string{nameIngest, nameSink, nameReconcile} }

// NewKafka makes a client from the configuration.
func NewKafka(cfg *config.Config, o Options) (*kafka.Client, error) {
	k := kafka.Config{Brokers: cfg.Kafka.Brokers, Dial: o.KafkaDial, Logger: o.Logger}
	if t := cfg.Kafka.TLS; t.Enabled {
		tlsConfig, err := kafka.TLSConfig(kafka.TLSFiles{CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile, ServerName: t.ServerName})
		if err != nil {
			return nil, err
		}
		k.TLS = tlsConfig
	}
	s := cfg.Kafka.SASL
	mechanism, err := kafka.SASLMechanism(s.Mechanism, s.Username, s.Password.Reveal())
	if err != nil {
		return nil, err
	}
	k.SASL = mechanism
	return kafka.NewClient(k)
}

// NewProducer makes a producer for a topic.
func NewProducer(client *kafka.Client, topic string, o Options) (*kafka.Producer, error) {
	return kafka.NewProducer(client, kafka.ProducerConfig{Topic: topic, SingleLane: o.Embedded}, o.Logger, o.Registerer)
}

// NewDeadProducer makes a producer for the dead-letter topic.
func NewDeadProducer(client *kafka.Client, topic string, o Options) (*kafka.Producer, error) {
	return kafka.NewProducer(client, kafka.ProducerConfig{Topic: topic, SingleLane: o.Embedded, MaxMessageBytes: deadLetterBytes}, o.Logger, o.Registerer)
}

// OpenClickHouse opens the database with the rights of the services.
func OpenClickHouse(cfg *config.Config, o Options) (*clickhouse.DB, error) {
	c := clickhouse.Config{
		Addr:       cfg.ClickHouse.Addr,
		Database:   cfg.ClickHouse.Database,
		Username:   cfg.ClickHouse.Username,
		Password:   cfg.ClickHouse.Password.Reveal(),
		TimeZone:   cfg.TimeZone,
		Embedded:   o.Embedded,
		Logger:     o.Logger,
		Registerer: o.Registerer,
		Clock:      o.Clock,
	}
	if !o.Embedded { // the local engine is one server
		c.Cluster = clickhouse.Cluster(cfg.ClickHouse.Cluster)
	}
	if t := cfg.ClickHouse.TLS; t.Enabled {
		tlsConfig, err := kafka.TLSConfig(kafka.TLSFiles{CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile, ServerName: t.ServerName})
		if err != nil {
			return nil, fmt.Errorf("clickhouse: %w", err)
		}
		c.TLS = tlsConfig
	}
	return clickhouse.Open(c)
}

// retryPause lies between two attempts to find what a service cannot start without.
const retryPause = 2 * time.Second

// keepTrying calls do until it succeeds or ctx ends. Each new error is logged
// once, and shown to state for the readiness check.
func keepTrying(ctx context.Context, log *slog.Logger, what string, state *health, do func(context.Context) error) error {
	for {
		err := do(ctx)
		if err == nil {
			state.set(nil)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = fmt.Errorf("%s: %w", what, err)
		if state.set(err) {
			log.Warn("waiting, and trying again until it works", "for", what, "error", err)
		}
		t := time.NewTimer(retryPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}
