package main

import (
	"fmt"
	"time"

	"qunfa/internal/clickhouse"
)

// expireCmd deletes what is older than the configuration keeps.
type expireCmd struct {
	DryRun bool          `help:"Count what would be deleted, and delete nothing."`
	Every  time.Duration `help:"Stay, and do it again after so long, such as 24h." placeholder:"DURATION"`

	ownerFlags
}

// Run implements the command.
func (c *expireCmd) Run(g *globals) error {
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t)
}

func (c *expireCmd) run(g *globals, t *target) error {
	as := c.as(t)
	keep := as.cfg.ClickHouse
	if keep.Retention == 0 && keep.RawRetention == 0 {
		return usagef("the configuration keeps everything: give clickhouse.retention or clickhouse.raw_retention")
	}
	db, err := as.database()
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		err := explainOwner(as.cfg, c.once(g, db, keep.Retention, keep.RawRetention, time.Now()))
		if c.Every <= 0 || c.DryRun {
			return err
		}
		if err != nil { // tomorrow it may work
			fmt.Fprintf(g.Stderr, "qunfa: %v\n", err)
		}
		timer := time.NewTimer(c.Every)
		select {
		case <-g.ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (c *expireCmd) once(g *globals, db *clickhouse.DB, retention, rawRetention time.Duration, now time.Time) error {
	x := clickhouse.Expiry{Who: whoami("expire")}
	if retention > 0 {
		x.Before = now.Add(-retention)
	}
	if rawRetention > 0 {
		x.RawBefore = now.Add(-rawRetention)
	}
	n, err := db.CountExpiry(g.ctx, x)
	if err != nil {
		return err
	}
	if retention > 0 {
		fmt.Fprintf(g.Stdout, "%d messages with %d events ended before %s\n", n.Messages, n.Events, x.Before.UTC().Format(time.RFC3339))
	}
	if rawRetention > 0 {
		fmt.Fprintf(g.Stdout, "%d callbacks with an openid came before %s\n", n.Raw, x.RawBefore.UTC().Format(time.RFC3339))
	}
	if c.DryRun {
		fmt.Fprintln(g.Stdout, "a dry run: nothing was deleted")
		return nil
	}
	if err := db.Expire(g.ctx, x, func(step string) { fmt.Fprintln(g.Stderr, step) }); err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, "they have expired")
	return nil
}
