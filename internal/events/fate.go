package events

import "time"

// Fate kinds: what became of a record.
const (
	FateEvent   = "event"   // stored as an event
	FateDead    = "dead"    // could not be used; a copy with the reason is in the dead-letter topic
	FateForeign = "foreign" // not ours: a transaction marker, another application's record
	FateTrimmed = "trimmed" // gone from the topic before anybody read it
	FateExpired = "expired" // an event that was older than is kept
	FateErased  = "erased"  // an event of an account whose data were erased
)

// Fate is what became of one record of the log, or of a run of them that was
// trimmed away. Every offset has exactly one, which is how completeness is proved.
type Fate struct {
	Position
	// Count is how many offsets it stands for, of which Position is the last:
	// more than one for [FateTrimmed] alone. 0 means 1.
	Count   int64
	EventID ID // zero unless Kind is [FateEvent]
	Kind    string
	Reason  string    // in words, for dead letters
	At      time.Time // the record's time, zero if unknown
}

// First returns the first offset that the fate stands for.
func (f Fate) First() int64 { return f.Offset - max(f.Count, 1) + 1 }
