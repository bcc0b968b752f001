package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Revise writes into the body of a stored callback what a new reading of its
// raw text found, and says whether that differs from what was stored. Members
// that this version does not know stay: whoever wrote them knew more.
//
// The event keeps its id, also if the fields that the id covers are read
// otherwise now: it is the same occurrence, better understood, and under another
// id it would count twice. Its message cannot change: that would be another event.
func Revise(stored Stored, read *Finished) (body []byte, changed bool, err error) {
	old := new(Finished)
	if err := json.Unmarshal(stored.Body, old); err != nil {
		return nil, false, fmt.Errorf("stored event %s: %w", stored.ID, err)
	}
	if read.Message() != old.Message() {
		return nil, false, fmt.Errorf("stored event %s: it is of message %s, and its raw callback is read as one of %s", stored.ID, old.Message(), read.Message())
	}
	if err := read.validate(); err != nil {
		return nil, false, fmt.Errorf("stored event %s, read anew: %w", stored.ID, err)
	}
	before, now := *old, *read
	before.Raw, now.Raw = "", ""
	was, err := marshal(before)
	if err != nil {
		return nil, false, err
	}
	is, err := marshal(now)
	if err != nil {
		return nil, false, err
	}
	if bytes.Equal(was, is) {
		return stored.Body, false, nil
	}
	body, err = replaceKnown(stored.Body, is)
	return body, err == nil, err
}

// replaceKnown replaces the members of a callback that this version knows.
func replaceKnown(body, by []byte) ([]byte, error) {
	var members, now map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(by, &now); err != nil {
		return nil, err
	}
	for t, i := reflect.TypeFor[Finished](), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		delete(members, name)
	}
	for name, value := range now {
		members[name] = value
	}
	return marshal(members)
}
