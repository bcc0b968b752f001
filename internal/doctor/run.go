package doctor

import (
	"context"
	"sync"
	"time"
)

// Check looks at one thing.
type Check struct {
	Area    string
	ID      string // such as callback.certificate
	Subject string // may be empty
	What    string // what it looks at, in a few words
	Doc     string // where more is written
	// Run looks, within ctx, and adds what it finds. If it adds nothing, all is well.
	Run func(ctx context.Context, r Result)
}

// Limits bound a run.
type Limits struct {
	Each     time.Duration // for one check
	All      time.Duration // for all of them
	Parallel int           // checks at a time
}

// Progress tells that a check has ended.
type Progress struct {
	Done, Total int
	Check       Check
	Findings    []Finding
}

// grace is how long a check may go on after its time: some calls of the
// operating system, such as looking at a network disk, do not end when told to.
const grace = time.Second

// Run runs the checks, several at a time, and returns their findings in the
// order of the checks. progress is called after each, never twice at a time; it
// may be nil. Run returns within Limits.All and a moment, whatever hangs.
func Run(ctx context.Context, checks []Check, l Limits, progress func(Progress)) []Finding {
	ctx, cancel := context.WithTimeout(ctx, l.All)
	defer cancel()
	found := make([][]Finding, len(checks))
	places := make(chan struct{}, max(1, l.Parallel))
	var mu sync.Mutex
	var wg sync.WaitGroup
	done := 0
	for i, c := range checks {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			list := runOne(ctx, c, l.Each)
			mu.Lock()
			defer mu.Unlock()
			found[i] = list
			if done++; progress != nil {
				progress(Progress{Done: done, Total: len(checks), Check: c, Findings: list})
			}
		})
	}
	wg.Wait()
	var all []Finding
	for _, list := range found {
		all = append(all, list...)
	}
	return all
}

// runOne runs a check within its time. One that does not end is left behind:
// the process of whoever asked will not live much longer.
func runOne(ctx context.Context, c Check, each time.Duration) []Finding {
	var own []Finding
	r := Result{c, &own}
	if ctx.Err() != nil {
		r.Unchecked("give more time with --within, or look at less with --account", "the time for all checks was up before its turn")
		return own
	}
	ctx, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	ended := make(chan []Finding, 1)
	go func() { ended <- guarded(ctx, c) }()
	hung := time.NewTimer(each + grace)
	defer hung.Stop()
	select {
	case list := <-ended:
		if len(list) > 0 {
			return list
		}
		if ctx.Err() == nil {
			r.OK("as it should be")
			return own
		}
	case <-hung.C:
	}
	r.Fail("find out what does not answer, or give more time with --timeout", "no answer within %s", each)
	return own
}

// guarded runs a check whose own fault must not cost the findings of others.
func guarded(ctx context.Context, c Check) (list []Finding) {
	defer func() {
		if p := recover(); p != nil {
			Result{c, &list}.Fail("this is a fault of qunfa doctor: report it", "panic: %v", p)
		}
	}()
	c.Run(ctx, Result{c, &list})
	return list
}

// once asks something once for all checks that need the answer. Who comes while
// it is asked waits; who asks does so within its own time.
type once[T any] struct {
	mu    sync.Mutex
	asked bool
	value T
	err   error
}

func (o *once[T]) get(ask func() (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.asked {
		o.value, o.err = ask()
		o.asked = true
	}
	return o.value, o.err
}
