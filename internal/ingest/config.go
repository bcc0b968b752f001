package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
)

// Errors that a [Publisher] tells apart. Any other error means that the log
// cannot be reached, and is answered with 503 as well.
var (
	// ErrOverloaded means that the log is there but its queue is full; it is
	// returned at once.
	ErrOverloaded = errors.New("too much is waiting for the log")
	// ErrTooLarge means that no log of this configuration will ever take the
	// record. Repeating it does not help.
	ErrTooLarge = errors.New("record is larger than the log takes")
)

// Publisher writes an event's record to the log. It returns nil only when the
// record is durable: acknowledged by Kafka with acks=all, or fsynced in a
// spool that stands before it.
type Publisher interface {
	Publish(ctx context.Context, r events.Record) error
}

// DeadLetters keeps authentic pushes that cannot be understood, durable like a [Publisher].
type DeadLetters interface {
	Publish(ctx context.Context, r events.Record) error
}

// The log takes so many lines of one kind per period.
const (
	sampleEvery = 10 * time.Second
	sampleBurst = 5
)

// Config is what an operator can choose. Zero values stand for the defaults.
type Config struct {
	Listen   string // address of the public listener
	Internal string // address of the internal listener; empty for none
	Source   string // CloudEvents source of the events, default "qunfa/ingest"

	BodyLimit      int64         // bytes of a callback's body, default 1 MiB
	BodyTimeout    time.Duration // to read it, default 2 s
	PublishTimeout time.Duration // for the log, default 2 s: WeChat hangs up after 5 s
	MaxClockSkew   time.Duration // between WeChat's clock and ours, default 5 min
	MaxInFlight    int           // callbacks at work at once, default 512
	MaxConnections int           // to the public listener at once, idle ones too, default 8192
	// ShutdownTimeout is for requests at work, then for copies that wait for upstream, default 10 s.
	ShutdownTimeout time.Duration

	Upstream UpstreamConfig
	API      APIConfig
}

// UpstreamConfig bounds what is passed on to the applications behind us.
type UpstreamConfig struct {
	Timeout     time.Duration // from the receipt of the push, default 4 s
	MaxInFlight int           // pushes waiting for an answer at once, default 256
	MaxPerHost  int           // of these to one host, so that a dead one leaves room for others, default 64
	Queue       int           // copies of our own pushes waiting to be passed on, default 1024
	QueueBytes  int64         // their bodies together, default 32 MiB
	Workers     int           // passing them on at once, default 16
	Attempts    int           // per copy: nobody repeats what we have acknowledged, default 3
	RetryDelay  time.Duration // before the second attempt, doubled before each further one, default 1 s
	AnswerLimit int64         // bytes of an answer, default 1 MiB
}

// APIConfig is about the record API.
type APIConfig struct {
	// Tokens are the bearer tokens that are accepted; several during a rotation.
	Tokens []string
	// AllowUnknown takes submissions of accounts that are not configured.
	AllowUnknown bool
	// Location is the time zone of a submitted_at that has none; nil refuses it.
	Location *time.Location

	MaxItems    int           // per call, default 1000
	BodyLimit   int64         // bytes per call, default 4 MiB
	BodyTimeout time.Duration // to read it, default 20 s
	Timeout     time.Duration // for the log to take a whole call, default 10 s
	MaxInFlight int           // calls at work at once, default 16
	Concurrency int           // records of one call on their way to the log at once, default 64
}

// Deps are the parts that ingest works with. All but HTTP and Clock are needed.
type Deps struct {
	Directory   *Directory
	Publisher   Publisher
	DeadLetters DeadLetters
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	HTTP        http.RoundTripper // to upstream; nil makes one of its own
	Clock       func() time.Time  // default time.Now
}

func (c Config) withDefaults() Config {
	setDefault(&c.Source, "qunfa/ingest")
	setDefault(&c.BodyLimit, 1<<20)
	setDefault(&c.BodyTimeout, 2*time.Second)
	setDefault(&c.PublishTimeout, 2*time.Second)
	setDefault(&c.MaxClockSkew, 5*time.Minute)
	setDefault(&c.MaxInFlight, 512)
	setDefault(&c.MaxConnections, 8192)
	setDefault(&c.ShutdownTimeout, 10*time.Second)
	c.Upstream = c.Upstream.withDefaults()
	c.API = c.API.withDefaults()
	return c
}

func (c UpstreamConfig) withDefaults() UpstreamConfig {
	setDefault(&c.Timeout, 4*time.Second)
	setDefault(&c.MaxInFlight, 256)
	setDefault(&c.MaxPerHost, 64)
	setDefault(&c.Queue, 1024)
	setDefault(&c.QueueBytes, 32<<20)
	setDefault(&c.Workers, 16)
	setDefault(&c.Attempts, 3)
	setDefault(&c.RetryDelay, time.Second)
	setDefault(&c.AnswerLimit, 1<<20)
	return c
}

func (c APIConfig) withDefaults() APIConfig {
	setDefault(&c.MaxItems, 1000)
	setDefault(&c.BodyLimit, 4<<20)
	setDefault(&c.BodyTimeout, 20*time.Second)
	setDefault(&c.Timeout, 10*time.Second)
	setDefault(&c.MaxInFlight, 16)
	setDefault(&c.Concurrency, 64)
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

func (d Deps) validate() error {
	var errs []error
	need := func(have bool, what string) {
		if !have {
			errs = append(errs, errors.New("ingest needs a "+what))
		}
	}
	need(d.Directory != nil, "directory of accounts")
	need(d.Publisher != nil, "publisher")
	need(d.DeadLetters != nil, "place for dead letters")
	need(d.Logger != nil, "logger")
	need(d.Registerer != nil, "metrics registerer")
	return errors.Join(errs...)
}
