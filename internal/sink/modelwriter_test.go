package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"qunfa/internal/events"
)

// Steps that the sink does not count, since they are not the store's.
const (
	stepPoll   = "poll"
	stepCommit = "commit"
)

var errKilled = errors.New("this process is dead")

// writer is a process with a sink in it.
type writer struct {
	ctx   context.Context
	name  string
	world *world
	sink  *Sink

	// The sink's goroutine asks, the scheduler's answers. Never do both run.
	calls   chan request
	replies chan error
	done    chan error

	// Of the session it is in:
	session *modelSession
	ports   ports // the world's, unless a mutant stands between
	cancel  context.CancelFunc
	running bool
	dead    bool
	pending request
	trace   []string // calls since the last poll and what was answered
}

// request is a call that a sink makes.
type request struct {
	step string
	what string // the arguments, and whatever else do depends on
	do   func() error
	// moot reports whether it changes nothing any more, however long it takes.
	moot func() bool
	// parts are what may come of it if it is carried out in part.
	parts []func()
	// lagging are what do might read from a replica that is behind.
	lagging []func()
	// answer is what was read. The state of the sink depends on it.
	answer *string
}

func (r request) String() string { return strings.TrimSpace(r.step + " " + r.what) }

// reads reports whether it changes nothing.
func (r request) reads() bool { return r.answer != nil }

func newWriter(ctx context.Context, name string, w *world, s *Sink) *writer {
	return &writer{ctx: ctx, name: name, world: w, sink: s, calls: make(chan request), replies: make(chan error), done: make(chan error)}
}

// begin starts a session and returns when the sink makes its first call.
func (w *writer) begin() {
	ctx, cancel := context.WithCancel(w.ctx)
	w.session = &modelSession{writer: w, committed: w.world.committed}
	w.cancel, w.running, w.dead, w.trace = cancel, true, false, nil
	var session Session = w.session
	w.ports = modelStore{w}
	if w.world.mutant.wrap != nil {
		w.ports, session = w.world.mutant.wrap(w.world, w.ports, w.session)
	}
	go func() { w.done <- w.sink.Run(ctx, session) }()
	w.await()
}

// await lets the sink run up to its next call.
func (w *writer) await() {
	select {
	case w.pending = <-w.calls:
		if w.pending.step == stepPoll {
			w.trace = nil
		}
	case err := <-w.done:
		w.ended(err)
	}
}

func (w *writer) ended(err error) {
	w.cancel()
	w.running, w.pending = false, request{}
	if err != nil && !errors.Is(err, errRefused) {
		w.world.violate("sink %s gave up: %v", w.name, err)
	}
}

// answer lets the sink go on after a call.
func (w *writer) answer(err error) {
	switch {
	case err == nil || classify(err) == ClassRow:
		got := fmt.Sprint(err)
		if w.pending.answer != nil {
			got += " " + *w.pending.answer
		}
		w.trace = append(w.trace, w.pending.String()+": "+got)
	}
	w.replies <- err
	w.await()
}

// kill ends the process: it makes no more calls.
func (w *writer) kill() {
	w.dead = true
	w.cancel()
	w.replies <- errKilled
	<-w.done
	w.running, w.pending = false, request{}
}

// call is a call of the sink; it waits for the scheduler.
func (w *writer) call(r request) error {
	if w.dead {
		return errKilled
	}
	w.calls <- r
	return <-w.replies
}

// actions are what can happen to the call at which the sink is.
func (w *writer) actions() []action {
	r := w.pending
	if r.step == stepPoll {
		return w.pollActions()
	}
	acts := []action{{who: w.name, what: r, do: func() { w.answer(r.do()) }}}
	if w.world.faults == 0 || w.alone() {
		return acts
	}
	fault := func(how string, do func()) {
		acts = append(acts, action{who: w.name, what: r, how: how, do: func() { w.world.faults--; do() }})
	}
	for _, read := range r.lagging {
		fault(", from a replica that is behind", func() { read(); w.answer(nil) })
	}
	if r.reads() { // and to fail, or die, at it is to fail, or die, at the write that follows
		return acts
	}
	fault(": refused", func() { w.answer(errRefused) })
	fault(": dies before it", w.kill)
	fault(": gives up", func() { w.world.later(r); w.answer(errRefused) })
	fault(": dies at it", func() { w.world.later(r); w.kill() })
	for _, part := range r.parts {
		fault(": carried out in part", func() { part(); w.answer(errRefused) })
	}
	return acts
}

// alone reports whether what the sink does next and what others do do not touch
// each other, so that it may as well be done before all else: nothing is lost
// by not trying the other orders.
func (w *writer) alone() bool {
	switch r := w.pending; {
	case r.step == stepPoll: // the log stays as it is; only the partition can go
		return w.session.lost() || w.world.faults == 0 && w.session.next < int64(len(w.world.log))
	case r.reads():
		return false
	default: // to fail, or die, at it is to fail, or die, at the write that follows
		return r.moot()
	}
}

// pollActions: a sink that is unaware may still get what was fetched for it.
func (w *writer) pollActions() []action {
	var acts []action
	for n := w.session.next + 1; n <= int64(len(w.world.log)); n++ {
		acts = append(acts, action{who: w.name, how: ": reads up to offset " + strconv.FormatInt(n-1, 10), do: func() { w.session.take = n; w.answer(nil) }})
	}
	if w.session.lost() {
		acts = append(acts, action{who: w.name, how: ": learns that its partition is lost", do: func() { w.answer(ErrLost) }})
	}
	return acts
}

// String is the state of the writer, if it is the same to which of the two it belongs.
func (w *writer) String() string {
	if !w.running {
		return fmt.Sprintf("(stopped, owner %t)", w.world.owner != nil && w.world.owner == w.session)
	}
	return fmt.Sprintf("(owner %t, next %d, %s, at %s)", !w.session.lost(), w.session.next, strings.Join(w.trace, "; "), w.pending)
}

// modelSession is a generation of the consumer group.
type modelSession struct {
	writer    *writer
	committed int64 // when it began
	next      int64 // to read
	take      int64 // up to where the poll in hand reads
}

func (s *modelSession) lost() bool { return s.writer.world.owner != s }

func (s *modelSession) Owned() map[int32]int64 { return map[int32]int64{0: s.committed} }

func (s *modelSession) Begin(next map[int32]int64) error {
	s.next = max(next[0], 0)
	if s.committed >= 0 && s.next < s.committed {
		s.writer.world.violate("sink %s goes back to %d although %d was committed", s.writer.name, s.next, s.committed)
	}
	return nil
}

func (s *modelSession) Poll(context.Context, int, int) (Batch, error) {
	if err := s.writer.call(request{step: stepPoll}); err != nil {
		return Batch{}, err
	}
	b := Batch{Messages: slices.Clone(s.writer.world.log[s.next:s.take])}
	s.next = s.take
	return b, nil
}

func (s *modelSession) Commit(_ context.Context, next map[int32]int64) error {
	w := s.writer.world
	return s.writer.call(request{step: stepCommit, what: fmt.Sprint(next[0]),
		do: func() error { return w.commit(s, next[0]) }, moot: func() bool { return s.lost() && !w.mutant.unfenced }})
}

// ports is where a sink writes.
type ports interface {
	Store
	DeadLetters
}

// modelStore is the database, and the dead-letter topic, as a sink sees them.
type modelStore struct{ *writer }

// Ends answers at once, at the time at which the committed offset was read:
// later it could only be further on.
func (s modelStore) Ends(context.Context, string) (map[int32]int64, error) {
	return s.world.ends(), nil
}

func (s modelStore) InsertEvents(_ context.Context, evs []events.Event) error {
	return s.call(request{step: stepEvents, what: s.world.namesOf(evs),
		do: func() error { return s.world.insertEvents(evs) }, moot: func() bool { return s.world.hasEvents(evs) }})
}

func (s modelStore) InsertRecords(_ context.Context, fates []events.Fate) error {
	var what []string
	for _, f := range fates {
		what = append(what, fmt.Sprintf("%d %s", f.Offset, f.Kind))
	}
	return s.call(request{step: stepRecords, what: strings.Join(what, ", "),
		do: func() error { return s.world.insertRecords(fates) }, moot: func() bool { return s.world.hasRecords(fates) }})
}

func (s modelStore) History(_ context.Context, keys []events.Key) ([]events.Event, error) {
	var found []events.Event
	var answer string
	r := request{step: stepHistory, what: keyNames(keys), answer: &answer}
	readUpTo := func(n int) {
		found = s.world.history(keys, s.world.stored[:n])
		answer = s.world.namesOf(found)
	}
	r.do = func() error { readUpTo(len(s.world.stored)); return nil }
	for n := range s.world.stored {
		r.lagging = append(r.lagging, func() { readUpTo(n) })
	}
	if s.world.mutant.gaps {
		for n := range s.world.stored {
			r.lagging = append(r.lagging, func() {
				found = s.world.history(keys, slices.Delete(slices.Clone(s.world.stored), n, n+1))
				answer = s.world.namesOf(found)
			})
		}
	}
	err := s.call(r)
	return found, err
}

func (s modelStore) InsertMessages(_ context.Context, rows []events.Row, stones []events.Tombstone) error {
	cells := s.world.cellsOf(rows, stones)
	r := request{step: stepMessages, what: fmt.Sprint(cells),
		do: func() error { return s.world.insertMessages(cells) }, moot: func() bool { return s.world.hasCells(cells) }}
	if len(cells) > 1 {
		for i := range cells {
			r.parts = append(r.parts, func() { s.world.insertMessages(cells[i : i+1]) })
		}
	}
	return s.call(r)
}

func (s modelStore) Publish(_ context.Context, records ...events.Record) error {
	var offsets []int64
	for _, r := range records {
		d, err := events.DecodeDeadLetter(events.Message{Record: r})
		if err != nil {
			return err
		}
		offsets = append(offsets, d.Origin.Offset)
	}
	return s.call(request{step: stepDead, what: fmt.Sprint(offsets),
		do: func() error { return s.world.publish(offsets) }, moot: func() bool { return s.world.hasLetters(offsets) }})
}

// redirect gives a sink's calls to the writer that it is in this time.
type redirect struct{ to **writer }

func (r redirect) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	return (*r.to).ports.Ends(ctx, topic)
}

func (r redirect) InsertEvents(ctx context.Context, evs []events.Event) error {
	return (*r.to).ports.InsertEvents(ctx, evs)
}

func (r redirect) InsertRecords(ctx context.Context, fates []events.Fate) error {
	return (*r.to).ports.InsertRecords(ctx, fates)
}

func (r redirect) History(ctx context.Context, keys []events.Key) ([]events.Event, error) {
	return (*r.to).ports.History(ctx, keys)
}

func (r redirect) InsertMessages(ctx context.Context, rows []events.Row, stones []events.Tombstone) error {
	return (*r.to).ports.InsertMessages(ctx, rows, stones)
}

func (r redirect) Publish(ctx context.Context, records ...events.Record) error {
	return (*r.to).ports.Publish(ctx, records...)
}
