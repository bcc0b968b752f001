package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// untilCancelled is a service that does nothing.
func untilCancelled(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// journal notes what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

func (j *journal) step(name string) func(context.Context) error {
	return func(context.Context) error { j.note(name); return nil }
}

func (j *journal) want(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, want) {
		t.Errorf("got %q, want %q", j.lines, want)
	}
}

func TestRunStopsServicesThenStepsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		d := New(Config{})
		d.OnStop("first", j.step("first"))
		d.OnStop("second", j.step("second"))
		d.Add("service", func(ctx context.Context) error {
			<-ctx.Done()
			<-time.After(time.Second) // finishes its batch
			j.note("service")
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
		j.want(t, "service", "second", "first")
	})
}

func TestSupportOutlastsTheServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		d := New(Config{})
		d.OnStop("step", j.step("step"))
		d.AddSupport("admin", func(ctx context.Context) error {
			<-ctx.Done()
			j.note("admin")
			return nil
		})
		d.Add("sink", func(ctx context.Context) error {
			<-ctx.Done()
			<-time.After(time.Second)
			if err := d.CheckRunning(ctx); !errors.Is(err, ErrStopping) {
				t.Errorf("CheckRunning: %v", err)
			}
			j.note("sink")
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
		j.want(t, "sink", "admin", "step")
	})
}

func TestSupportThatFailsStopsAll(t *testing.T) {
	broken := errors.New("broken")
	d := New(Config{})
	d.AddSupport("admin", func(context.Context) error { return broken })
	d.Add("sink", untilCancelled)
	if err := d.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestFirstErrorStopsAll(t *testing.T) {
	broken := errors.New("broken")
	var j journal
	d := New(Config{})
	d.OnStop("step", j.step("step"))
	d.Add("idle", untilCancelled)
	d.Add("done early", func(context.Context) error { return nil })
	d.Add("sink", func(context.Context) error { return broken })
	err := d.Run(t.Context())
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "sink: ") {
		t.Errorf("error %v", err)
	}
	j.want(t, "step")
}

func TestRunEndsWhenAllServicesAreDone(t *testing.T) {
	d := New(Config{})
	d.Add("done", func(context.Context) error { return nil })
	if err := d.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStopIsBoundedAndNamesWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var j journal
		release := make(chan struct{})
		hang := func(context.Context) error { <-release; return nil }
		d := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), StopTimeout: 30 * time.Second, StepTimeout: 4 * time.Second})
		d.OnStop("last", j.step("last"))
		d.OnStop("stuck step", hang)
		d.Add("stuck service", hang)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		err := d.Run(ctx)
		if took := time.Since(began); took != 24*time.Second {
			t.Errorf("took %s, want 20 s for the service and 4 s for the step", took)
		}
		if !errors.Is(err, ErrNotStopped) || !strings.Contains(err.Error(), "stuck service") || !strings.Contains(err.Error(), "stop stuck step") {
			t.Errorf("error %v", err)
		}
		for _, name := range []string{`service="stuck service"`, `step="stuck step"`} {
			if !strings.Contains(log.String(), name) {
				t.Errorf("the log does not say %s:\n%s", name, log.String())
			}
		}
		j.want(t, "last") // what hangs does not keep the rest from being closed
		close(release)
	})
}

func TestStopIsTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := New(Config{StopTimeout: 10 * time.Second, StepTimeout: 4 * time.Second})
		for range 10 {
			d.OnStop("stuck", func(context.Context) error { <-release; return nil })
		}
		began := time.Now()
		if err := d.Stop(); !errors.Is(err, ErrNotStopped) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %s, want the total of 10 s", took)
		}
		close(release)
	})
}

func TestStopIsIdempotentAndJoinsErrors(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	calls := 0
	d := New(Config{})
	d.OnClose("a", func() error { calls++; return a })
	d.OnClose("b", func() error { calls++; return b })
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := d.Stop(); !errors.Is(err, a) || !errors.Is(err, b) {
				t.Errorf("error %v", err)
			}
		})
	}
	wg.Wait()
	if calls != 2 {
		t.Errorf("%d steps were taken, want 2", calls)
	}
	if err := d.Run(t.Context()); !errors.Is(err, a) {
		t.Errorf("Run after Stop: %v", err)
	}
}

func TestStopEndsRun(t *testing.T) {
	d := New(Config{})
	started := make(chan struct{})
	d.Add("service", func(ctx context.Context) error { close(started); return untilCancelled(ctx) })
	ran := make(chan error)
	go func() { ran <- d.Run(context.Background()) }()
	<-started
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestStepRegisteredTooLateIsTakenAtOnce(t *testing.T) {
	var j journal
	d := New(Config{})
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	d.OnStop("late", j.step("late"))
	j.want(t, "late")
	if err := d.CheckRunning(t.Context()); !errors.Is(err, ErrStopping) {
		t.Errorf("CheckRunning: %v", err)
	}
}

func TestMisuseIsAPanic(t *testing.T) {
	d := New(Config{})
	_ = d.CheckRunning(t.Context())
	if err := d.Run(t.Context()); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Add after Run went unnoticed: the service would never run")
		}
	}()
	d.Add("late", untilCancelled)
}
