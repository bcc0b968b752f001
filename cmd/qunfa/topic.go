package main

import (
	"fmt"

	"qunfa/internal/app"
)

// topicCmd is about the topic of events.
type topicCmd struct {
	Adopt topicAdoptCmd `cmd:"" help:"Go on with a topic that was deleted and created anew. The sink stops at such a topic and says so."`
}

// topicAdoptCmd needs the rights of whoever migrates.
type topicAdoptCmd struct {
	Force bool `help:"Adopt it even if nothing shows that it is another, since what could was trimmed away. Stop the sink before."`
}

// Run implements the command.
func (c *topicAdoptCmd) Run(g *globals) error {
	t, err := g.target()
	if err != nil {
		return err
	}
	if len(t.cfg.Kafka.Brokers) == 0 || len(t.cfg.ClickHouse.Addr) == 0 {
		return usagef("the configuration must name Kafka (kafka.brokers) and ClickHouse (clickhouse.addr)")
	}
	return app.AdoptTopic(g.ctx, t.cfg, t.opts, c.Force, func(line string) { fmt.Fprintln(g.Stdout, line) })
}
