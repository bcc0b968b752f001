package chaos

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func someMoves() []move {
	moves := each("sink", time.Second, 5*time.Second, []string{"kill", "freeze"}, "sink-1", "sink-2")
	return append(moves, each("brokers", 2*time.Second, 9*time.Second, []string{"kill", "stop"}, "the controller")...)
}

func TestPlanFollowsFromTheSeed(t *testing.T) {
	const total = 5 * time.Minute
	same := cmp.AllowUnexported(fault{}, move{})
	first := plan(7, someMoves(), total)
	if d := cmp.Diff(first, plan(7, someMoves(), total), same); d != "" {
		t.Errorf("the same seed gives another plan:\n%s", d)
	}
	if cmp.Equal(first, plan(8, someMoves(), total), same) {
		t.Error("another seed gives the same plan")
	}
	if d := cmp.Diff(first[:3], plan(7, someMoves(), time.Hour)[:3], same); d != "" {
		t.Errorf("a longer run begins in another way:\n%s", d)
	}
}

func TestPlanKeepsItsRules(t *testing.T) {
	const total = 10 * time.Minute
	for seed := range uint64(50) {
		faults := plan(seed, someMoves(), total)
		seen, seconds := map[string]int{}, 0
		var before fault
		for i, f := range faults {
			seen[f.String()[:len(f.move.String())]]++
			if f.lasts < f.min || f.lasts > f.max || f.end() > total {
				t.Fatalf("seed %d: %s at %s", seed, f, f.at)
			}
			if f.second {
				seconds++
				if f.group == before.group || f.at < before.at || f.at > before.end() {
					t.Fatalf("seed %d: %s at %s falls not well into %s at %s", seed, f, f.at, before, before.at)
				}
			} else if i > 0 && f.at < before.end()+calmMin {
				t.Fatalf("seed %d: no calm before %s", seed, f)
			}
			if !f.second || f.end() > before.end() {
				before = f
			}
		}
		if len(seen) != len(someMoves()) || seconds == 0 || seconds > len(faults)/2 {
			t.Fatalf("seed %d: %d faults, %d of them second, of %d kinds", seed, len(faults), seconds, len(seen))
		}
	}
}

func TestEveryMoveHasItsTurn(t *testing.T) {
	faults := plan(3, someMoves(), time.Hour)
	seen := map[string]int{}
	for _, f := range faults[:len(someMoves())] {
		seen[f.move.String()]++
	}
	for m, n := range seen {
		if n > 2 { // a second fault may take one out of turn
			t.Errorf("%s came %d times in the first round", m, n)
		}
	}
}
