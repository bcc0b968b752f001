package kafka

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A member that has partitions and cannot read them does no work, and must say so.
func TestUnreadablePartitionsAreUnhealthy(t *testing.T) {
	g := &Group{cfg: GroupConfig{GroupID: "g"}}
	gen := &Generation{failing: map[int32]failure{}}
	g.current.Store(gen)
	cause := errors.New("the cause")
	gen.readFailed(3, errors.New("an earlier cause"))
	gen.readFailed(3, cause)
	now := time.Now()
	if err := gen.unreadable(now); err != nil {
		t.Errorf("at once, as when a leader moves: %v", err)
	}
	if err := gen.unreadable(now.Add(unreadableAfter)); !errors.Is(err, cause) || !strings.Contains(err.Error(), "partition 3") {
		t.Errorf("after a while: %v", err)
	}
	gen.readAgain(3)
	if err := gen.unreadable(now.Add(time.Hour)); err != nil {
		t.Errorf("once it can be read again: %v", err)
	}
	gen.failing[4] = failure{since: now.Add(-time.Minute), err: cause}
	if err := g.Healthy(); !errors.Is(err, cause) || !strings.Contains(err.Error(), "group g") {
		t.Errorf("the member: %v", err)
	}
}
