package sink

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qunfa/internal/events"
)

// The model check runs two real sinks over one partition and enumerates what
// can happen to them. Every call that a sink makes (read the ends, poll, insert,
// read back, publish, commit) stops until the scheduler lets it go on, so an
// execution is a list of choices:
//
//   - which of the sinks goes on, and how many records a poll brings;
//   - a call is refused; or the client gives up on a request that is carried out
//     all the same, at any later time, be its sender alive or not; or, of the
//     insert of rows, which lie in several table partitions, a part is carried out;
//   - events are read back from a replica that does not have the latest yet;
//   - a process dies at a call, which is carried out later or never;
//   - the partition goes to the other sink while this one goes on unaware.
//
// How many things go wrong in an execution is bounded; when they do, and the
// order of everything else, is not. A state that was seen, with as much still to
// go wrong, is not explored again. A sink is deterministic, so its state is what
// it was answered since its last poll, when it had nothing in hand; an answer
// that made it ask the same again has left it where it was.
type model struct {
	scenario *scenario
	mutant   mutant
	faults   int // that may happen in one execution

	sinks   [2]*Sink
	writers [2]*writer
	seen    map[string]int // with so many faults still to happen
	ends    int            // executions that came to their end
}

// explore returns the story of the first violation that it finds, or nothing.
func (m *model) explore(t *testing.T) string {
	t.Helper()
	m.seen = map[string]int{}
	m.ends = 0
	todo := [][]int{nil}
	for len(todo) > 0 {
		path := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		w := m.newWorld(t)
		todo = append(todo, m.follow(w, path)...)
		w.shutDown()
		if w.violation != "" {
			return w.violation + ", after:\n  " + strings.Join(texts(w.story), "\n  ")
		}
	}
	return ""
}

// follow repeats an execution along path and goes on with the first choice each
// time, to the end or to a state that was seen. It returns the choices not taken.
func (m *model) follow(w *world, path []int) (untaken [][]int) {
	for w.violation == "" {
		acts := w.actions()
		if len(acts) == 0 {
			m.ends++
			w.checkEnd()
			break
		}
		depth := len(w.story)
		if depth == len(path) {
			state := w.String()
			if faults, seen := m.seen[state]; seen && faults >= w.faults {
				break
			}
			m.seen[state] = w.faults
			for i := len(acts) - 1; i > 0; i-- {
				untaken = append(untaken, append(slices.Clone(path), i))
			}
			path = append(slices.Clip(path), 0)
		}
		act := acts[path[depth]]
		w.story = append(w.story, act)
		act.do()
		w.check()
	}
	return untaken
}

// newWorld starts over. The sinks stay the same: making them is dear.
func (m *model) newWorld(t *testing.T) *world {
	w := newWorld(m.scenario, m.mutant, m.faults)
	for i := range w.writers {
		if m.sinks[i] == nil {
			to := redirect{&m.writers[i]}
			m.sinks[i] = newSink(t, to, to, func(c *Config) {
				c.Registerer, c.Interval, c.Grace = nil, time.Nanosecond, time.Nanosecond
			})
		}
		m.writers[i] = newWriter(t.Context(), string(rune('A'+i)), w, m.sinks[i])
		w.writers[i] = m.writers[i]
	}
	return w
}

// scenario is a log, and what must become of it.
type scenario struct {
	log    []events.Message
	events map[int64]events.Event      // by offset, of the records that are events
	number map[events.ID]int64         // names an event: its first offset
	poison map[events.ID]bool          // what the database refuses
	rows   map[events.Key][]events.Row // of the first event, the first two, …; the last one has to stay
	fates  map[int64]string
}

func newScenario(poison int64, records ...events.Record) *scenario {
	s := &scenario{
		events: map[int64]events.Event{}, number: map[events.ID]int64{}, poison: map[events.ID]bool{},
		rows: map[events.Key][]events.Row{}, fates: map[int64]string{},
	}
	stored := map[events.Key][]events.Event{}
	for i, r := range records {
		o := int64(i)
		r.Time = time.Unix(1772400000+o, 0).UTC()
		m := events.Message{Record: r, Position: events.Position{Topic: topic, Offset: o}, HighWater: int64(len(records))}
		s.log = append(s.log, m)
		s.fates[o] = events.FateDead
		e, err := events.Decode(m)
		if err != nil {
			continue
		}
		s.events[o] = e
		if _, known := s.number[e.ID]; !known {
			s.number[e.ID] = o
		}
		if o == poison {
			s.poison[e.ID] = true
			continue
		}
		s.fates[o] = events.FateEvent
		stored[e.Key] = append(stored[e.Key], e)
	}
	for k, evs := range stored {
		for n := range evs {
			r, _ := events.Fold(evs[:n+1], time.UTC)
			if all := s.rows[k]; len(all) == 0 || all[len(all)-1].Version < r.Version { // else it is a copy
				s.rows[k] = append(all, r)
			}
		}
	}
	return s
}

const nothing int64 = -1 // is poison

// The names of the scenarios.
const (
	logLate    = "redelivered callback, late submission"
	logTwo     = "two messages, one of two finals"
	logBad     = "record that cannot be decoded"
	logRefused = "event that the database refuses"
)

func scenarios(t *testing.T) map[string]*scenario {
	t.Helper()
	submitted, sent := submission(t, "wx1", 7), record(t, "wx1", 7, "send success")
	undecodable := events.Record{Key: []byte("wx1"), Value: []byte("{"), Headers: sent.Headers}
	return map[string]*scenario{
		// The submission moves the row to another day, which is in another month.
		logLate:    newScenario(nothing, sent, submitted, sent),
		logTwo:     newScenario(nothing, sent, record(t, "wx1", 8, "send fail"), record(t, "wx1", 7, "err(20013)")),
		logBad:     newScenario(nothing, submitted, undecodable, sent),
		logRefused: newScenario(1, submitted, record(t, "wx1", 7, "send fail"), sent),
	}
}

// Whatever happens to two sinks, every record ends with one fate and every
// message with one row, the fold of all its events; and never was an offset
// committed whose record was not yet stored.
func TestTwoSinksInEveryOrder(t *testing.T) {
	faults := map[string]int{logLate: 2, logTwo: 2, logBad: 2, logRefused: 1} // 3 take two minutes, and find nothing either
	for name, s := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &model{scenario: s, faults: faults[name]}
				if story := m.explore(t); story != "" {
					t.Fatal(story)
				}
				t.Logf("%d states, %d ends", len(m.seen), m.ends)
				if len(m.seen) < 1000 || m.ends < 10 {
					t.Errorf("only %d states and %d ends: the test has lost its subject", len(m.seen), m.ends)
				}
			})
		})
	}
}

// The check is worth what it finds: each of these sinks would lose or double
// something, and the check finds an order of events in which it does.
func TestTheModelFindsBrokenSinks(t *testing.T) {
	for name, mut := range mutants() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{scenario: scenarios(t)[mut.scenario], mutant: mut, faults: mut.faults}
				story := m.explore(t)
				t.Log(story)
				if !strings.Contains(story, mut.found) || story == "" {
					t.Errorf("the check does not find that %s", mut.found)
				}
			})
		})
	}
}

// action is a choice of the scheduler.
type action struct {
	do   func()
	who  string
	what fmt.Stringer // nil: who says it all
	how  string
}

func (a action) String() string {
	if a.what == nil {
		return a.who + a.how
	}
	return a.who + ": " + a.what.String() + a.how
}
