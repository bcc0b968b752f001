package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qunfa/internal/events"
)

// The steps of a batch: values of the label "step".
const (
	stepEnds     = "ends"
	stepLeaveOut = "leave_out"
	stepDead     = "dead_letters"
	stepEvents   = "events"
	stepRecords  = "records"
	stepHistory  = "history"
	stepMessages = "messages"
)

func steps() []string {
	return []string{stepEnds, stepLeaveOut, stepDead, stepEvents, stepRecords, stepHistory, stepMessages}
}

// source names the sink in dead letters.
const source = "qunfa/sink"

// batch is what the records of a poll turned out to be.
type batch struct {
	events []events.Event
	fates  []events.Fate
	dead   []events.DeadLetter
	// records has what an event was decoded from, should it have to be set aside after all.
	records map[events.Position]*events.Message
}

// write stores a batch: events first, since the fold reads them back; the
// rows last. Done twice, it leaves what it left the first time.
func (s *Sink) write(ctx, work context.Context, polled Batch) error {
	b := sort(s.cfg.Topic, polled)
	err := s.attempt(ctx, work, stepLeaveOut, func(ctx context.Context) error { return s.leaveOut(ctx, b) })
	if err != nil {
		return err
	}
	if err := s.writeEvents(ctx, work, b, b.events); err != nil {
		return err
	}
	if err := s.writeRows(ctx, work, b); err != nil {
		return err
	}
	// Dead letters are safe before the records say so.
	if len(b.dead) > 0 {
		letters := make([]events.Record, len(b.dead))
		for i, d := range b.dead {
			letters[i] = d.Encode()
		}
		if err := s.attempt(ctx, work, stepDead, func(ctx context.Context) error { return s.dead.Publish(ctx, letters...) }); err != nil {
			return err
		}
	}
	err = s.attempt(ctx, work, stepRecords, func(ctx context.Context) error { return s.store.InsertRecords(ctx, b.fates) })
	if err != nil {
		return err
	}
	s.count(b, polled)
	return nil
}

func sort(topic string, polled Batch) *batch {
	b := &batch{records: map[events.Position]*events.Message{}}
	for i := range polled.Messages {
		m := &polled.Messages[i]
		fate := events.Fate{Position: m.Position, At: m.Time}
		e, err := events.Decode(*m)
		switch {
		case err == nil:
			fate.Kind, fate.EventID = events.FateEvent, e.ID
			b.events = append(b.events, e)
			b.records[m.Position] = m
		case errors.Is(err, events.ErrForeign):
			fate.Kind = events.FateForeign
		default:
			fate.Kind, fate.Reason = events.FateDead, err.Error()
			b.dead = append(b.dead, letter(m, events.DeadUndecodable, err))
		}
		b.fates = append(b.fates, fate)
	}
	for _, r := range polled.Trimmed {
		b.fates = append(b.fates, trimmed(topic, r))
	}
	return b
}

// leaveOut takes out of the batch what must not be stored, or not any more.
func (s *Sink) leaveOut(ctx context.Context, b *batch) error {
	if s.cfg.LeaveOut == nil || len(b.events) == 0 {
		return nil
	}
	kept, out, err := s.cfg.LeaveOut(ctx, b.events)
	if err != nil {
		return err
	}
	b.events = kept
	for i := range b.fates {
		f := &b.fates[i]
		if kind, ok := out[f.Position]; ok {
			f.Kind, f.EventID = kind, events.ID{}
		}
	}
	return nil
}

func trimmed(topic string, r Range) events.Fate {
	return events.Fate{
		Position: events.Position{Topic: topic, Partition: r.Partition, Offset: r.To - 1},
		Count:    r.To - r.From,
		Kind:     events.FateTrimmed,
		Reason:   fmt.Sprintf("offsets %d to %d were gone from the topic before they were read", r.From, r.To-1),
	}
}

func letter(m *events.Message, reason string, err error) events.DeadLetter {
	return events.DeadLetter{Record: m.Record, Reason: reason, Error: err.Error(), From: source, Origin: &m.Position}
}

// writeEvents stores events. If a row is to blame it halves them until it has
// found it: one bad row costs only itself.
func (s *Sink) writeEvents(ctx, work context.Context, b *batch, evs []events.Event) error {
	if len(evs) == 0 {
		return nil
	}
	err := s.attempt(ctx, work, stepEvents, func(ctx context.Context) error { return s.store.InsertEvents(ctx, evs) })
	if err == nil || s.cfg.Classify(err) != ClassRow {
		return err
	}
	if len(evs) == 1 {
		s.bury(b, evs[0], err)
		return nil
	}
	half := len(evs) / 2
	if err := s.writeEvents(ctx, work, b, evs[:half]); err != nil {
		return err
	}
	return s.writeEvents(ctx, work, b, evs[half:])
}

// bury turns an event of the batch into a dead letter.
func (s *Sink) bury(b *batch, e events.Event, err error) {
	b.dead = append(b.dead, letter(b.records[e.Position], events.DeadUninsertable, err))
	for i := range b.fates {
		if f := &b.fates[i]; f.Position == e.Position {
			f.Kind, f.Reason, f.EventID = events.FateDead, err.Error(), events.ID{}
		}
	}
	b.events = slices.DeleteFunc(slices.Clone(b.events), func(x events.Event) bool { return x.Position == e.Position })
	s.log.Warn("an event cannot be stored: it is in the dead-letter topic", "message", e.Key, "type", e.Type, "position", e.Position, "error", err)
}

// writeRows folds the messages that the batch touched and stores their rows.
func (s *Sink) writeRows(ctx, work context.Context, b *batch) error {
	var rows []events.Row
	var stones []events.Tombstone
	if len(b.events) == 0 {
		return nil
	}
	err := s.attempt(ctx, work, stepHistory, func(ctx context.Context) error {
		history, err := s.store.History(ctx, touched(b.events))
		if err != nil {
			return err
		}
		// A replica that lags would fold too little and, with the same
		// version, might win: so what was just written must come back. It may
		// also have been erased meanwhile: then the next attempt does without it.
		if err := complete(history, b.events); err != nil {
			return errors.Join(err, s.leaveOut(ctx, b))
		}
		rows, stones = fold(history, s.cfg.Location)
		return nil
	})
	if err != nil {
		return err
	}
	return s.writeMessages(ctx, work, b, rows, stones)
}

// writeMessages stores rows, halving them as writeEvents does. A message whose
// row is refused keeps its events, and the one that brought it here is set aside.
func (s *Sink) writeMessages(ctx, work context.Context, b *batch, rows []events.Row, stones []events.Tombstone) error {
	err := s.attempt(ctx, work, stepMessages, func(ctx context.Context) error { return s.store.InsertMessages(ctx, rows, stones) })
	if err == nil || s.cfg.Classify(err) != ClassRow {
		return err
	}
	if len(rows) == 1 {
		for _, e := range slices.Clone(b.events) {
			if e.Key == rows[0].Key {
				s.bury(b, e, err)
			}
		}
		return nil
	}
	half := len(rows) / 2
	for _, part := range [][]events.Row{rows[:half], rows[half:]} {
		if err := s.writeMessages(ctx, work, b, part, stonesOf(part, stones)); err != nil {
			return err
		}
	}
	return nil
}

func stonesOf(rows []events.Row, stones []events.Tombstone) []events.Tombstone {
	in := map[events.Key]bool{}
	for i := range rows {
		in[rows[i].Key] = true
	}
	var of []events.Tombstone
	for _, t := range stones {
		if in[t.Key] {
			of = append(of, t)
		}
	}
	return of
}

func fold(history []events.Event, loc *time.Location) ([]events.Row, []events.Tombstone) {
	byMessage := map[events.Key][]events.Event{}
	for _, e := range history {
		byMessage[e.Key] = append(byMessage[e.Key], e)
	}
	var rows []events.Row
	var stones []events.Tombstone
	for _, evs := range byMessage {
		r, t := events.Fold(evs, loc)
		rows, stones = append(rows, r), append(stones, t...)
	}
	return rows, stones
}

func touched(evs []events.Event) []events.Key {
	var keys []events.Key
	seen := map[events.Key]bool{}
	for i := range evs {
		if k := evs[i].Key; !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	return keys
}

func complete(history, written []events.Event) error {
	there := make(map[events.ID]bool, len(history))
	for i := range history {
		there[history[i].ID] = true
	}
	for i := range written {
		if e := &written[i]; !there[e.ID] {
			return fmt.Errorf("event %s of message %s was written but cannot be read back yet", e.ID, e.Key)
		}
	}
	return nil
}

func (s *Sink) count(b *batch, polled Batch) {
	for i := range b.events {
		e := &b.events[i]
		s.metrics.events.WithLabelValues(string(e.Type)).Inc()
		if d, ok := e.Data.(*events.Finished); ok && d.TotalCount != nil && d.FilterCount != nil && *d.FilterCount > *d.TotalCount {
			s.metrics.drift.Inc()
		}
	}
	for _, d := range b.dead {
		s.metrics.dead.WithLabelValues(d.Reason).Inc()
	}
	for _, f := range b.fates {
		if f.Kind == events.FateForeign {
			s.metrics.foreign.Inc()
		}
	}
	for _, r := range polled.Trimmed {
		s.metrics.trimmed.Add(float64(r.To - r.From))
	}
}
