package events

import "time"

// Fate kinds: what became of a record.
const (
	FateEvent   = "event"   // stored as an event
	FateDead    = "dead"    // could not be used; a copy with the reason is in the dead-letter topic
	FateForeign = "foreign" // not ours: a transaction marker, another application's record
	FateTrimmed = "trimmed" // gone from the topic before anybody read it
)

// Fate is what became of one record of the log. Every offset has exactly one,
// which is how completeness is proved.
type Fate struct {
	Position
	EventID ID // zero unless Kind is [FateEvent]
	Kind    string
	Reason  string    // in words, for dead letters
	At      time.Time // the record's time, zero if unknown
}
