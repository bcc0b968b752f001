package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// move is something that can be done to a part of a world.
type move struct {
	what     string        // kill, stop, freeze, cut, …
	whom     string        // a part, by its name or by its role
	group    string        // parts of one group are not in trouble together
	min, max time.Duration // how long it lasts
}

func (m move) String() string { return m.what + " " + m.whom }

// fault is a move at its time.
type fault struct {
	move
	at     time.Duration // since the faults began
	lasts  time.Duration
	second bool // falls into the one before it
}

func (f fault) end() time.Duration { return f.at + f.lasts }

func (f fault) String() string {
	return fmt.Sprintf("%s for %s", f.move, f.lasts.Round(100*time.Millisecond))
}

// Between two faults there is calm for some seconds; every third or so is not
// alone.
const (
	calmMin, calmMax = time.Second, 5 * time.Second
	together         = 0.3
)

// plan makes the faults of a run. The same seed, moves and time give the same
// plan. Every move has its turn before one comes again.
func plan(seed uint64, moves []move, total time.Duration) []fault {
	p := planner{chance: rand.New(rand.NewPCG(seed, 1)), all: moves}
	var faults []fault
	at := p.between(calmMin, calmMax)
	for {
		f := p.next(at, "")
		if f.end() > total {
			return faults
		}
		faults = append(faults, f)
		end := f.end()
		if p.chance.Float64() < together {
			g := p.next(f.at+p.between(0, f.lasts), f.group)
			if g.end() > total {
				return faults
			}
			g.second = true
			faults = append(faults, g)
			end = max(end, g.end())
		}
		at = end + p.between(calmMin, calmMax)
	}
}

type planner struct {
	chance *rand.Rand
	all    []move
	bag    []move // those whose turn is still to come
}

func (p *planner) between(from, to time.Duration) time.Duration {
	return from + time.Duration(p.chance.Int64N(int64(to-from)+1))
}

// next takes the first move that is of another group.
func (p *planner) next(at time.Duration, not string) fault {
	for i := 0; ; i++ {
		if i == len(p.bag) {
			for _, at := range p.chance.Perm(len(p.all)) {
				p.bag = append(p.bag, p.all[at])
			}
		}
		if m := p.bag[i]; m.group != not {
			p.bag = append(p.bag[:i:i], p.bag[i+1:]...)
			return fault{move: m, at: at, lasts: p.between(m.min, m.max)}
		}
	}
}

// each makes moves of one group of every combination.
func each(group string, least, most time.Duration, whats []string, whoms ...string) []move {
	var all []move
	for _, whom := range whoms {
		for _, what := range whats {
			all = append(all, move{what, whom, group, least, most})
		}
	}
	return all
}
