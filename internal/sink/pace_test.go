package sink

import (
	"testing"
	"testing/synctest"
	"time"
)

// However the clock jumps between two batches, the next one starts an interval
// later at most, and after a jump ahead at once.
func TestPaceSurvivesAJump(t *testing.T) {
	for jump, want := range map[time.Duration]time.Duration{
		0: time.Second, -time.Hour: time.Second, -72 * time.Hour: time.Second, 72 * time.Hour: 0, 400 * time.Millisecond: 600 * time.Millisecond,
	} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				skew := time.Duration(0)
				p := newPace(time.Second, func() time.Time { return time.Now().Add(skew) })
				p.started()
				skew = jump
				begun := time.Now()
				if err := p.wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took != want {
					t.Errorf("waited %s, want %s", took, want)
				}
			})
		})
	}
}
