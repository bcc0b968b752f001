package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"qunfa/internal/events"
)

// Spool stands before the log. It is safe for concurrent use.
type Spool struct {
	cfg     Config
	next    Next
	lock    *os.File
	store   store
	metrics *metrics
	aside   atomic.Int64 // records set aside in the file

	queue   chan *waiting // to the writer
	written chan struct{} // closed when the writer has ended
	work    chan struct{} // holds one: there may be something to drain

	mu       sync.Mutex
	closed   bool
	queued   int64         // bytes that wait for the writer
	entries  []entry       // in the file, not in the log yet, in order
	bytes    int64         // of entries and of drained
	drained  []entry       // in the log, but still in the file
	handover chan struct{} // not nil: the last entries are being drained, wait for it
	writeErr error         // of the last transaction that added records
	since    time.Time     // when the first of the entries was spooled, by cfg.Clock
	lastErr  error         // of the last attempt to drain

	closeOnce sync.Once
	closeErr  error
}

// Open opens the spool in cfg.Dir, and makes it if it is not there. Records of
// an earlier run wait for [Spool.Run]. A damaged file is set aside; see the
// package's documentation. Errors: [ErrLocked], or what the system says.
func Open(cfg Config, next Next) (_ *Spool, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	// The directory's own name must survive a power cut as well.
	if err := syncDir(filepath.Dir(filepath.Clean(cfg.Dir))); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir, cfg.LockTimeout)
	if err != nil {
		return nil, err
	}
	s := &Spool{cfg: cfg, next: next, lock: lock, written: make(chan struct{}), work: make(chan struct{}, 1), queue: make(chan *waiting, cfg.QueueRecords)}
	s.metrics = newMetrics(s)
	if err := s.open(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := s.metrics.register(cfg.Registerer); err != nil {
		return nil, errors.Join(err, s.store.close(), lock.Close())
	}
	go s.write()
	return s, nil
}

// open opens the file and takes stock.
func (s *Spool) open() error {
	f, rec, err := openDir(s.cfg.Dir, s.cfg.Clock(), s.cfg.Logger)
	if err != nil {
		return err
	}
	s.recovered(rec)
	aside, err := f.keptAside()
	if err != nil {
		return errors.Join(err, f.close())
	}
	s.aside.Store(int64(len(aside)))
	if s.entries, err = f.load(); err != nil {
		return errors.Join(err, f.close())
	}
	for _, e := range s.entries {
		s.bytes += e.size
	}
	s.store, s.since = f, s.cfg.Clock()
	if n := len(s.entries); n > 0 {
		s.cfg.Logger.Warn("spool: events of an earlier run wait for the log", "events", n, "bytes", s.bytes, "oldest", s.entries[0].at)
		s.wake()
	}
	return nil
}

func (s *Spool) recovered(rec *recovery) {
	s.metrics.kept.Set(float64(damagedFiles(s.cfg.Dir)))
	if rec == nil {
		return
	}
	s.metrics.failed(opOpen)
	s.metrics.salvaged.Add(float64(rec.salvaged))
	s.cfg.Logger.Error("spool: the file was damaged; it is set aside, and every whole record in it is taken over: "+
		"compare, and remove it when it is not needed any more; some records may be repeated, which does no harm",
		"file", rec.kept, "salvaged", rec.salvaged, "error", rec.cause)
}

// Publish returns nil when the record is safe: in the log, or fsynced here. ctx
// bounds both. Errors: those of the log that are permanent, [ErrFull] and
// [ErrClosed], which are returned at once, or why the disk did not take it; these
// come together with what the log said. After an error the record may be in the
// log, or here, all the same.
func (s *Spool) Publish(ctx context.Context, r events.Record) error {
	var cause error
	if left := s.timeForLog(ctx, r); left > 0 && s.mayPass(ctx, left) {
		// The time may have passed while the last of the spool was drained.
		cause = s.pass(ctx, r, s.timeForLog(ctx, r))
		if cause == nil || s.cfg.Permanent(cause) {
			return cause
		}
	}
	if err := s.spool(ctx, r); err != nil {
		return join(err, cause)
	}
	return nil
}

func join(err, cause error) error {
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w; the log: %w", err, cause)
}

// timeForLog is how long the log may take now.
func (s *Spool) timeForLog(ctx context.Context, r events.Record) time.Duration {
	left := s.cfg.Deadline
	if !r.Time.IsZero() {
		// A clock that was set back must not give more time than there is.
		left -= max(0, s.cfg.Clock().Sub(r.Time))
	}
	if end, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(end)-s.cfg.Reserve)
	}
	return left
}

// mayPass tells whether a record may go straight to the log: only if nothing
// waits here. If the last of that is being drained, it waits to the end of it:
// otherwise, with a steady stream of records, the spool would never be empty.
func (s *Spool) mayPass(ctx context.Context, within time.Duration) bool {
	var late <-chan time.Time
	for {
		s.mu.Lock()
		empty, handover := len(s.entries) == 0, s.handover
		s.mu.Unlock()
		switch {
		case empty:
			return !s.next.Down()
		case handover == nil:
			return false
		}
		if late == nil {
			t := time.NewTimer(within)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-handover:
		case <-late:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (s *Spool) pass(ctx context.Context, r events.Record, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return s.next.Publish(ctx, r)
}

// Depth returns how many records wait, the bytes they take in the file, and the
// time of receipt of the oldest, which is zero if there is none.
func (s *Spool) Depth() (records int, bytes int64, oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) > 0 {
		oldest = s.entries[0].at
	}
	return len(s.entries), s.bytes, oldest
}

// Close refuses further records, waits for those that are being written, and
// gives the directory back. [Spool.Run] must have returned. It may be called
// more than once.
func (s *Spool) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		close(s.queue)
		s.mu.Unlock()
		<-s.written
		s.metrics.unregister(s.cfg.Registerer)
		if err := errors.Join(s.store.close(), s.lock.Close()); err != nil {
			s.closeErr = fmt.Errorf("spool: %w", err)
		}
	})
	return s.closeErr
}

func (s *Spool) wake() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}
