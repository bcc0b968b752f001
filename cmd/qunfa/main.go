// Command qunfa is for whoever runs or asks qunfa: it starts everything on one
// machine, prepares databases, records sends, answers questions and looks at
// what went wrong. Each command is a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	"github.com/jedib0t/go-pretty/v6/text"

	"qunfa/internal/app"
	"qunfa/internal/daemon"
)

// version is set by the linker.
var version string

const summary = `qunfa tells what became of every WeChat mass message (群发): whom it reached, what was filtered, what failed, what was rejected and why.

Try it with "qunfa demo". Run it with "qunfa up". Most other commands ask what is running: the servers that the configuration names, else the "qunfa up" or "qunfa demo" of this directory.`

// globals are the flags of every command, and the process around it.
type globals struct {
	Config   string `help:"Configuration file." default:"qunfa.yaml" env:"QUNFA_CONFIG"`
	Data     string `help:"Ask the qunfa up or demo that runs in this directory, whatever the configuration says. Default: embedded.dir, then qunfa-demo." placeholder:"DIR" type:"path"`
	Format   string `help:"table, vertical (a line per value), json or csv. Default: table on a terminal; elsewhere csv for lists, json for the rest." enum:"auto,table,vertical,json,csv" default:"auto" placeholder:"FORMAT"`
	BOM      bool   `help:"Begin CSV with a byte order mark, without which Excel misreads Chinese." name:"bom"`
	LogLevel string `help:"What to log to standard error: debug, info, warn or error." enum:"debug,info,warn,error" default:"error" placeholder:"LEVEL"`

	ctx     context.Context
	Stdin   io.Reader `kong:"-"`
	Stdout  io.Writer `kong:"-"`
	Stderr  io.Writer `kong:"-"`
	Version string    `kong:"-"`
}

// cli is the command line.
type cli struct {
	globals

	Up          upCmd          `cmd:"" group:"run" help:"Run everything on this machine, for real accounts: needs no server and no container."`
	Demo        demoCmd        `cmd:"" group:"run" help:"Run everything against a simulated WeChat, and compare the figures with its ledger."`
	Migrate     migrateCmd     `cmd:"" group:"run" help:"Create or update topics and database on the servers that the configuration names."`
	Topic       topicCmd       `cmd:"" group:"run" help:"The topic of events."`
	Replay      replayCmd      `cmd:"" group:"run" help:"Compute all messages anew from their events, and swap them in while everything runs."`
	Expire      expireCmd      `cmd:"" group:"run" help:"Delete messages, and openids, that are older than the configuration keeps."`
	Erase       eraseCmd       `cmd:"" group:"run" help:"Delete an account's data, or the openids in it, for good."`
	CheckConfig checkConfigCmd `cmd:"" group:"run" help:"Check the configuration, and say what it is good for."`
	Engine      engineCmd      `cmd:"" group:"run" help:"The ClickHouse engine of up and demo."`

	Query    queryCmd    `cmd:"" group:"ask" help:"Ask in SQL. The views are messages, delivery_daily, audit_failures, missing_callbacks and others: SHOW TABLES."`
	Messages messagesCmd `cmd:"" group:"ask" help:"List the latest messages, or tell everything about one."`
	Status   statusCmd   `cmd:"" group:"ask" help:"Show how the pipeline is: services, log, database, and what cannot be seen."`
	Doctor   doctorCmd   `cmd:"" group:"ask" help:"Look for what is wrong, from WeChat to the database, and say what to do about it."`
	Dead     deadCmd     `cmd:"" group:"ask" help:"Records that could not be used."`

	Record   recordCmd   `cmd:"" group:"tell" help:"Tell qunfa what was sent, so that callbacks which never come are noticed."`
	Callback callbackCmd `cmd:"" group:"tell" help:"Make callbacks as WeChat does, for trying things out."`

	VersionCmd versionCmd `cmd:"" name:"version" group:"tell" help:"Print the version."`

	Healthcheck   healthcheckCmd   `cmd:"" hidden:"" help:"Ask a service whether it is ready; for container images."`
	DeploySecrets deploySecretsCmd `cmd:"" hidden:"" help:"Make the passwords of a deployment; for docker-compose.yml."`
	Simulate      simulateCmd      `cmd:"" hidden:"" help:"Play WeChat for services that run elsewhere; for the demo profile of docker-compose.yml."`
}

// usageError is a mistake in the command line, or in the configuration.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errSilent fails a command that has already said what is wrong.
var errSilent = errors.New("failed")

func main() {
	// Otherwise the frames of tables would count double in a Chinese locale.
	text.OverrideRuneWidthEastAsianWidth(false)
	ctx, stop := daemon.Signals(context.Background(), os.Stderr)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := cli{globals: globals{
		ctx: ctx, Stdin: stdin, Stdout: stdout, Stderr: stderr, Version: daemon.ReadBuild(version).String(),
	}}
	exited := false
	parser, err := newParser(&c, func(int) { exited = true })
	if err != nil {
		panic(err) // the struct above is wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	switch {
	case exited:
		return app.ExitOK
	case err != nil:
		fmt.Fprintf(stderr, "qunfa: %v\n(qunfa --help shows how it is used)\n", err)
		return app.ExitUsage
	}
	return exitCode(k.Run(&c.globals), stderr)
}

func newParser(c *cli, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("qunfa"),
		kong.Description(summary),
		kong.Writers(c.Stdout, c.Stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run"}, {Key: "ask", Title: "Ask"}, {Key: "tell", Title: "Tell, and the rest"},
		}),
	)
}

func exitCode(err error, stderr io.Writer) int {
	var usage *usageError
	switch {
	case err == nil:
		return app.ExitOK
	case errors.Is(err, errSilent):
		return app.ExitFailed
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintf(stderr, "qunfa: %v\n", err)
	if errors.As(err, &usage) {
		return app.ExitUsage
	}
	return app.ExitFailed
}
