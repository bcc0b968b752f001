package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNotStopped is in the error of a service or a step that did not end in its
// time. It may still be running.
var ErrNotStopped = errors.New("did not stop in time")

// ErrStopping is what [Daemon.CheckRunning] says once shutdown has begun.
var ErrStopping = errors.New("stopping")

// Daemon owns what a process runs. Each resource registers how to undo it when
// it is born ([Daemon.OnStop]), so that a constructor that fails halfway calls
// [Daemon.Stop] and leaves nothing behind. Services ([Daemon.Add]) start in
// [Daemon.Run].
//
// Shutdown, whatever caused it, cancels the context of every service, waits for
// them, then takes the steps in the reverse order of their registration. It is
// bounded: what does not end in its time is logged, and left behind.
type Daemon struct {
	cfg Config

	mu       sync.Mutex
	steps    []step
	services []*service
	cancel   context.CancelFunc // of the running services; nil before Run
	running  bool
	stopping bool

	stopped chan struct{} // closed when Stop is done
	stopErr error         // written before stopped is closed
}

type step struct {
	name string
	stop func(context.Context) error
}

type service struct {
	name string
	run  func(context.Context) error
	done chan struct{}
	err  error // written before done is closed
}

// New returns a daemon without services or steps. It starts nothing.
func New(cfg Config) *Daemon {
	return &Daemon{cfg: cfg.withDefaults(), stopped: make(chan struct{})}
}

// OnStop registers a step of the shutdown: how to undo what was just made. The
// step should return when its context ends. After the shutdown has begun the
// step is taken at once.
func (d *Daemon) OnStop(name string, stop func(context.Context) error) {
	s := step{name, stop}
	d.mu.Lock()
	late := d.stopping
	if !late {
		d.steps = append(d.steps, s)
	}
	d.mu.Unlock()
	if late {
		ctx, cancel := context.WithTimeout(context.Background(), d.cfg.StepTimeout)
		defer cancel()
		if err := d.take(ctx, s); err != nil { // nobody is left to return it to
			d.cfg.Logger.Error("step of the shutdown failed", "error", err)
		}
	}
}

// OnClose is [Daemon.OnStop] for an io.Closer's Close.
func (d *Daemon) OnClose(name string, closeIt func() error) {
	d.OnStop(name, func(context.Context) error { return closeIt() })
}

// Add registers a service for Run. It runs until its context ends, and returns
// nil or the context's error then; any other error stops the daemon. Returning
// nil earlier means that its work is done. Add panics when Run was called.
func (d *Daemon) Add(name string, run func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		panic("daemon: Add after Run: " + name)
	}
	d.services = append(d.services, &service{name: name, run: run, done: make(chan struct{})})
}

// Run runs the services until one fails, all are done, ctx ends or Stop is
// called; then it stops everything. The error joins what the services and the
// steps returned; it is nil when the end of ctx was all that happened.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan struct{}, 1)
	if !d.start(ctx, cancel, failed) {
		<-d.stopped
		return d.stopErr
	}
	allDone := make(chan struct{})
	go func() {
		defer close(allDone)
		for _, s := range d.services {
			<-s.done
		}
	}()
	select {
	case <-ctx.Done():
	case <-failed:
	case <-allDone:
	}
	return d.Stop()
}

// start starts the services, unless the daemon was stopped before.
func (d *Daemon) start(ctx context.Context, cancel context.CancelFunc, failed chan struct{}) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		panic("daemon: Run twice")
	}
	if d.stopping {
		return false
	}
	d.running, d.cancel = true, cancel
	for _, s := range d.services {
		go func() {
			defer close(s.done)
			err := s.run(ctx)
			if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return
			}
			s.err = fmt.Errorf("%s: %w", s.name, err)
			d.cfg.Logger.Warn("a service ended with an error; stopping", "service", s.name) // Run returns the error
			select {
			case failed <- struct{}{}:
			default:
			}
		}()
	}
	return true
}

// Stop stops everything, once; every call waits for the end and returns the
// same error.
func (d *Daemon) Stop() error {
	d.mu.Lock()
	if d.stopping {
		d.mu.Unlock()
		<-d.stopped
		return d.stopErr
	}
	d.stopping = true
	steps, running, cancel := d.steps, d.running, d.cancel
	d.mu.Unlock()

	ctx, release := context.WithTimeout(context.Background(), d.cfg.StopTimeout)
	defer release()
	var errs []error
	if running {
		cancel()
		errs = append(errs, d.awaitServices(ctx))
	}
	for i := len(steps) - 1; i >= 0; i-- {
		errs = append(errs, d.take(ctx, steps[i]))
	}
	d.stopErr = errors.Join(errs...)
	close(d.stopped)
	return d.stopErr
}

// awaitServices waits for all services, but leaves a third of the time to the
// steps: they close files, and a service that hangs must not prevent that.
func (d *Daemon) awaitServices(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.StopTimeout*2/3)
	defer cancel()
	var errs []error
	for _, s := range d.services {
		if !await(ctx, s.done) {
			d.cfg.Logger.Error("service did not stop in time", "service", s.name)
			errs = append(errs, fmt.Errorf("%s: %w", s.name, ErrNotStopped))
			continue
		}
		errs = append(errs, s.err)
	}
	return errors.Join(errs...)
}

// await reports whether done was closed before the end of ctx; also if both
// happened.
func await(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// take takes one step within its time.
func (d *Daemon) take(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.StepTimeout)
	defer cancel()
	began := time.Now()
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = s.stop(ctx)
	}()
	if !await(ctx, done) {
		d.cfg.Logger.Error("step of the shutdown did not end in time", "step", s.name, "waited", time.Since(began))
		return fmt.Errorf("stop %s: %w", s.name, ErrNotStopped)
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	return nil
}

// CheckRunning is a readiness check: it fails from the beginning of the
// shutdown on, so that no new work is sent here.
func (d *Daemon) CheckRunning(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return ErrStopping
	}
	return nil
}
