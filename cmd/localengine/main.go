//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"qunfa/internal/embedded/engineproto"
)

func main() {
	// Out of the parent's process group: a Ctrl-C in the terminal is for the
	// parent to deal with, in its order, and some statements of ClickHouse
	// signal the whole group, which must not be the parent's.
	_, _ = syscall.Setsid() // fails only for a group leader, which is as good

	ctx, stop := signal.NotifyContext(context.Background(),
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "localengine:", err)
	}
	os.Exit(int(exitCode(err))) // at once, past the library's static destructors
}

// exitError is an error that decides the exit code.
type exitError struct {
	code engineproto.ExitCode
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// because attaches an exit code to an error; nil stays nil.
func because(code engineproto.ExitCode, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

func exitCode(err error) engineproto.ExitCode {
	if err == nil {
		return engineproto.ExitStopped
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return engineproto.ExitFailed
}

// run serves until ctx ends or stdin is closed, and then returns nil. It takes
// over the descriptors 0 and 1, so it works once per process.
func run(ctx context.Context, args []string, stdin, stdout *os.File, stderr io.Writer) error {
	opts, err := parseOptions(args, stderr)
	if err != nil {
		return because(engineproto.ExitUsage, err)
	}
	if err := opts.check(); err != nil {
		return err
	}
	lock, err := prepareDir(opts.path)
	if err != nil {
		return because(engineproto.ExitDirectory, err)
	}
	defer lock.Close()

	parent, report, err := takeOverDescriptors(stdin, stdout)
	if err != nil {
		return fmt.Errorf("cannot replace standard input and output: %w", err)
	}
	terminal, err := installTerminal()
	if err != nil {
		return fmt.Errorf("cannot make a pseudo-terminal for the engine: %w", err)
	}
	defer terminal.Close()

	lib, err := loadLibrary(opts.lib)
	if err != nil {
		return because(engineproto.ExitLibrary, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// The parent never writes; the end of the pipe is its message. The
		// read ends with the process at the latest.
		_, _ = io.Copy(io.Discard, parent)
		cancel()
	}()
	return serve(ctx, lib, opts, report)
}

// takeOverDescriptors keeps copies of the pipes to the parent and frees the
// descriptors 0 and 1 for the engine: 0 will be a terminal, and whatever the
// engine prints for the person it believes to be there goes nowhere.
func takeOverDescriptors(stdin, stdout *os.File) (parent, report *os.File, err error) {
	if parent, err = duplicate(stdin); err != nil {
		return nil, nil, err
	}
	if report, err = duplicate(stdout); err != nil {
		return nil, nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	return parent, report, syscall.Dup3(int(null.Fd()), 1, 0)
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate %s: %w", f.Name(), err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), f.Name()), nil
}
