package embedded

import (
	"context"
	"errors"
	"time"

	"qunfa/internal/embedded/engineproto"
)

// The pause before a restart: short at first, since clients wait, and doubled
// while the engine does not last.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 15 * time.Second
	// stable is how long it has to run for the next pause to be short again.
	stable = time.Minute
)

// supervise starts the engine again, on the same ports, whenever it ends by
// itself, until Close or until that makes no sense.
func (e *Engine) supervise() {
	defer close(e.done)
	defer close(e.exited)
	pause := firstPause
	for {
		began, proc := time.Now(), e.running()
		select {
		case <-proc.done:
		case <-e.closing.Done():
		}
		if e.closing.Err() != nil {
			e.closeErr = proc.stop(e.config.StopTimeout)
			e.exited <- nil
			return
		}
		e.metrics.up.Set(0)
		if time.Since(began) > stable {
			pause = firstPause
		}
		e.logger.Error("the local ClickHouse is gone and is started again", "err", proc.exit, "pause", pause)
		var err error
		if pause, err = e.restart(pause); err != nil {
			e.exited <- err
			return
		}
	}
}

// restart tries until the engine answers or Close begins, and returns the next
// pause. An error is one that trying again cannot help.
func (e *Engine) restart(pause time.Duration) (time.Duration, error) {
	for sleep(e.closing, pause) {
		pause = min(2*pause, lastPause)
		e.metrics.restarts.Inc()
		ctx, cancel := context.WithTimeout(e.closing, startTimeout)
		err := e.start(ctx)
		cancel()
		if err == nil {
			e.logger.Info("local ClickHouse started again", "addr", e.Addr(), "pid", e.Pid())
			return pause, nil
		}
		if e.closing.Err() != nil {
			break
		}
		if isPermanent(err) {
			e.logger.Error("the local ClickHouse cannot be started again", "err", err)
			return pause, err
		}
		e.logger.Error("the local ClickHouse did not start, trying again", "err", err, "pause", pause)
	}
	return pause, nil
}

// isPermanent says whether a start fails the same way every time.
func isPermanent(err error) bool {
	exit, ok := errors.AsType[*exitError](err)
	if !ok {
		return false
	}
	switch exit.code {
	case engineproto.ExitLibrary, engineproto.ExitUsage, engineproto.ExitConfig:
		return true
	default:
		return false
	}
}

func (e *Engine) running() *process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current
}
