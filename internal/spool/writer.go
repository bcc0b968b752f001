package spool

import (
	"context"
	"fmt"
	"sync/atomic"

	"qunfa/internal/events"
)

// waiting is a record whose caller waits for the disk.
type waiting struct {
	rec  events.Record
	size int64
	done chan error  // holds one; the writer never waits for the caller
	left atomic.Bool // the caller has gone: somebody repeats the record
}

// spool makes a record durable here.
func (s *Spool) spool(ctx context.Context, r events.Record) error {
	w := &waiting{rec: r, size: int64(encodedSize(r)), done: make(chan error, 1)}
	if err := s.enqueue(w); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	w.left.Store(true)
	select {
	case err := <-w.done: // after all
		return err
	default:
		return fmt.Errorf("spool: the disk has not taken the record in time: %w", ctx.Err())
	}
}

func (s *Spool) enqueue(w *waiting) error {
	if w.size > mostBytes {
		return fmt.Errorf("spool: a record of %d bytes: at most %d are taken", w.size, int64(mostBytes))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.bytes+s.queued+w.size > s.cfg.MaxBytes {
		return fmt.Errorf("%w: %d bytes of %d in %d events", ErrFull, s.bytes, s.cfg.MaxBytes, len(s.entries))
	}
	select {
	case s.queue <- w:
		s.queued += w.size
		return nil
	default:
		return fmt.Errorf("%w: %d records wait for the disk", ErrFull, cap(s.queue))
	}
}

// write is the one goroutine that adds records. Whatever arrives during a
// transaction shares the next one, so that fsyncs do not limit the rate.
func (s *Spool) write() {
	defer close(s.written)
	for first := range s.queue {
		s.commit(s.fill(first))
	}
}

func (s *Spool) fill(first *waiting) []*waiting {
	batch := []*waiting{first}
	for len(batch) < s.cfg.BatchRecords {
		select {
		case w, open := <-s.queue:
			if !open {
				return batch
			}
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// commit writes a batch in one transaction and answers its callers.
func (s *Spool) commit(batch []*waiting) {
	var recs []events.Record
	var kept []*waiting
	var size int64
	for _, w := range batch {
		size += w.size
		if !w.left.Load() {
			recs, kept = append(recs, w.rec), append(kept, w)
		}
	}
	err := s.add(recs, size)
	for _, w := range kept {
		w.done <- err
	}
}

// add writes records that hold size bytes of the queue's room.
func (s *Spool) add(recs []events.Record, size int64) error {
	var list []entry
	var err error
	if len(recs) > 0 {
		list, err = s.store.append(recs)
	}
	// A transaction whose last fsync failed may be in the file all the same.
	// Nobody is told that it is safe, but it is drained like the others.
	in := len(list) > 0 && (err == nil || s.store.has(list[len(list)-1]))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued -= size
	if in {
		if len(s.entries) == 0 {
			s.since = s.cfg.Clock()
		}
		s.entries = append(s.entries, list...)
		for _, e := range list {
			s.bytes += e.size
		}
		s.wake()
	}
	if len(recs) == 0 {
		return nil
	}
	s.noteWrite(len(recs), err)
	if err != nil {
		return fmt.Errorf("spool: write to the disk: %w", err)
	}
	return nil
}

// noteWrite counts, and logs when it turns bad or good. The caller holds mu.
func (s *Spool) noteWrite(n int, err error) {
	switch {
	case err == nil:
		s.metrics.written.Add(float64(n))
		if s.writeErr != nil {
			s.cfg.Logger.Info("spool: the disk takes events again")
		} else if len(s.entries) == n {
			s.cfg.Logger.Warn("spool: the log does not take events in time: they wait on the disk until it does", "dir", s.cfg.Dir)
		}
	case s.writeErr == nil:
		s.cfg.Logger.Error("spool: the disk does not take events: callers are told to repeat them", "dir", s.cfg.Dir, "events", n, "error", err)
	}
	if err != nil {
		s.metrics.failed(opWrite)
	}
	s.writeErr = err
}
