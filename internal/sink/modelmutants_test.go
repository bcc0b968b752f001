package sink

import (
	"context"
	"slices"

	"qunfa/internal/events"
)

// mutant is a fault of the protocol, put between the sink and what it works on,
// or into what it works on.
type mutant struct {
	wrap     func(*world, ports, *modelSession) (ports, Session)
	unfenced bool // the group takes commits of past generations
	gaps     bool // a replica that is behind may lack any insert, not only the latest
	versions bool // rows have versions of another kind

	// What the check finds, and where: in which log, and with how many faults.
	found    string
	scenario string
	faults   int
}

// mutants are sinks that look right most of the time.
func mutants() map[string]mutant {
	return map[string]mutant{
		"commit before the inserts": {
			wrap:  func(_ *world, p ports, s *modelSession) (ports, Session) { return p, eagerCommit{s} },
			found: "committed before it was recorded", scenario: logLate,
		},
		"commit after the events, before the rows": {
			wrap:  func(_ *world, p ports, s *modelSession) (ports, Session) { return commitInBetween{p, s}, s },
			found: "committed before it was recorded", scenario: logLate,
		},
		"records before the rows": {
			wrap:  storeOnly(func(_ *world, p ports) ports { return &recordsFirst{ports: p} }),
			found: "was recorded, but its message's row has", scenario: logLate,
		},
		"fold of the batch, not of what is read back": {
			wrap:  storeOnly(func(_ *world, p ports) ports { return &blindFold{ports: p} }),
			found: "is not the fold of its first", scenario: logLate,
		},
		"version by time": {
			wrap:     storeOnly(func(w *world, p ports) ports { return versionByTime{p, w} }),
			versions: true,
			found:    "is not the fold of its events", scenario: logTwo, faults: 2,
		},
		"no tombstones": {
			wrap:  storeOnly(func(_ *world, p ports) ports { return noTombstones{p} }),
			found: "has 2 rows", scenario: logLate,
		},
		"a refused insert of rows is let pass": {
			wrap:  storeOnly(func(_ *world, p ports) ports { return careless{p} }),
			found: "was recorded, but its message's row has", scenario: logLate, faults: 1,
		},
		"dead letters after the commit": {
			wrap: func(_ *world, p ports, s *modelSession) (ports, Session) {
				late := &lateLetters{ports: p}
				return late, lateSession{s, late}
			},
			found: "its dead letter is nowhere", scenario: logBad,
		},
		"go on where the events end": {
			wrap:  func(w *world, p ports, s *modelSession) (ports, Session) { return p, afterTheEvents{s, w} },
			found: "committed", scenario: logLate, faults: 1,
		},
		"not waiting for one's own events to come back": {
			wrap:  storeOnly(func(_ *world, p ports) ports { return &impatient{blindFold{ports: p}} }),
			found: "is not the fold of its first", scenario: logLate, faults: 1,
		},
		"a replica that may lack any insert": {gaps: true, found: "is not the fold of its first", scenario: logLate, faults: 1},
		"commits that are not fenced":        {unfenced: true, found: "the committed offset went back", scenario: logLate, faults: 1},
	}
}

func storeOnly(wrap func(*world, ports) ports) func(*world, ports, *modelSession) (ports, Session) {
	return func(w *world, p ports, s *modelSession) (ports, Session) { return wrap(w, p), s }
}

type eagerCommit struct{ *modelSession }

func (s eagerCommit) Poll(ctx context.Context, records, bytes int) (Batch, error) {
	b, err := s.modelSession.Poll(ctx, records, bytes)
	if err != nil {
		return b, err
	}
	return b, s.Commit(ctx, map[int32]int64{0: s.next})
}

type commitInBetween struct {
	ports
	session *modelSession
}

func (p commitInBetween) InsertMessages(ctx context.Context, rows []events.Row, stones []events.Tombstone) error {
	if err := p.session.Commit(ctx, map[int32]int64{0: p.session.next}); err != nil {
		return err
	}
	return p.ports.InsertMessages(ctx, rows, stones)
}

// recordsFirst keeps the rows back until the records are written.
type recordsFirst struct {
	ports
	rows   []events.Row
	stones []events.Tombstone
}

func (p *recordsFirst) InsertMessages(_ context.Context, rows []events.Row, stones []events.Tombstone) error {
	p.rows, p.stones = rows, stones
	return nil
}

func (p *recordsFirst) InsertRecords(ctx context.Context, fates []events.Fate) error {
	if err := p.ports.InsertRecords(ctx, fates); err != nil {
		return err
	}
	return p.ports.InsertMessages(ctx, p.rows, p.stones)
}

// blindFold believes that what it has just written is all there is.
type blindFold struct {
	ports
	batch []events.Event
}

func (p *blindFold) InsertEvents(ctx context.Context, evs []events.Event) error {
	err := p.ports.InsertEvents(ctx, evs)
	if err == nil {
		p.batch = append(p.batch, evs...)
	}
	return err
}

func (p *blindFold) History(context.Context, []events.Key) ([]events.Event, error) {
	batch := p.batch
	p.batch = nil
	return batch, nil
}

type versionByTime struct {
	ports
	world *world
}

func (p versionByTime) InsertMessages(ctx context.Context, rows []events.Row, stones []events.Tombstone) error {
	p.world.clock++ // only one goroutine runs at any time
	rows, stones = slices.Clone(rows), slices.Clone(stones)
	for i := range rows {
		rows[i].Version = p.world.clock
	}
	for i := range stones {
		stones[i].Version = p.world.clock
	}
	return p.ports.InsertMessages(ctx, rows, stones)
}

type noTombstones struct{ ports }

func (p noTombstones) InsertMessages(ctx context.Context, rows []events.Row, _ []events.Tombstone) error {
	return p.ports.InsertMessages(ctx, rows, nil)
}

type careless struct{ ports }

func (p careless) InsertMessages(ctx context.Context, rows []events.Row, stones []events.Tombstone) error {
	_ = p.ports.InsertMessages(ctx, rows, stones)
	return nil
}

// lateLetters sends the dead letters of a batch when the next one is read.
type lateLetters struct {
	ports
	letters []events.Record
}

func (p *lateLetters) Publish(_ context.Context, records ...events.Record) error {
	p.letters = append(p.letters, records...)
	return nil
}

type lateSession struct {
	*modelSession
	late *lateLetters
}

func (s lateSession) Poll(ctx context.Context, records, bytes int) (Batch, error) {
	if len(s.late.letters) > 0 {
		if err := s.late.ports.Publish(ctx, s.late.letters...); err != nil {
			return Batch{}, err
		}
		s.late.letters = nil
	}
	return s.modelSession.Poll(ctx, records, bytes)
}

// afterTheEvents takes an event that is stored for one that is done.
type afterTheEvents struct {
	*modelSession
	world *world
}

func (s afterTheEvents) Owned() map[int32]int64 {
	owned := s.modelSession.Owned()
	for _, e := range s.world.stored {
		owned[0] = max(owned[0], e.Position.Offset+1)
	}
	return owned
}

// impatient folds what it has written with whatever it can read.
type impatient struct{ blindFold }

func (p *impatient) History(ctx context.Context, keys []events.Key) ([]events.Event, error) {
	batch := p.batch
	p.batch = nil
	found, err := p.ports.History(ctx, keys)
	return append(found, batch...), err
}
