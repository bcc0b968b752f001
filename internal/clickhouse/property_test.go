package clickhouse_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/events"
)

// However events are ordered, copied and batched, with rows of an earlier state
// written again at any time and merges in between: in the end there is one row
// per message, and it is the fold of all of the message's events.
func TestAnyBatching(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := newFixture(t, migrated(t))
			r := rand.New(rand.NewPCG(seed, 0))
			all := f.randomEvents(r, 60)
			log := append(all[:len(all):len(all)], all[:len(all)/3]...) // some come twice
			r.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })

			var staleRows []events.Row
			var staleStones []events.Tombstone
			for len(log) > 0 {
				n := min(1+r.IntN(40), len(log))
				f.write(log[:n]...)
				rows, stones := f.folded(keysOf(log[:n])...)
				staleRows, staleStones = append(staleRows, rows...), append(staleStones, stones...)
				log = log[n:]
				if r.IntN(4) == 0 {
					query(t, f.db, "OPTIMIZE TABLE message_rows FINAL")
				}
			}
			r.Shuffle(len(staleRows), func(i, j int) { staleRows[i], staleRows[j] = staleRows[j], staleRows[i] })
			if err := f.db.InsertMessages(t.Context(), staleRows, staleStones); err != nil {
				t.Fatal(err)
			}
			got := query(t, f.db, "SELECT appid, msg_id, toString(day), events, outcome, sent, callbacks, polls, recorded FROM messages ORDER BY appid, msg_id")
			if d := cmp.Diff(f.expected(all), got); d != "" {
				t.Errorf("messages (-want +got):\n%s", d)
			}
		})
	}
}

// expected folds the events in memory.
func (f *fixture) expected(all []events.Event) [][]any {
	byKey := map[events.Key][]events.Event{}
	for _, e := range all {
		byKey[e.Key] = append(byKey[e.Key], e)
	}
	var rows [][]any
	for _, k := range keysOf(all) {
		r, _ := events.Fold(byKey[k], f.loc)
		var sent any
		if r.Sent != nil {
			sent = *r.Sent
		}
		rows = append(rows, []any{k.AppID, k.MsgID, r.Day.Format(time.DateOnly), int64(r.Version), string(r.Outcome),
			sent, int64(r.Finals), int64(r.Polls), r.Submissions > 0})
	}
	return rows
}

// randomEvents returns distinct events of n messages, on days of several months.
func (f *fixture) randomEvents(r *rand.Rand, n int) []events.Event {
	var all []events.Event
	seen := map[events.ID]bool{}
	for i := range n {
		appid, msgID := fmt.Sprintf("wx%d", i%7), int64(i/7+1)
		for range 1 + r.IntN(6) {
			at := time.Unix(1_790_000_000+r.Int64N(100*24*3600), 0).UTC().Format(time.RFC3339)
			e := f.randomEvent(r, appid, msgID, at)
			if !seen[e.ID] {
				seen[e.ID] = true
				all = append(all, e)
			}
		}
	}
	return all
}

func (f *fixture) randomEvent(r *rand.Rand, appid string, msgID int64, at string) events.Event {
	switch r.IntN(5) {
	case 0:
		return f.submitted(appid, msgID, at, nil)
	case 1:
		return f.polled(appid, msgID, at, []string{"SEND_SUCCESS", "SENDING", "SEND_FAIL", "DELETE"}[r.IntN(4)])
	case 2:
		return f.abandoned(appid, msgID, at, events.ReasonNoAnswer)
	case 3:
		return f.event(&events.Deleted{AppID: appid, MsgID: msgID, DeletedAt: f.time(at)})
	}
	return f.finished(appid, msgID, at, []string{"send success", "send fail", "err(10001)", "?"}[r.IntN(4)], 100, 90, r.Int64N(90), 2)
}
