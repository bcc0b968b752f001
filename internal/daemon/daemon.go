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
// them, does the same with what supports them ([Daemon.AddSupport]), then takes
// the steps in the reverse order of their registration. It is bounded: what does
// not end in its time is logged, and left behind.
type Daemon struct {
	cfg Config

	mu       sync.Mutex
	steps    []step
	services group
	support  group
	running  bool
	stopping bool

	stopped chan struct{} // closed when Stop is done
	stopErr error         // written before stopped is closed
}

type step struct {
	name string
	stop func(context.Context) error
}

// group is services whose contexts end together.
type group struct {
	list   []*service
	cancel context.CancelFunc // nil before Run
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
func (d *Daemon) Add(name string, run func(context.Context) error) { d.add(&d.services, name, run) }

// AddSupport registers a service that outlasts the others: its context ends
// when they have returned. The admin listener is one, so that whoever watches
// can see how the others stop.
func (d *Daemon) AddSupport(name string, run func(context.Context) error) {
	d.add(&d.support, name, run)
}

func (d *Daemon) add(g *group, name string, run func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		panic("daemon: a service added after Run: " + name)
	}
	g.list = append(g.list, &service{name: name, run: run, done: make(chan struct{})})
}

// Run runs the services until one fails, all are done, ctx ends or Stop is
// called; then it stops everything. The error joins what the services and the
// steps returned; it is nil when the end of ctx was all that happened.
func (d *Daemon) Run(ctx context.Context) error {
	failed := make(chan struct{}, 1)
	if !d.start(ctx, failed) {
		<-d.stopped
		return d.stopErr
	}
	allDone := make(chan struct{})
	go func() {
		defer close(allDone)
		for _, s := range d.services.list {
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
func (d *Daemon) start(ctx context.Context, failed chan struct{}) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		panic("daemon: Run twice")
	}
	if d.stopping {
		return false
	}
	d.running = true
	for _, g := range []*group{&d.support, &d.services} {
		// Not ended by the caller's context itself: Run sees its end, and then
		// ends the two groups one after the other.
		var gctx context.Context
		gctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
		for _, s := range g.list {
			go d.runService(gctx, s, failed)
		}
	}
	return true
}

func (d *Daemon) runService(ctx context.Context, s *service, failed chan<- struct{}) {
	defer close(s.done)
	err := s.run(ctx)
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return
	}
	s.err = fmt.Errorf("%s: %w", s.name, err)
	d.cfg.Logger.Warn("a service ended with an error; stopping", "service", s.name) // Run returns the error
	select {
	case failed <- struct{}{}:
	default: // one is enough
	}
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
	steps, running := d.steps, d.running
	d.mu.Unlock()

	ctx, release := context.WithTimeout(context.Background(), d.cfg.StopTimeout)
	defer release()
	var errs []error
	if running {
		// A third of the time is left to the steps: they close files, and a
		// service that hangs must not prevent that.
		errs = append(errs, d.end(ctx, &d.services, d.cfg.StopTimeout*2/3))
		errs = append(errs, d.end(ctx, &d.support, d.cfg.StepTimeout))
	}
	for i := len(steps) - 1; i >= 0; i-- {
		errs = append(errs, d.take(ctx, steps[i]))
	}
	d.stopErr = errors.Join(errs...)
	close(d.stopped)
	return d.stopErr
}

// end ends the contexts of a group's services and waits for them.
func (d *Daemon) end(ctx context.Context, g *group, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	g.cancel()
	var errs []error
	for _, s := range g.list {
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
