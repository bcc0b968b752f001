package app

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/kafka"
	"qunfa/internal/reconcile"
	"qunfa/internal/wechat"
)

// Reconcile is the service that asks WeChat.
type Reconcile struct {
	resources
	cfg    *config.Config
	log    *slog.Logger
	client *kafka.Client
	events *kafka.Producer
	group  *kafka.Group
	db     *clickhouse.DB
	api    *wechat.Client
	asker  *asker
	prog   *progress
	state  health
	worker *reconcile.Reconciler

	started atomic.Bool // the database and the topic were found
}

// NewReconcile connects to nothing yet.
func NewReconcile(cfg *config.Config, o Options) (_ *Reconcile, err error) {
	o = o.forService(nameReconcile)
	s := &Reconcile{cfg: cfg, log: o.Logger}
	s.state.set(errors.New("starting"))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.Background()))
		}
	}()
	if s.client, err = s.newKafka(cfg, o); err != nil {
		return nil, err
	}
	if s.events, err = s.newProducer(s.client, cfg.Kafka.Topic, o); err != nil {
		return nil, err
	}
	if s.group, err = newGroup(s.client, cfg.Reconcile.Group, cfg.Kafka.Topic, o.Logger, o.Registerer); err != nil {
		return nil, err
	}
	if s.db, err = s.openClickHouse(cfg, o); err != nil {
		return nil, err
	}
	s.api, err = wechat.NewClient(wechat.Config{BaseURL: cfg.WeChat.BaseURL.Raw(), Logger: o.Logger, Clock: o.Clock, Registerer: o.Registerer})
	if err != nil {
		return nil, err
	}
	s.own(func(context.Context) error { s.api.Close(); return nil })
	if s.asker, err = newAsker(s.api, cfg); err != nil {
		return nil, err
	}
	s.prog = &progress{client: s.client, db: s.db, clock: o.Clock, topic: cfg.Kafka.Topic, sinkGroup: cfg.Sink.Group}
	s.worker, err = reconcile.New(reconcileConfig(cfg, o), s.prog, pendingStore{s.db}, publisher{producer: s.events}, s.asker)
	return s, err
}

func reconcileConfig(cfg *config.Config, o Options) reconcile.Config {
	r := cfg.Reconcile
	c := reconcile.DefaultConfig()
	c.Instance = r.Instance
	c.Schedule = reconcile.Schedule{
		First:    r.FirstPoll,
		Steps:    r.Schedule,
		Deadline: r.GiveUpAfter,
		Grace:    r.GiveUpAfter / 3,
		Retry:    c.Schedule.Retry,
	}
	if len(r.Schedule) > 0 {
		c.Schedule.Retry = min(c.Schedule.Retry, r.Schedule[0])
	}
	c.RoundInterval = min(c.RoundInterval, r.Interval)
	c.IdleInterval = r.Interval
	c.BarrierTimeout = r.BarrierTimeout
	c.PollsPerMinute = float64(r.RatePerMinute)
	c.MetricAccounts = cfg.Metrics.Accounts
	c.Logger, c.Registerer, c.Clock = o.Logger, o.Registerer, o.Clock
	return c
}

// Name implements [Service].
func (s *Reconcile) Name() string { return nameReconcile }

// Run implements [Service].
func (s *Reconcile) Run(ctx context.Context) error {
	if _, err := awaitDatabase(ctx, s.db, s.log, &s.state); err != nil {
		return nil // ctx ended
	}
	err := keepTrying(ctx, s.log, "the topic "+s.cfg.Kafka.Topic, &s.state, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		s.prog.partitions, err = s.client.Partitions(ctx, s.cfg.Kafka.Topic)
		return err
	})
	if err != nil {
		return nil
	}
	s.started.Store(true)
	return s.group.Run(ctx, func(ctx context.Context, g *kafka.Generation) error {
		return s.worker.Run(ctx, g)
	})
}

// AddTo implements [Service].
func (s *Reconcile) AddTo(a *daemon.Admin) {
	a.AddCheck("reconcile.clickhouse", databaseCheck(s.db, &s.state))
	a.AddCheck("reconcile.kafka", func(ctx context.Context) error {
		if err := s.group.Healthy(); err != nil {
			return s.client.Diagnose(ctx, err)
		}
		return nil
	})
	a.AddCheck("reconcile", func(context.Context) error {
		if !s.started.Load() {
			return errors.New("waiting for ClickHouse and Kafka")
		}
		return s.worker.Ready()
	})
}

// Reload implements [Service].
func (s *Reconcile) Reload(_ context.Context, cfg *config.Config) error { return s.asker.reload(cfg) }
