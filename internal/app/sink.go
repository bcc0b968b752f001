package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/kafka"
	"qunfa/internal/sink"
)

// Sink is the service that writes ClickHouse and shows the delivery metrics.
type Sink struct {
	resources
	cfg     *config.Config
	log     *slog.Logger
	metrics *sink.Metrics
	clock   func() time.Time

	client   *kafka.Client
	dead     *kafka.Producer
	group    *kafka.Group
	db       *clickhouse.DB
	progress *progress
	delivery *delivery
	state    health
	sink     atomic.Pointer[sink.Sink] // nil until the database is there
	accounts atomic.Pointer[[]clickhouse.Account]
}

// NewSink connects to nothing yet: Kafka and ClickHouse may come later.
func NewSink(cfg *config.Config, o Options) (_ *Sink, err error) {
	o = o.forService(nameSink)
	s := &Sink{cfg: cfg, log: o.Logger, metrics: sink.NewMetrics(o.Registerer), clock: o.Clock}
	s.keepAccounts(cfg)
	s.state.set(errors.New("starting"))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.Background()))
		}
	}()
	if s.client, err = s.newKafka(cfg, o); err != nil {
		return nil, err
	}
	if s.dead, err = s.newDeadProducer(s.client, cfg.Kafka.DeadTopic, o); err != nil {
		return nil, err
	}
	if s.group, err = newGroup(s.client, cfg.Sink.Group, cfg.Kafka.Topic, o.Logger, o.Registerer); err != nil {
		return nil, err
	}
	if s.db, err = s.openClickHouse(cfg, o); err != nil {
		return nil, err
	}
	s.progress = &progress{client: s.client, db: s.db, clock: o.Clock, topic: cfg.Kafka.Topic, sinkGroup: cfg.Sink.Group}
	s.delivery = newDelivery(s.db, s.behind, appids(cfg, cfg.Metrics.Accounts), o.Clock, o.Logger)
	return s, nil
}

func (s *Sink) keepAccounts(cfg *config.Config) {
	accounts := storedAccounts(cfg)
	s.accounts.Store(&accounts)
}

// Name implements [Service].
func (s *Sink) Name() string { return nameSink }

// Run implements [Service].
func (s *Sink) Run(ctx context.Context) error {
	loc, err := awaitDatabase(ctx, s.db, s.log, &s.state)
	if err != nil {
		return nil // ctx ended
	}
	err = keepTrying(ctx, s.log, "store the names of the accounts", &s.state, func(ctx context.Context) error {
		return s.db.UpsertAccounts(ctx, *s.accounts.Load())
	})
	if err != nil {
		return nil
	}
	worker, err := sink.New(sink.Config{
		Topic:      s.cfg.Kafka.Topic,
		Location:   loc,
		MaxRecords: s.cfg.Sink.MaxEvents,
		MaxBytes:   int(s.cfg.Sink.MaxBytes),
		Interval:   s.cfg.Sink.Interval,
		Classify:   classify,
		LeaveOut:   s.db.LeaveOut,
		Logger:     s.log,
		Metrics:    s.metrics,
	}, &store{DB: s.db, client: s.client}, deadLetters{s.dead})
	if err != nil {
		return err
	}
	s.sink.Store(worker)
	return s.group.Run(ctx, func(ctx context.Context, g *kafka.Generation) error {
		err := worker.Run(ctx, session{g})
		if errors.Is(err, kafka.ErrLogLost) {
			// The next session begins by comparing the topic with what is stored, and knows what to do.
			s.log.Warn("the log ends before what was to be read next", "error", err)
			return nil
		}
		return err
	})
}

// awaitDatabase waits until the schema is the one that this version works with.
func awaitDatabase(ctx context.Context, db *clickhouse.DB, log *slog.Logger, state *health) (*time.Location, error) {
	var loc *time.Location
	err := keepTrying(ctx, log, "ClickHouse", state, func(ctx context.Context) (err error) {
		if err := db.CheckSchema(ctx); err != nil {
			return err
		}
		loc, err = db.Location(ctx)
		return err
	})
	return loc, err
}

// behind says why the delivery figures are not the whole truth now, or nil.
func (s *Sink) behind(ctx context.Context) error {
	worker := s.sink.Load()
	if worker == nil {
		return errors.New("the sink has not started yet")
	}
	if worker.CatchingUp() {
		return errors.New("the projection is catching up with the log")
	}
	if err := s.db.FinishSwap(ctx); err != nil {
		return err
	}
	if err := clockAgrees(ctx, s.db); err != nil {
		return err
	}
	n, err := s.progress.Missing(ctx)
	if err != nil {
		return fmt.Errorf("how far the projection is behind is not known: %w", err)
	}
	if n > 0 {
		return fmt.Errorf("the projection is catching up with the log: %d records to go", n)
	}
	return nil
}

// maxClockSkew is how far our clock may be from ClickHouse's for figures of this
// month, and of these 30 days, to be shown.
const maxClockSkew = 5 * time.Minute

func clockAgrees(ctx context.Context, db *clickhouse.DB) error {
	skew, err := db.ClockSkew(ctx)
	if err != nil {
		return err
	}
	if skew.Abs() > maxClockSkew {
		return fmt.Errorf("the clock of this machine is %s off ClickHouse's, so which month it is is not known: set the clock that is wrong", skew.Abs().Round(time.Second))
	}
	return nil
}

// AddTo implements [Service].
func (s *Sink) AddTo(a *daemon.Admin) {
	a.Handle("/metrics/delivery", s.delivery)
	a.AddCheck("sink.clickhouse", databaseCheck(s.db, &s.state))
	a.AddCheck("sink.kafka", func(ctx context.Context) error {
		if err := s.group.Healthy(); err != nil {
			return s.client.Diagnose(ctx, err)
		}
		return nil
	})
	a.AddCheck("sink", func(context.Context) error {
		worker := s.sink.Load()
		if worker == nil {
			return errors.New("waiting for ClickHouse")
		}
		return worker.Ready()
	})
}

// Reload implements [Service].
func (s *Sink) Reload(ctx context.Context, cfg *config.Config) error {
	s.keepAccounts(cfg)
	s.delivery.setAccounts(appids(cfg, cfg.Metrics.Accounts))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return s.db.UpsertAccounts(ctx, *s.accounts.Load())
}
