package spool

import (
	"fmt"
	"time"
)

// Degraded is the error of [Spool.Ready] for a spool that does its work: events
// are safe, but not in the log yet.
type Degraded struct{ Reason string }

func (d *Degraded) Error() string { return d.Reason }

// Degraded tells readiness checks that this is no reason to send nobody here.
func (d *Degraded) Degraded() bool { return true }

// fullShare is the part of the room from whose end on the spool says that it is full.
const fullShare = 100

// Ready returns nil if the spool is empty and the log is up, a [Degraded] while
// events wait here or would have to, and another error if the spool could not
// take them: it is full, or the disk failed when it was last used.
func (s *Spool) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	waits := s.waits()
	switch {
	case s.closed:
		return ErrClosed
	case s.writeErr != nil && !s.recovering():
		return fmt.Errorf("the spool in %s cannot be written to%s: %w", s.cfg.Dir, waits, s.writeErr)
	case s.bytes+s.queued >= s.cfg.MaxBytes-s.cfg.MaxBytes/fullShare:
		return fmt.Errorf("%w: %d bytes of %d in %s%s", ErrFull, s.bytes, s.cfg.MaxBytes, s.cfg.Dir, waits)
	case s.next.Down():
		return &Degraded{"Kafka is down" + waits}
	case waits != "" && s.lastErr != nil:
		return &Degraded{"Kafka does not take everything in time" + waits + ": " + s.lastErr.Error()}
	case waits != "":
		return &Degraded{"Kafka is up" + waits + " are on their way"}
	case s.aside.Load() > 0:
		return &Degraded{fmt.Sprintf("%d events are set aside in %s: Kafka refuses them, or they cannot be read back", s.aside.Load(), s.cfg.Dir)}
	}
	return nil
}

// recovering tells that a failed write is history: nothing waits, and the log
// takes events, so that nobody needs the disk. Only an outage could show
// whether it works again. The caller holds mu.
func (s *Spool) recovering() bool { return len(s.entries) == 0 && !s.next.Down() }

// waits says what is in the spool. The caller holds mu.
func (s *Spool) waits() string {
	if len(s.entries) == 0 {
		return ""
	}
	return fmt.Sprintf(", %d events in the spool since %s", len(s.entries), s.since.UTC().Format(time.RFC3339))
}
