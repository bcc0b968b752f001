package events

import (
	"encoding/json"
	"fmt"
)

// WithoutOpenID returns the event without the openid that a callback holds: the
// raw text and the member from_user, which no id and no figure is made of.
// Other events are returned as they are. The event that is given does not change.
func WithoutOpenID(e Event) (Event, error) {
	old, ok := e.Data.(*Finished)
	if !ok || old.Raw == "" && old.FromUser == "" {
		return e, nil
	}
	d := *old
	d.Raw, d.FromUser = "", ""
	e.Data = &d
	if e.Body == nil {
		return e, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Body, &members); err != nil {
		return e, fmt.Errorf("event %s: %w", e.ID, err)
	}
	delete(members, "from_user")
	var err error
	e.Body, err = marshal(members)
	return e, err
}
