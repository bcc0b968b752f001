package reconcile

import (
	"context"
	"fmt"
	"time"
)

// behindError says that the sink did not reach the end of the log in time.
type behindError struct {
	partition      int32
	committed, end int64
	more           int // other partitions that are behind
	waited         time.Duration
}

func (e *behindError) Error() string {
	also := ""
	if e.more > 0 {
		also = fmt.Sprintf(" (and %d more partitions)", e.more)
	}
	return fmt.Sprintf("the sink did not reach the end of the log within %s: partition %d%s is at %d of %d; nothing is polled or given up before it does",
		e.waited.Round(time.Millisecond), e.partition, also, e.committed, e.end)
}

// barrier waits until the sink has everything that is in the owned partitions
// now, our own earlier events among it. The error is a [*behindError] if that
// takes too long.
func (r *Reconciler) barrier(ctx context.Context, owned map[int32]int64) error {
	ends, err := r.read(ctx, r.events.EndOffsets)
	if err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	start := time.Now()
	defer func() { r.metrics.barrierWait.Observe(time.Since(start).Seconds()) }()
	for {
		committed, err := r.read(ctx, r.events.SinkCommitted)
		if err != nil {
			return fmt.Errorf("read how far the sink has come: %w", err)
		}
		behind := mostBehind(owned, ends, committed)
		if behind == nil {
			return nil
		}
		if behind.waited = time.Since(start); behind.waited >= r.cfg.BarrierTimeout {
			return behind
		}
		if err := sleep(ctx, r.cfg.BarrierPoll); err != nil {
			return err
		}
	}
}

func (r *Reconciler) read(ctx context.Context, f func(context.Context) (map[int32]int64, error)) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	return f(ctx)
}

// mostBehind returns the owned partition that the sink is farthest behind in, if any.
func mostBehind(owned, ends, committed map[int32]int64) *behindError {
	var worst *behindError
	n := 0
	for partition := range owned {
		end, done := ends[partition], max(0, committed[partition])
		if done >= end {
			continue
		}
		n++
		lag := end - done
		if worst == nil || lag > worst.end-worst.committed || lag == worst.end-worst.committed && partition < worst.partition {
			worst = &behindError{partition: partition, committed: done, end: end}
		}
	}
	if worst != nil {
		worst.more = n - 1
	}
	return worst
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
