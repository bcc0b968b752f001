package pipeline

import (
	"testing"

	"qunfa/internal/wechat/wechattest"
)

// TestDatabaseDropped drops the database while the sink works, and makes it anew.
// The sink must notice that what it stored is gone, and read all of it again:
// going on from where it was would leave a hole that nothing shows.
func TestDatabaseDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wechattest.Config{Seed: 46, Scale: 3600, Accounts: accounts("")[:4]})
	w.migrate()
	in, sink := w.startIngest(), w.start("sink")
	w.awaitReady(in, sink)
	send := func(n int) {
		for range n {
			for _, a := range w.sim.Accounts() {
				w.send(in, a.AppID, wechattest.All())
			}
		}
	}
	send(5)
	w.settle()
	w.query("DROP DATABASE " + w.cfg.ClickHouse.Database + " SYNC")
	send(5)
	w.notReady(sink, "sink: not ready: cannot write, trying again: ")
	w.migrate()
	w.settle()
	w.complete()
}
