package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Reconciler asks WeChat about the messages of the accounts that it owns. Make
// one with [New].
type Reconciler struct {
	cfg       Config
	events    Log
	store     Store
	publisher Publisher
	asker     Asker
	log       *slog.Logger
	metrics   *metrics
	ready     atomic.Pointer[error]

	// The rest belongs to the goroutine of Run.

	accounts *accounts
	recent   *recent   // also used by the workers of a round
	since    time.Time // see Schedule.Next; zero before the first round
	broken   time.Time // since when no round could be done; zero: they can
}

// New returns a reconciler that does nothing before [Reconciler.Run]. Errors are
// those of the configuration and of registering the metrics.
func New(cfg Config, log Log, store Store, publisher Publisher, asker Asker) (*Reconciler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration of reconcile: %w", err)
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registerer, cfg.MetricAccounts)
	if err != nil {
		return nil, fmt.Errorf("metrics of reconcile: %w", err)
	}
	r := &Reconciler{
		cfg: cfg, events: log, store: store, publisher: publisher, asker: asker,
		log: cfg.Logger, metrics: m, recent: newRecent(10 * cfg.MaxAbandons),
	}
	r.accounts = &accounts{cfg: &r.cfg, all: map[string]*account{}}
	r.setReady(errors.New("waiting for partitions from the consumer group"))
	return r, nil
}

// Run works on the partitions of one generation until ctx ends, which it must do
// when they are lost. No failure ends it: rounds are tried again. It returns
// nil, promptly and with all it started finished. One Run at a time.
func (r *Reconciler) Run(ctx context.Context, gen Generation) error {
	defer r.released()
	owned := gen.Owned()
	r.adopt(owned)
	if len(owned) == 0 {
		r.setReady(nil) // other replicas have all there is
		<-ctx.Done()
		return nil
	}
	r.log.Info("reconciling", "partitions", len(owned))
	for {
		start := r.cfg.Clock()
		o := r.round(ctx, owned)
		now := r.cfg.Clock()
		if ctx.Err() != nil {
			r.metrics.rounds.WithLabelValues(roundLost).Inc()
			return nil
		}
		r.conclude(o, now)
		if sleep(ctx, r.pause(start, now, o)) != nil {
			return nil
		}
	}
}

// Ready returns nil if the last round did its work, or why it did not.
func (r *Reconciler) Ready() error { return *r.ready.Load() }

func (r *Reconciler) setReady(err error) { r.ready.Store(&err) }

// adopt forgets the accounts of partitions that another replica has now. Those
// that stay keep their limits, or every rebalance would allow a burst.
func (r *Reconciler) adopt(owned map[int32]int64) {
	gone := r.accounts.drop(func(a *account) bool {
		_, ok := owned[r.events.PartitionOf(a.appid)]
		return !ok
	})
	r.metrics.show(r.accounts, gone, r.cfg.Clock())
}

func (r *Reconciler) released() {
	r.interrupted(r.cfg.Clock())
	r.metrics.released()
	r.setReady(errors.New("waiting for partitions from the consumer group"))
}

// now is the time of an event, as precise as the log keeps it.
func (r *Reconciler) now() time.Time { return r.cfg.Clock().UTC().Truncate(time.Millisecond) }
