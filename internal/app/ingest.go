package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/ingest"
	"qunfa/internal/kafka"
	"qunfa/internal/spool"
)

// Ingest is the service that WeChat calls.
type Ingest struct {
	resources
	log       *slog.Logger
	topic     string
	client    *kafka.Client
	events    *kafka.Producer
	dead      *kafka.Producer
	directory *ingest.Directory
	spools    []*spool.Spool // of events and of dead letters; none if there is no directory for them
	server    *ingest.Server
	admit     func() error
}

// NewIngest binds the listeners of ingest. Kafka need not be there yet.
func NewIngest(cfg *config.Config, o Options) (_ *Ingest, err error) {
	o = o.forService(nameIngest)
	s := &Ingest{log: o.Logger, topic: cfg.Kafka.Topic, admit: o.Admit}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.Background()))
		}
	}()
	accounts, platforms, err := directoryOf(cfg)
	if err != nil {
		return nil, err
	}
	if s.directory, err = ingest.NewDirectory(accounts, platforms); err != nil {
		return nil, err
	}
	if s.client, err = s.newKafka(cfg, o); err != nil {
		return nil, err
	}
	if s.events, err = s.newProducer(s.client, cfg.Kafka.Topic, o); err != nil {
		return nil, err
	}
	if s.dead, err = s.newDeadProducer(s.client, cfg.Kafka.DeadTopic, o); err != nil {
		return nil, err
	}
	if err = s.openSpools(cfg, o); err != nil {
		return nil, err
	}
	log, letters := s.publishers()
	s.server, err = ingest.New(ingestConfig(cfg), ingest.Deps{
		Directory:   s.directory,
		Publisher:   log,
		DeadLetters: letters,
		Logger:      o.Logger,
		Registerer:  o.Registerer,
		Clock:       o.Clock,
	})
	if err != nil {
		return nil, listenError("ingest.listen or ingest.internal", err)
	}
	s.own(func(context.Context) error { return s.server.Close() })
	return s, nil
}

func ingestConfig(cfg *config.Config) ingest.Config {
	c := ingest.Config{
		Listen:         cfg.Ingest.Listen,
		BodyLimit:      int64(cfg.Ingest.BodyLimit),
		PublishTimeout: cfg.Ingest.KafkaTimeout,
		MaxClockSkew:   cfg.Ingest.TimestampWindow,
		MaxInFlight:    cfg.Ingest.MaxInFlight,
		Upstream:       ingest.UpstreamConfig{Timeout: cfg.Ingest.UpstreamTimeout, Queue: cfg.Ingest.UpstreamQueue},
	}
	if cfg.Ingest.SpoolDir != "" {
		c.PublishTimeout += spoolReserve
	}
	if token := cfg.Ingest.APIToken.Reveal(); token != "" {
		c.Internal = cfg.Ingest.Internal
		c.API = ingest.APIConfig{Tokens: []string{token}, AllowUnknown: cfg.Ingest.AllowUnknown, Location: cfg.Location()}
		if old := cfg.Ingest.OldAPIToken.Reveal(); old != "" {
			c.API.Tokens = append(c.API.Tokens, old)
		}
	}
	return c
}

// Name implements [Service].
func (s *Ingest) Name() string { return nameIngest }

// Addr is where WeChat calls.
func (s *Ingest) Addr() string { return s.server.Addr().String() }

// InternalAddr is where the record API is; empty if it is off, which it is without a token.
func (s *Ingest) InternalAddr() string {
	if a := s.server.InternalAddr(); a != nil {
		return a.String()
	}
	return ""
}

// Run implements [Service].
func (s *Ingest) Run(ctx context.Context) error {
	s.server.WarnPlain()
	if s.InternalAddr() == "" {
		s.log.Warn("the record API is off, since ingest.api_token is not set: sends can be recorded by `qunfa record` alone")
	}
	s.log.Info("listening", "callbacks", s.Addr(), "record_api", s.InternalAddr())
	return s.serve(ctx)
}

// serve drains the spools until the last request has been answered.
func (s *Ingest) serve(ctx context.Context) error {
	draining, stop := context.WithCancel(context.WithoutCancel(ctx))
	var drains sync.WaitGroup
	errs := make([]error, len(s.spools))
	for i, sp := range s.spools {
		drains.Go(func() { errs[i] = sp.Run(draining) })
	}
	err := s.server.Run(ctx)
	stop()
	drains.Wait()
	return errors.Join(append(errs, err)...)
}

// AddTo implements [Service].
func (s *Ingest) AddTo(a *daemon.Admin) {
	a.AddCheck("ingest.kafka", func(ctx context.Context) error {
		if err := admitted(s.admit); err != nil {
			return err
		}
		if len(s.spools) == 0 {
			return s.checkKafka(ctx)
		}
		ctx, cancel := context.WithTimeout(ctx, kafkaPatience)
		defer cancel()
		return s.checkSpools(s.checkKafka(ctx))
	})
}

// checkKafka looks at the cluster also where it looked well after the last
// record was refused: that it still does is what keeps the service ready.
func (s *Ingest) checkKafka(ctx context.Context) error {
	health := s.events.Healthy()
	var unproven *kafka.Unproven
	if health == nil || errors.As(health, &unproven) {
		if err := s.client.Ready(ctx, s.topic); err != nil {
			return s.client.Diagnose(ctx, err)
		}
	}
	return s.client.Diagnose(ctx, health)
}

// Reload implements [Service].
func (s *Ingest) Reload(_ context.Context, cfg *config.Config) error {
	accounts, platforms, err := directoryOf(cfg)
	if err != nil {
		return err
	}
	if err := s.directory.Replace(accounts, platforms); err != nil {
		return err
	}
	s.server.WarnPlain()
	return nil
}
