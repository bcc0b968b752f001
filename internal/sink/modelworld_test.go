package sink

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"qunfa/internal/events"
)

// world is what the sinks work on, and the scheduler: the log with its consumer
// group, the database, the dead-letter topic, and requests that are on their way.
type world struct {
	*scenario
	mutant  mutant
	writers [2]*writer
	faults  int // that may still happen

	owner     *modelSession // to which the group has given the partition
	committed int64

	stored  []events.Event // every copy, in the order in which they came first
	recs    map[int64]string
	cells   map[string]modelCell // by message and day; of two versions the higher one stays
	letters map[int64]bool       // by the offset that is dead
	ghosts  []request            // nobody waits for them, but they may be carried out
	clock   uint64               // by which a mutant counts

	violation string
	story     []action
}

// modelCell is a row of the table of messages.
type modelCell struct {
	key     events.Key
	day     time.Time
	version uint64
	row     *events.Row // nil: a tombstone
}

func (c modelCell) at() string { return c.key.String() + " " + c.day.Format(time.DateOnly) }

func (c modelCell) String() string {
	if c.row == nil {
		return fmt.Sprintf("%s v%d no row", c.at(), c.version)
	}
	return fmt.Sprintf("%s v%d %s", c.at(), c.version, c.row.Outcome)
}

func newWorld(s *scenario, m mutant, faults int) *world {
	return &world{
		scenario: s, mutant: m, faults: faults, committed: Beginning, clock: 100,
		recs: map[int64]string{}, cells: map[string]modelCell{}, letters: map[int64]bool{},
	}
}

// actions are what can happen now. Nothing can when all that was on its way has
// arrived and the last owner waits for more records.
func (w *world) actions() []action {
	w.ghosts = slices.DeleteFunc(slices.Clone(w.ghosts), func(r request) bool { return r.moot() })
	var acts []action
	for _, x := range w.writers {
		if x.running && x.alone() {
			return x.actions()
		}
		if x.running {
			acts = append(acts, x.actions()...)
		}
	}
	for i, g := range w.ghosts {
		acts = append(acts, action{who: "on its way", what: g, do: func() {
			w.ghosts = slices.Delete(slices.Clone(w.ghosts), i, i+1)
			g.do() // its answer has nobody to go to
		}})
	}
	for _, x := range w.writers {
		if !x.running {
			acts = append(acts, w.assignment(x)...)
		}
	}
	return acts
}

// assignment gives the partition to a sink: because nobody has it, or because
// the group thinks so.
func (w *world) assignment(x *writer) []action {
	alive := w.owner != nil && w.owner.writer.running && w.owner.writer.session == w.owner
	switch {
	case !alive && w.committed < int64(len(w.log)):
		return []action{{who: x.name, how: " gets the partition", do: func() { w.assign(x) }}}
	case alive && w.faults > 0:
		return []action{{who: x.name, how: " gets the partition, and the other does not know", do: func() { w.faults--; w.assign(x) }}}
	}
	return nil
}

func (w *world) assign(x *writer) {
	x.begin()
	w.owner = x.session
}

func (w *world) later(r request) { w.ghosts = append(slices.Clip(w.ghosts), r) }

func (w *world) shutDown() {
	for _, x := range w.writers {
		if x.running {
			x.kill()
		}
	}
}

// commit is the coordinator's: it knows only the current generation.
func (w *world) commit(s *modelSession, next int64) error {
	if s.lost() && !w.mutant.unfenced {
		return ErrLost
	}
	if next < w.committed {
		w.violate("the committed offset went back from %d to %d", w.committed, next)
	}
	w.committed = next
	return nil
}

func (w *world) ends() map[int32]int64 {
	ends := map[int32]int64{}
	for o := range w.recs {
		ends[0] = max(ends[0], o+1)
	}
	return ends
}

func (w *world) insertEvents(evs []events.Event) error {
	for _, e := range evs {
		if w.poison[e.ID] {
			return errRow
		}
	}
	for _, e := range evs {
		if !w.hasCopy(e) {
			w.stored = append(slices.Clip(w.stored), e)
		}
	}
	return nil
}

func (w *world) hasEvents(evs []events.Event) bool {
	for _, e := range evs {
		if !w.poison[e.ID] && !w.hasCopy(e) {
			return false
		}
	}
	return true
}

func (w *world) hasCopy(e events.Event) bool {
	return slices.ContainsFunc(w.stored, func(x events.Event) bool { return x.ID == e.ID && x.Position == e.Position })
}

func (w *world) hasRecords(fates []events.Fate) bool {
	return !slices.ContainsFunc(fates, func(f events.Fate) bool { return w.recs[f.Offset] != f.Kind })
}

func (w *world) insertRecords(fates []events.Fate) error {
	for _, f := range fates {
		if old, ok := w.recs[f.Offset]; ok && old != f.Kind {
			w.violate("offset %d has become %s and %s", f.Offset, old, f.Kind)
		}
		w.recs[f.Offset] = f.Kind
	}
	return nil
}

func (w *world) history(keys []events.Key, stored []events.Event) []events.Event {
	var found []events.Event
	for _, e := range stored {
		if slices.Contains(keys, e.Key) {
			found = append(found, e)
		}
	}
	return found
}

func (w *world) cellsOf(rows []events.Row, stones []events.Tombstone) []modelCell {
	var cells []modelCell
	for i := range rows {
		r := &rows[i]
		w.checkRow(*r)
		cells = append(cells, modelCell{key: r.Key, day: r.Day, version: r.Version, row: r})
	}
	for _, s := range stones {
		cells = append(cells, modelCell{key: s.Key, day: s.Day, version: s.Version})
	}
	slices.SortFunc(cells, func(a, b modelCell) int { return strings.Compare(a.String(), b.String()) })
	return cells
}

func (w *world) insertMessages(cells []modelCell) error {
	for _, c := range cells {
		if old, ok := w.cells[c.at()]; !ok || c.version >= old.version {
			w.cells[c.at()] = c
		}
	}
	return nil
}

// hasCells: rows of one version are the same, see checkRow.
func (w *world) hasCells(cells []modelCell) bool {
	return !slices.ContainsFunc(cells, func(c modelCell) bool { return w.cells[c.at()].version < c.version })
}

func (w *world) hasLetters(offsets []int64) bool {
	return !slices.ContainsFunc(offsets, func(o int64) bool { return !w.letters[o] })
}

func (w *world) publish(offsets []int64) error {
	for _, o := range offsets {
		w.letters[o] = true
	}
	return nil
}

func (w *world) violate(format string, args ...any) {
	if w.violation == "" {
		w.violation = fmt.Sprintf(format, args...)
	}
}

// check is about every state: what is committed is stored, and what is recorded too.
func (w *world) check() {
	for o := range w.committed {
		if w.recs[o] == "" {
			w.violate("offset %d was committed before it was recorded", o)
		}
	}
	for _, o := range slices.Sorted(maps.Keys(w.recs)) {
		w.checkRecorded(o)
	}
}

func (w *world) checkRecorded(o int64) {
	if w.recs[o] == events.FateDead {
		if !w.letters[o] {
			w.violate("offset %d was recorded as dead, but its dead letter is nowhere", o)
		}
		return
	}
	e := w.events[o]
	if !slices.ContainsFunc(w.stored, func(x events.Event) bool { return x.ID == e.ID }) {
		w.violate("offset %d was recorded, but its event was not stored", o)
	}
	// What was folded is always a beginning of the log, so the count tells.
	folded, recorded := uint64(0), map[events.ID]bool{}
	for _, c := range w.cells {
		if c.key == e.Key {
			folded = max(folded, c.version)
		}
	}
	for p, kind := range w.recs {
		if x := w.events[p]; kind == events.FateEvent && x.Key == e.Key {
			recorded[x.ID] = true
		}
	}
	if folded < uint64(len(recorded)) {
		w.violate("offset %d was recorded, but its message's row has %d of %d events", o, folded, len(recorded))
	}
}

// checkEnd is about the state in which nothing more can happen.
func (w *world) checkEnd() {
	if w.committed != int64(len(w.log)) {
		w.violate("in the end %d was committed, of %d", w.committed, len(w.log))
	}
	if !maps.Equal(w.recs, w.fates) {
		w.violate("in the end the records became %v, not %v", w.recs, w.fates)
	}
	live := map[events.Key]int{}
	for _, c := range w.cells {
		if c.row != nil {
			live[c.key]++
		}
	}
	for k := range w.rows {
		if live[k] != 1 {
			w.violate("in the end message %s has %d rows", k, live[k])
		}
	}
	if len(live) > len(w.rows) {
		w.violate("in the end %d messages have a row, of %d", len(live), len(w.rows))
	}
	for _, c := range w.cells {
		if c.row == nil {
			continue
		}
		all := w.rows[c.key]
		if got, want := w.seenRow(*c.row), w.seenRow(all[len(all)-1]); !reflect.DeepEqual(got, want) {
			w.violate("in the end the row of %s is not the fold of its events: %s, want %s", c.key, c, want.Outcome)
		}
	}
}

// seenRow leaves out the version where a mutant counts otherwise: that alone is no fault.
func (w *world) seenRow(r events.Row) events.Row {
	if w.mutant.versions {
		r.Version = 0
	}
	return r
}

// checkRow: a row is the fold of the first events of its message, as many as its
// version says. So two rows of one version are the same, whoever wrote them.
func (w *world) checkRow(r events.Row) {
	if w.mutant.versions {
		return
	}
	all := w.rows[r.Key]
	if r.Version > uint64(len(all)) || !reflect.DeepEqual(r, all[r.Version-1]) {
		w.violate("the row of %s is not the fold of its first %d events", r.Key, r.Version)
	}
}

// String is the state, without how much may still go wrong: two worlds of which it is the same go on in the same way.
func (w *world) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d %v %v %v ", w.committed, w.clock, w.namesOf(w.stored), w.recs, w.letters)
	for _, at := range slices.Sorted(maps.Keys(w.cells)) {
		fmt.Fprintf(&b, "%s, ", w.cells[at])
	}
	for _, list := range [][]string{texts(w.ghosts), texts(w.writers[:])} {
		slices.Sort(list) // which of the two sinks it is does not matter
		fmt.Fprintf(&b, "\n%s", strings.Join(list, "\n"))
	}
	return b.String()
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].String()
	}
	return out
}

// namesOf names copies of events by the event and their offset.
func (w *world) namesOf(evs []events.Event) string {
	names := make([]string, len(evs))
	for i := range evs {
		names[i] = fmt.Sprintf("%d@%d", w.scenario.number[evs[i].ID], evs[i].Position.Offset)
	}
	return strings.Join(names, " ")
}

func keyNames(keys []events.Key) string {
	names := texts(keys)
	slices.Sort(names)
	return strings.Join(names, " ")
}
