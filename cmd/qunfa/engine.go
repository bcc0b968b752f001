package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"qunfa/internal/embedded"
)

// engineCmd is about the local ClickHouse engine.
type engineCmd struct {
	Install engineInstallCmd `cmd:"" help:"Install the local ClickHouse engine, if no clickhouse of version 25 or newer is on PATH."`
}

type engineInstallCmd struct{}

// Run implements the command.
func (c *engineInstallCmd) Run(g *globals) error { return installEngine(g.ctx, g.Stdout) }

// installEngine installs the engine and shows how far it is.
func installEngine(ctx context.Context, out io.Writer) error {
	live := isTerminal(out)
	var last time.Time
	var stage embedded.InstallStage
	shown := false
	program, err := embedded.Prepare(ctx, func(p embedded.InstallProgress) {
		if p.Stage == stage && time.Since(last) < every(live) {
			return
		}
		stage, last, shown = p.Stage, time.Now(), true
		line := string(p.Stage) + " the local ClickHouse engine (npm package, once)"
		if p.Total > 0 {
			line += fmt.Sprintf(": %d of %d MB on disk", p.Done>>20, p.Total>>20)
		}
		if live {
			fmt.Fprintf(out, "\r\x1b[K%s", line)
			return
		}
		fmt.Fprintln(out, line)
	})
	if live && shown {
		fmt.Fprintln(out)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "ClickHouse engine: %s\n", program)
	return nil
}

func every(live bool) time.Duration {
	if live {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}
