package sink

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"qunfa/internal/events"
)

// A database that is dropped and made anew while the sink runs is filled again
// from its beginning, whichever step finds out.
func TestDatabaseReplacedWhileRunning(t *testing.T) {
	for _, step := range []string{stepEvents, stepHistory, stepMessages, stepRecords} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, m := newLog(), newMemory()
				s := newSink(t, m, l, nil)
				l.put(0, record(t, "wx1", 1, "send success"))
				drain(t, s, l)

				l.put(0, record(t, "wx1", 2, "send fail"))
				dropped := false
				m.fail = func(at string, _ int) error {
					if at != step || dropped {
						return nil
					}
					dropped = true
					m.events, m.fates, m.cells = nil, map[events.Position]events.Fate{}, map[string]cell{}
					return errBroken
				}
				drain(t, s, l) // this session ends by itself
				if l.committed[0] != 1 {
					t.Errorf("committed %d, want 1: the second record is not there", l.committed[0])
				}
				drain(t, s, l)
				want := map[string]string{"wx1/1": "sent v1", "wx1/2": "failed v1"}
				if d := cmp.Diff(want, m.outcomes()); d != "" {
					t.Errorf("rows of the new database (-want +got):\n%s", d)
				}
				if n := len(m.fates); n != 2 || l.committed[0] != 2 {
					t.Errorf("%d records are accounted for and %d committed, want 2", n, l.committed[0])
				}
				if got := testutil.ToFloat64(s.metrics.paused); got != 0 {
					t.Errorf("paused gauge %v after the repair", got)
				}
			})
		})
	}
}
