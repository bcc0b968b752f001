package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"qunfa/internal/config"
	"qunfa/internal/daemon"
)

// Exit codes of the programs.
const (
	ExitOK     = 0
	ExitFailed = 1 // something went wrong while running
	ExitUsage  = 2 // the command line or the configuration is wrong
)

// serviceFlags are the command line of a program that is one service.
type serviceFlags struct {
	Config      string           `help:"Configuration file." default:"qunfa.yaml" env:"QUNFA_CONFIG" placeholder:"FILE"`
	CheckConfig bool             `help:"Check the configuration and exit."`
	PrintConfig bool             `help:"Print the whole configuration, defaults included and secrets hidden, and exit."`
	Version     kong.VersionFlag `help:"Print the version and exit."`
}

// Main is a program that is one service. It returns the exit code.
func Main(name, summary, version string, args []string, stdout, stderr io.Writer) int {
	var flags serviceFlags
	done := false
	parser, err := kong.New(&flags, kong.Name(name), kong.Description(summary), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { done = true }), kong.Vars{"version": daemon.ReadBuild(version).String()})
	if err != nil {
		panic(err) // the struct above is wrong
	}
	_, err = parser.Parse(args)
	switch {
	case done:
		return ExitOK
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitUsage
	}
	cfg, err := LoadConfig(flags.Config, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return ExitUsage
	}
	switch {
	case flags.PrintConfig:
		if err := cfg.Print(stdout); err != nil {
			fmt.Fprintln(stderr, err)
			return ExitFailed
		}
		return ExitOK
	case flags.CheckConfig:
		fmt.Fprintf(stdout, "%s is valid: %d accounts\n", flags.Config, len(cfg.Accounts))
		return ExitOK
	}
	if err := cfg.ValidateFor(config.Service(name)); err != nil {
		fmt.Fprintln(stderr, err)
		return ExitUsage
	}
	ctx, stop := daemon.Signals(context.Background(), stderr)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return runService(ctx, name, cfg, Options{Version: version, Reload: reload}, stderr)
}

// LoadConfig reads a configuration and shows its warnings.
func LoadConfig(path string, stderr io.Writer) (*config.Config, error) {
	cfg, warnings, err := config.Load(path)
	for _, w := range warnings {
		fmt.Fprintf(stderr, "warning: %s\n", w)
	}
	return cfg, err
}

func runService(ctx context.Context, name string, cfg *config.Config, o Options, stderr io.Writer) int {
	logger, err := daemon.NewLogger(stderr, cfg.Log.Format, cfg.Log.Level)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return ExitUsage
	}
	o.Logger = logger
	h, err := NewHost(cfg, o, name)
	if err != nil {
		logger.Error("cannot start", "error", err)
		return ExitFailed
	}
	if err := h.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		logger.Error("stopped", "error", err)
		return ExitFailed
	}
	return ExitOK
}
