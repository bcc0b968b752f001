package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/events"
	"qunfa/internal/ingest"
	"qunfa/internal/kafka"
	"qunfa/internal/spool"
)

// spoolReserve is what is added to the time that Kafka has, for the spool.
const spoolReserve = 800 * time.Millisecond

// kafkaLog lets a spool write to Kafka. Whether it is worth trying is the spool's to decide.
type kafkaLog struct{ publisher }

func (l kafkaLog) Publish(ctx context.Context, r events.Record) error {
	if err := admitted(l.admit); err != nil {
		return err
	}
	return l.send(ctx, r)
}

// isRefused tells that Kafka will never take a record.
func isRefused(err error) bool {
	return errors.Is(err, kafka.ErrTooLarge) || errors.Is(err, kafka.ErrRejected)
}

func (l kafkaLog) Down() bool { return l.producer.Down() }

// spooled lets ingest write to Kafka through a spool.
type spooled struct {
	*spool.Spool
	admit func() error // may be nil
}

// Publish asks for admission first: what the log has no room for must not fill
// the spool either.
func (s spooled) Publish(ctx context.Context, r events.Record) error {
	if err := admitted(s.admit); err != nil {
		return err
	}
	err := s.Spool.Publish(ctx, r)
	if errors.Is(err, spool.ErrFull) {
		return fmt.Errorf("%w: %w", ingest.ErrOverloaded, err)
	}
	return err
}

// openSpools opens a spool before each of the two topics that ingest writes to,
// unless the configuration wants none.
func (s *Ingest) openSpools(cfg *config.Config, o Options) error {
	if cfg.Ingest.SpoolDir == "" {
		return nil
	}
	for _, to := range []struct {
		name     string
		topic    string
		producer *kafka.Producer
	}{
		{"events", cfg.Kafka.Topic, s.events},
		{"dead", cfg.Kafka.DeadTopic, s.dead},
	} {
		sp, err := spool.Open(spool.Config{
			Dir:        filepath.Join(cfg.Ingest.SpoolDir, to.name),
			MaxBytes:   int64(cfg.Ingest.SpoolMaxBytes),
			Deadline:   cfg.Ingest.KafkaTimeout,
			Reserve:    spoolReserve,
			Permanent:  isRefused,
			Logger:     o.Logger.With("topic", to.topic),
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"topic": to.topic}, o.Registerer),
			Clock:      o.Clock,
		}, kafkaLog{publisher{to.producer, o.Admit}})
		if err != nil {
			return fmt.Errorf("ingest.spool_dir: %w", err)
		}
		s.own(func(context.Context) error { return sp.Close() })
		s.spools = append(s.spools, sp)
	}
	return nil
}

// publishers are the ways to the two topics.
func (s *Ingest) publishers() (events, dead ingest.Publisher) {
	if len(s.spools) == 0 {
		return publisher{s.events, s.admit}, publisher{s.dead, s.admit}
	}
	return spooled{s.spools[0], s.admit}, spooled{s.spools[1], s.admit}
}

// kafkaPatience leaves a readiness check the time to say that the spool is there.
const kafkaPatience = 1500 * time.Millisecond

// checkSpools weighs what is wrong with Kafka: while the spools have room,
// callbacks are safe.
func (s *Ingest) checkSpools(kafkaErr error) error {
	var waiting string
	for _, sp := range s.spools {
		err := sp.Ready()
		var degraded *spool.Degraded
		switch {
		case err == nil:
		case errors.As(err, &degraded):
			waiting = cmp.Or(waiting, degraded.Reason)
		case kafkaErr != nil:
			return fmt.Errorf("%w; %w", err, kafkaErr)
		default:
			waiting = cmp.Or(waiting, err.Error())
		}
	}
	switch {
	case kafkaErr != nil:
		return daemon.Degradedf("%s: %v", cmp.Or(waiting, "callbacks go to the spool"), kafkaErr)
	case waiting != "":
		return daemon.Degradedf("%s", waiting)
	}
	return nil
}
