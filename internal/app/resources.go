package app

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/kafka"
)

// resources are what a service has acquired. They are released in the reverse order.
type resources struct{ undo []func(context.Context) error }

func (r *resources) own(undo func(context.Context) error) { r.undo = append(r.undo, undo) }

// Close implements [Service].
func (r *resources) Close(ctx context.Context) error {
	var errs []error
	for i := len(r.undo) - 1; i >= 0; i-- {
		errs = append(errs, r.undo[i](ctx))
	}
	r.undo = nil
	return errors.Join(errs...)
}

func (r *resources) newKafka(cfg *config.Config, o Options) (*kafka.Client, error) {
	c, err := NewKafka(cfg, o)
	if err == nil {
		r.own(func(context.Context) error { c.Close(); return nil })
	}
	return c, err
}

func (r *resources) newProducer(c *kafka.Client, topic string, o Options) (*kafka.Producer, error) {
	p, err := NewProducer(c, topic, o)
	if err == nil {
		r.own(p.Close)
	}
	return p, err
}

func (r *resources) newDeadProducer(c *kafka.Client, topic string, o Options) (*kafka.Producer, error) {
	p, err := NewDeadProducer(c, topic, o)
	if err == nil {
		r.own(p.Close)
	}
	return p, err
}

func (r *resources) openClickHouse(cfg *config.Config, o Options) (*clickhouse.DB, error) {
	db, err := OpenClickHouse(cfg, o)
	if err == nil {
		r.own(func(context.Context) error { return db.Close() })
	}
	return db, err
}

func newGroup(c *kafka.Client, id, topic string, log *slog.Logger, reg prometheus.Registerer) (*kafka.Group, error) {
	return kafka.NewGroup(c, kafka.GroupConfig{GroupID: id, Topic: topic}, log, reg)
}
