package clickhouse

import (
	"context"
	"errors"

	"qunfa/internal/events"
)

// StoreRecords stores what records of the log hold. Their topic is the name
// under which they are to be stored; see [LogName]. A partition's records come in order.
type StoreRecords func(context.Context, []events.Message) error

// Imported counts the records that an import has read.
type Imported struct {
	Records int64
	Kinds   map[string]int64 // by what became of them: see the Fate constants of events
	ranges  map[logPart]stretch
}

// importLog stores the events of the whole log again; copies collapse.
//
// Their records go into a table of their own until the new projection is in
// use: a sink begins where the records end, and would not fold what lies before.
func (r *rebuild) importLog(ctx context.Context) error {
	if r.Import == nil {
		return nil
	}
	if err := r.db.conn.Exec(ctx, "CREATE TABLE "+r.records+" AS "+tableRecords); err != nil {
		return wrap("create table "+r.records, err)
	}
	r.report.Imported = Imported{Kinds: map[string]int64{}, ranges: map[logPart]stretch{}}
	return r.Import(ctx, r.store)
}

func (r *rebuild) store(ctx context.Context, batch []events.Message) error {
	var evs []events.Event
	fates := make([]events.Fate, len(batch))
	at := map[events.Position]*events.Fate{}
	for i := range batch {
		m, f := &batch[i], &fates[i]
		*f = events.Fate{Position: m.Position, At: m.Time, Kind: events.FateEvent}
		at[m.Position] = f
		e, err := events.Decode(*m)
		switch {
		case err == nil:
			f.EventID = e.ID
			evs = append(evs, e)
		case errors.Is(err, events.ErrForeign):
			f.Kind = events.FateForeign
		default: // a copy is in the dead-letter topic since a sink met it first
			f.Kind, f.Reason = events.FateDead, err.Error()
		}
	}
	evs, out, err := r.db.leaveOut(ctx, evs)
	if err != nil {
		return err
	}
	for p, kind := range out {
		at[p].Kind, at[p].EventID = kind, events.ID{}
	}
	if err := r.storeEvents(ctx, evs, at); err != nil {
		return err
	}
	if err := r.db.insert(ctx, opInsertRecords, r.records, len(fates), recordColumns(fates)); err != nil {
		return err
	}
	r.report.Imported.count(fates)
	r.step(RebuildImport, r.report.Imported.Records, 0)
	return nil
}

// storeEvents halves what is refused until it has found the row to blame, as sinks do.
func (r *rebuild) storeEvents(ctx context.Context, evs []events.Event, fates map[events.Position]*events.Fate) error {
	err := r.db.InsertEvents(ctx, evs)
	if err == nil || ClassOf(err) != ClassRow {
		return err
	}
	if len(evs) == 1 {
		f := fates[evs[0].Position]
		f.Kind, f.Reason, f.EventID = events.FateDead, err.Error(), events.ID{}
		return nil
	}
	half := len(evs) / 2
	if err := r.storeEvents(ctx, evs[:half], fates); err != nil {
		return err
	}
	return r.storeEvents(ctx, evs[half:], fates)
}

func (i *Imported) count(fates []events.Fate) {
	for _, f := range fates {
		i.Records++
		i.Kinds[f.Kind]++
		p := logPart{f.Topic, f.Partition}
		s, ok := i.ranges[p]
		if !ok {
			s.first = f.Offset
		}
		i.ranges[p] = stretch{s.first, max(s.end, f.Offset+1)}
	}
}

// keepRecords says what became of the records of an import, now that their
// messages are in the projection.
func (r *rebuild) keepRecords(ctx context.Context) error {
	if r.Import == nil {
		return nil
	}
	const columns = "topic, `partition`, `offset`, from_offset, kind, event_id, reason, at"
	err := r.db.conn.Exec(ctx, "INSERT INTO "+tableRecords+" ("+columns+") SELECT "+columns+" FROM "+r.records)
	return wrap("store what became of the records", err)
}
