package upgrade

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/clickhouse"
)

// TestUpgradeInPlace migrates a database under older services and replaces them
// one after the other, all under load.
func TestUpgradeInPlace(t *testing.T) {
	olds := olderReleases(t)
	next := today(t)
	for _, commit := range olds {
		t.Run(commit[:10], func(t *testing.T) {
			t.Parallel()
			upgrade(t, checkout(t, commit), next)
		})
	}
}

func upgrade(t *testing.T, old, next release) {
	t.Logf("from a version with %d migrations to one with %d", len(old.migrations), len(next.migrations))
	w := newWorld(t)
	w.migrate(old)
	in, sink1, sink2, rec := w.start(old, "ingest"), w.start(old, "sink"), w.start(old, "sink"), w.start(old, "reconcile")
	w.ready(in, sink1, sink2, rec)
	load, reader := startLoad(t, in), w.startReader()
	w.storesMore(100)

	w.migrate(next)
	w.storesMore(150) // by the old sinks, which notice nothing
	w.ready(in, sink1, sink2, rec)
	sink1.neverPaused()
	sink2.neverPaused()

	new1 := w.start(next, "sink")
	w.ready(new1)
	sink1.stop()
	w.storesMore(50) // old and new side by side
	new2, newIn := w.start(next, "sink"), w.start(next, "ingest")
	w.ready(new2, newIn)
	load.goTo(newIn)
	sink2.neverPaused()
	for _, p := range []*process{sink2, in, rec} {
		p.stop()
	}
	w.ready(w.start(next, "reconcile"))
	w.storesMore(100)
	new1.neverPaused()
	new2.neverPaused()

	w.settle(load)
	reader.stop()
	w.viewsAnswer()
	w.deliveryIs(new1, load)
	w.shapedAsNew()
}

// shapedAsNew checks that a database which was upgraded is no other than one
// that was made today.
func (w *world) shapedAsNew() {
	w.t.Helper()
	fresh := w.server
	fresh.Database += "_new"
	db := w.open(fresh)
	if err := db.Migrate(w.t.Context(), nil); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if _, err := w.db.Query(context.Background(), "DROP DATABASE "+fresh.Database+" SYNC"); err != nil {
			w.t.Error(err)
		}
	})
	if d := cmp.Diff(w.shape(fresh), w.shape(w.server)); d != "" {
		w.t.Errorf("an upgraded database is not as a new one (-new +upgraded):\n%s", d)
	}
}

// deliveryIs compares the figures for Prometheus with what was taken.
func (w *world) deliveryIs(sink *process, l *load) {
	w.t.Helper()
	sums := map[string]int64{}
	for id := range l.ledger() {
		sums["filtered"] += 20
		sums["error"] += id % 7
		sums["sent"] += total(id) - 20 - id%7
	}
	w.until("the delivery figures are those of the ledger", func() string {
		page := sink.page("/metrics/delivery")
		for result, n := range sums {
			want := fmt.Sprintf("qunfa_recipients_total{result=%q} ", result)
			_, rest, found := strings.Cut(page, want)
			have, _, _ := strings.Cut(rest, "\n")
			var f float64
			if _, err := fmt.Sscan(have, &f); !found || err != nil || int64(f) != n {
				return fmt.Sprintf("%s%d, but have %q", want, n, have)
			}
		}
		return ""
	})
}

// reader asks the view of messages all the time, as people do.
type reader struct{ stop func() }

func (w *world) startReader() *reader {
	end, done := make(chan struct{}), make(chan struct{})
	r := &reader{stop: sync.OnceFunc(func() { close(end); <-done })}
	db := w.open(w.server)
	go func() {
		defer close(done)
		var last uint64
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			last = w.readOnce(db, last)
		}
	}()
	w.t.Cleanup(r.stop)
	return r
}

// readOnce checks that messages are readable, and that none has vanished.
func (w *world) readOnce(db *clickhouse.DB, last uint64) uint64 {
	r, err := db.Query(context.Background(), "SELECT count() FROM messages WHERE outcome IN ('sent', 'pending')")
	if err != nil {
		w.t.Errorf("a reader was refused: %v", err)
		return last
	}
	n := r.Rows[0][0].(uint64)
	if n < last {
		w.t.Errorf("a reader saw %d messages after %d", n, last)
	}
	return n
}
