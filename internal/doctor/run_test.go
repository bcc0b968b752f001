package doctor

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunKeepsOrderAndReports(t *testing.T) {
	started := make(chan struct{})
	checks := []Check{
		{ID: "slow", Run: func(_ context.Context, r Result) { <-started; r.OK("done") }},
		{ID: "quick", Run: func(_ context.Context, r Result) { close(started); r.About("x").Warn("do", "found") }},
		{ID: "silent", Run: func(context.Context, Result) {}},
		{ID: "broken", Run: func(context.Context, Result) { panic("oops") }},
	}
	var seen []Progress
	findings := Run(t.Context(), checks, Limits{Each: time.Minute, All: time.Minute, Parallel: 2}, func(p Progress) { seen = append(seen, p) })
	if len(findings) != 4 || findings[0].Check != "slow" || findings[1].Subject != "x" {
		t.Fatalf("findings\n%s", inLines(findings))
	}
	want(t, findings[:1], OK, "done")
	want(t, findings[1:2], Warning, "found", "do")
	want(t, findings[2:3], OK, "as it should be")
	want(t, findings[3:], Failure, "panic: oops", "report")
	if len(seen) != 4 || seen[3].Done != 4 || seen[0].Total != 4 || len(seen[0].Findings) != 1 {
		t.Errorf("progress %+v", seen)
	}
}

// Neither a check that waits for ever nor one that does not listen to its
// context may hold up the answer.
func TestRunIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		waits := Check{ID: "waits", Run: func(ctx context.Context, _ Result) { <-ctx.Done() }}
		deaf := Check{ID: "deaf", Run: func(context.Context, Result) { <-release }}
		start := time.Now()
		findings := Run(t.Context(), []Check{waits, deaf, waits, waits}, Limits{Each: 10 * time.Second, All: 15 * time.Second, Parallel: 1}, nil)
		if took := time.Since(start); took > 22*time.Second {
			t.Errorf("it took %s", took)
		}
		close(release)
		want(t, findings[:1], Failure, "no answer within 10s", "--timeout")
		want(t, findings[1:2], Failure, "no answer within")
		want(t, findings[3:], Unchecked, "time for all checks was up", "--within")
	})
}

func TestRunBoundsHowManyAtATime(t *testing.T) {
	var now, most atomic.Int32
	c := Check{Run: func(_ context.Context, r Result) {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		now.Add(-1)
	}}
	checks := make([]Check, 200)
	for i := range checks {
		checks[i] = c
	}
	Run(t.Context(), checks, Limits{Each: time.Minute, All: time.Minute, Parallel: 3}, nil)
	if n := most.Load(); n < 1 || n > 3 {
		t.Errorf("%d at a time, want at most 3", n)
	}
}

func TestCount(t *testing.T) {
	n := Count([]Finding{{Severity: Failure}, {Severity: Failure}, {Severity: OK}})
	if n[Failure] != 2 || n[OK] != 1 || n[Warning] != 0 || len(n) != 4 {
		t.Errorf("got %v", n)
	}
}
