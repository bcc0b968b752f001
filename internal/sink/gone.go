package sink

import (
	"context"
	"errors"
	"fmt"
)

// errGone ends a session whose database has lost what was stored in it: it was
// dropped and made anew, or restored from a backup, while we worked.
var errGone = errors.New("the database has lost records that were stored")

// writes tells the steps that need the database.
func writes(step string) bool {
	return step == stepEvents || step == stepRecords || step == stepHistory || step == stepMessages
}

// stillThere is asked before a step is repeated. Where the database is another
// by now, a successful write would hide the loss for good: the last record
// stored would be the newest one again, and nothing would be read anew.
func (s *Sink) stillThere(ctx context.Context) error {
	ends, err := s.store.Ends(ctx, s.cfg.Topic)
	if err != nil {
		return err
	}
	if p, stored, lost := s.state.lost(ends); lost {
		return fmt.Errorf("%w: it ends at offset %d of partition %d, and everything before %d was there", errGone, ends[p], p, stored)
	}
	return nil
}
