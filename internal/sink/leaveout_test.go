package sink

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"qunfa/internal/events"
)

// eraser leaves out the events of an account from when it is told to, and takes
// from the store what is there of it, as an erasure does.
type eraser struct {
	*memory
	appid  string
	erased bool
	fails  int
}

func (e *eraser) leaveOut(_ context.Context, evs []events.Event) (kept []events.Event, out map[events.Position]string, err error) {
	if e.fails > 0 {
		e.fails--
		return nil, nil, errors.New("cannot be asked")
	}
	out = map[events.Position]string{}
	for _, v := range evs {
		if e.erased && v.Key.AppID == e.appid {
			out[v.Position] = events.FateErased
			continue
		}
		kept = append(kept, v)
	}
	return kept, out, nil
}

// History erases just before it is read, the first time: after the sink has
// asked what to leave out and has stored the events.
func (e *eraser) History(ctx context.Context, keys []events.Key) ([]events.Event, error) {
	if !e.erased {
		e.erased = true
		e.mu.Lock()
		var rest []events.Event
		for _, v := range e.events {
			if v.Key.AppID != e.appid {
				rest = append(rest, v)
			}
		}
		e.events = rest
		e.mu.Unlock()
	}
	return e.memory.History(ctx, keys)
}

// What is erased while a batch is being written is left out of it, and holds
// nothing up; the rest of the batch is written, and every offset has its fate.
func TestErasedWhileItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := newLog(), newMemory()
		for _, appid := range []string{"wx1", "wxgone", "wx2"} {
			l.put(0, record(t, appid, 7, "send success"))
		}
		e := &eraser{memory: m, appid: "wxgone", fails: 2}
		s := newSink(t, e, l, nil)
		s.cfg.LeaveOut = e.leaveOut
		drain(t, s, l)
		l.put(0, record(t, "wxgone", 8, "send success")) // and what comes later
		drain(t, s, l)
		got := m.outcomes()
		if len(got) != 2 || got["wx1/7"] != "sent v1" || got["wx2/7"] != "sent v1" {
			t.Errorf("rows %v", got)
		}
		kinds := map[string]int{}
		for _, f := range m.fates {
			kinds[f.Kind]++
			if f.Kind == events.FateErased && f.EventID != (events.ID{}) {
				t.Errorf("the fate of an erased event names it: %+v", f)
			}
		}
		if kinds[events.FateEvent] != 2 || kinds[events.FateErased] != 2 || l.committed[0] != 4 {
			t.Errorf("fates %v, committed %d", kinds, l.committed[0])
		}
	})
}
