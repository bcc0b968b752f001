package sink

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
)

// Config configures a [Sink]. Zero values mean the defaults named here.
type Config struct {
	Topic    string
	Location *time.Location // whose days messages stand on: that of the database

	MaxRecords int           // records in a batch, default 10,000
	MaxBytes   int           // bytes of keys and values in a batch, default 16 MiB
	Interval   time.Duration // between the starts of two batches, default 1 s; a batch after a quiet time starts at once
	MaxBackoff time.Duration // between two attempts, default 10 s
	Grace      time.Duration // for the batch in hand when the sink has to stop, default 5 s

	// Classify says what to do about an error of the store, default: retry.
	Classify func(error) Class

	// LeaveOut returns what of these events is to be stored, perhaps with less in
	// them, and what becomes of the others, by their position. nil: all are stored.
	LeaveOut func(ctx context.Context, evs []events.Event) (kept []events.Event, out map[events.Position]string, err error)

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: not exported
	Metrics    *Metrics              // nil: made and registered by New
	Now        func() time.Time
}

// Class is what to do about an error.
type Class int

// The classes of errors. All but [ClassRow] are repeated until they succeed.
const (
	ClassRetry Class = iota // it may go by itself
	ClassPause              // somebody has to repair something
	ClassRow                // a row is to blame
)

func (c Config) withDefaults() (Config, error) {
	if c.Topic == "" {
		return c, errors.New("sink: no topic")
	}
	if c.Location == nil {
		return c, errors.New("sink: no time zone")
	}
	setDefault(&c.MaxRecords, 10_000)
	setDefault(&c.MaxBytes, 16<<20)
	setDefault(&c.Interval, time.Second)
	setDefault(&c.MaxBackoff, 10*time.Second)
	setDefault(&c.Grace, 5*time.Second)
	if c.Classify == nil {
		c.Classify = func(error) Class { return ClassRetry }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
