package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"qunfa/internal/events"
)

// A dead letter that was replayed or dropped stays where it is: a log cannot be
// changed. That it is done with is told by another record of the dead-letter
// topic, a mark, which names the letters by partition and offset. A mark comes
// after its letters, so retention removes it after them; and unlike the offsets
// of a consumer group it neither expires by itself nor has to be contiguous.
//
// A mark is written after its letters were sent. Whatever ends a replay in
// between leaves letters open that were sent already: sent again they are
// copies, which the ids of events make harmless.

// headerMark is the header of marks; its value is what was done.
const headerMark = "qunfa_mark"

// What can be done with a dead letter.
const (
	letterOpen     = "open" // nothing yet
	letterReplayed = "replayed"
	letterDropped  = "dropped"
)

// mark is the value of such a record.
type mark struct {
	Letters map[int32][]int64 `json:"letters"` // offsets by partition
}

// place is where a letter is in the dead-letter topic.
type place struct {
	partition int32
	offset    int64
}

func placeOf(p events.Position) place { return place{p.Partition, p.Offset} }

func (p place) String() string { return fmt.Sprintf("%d/%d", p.partition, p.offset) }

// done is what was done with a letter.
type done struct {
	what string
	at   time.Time
}

// encodeMark makes the record that says what was done with letters.
func encodeMark(what string, letters []place, now time.Time) (events.Record, error) {
	m := mark{Letters: map[int32][]int64{}}
	for _, l := range letters {
		m.Letters[l.partition] = append(m.Letters[l.partition], l.offset)
	}
	value, err := json.Marshal(m)
	if err != nil {
		return events.Record{}, err
	}
	return events.Record{
		Key:   []byte("qunfa-marks"),
		Value: value,
		Headers: []events.Header{
			{Key: headerMark, Value: []byte(what)},
			{Key: events.HeaderContentType, Value: []byte("application/json")},
		},
		Time: now.UTC().Truncate(time.Millisecond),
	}, nil
}

// isMark tells marks from dead letters.
func isMark(r events.Record) bool { return markOf(r) != "" }

// markOf returns what a mark says was done, or nothing. A dead letter keeps the
// headers of what died, and so is one even if that was called a mark.
func markOf(r events.Record) string {
	what := ""
	for _, h := range r.Headers {
		switch h.Key {
		case events.HeaderDeadReason:
			return ""
		case headerMark:
			what = string(h.Value)
		}
	}
	return what
}

// readMarks finds the letters that are done with. Of several marks of one the
// latest counts.
func readMarks(ctx context.Context, t *target) (map[place]done, error) {
	letters := map[place]done{}
	err := eachDeadRecord(ctx, t, nil, func(m events.Message) error {
		note(letters, m)
		return nil
	})
	return letters, err
}

// note adds the letters that a mark names; another record names none.
func note(letters map[place]done, m events.Message) {
	what := markOf(m.Record)
	var v mark
	if what == "" || json.Unmarshal(m.Value, &v) != nil { // somebody else's
		return
	}
	for p, offsets := range v.Letters {
		for _, o := range offsets {
			if old, ok := letters[place{p, o}]; !ok || !m.Time.Before(old.at) {
				letters[place{p, o}] = done{what, m.Time}
			}
		}
	}
}

// sortPlaces puts them in the order of the log.
func sortPlaces(places []place) {
	slices.SortFunc(places, func(a, b place) int {
		if a.partition != b.partition {
			return int(a.partition - b.partition)
		}
		return int(a.offset - b.offset)
	})
}
