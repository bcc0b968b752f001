package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Check says whether something that a service needs works now: nil, a
// [Degraded] (or another error with a method Degraded that says true), or the
// reason why it does not. The reason is shown to whoever
// asks, so it must not contain a secret.
type Check func(ctx context.Context) error

// Degraded is the error of a check for what still works, but not as it should:
// the service stays ready, and says so.
type Degraded struct{ Reason string }

func (d *Degraded) Error() string { return d.Reason }

// Degraded marks the error for /readyz.
func (d *Degraded) Degraded() bool { return true }

// degraded is what an error of a package that does not know this one can be.
type degraded interface {
	error
	Degraded() bool
}

// Degradedf makes a [Degraded].
func Degradedf(format string, args ...any) error {
	return &Degraded{Reason: fmt.Sprintf(format, args...)}
}

// Status is what a check found.
type Status string

// The statuses, of a single check and of all together.
const (
	StatusOK       Status = "ok"
	StatusDegraded Status = "degraded"
	StatusNotReady Status = "not_ready"
)

// Result is the outcome of a check.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// String is the line of /readyz.
func (r Result) String() string {
	if r.Status == StatusOK {
		return r.Name + ": ok"
	}
	return fmt.Sprintf("%s: %s: %s", r.Name, strings.ReplaceAll(string(r.Status), "_", " "), r.Reason)
}

// namedCheck runs a check, at most once at a time. Requests that come meanwhile
// wait for the same answer, so a check that hangs costs one goroutine rather
// than one per request.
type namedCheck struct {
	name    string
	check   Check
	timeout time.Duration

	mu      sync.Mutex
	current *call
}

type call struct {
	done chan struct{}
	err  error // written before done is closed
}

func (n *namedCheck) result(wg *sync.WaitGroup) Result {
	c := n.call(wg)
	timer := time.NewTimer(n.timeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return n.outcome(c.err)
	case <-timer.C:
		return Result{n.name, StatusNotReady, fmt.Sprintf("no answer within %s", n.timeout)}
	}
}

func (n *namedCheck) call(wg *sync.WaitGroup) *call {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current != nil {
		return n.current
	}
	c := &call{done: make(chan struct{})}
	n.current = c
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), n.timeout)
		defer cancel()
		c.err = n.check(ctx)
		n.mu.Lock()
		n.current = nil
		n.mu.Unlock()
		close(c.done)
	})
	return c
}

func (n *namedCheck) outcome(err error) Result {
	if err == nil {
		return Result{Name: n.name, Status: StatusOK}
	}
	status, reason := StatusNotReady, strings.Join(strings.Fields(err.Error()), " ")
	if d, ok := errors.AsType[degraded](err); ok && d.Degraded() {
		status = StatusDegraded
	}
	return Result{n.name, status, reason}
}

// worst is the status of everything together.
func worst(results []Result) Status {
	status := StatusOK
	for _, r := range results {
		switch {
		case r.Status == StatusNotReady:
			return StatusNotReady
		case r.Status == StatusDegraded:
			status = StatusDegraded
		}
	}
	return status
}
