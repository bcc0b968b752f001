package reconcile

import (
	"context"
	"fmt"
	"time"
)

// clockError says that two clocks disagree, of which one must be wrong.
type clockError struct{ skew, most time.Duration }

func (e *clockError) Error() string {
	how := "ahead of"
	if e.skew < 0 {
		how = "behind"
	}
	return fmt.Sprintf("the clock of this machine is %s %s ClickHouse's, and at most %s are allowed: set the clock that is wrong; nothing is polled or given up before",
		e.skew.Abs().Round(time.Second), how, e.most)
}

// checkClock compares our clock with the database's. What is due, and what is
// overdue, is a matter of the clock alone: one that is days ahead would make us
// ask about everything at once, and give up what WeChat has not finished yet.
func (r *Reconciler) checkClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	skew, err := r.store.ClockSkew(ctx)
	if err != nil {
		return fmt.Errorf("read the clock of the database: %w", err)
	}
	r.metrics.skew.Set(skew.Seconds())
	if skew.Abs() > r.cfg.MaxClockSkew {
		return &clockError{skew, r.cfg.MaxClockSkew}
	}
	return nil
}
