package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"qunfa/internal/daemon"
	"qunfa/internal/demo"
)

// demoCmd runs everything against a simulated WeChat.
type demoCmd struct {
	Dir  string `help:"Directory of the demo; emptied at the start." default:"qunfa-demo" placeholder:"DIR"`
	Seed uint64 `help:"Decides everything that is drawn: the same seed plays the same." default:"1"`
	Exit bool   `help:"End after the tables instead of leaving the services running, as without a terminal."`
}

// errDiffers is what the demo ends with if the database and the ledger disagree.
var errDiffers = errors.New("the database does not agree with the ledger")

// Run implements the command.
func (c *demoCmd) Run(g *globals) (err error) {
	if err := demo.Prepare(c.Dir); err != nil {
		return err
	}
	log, closeLog, err := fileLogger(filepath.Join(c.Dir, "qunfa.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	terminal := isTerminal(g.Stdout)
	demo.Explain(g.Stdout, c.Seed, c.Dir)
	d, err := demo.Start(g.ctx, demo.Options{
		Dir: c.Dir, Seed: c.Seed, Out: g.Stdout, Live: terminal, Logger: log, Install: installer(g), Ports: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Play(g.ctx); err != nil {
		return err
	}
	if err := d.Report(g.ctx); err != nil {
		return err
	}
	same, err := d.Verdict(g.ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.Stdout, "It took %s. What the services logged is in %s/qunfa.log.\n", d.Elapsed(), c.Dir)
	if terminal && !c.Exit {
		d.WhereToLook(os.Args[0])
		if err := d.Wait(g.ctx); err != nil {
			return err
		}
	}
	if !same {
		return errDiffers
	}
	return nil
}

// fileLogger keeps the log of a foreground run out of the way of its output.
func fileLogger(path string) (*slog.Logger, func() error, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	log, err := daemon.NewLogger(f, "text", "info")
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return log, f.Close, nil
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// installer gets the local engine before it is needed, visibly.
func installer(g *globals) func(context.Context) error {
	return func(ctx context.Context) error { return installEngine(ctx, g.Stdout) }
}
