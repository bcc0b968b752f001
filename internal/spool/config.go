package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/events"
)

// What callers tell apart with errors.Is.
var (
	// ErrFull says that there is no room, in the file or in the queue before
	// it. Nothing was written; try later.
	ErrFull = errors.New("spool: full")
	// ErrClosed says that the spool was closed.
	ErrClosed = errors.New("spool: closed")
	// ErrLocked says that another process uses the directory.
	ErrLocked = errors.New("spool: the directory is in use")
)

// Next is the log behind the spool.
type Next interface {
	// Publish returns nil when the log has acknowledged the record. It must
	// return soon after ctx has ended, and be safe for concurrent use.
	Publish(ctx context.Context, r events.Record) error
	// Down tells that the log is known to be unreachable, so that trying would
	// only use up the caller's time. It must turn false by itself.
	Down() bool
}

// Config configures a [Spool]. Dir is required.
type Config struct {
	// Dir is the spool's own directory. It is created, and no other process may use it.
	Dir string
	// MaxBytes bounds the records in the file, by their size in it. The file
	// itself is up to about half as large again, and there are two for a moment
	// at the start, if the disk has room for them. Default 256 MiB.
	MaxBytes int64
	// Deadline is how long the log has for a record, counted from the record's
	// time, which is that of its receipt. Default 2 s.
	Deadline time.Duration
	// Reserve is what is kept of the caller's own deadline for writing here.
	// Default 800 ms.
	Reserve time.Duration
	// Permanent tells errors of the log that no repetition will cure. Default: none.
	Permanent func(error) bool

	Logger     *slog.Logger          // nil: no logging
	Registerer prometheus.Registerer // nil: metrics are shown nowhere
	Clock      func() time.Time      // for the age of records; default time.Now

	// QueueRecords bounds the callers that wait for the disk. Default 4096.
	QueueRecords int
	// BatchRecords bounds the records of one transaction, and those that are
	// read and drained at a time. Default 512.
	BatchRecords int
	// Concurrency is how many keys are drained at once. Default 32.
	Concurrency int
	// AttemptTimeout bounds one attempt of the drain to hand a record over. Default 5 s.
	AttemptTimeout time.Duration
	// RetryMax bounds the pause between attempts of the drain. Default 1 s.
	RetryMax time.Duration
	// RemindEvery is how often a log line says that the spool still fills. Default 1 min.
	RemindEvery time.Duration
	// LockTimeout is how long to wait for another process that is about to end. Default 1 s.
	LockTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("spool: no directory")
	}
	if c.MaxBytes < 0 {
		return c, fmt.Errorf("spool: %d bytes: want more than 0", c.MaxBytes)
	}
	setDefault(&c.MaxBytes, 256<<20)
	setDefault(&c.Deadline, 2*time.Second)
	setDefault(&c.Reserve, 800*time.Millisecond)
	setDefault(&c.QueueRecords, 4096)
	setDefault(&c.BatchRecords, 512)
	setDefault(&c.Concurrency, 32)
	setDefault(&c.AttemptTimeout, 5*time.Second)
	setDefault(&c.RetryMax, time.Second)
	setDefault(&c.RemindEvery, time.Minute)
	setDefault(&c.LockTimeout, time.Second)
	setDefault(&c.Logger, slog.New(slog.DiscardHandler))
	if c.Permanent == nil {
		c.Permanent = func(error) bool { return false }
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c, nil
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
