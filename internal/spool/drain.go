package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// batchBytes bounds what is read at a time, for memory.
const batchBytes = 8 << 20

// firstPause is between an attempt that failed and the next; it doubles up to RetryMax.
const firstPause = 50 * time.Millisecond

// Run drains the spool until ctx ends, which is no error. It may be called
// again then, but not twice at a time. Publish works without it, and only fills the spool.
func (s *Spool) Run(ctx context.Context) error {
	d := drainer{Spool: s}
	for s.await(ctx) {
		switch progress, err := d.step(ctx); {
		case err == nil:
			d.pause = 0
			continue
		case progress:
			d.pause = firstPause
		default:
			d.pause = min(max(2*d.pause, firstPause), s.cfg.RetryMax)
		}
		if !sleep(ctx, d.pause) {
			break
		}
	}
	return nil
}

// await waits until there is something to drain. It returns false when ctx ends.
func (s *Spool) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		s.mu.Lock()
		some := len(s.entries)+len(s.drained) > 0
		s.mu.Unlock()
		if some {
			return true
		}
		select {
		case <-s.work:
		case <-ctx.Done():
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// drainer is one Run.
type drainer struct {
	*Spool
	pause     time.Duration
	confident bool // the log took the last batch
	stuck     bool // what was drained could not be removed when last tried
	failing   bool
	reminded  time.Time
}

// step makes an attempt, and tells whether anything came of it. It also tries
// when the log is known to be down: that may be true of some keys alone.
func (d *drainer) step(ctx context.Context) (progress bool, err error) {
	if err := d.remove(); err != nil {
		// The log may go on all the same, since what it has is known until a
		// restart. But if that is all, there is nothing to do than to wait.
		if n, _, _ := d.Depth(); n == 0 {
			return false, err
		}
	}
	batch := d.begin()
	if len(batch) == 0 {
		return true, nil
	}
	res := d.deliver(ctx, batch)
	d.end(len(batch), res)
	if len(res.drained) > 0 {
		_ = d.remove() // counted, logged, and tried again
	}
	switch {
	case ctx.Err() != nil:
	case res.err != nil:
		d.complain(res.err)
	default:
		d.relax()
	}
	return len(res.drained)+len(res.aside) > 0, res.err
}

// begin takes the first entries. If they are all there are, callers are held
// up until they are drained.
func (d *drainer) begin() []entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, size := 0, int64(0)
	for n < len(d.entries) && n < d.cfg.BatchRecords && (n == 0 || size+d.entries[n].size <= batchBytes) {
		size += d.entries[n].size
		n++
	}
	if n > 0 && n == len(d.entries) && d.confident {
		d.handover = make(chan struct{})
	}
	return slices.Clone(d.entries[:n])
}

// result is what became of a batch.
type result struct {
	drained []entry // the log has them
	aside   []entry // out of the way, in the file
	err     error   // why others are left, the first reason
}

// end takes what is done off the first n entries, and lets callers go on.
func (d *drainer) end(n int, res result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	done := map[uint64]bool{}
	for _, e := range slices.Concat(res.drained, res.aside) {
		done[e.seq] = true
	}
	keep := slices.DeleteFunc(slices.Clone(d.entries[:n]), func(e entry) bool { return done[e.seq] })
	first := n - len(keep)
	copy(d.entries[first:n], keep)
	d.entries = d.entries[first:]
	if len(d.entries) == 0 {
		d.entries = nil // and its memory
	}
	d.drained = append(d.drained, res.drained...)
	for _, e := range res.aside { // they keep their place on the disk, but no longer count
		d.bytes -= e.size
	}
	d.metrics.drained.Add(float64(len(res.drained)))
	d.lastErr = res.err
	d.confident = res.err == nil
	if d.handover != nil {
		close(d.handover)
		d.handover = nil
	}
}

func (d *drainer) removable() []entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drained
}

// remove takes out of the file what the log has.
func (d *drainer) remove() error {
	list := d.removable()
	if len(list) == 0 {
		return nil
	}
	if err := d.store.remove(list); err != nil {
		d.metrics.failed(opRemove)
		if !d.stuck {
			d.cfg.Logger.Error("spool: events that the log has cannot be removed from the disk: trying again; a restart would repeat them",
				"events", len(list), "error", err)
		}
		d.stuck = true
		return err
	}
	d.stuck = false
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drained = nil
	for _, e := range list {
		d.bytes -= e.size
	}
	return nil
}

// deliver hands a batch to the log: keys side by side, the records of a key one
// after the other, so that they keep their order whatever fails.
func (d *drainer) deliver(ctx context.Context, batch []entry) result {
	list, err := d.store.read(batch)
	if err != nil {
		d.metrics.failed(opRead)
		return result{err: fmt.Errorf("read from the disk: %w", err)}
	}
	c := collector{}
	var whole []stored
	for _, st := range list {
		if st.err != nil {
			c.add(d.putAside(st, st.err, opRead))
			continue
		}
		whole = append(whole, st)
	}
	keys := byKey(whole)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(d.cfg.Concurrency, len(keys)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(keys)); i = next.Add(1) - 1 {
				d.deliverKey(ctx, keys[i], &c)
			}
		})
	}
	workers.Wait()
	return c.result
}

// byKey splits a batch into one list per key.
func byKey(list []stored) [][]stored {
	index := map[string]int{}
	var keys [][]stored
	for _, st := range list {
		i, ok := index[string(st.rec.Key)]
		if !ok {
			i = len(keys)
			index[string(st.rec.Key)] = i
			keys = append(keys, nil)
		}
		keys[i] = append(keys[i], st)
	}
	return keys
}

// deliverKey stops at the first record that has to be tried again.
func (d *drainer) deliverKey(ctx context.Context, list []stored, c *collector) {
	for _, st := range list {
		if c.failed() {
			return
		}
		o := d.offer(ctx, st)
		c.add(o)
		if o.err != nil {
			return
		}
	}
}

// outcome is what became of one record; one of the first two, or an error.
type outcome struct {
	entry          entry
	drained, aside bool
	err            error
}

func (d *drainer) offer(ctx context.Context, st stored) outcome {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.AttemptTimeout)
	defer cancel()
	err := d.next.Publish(ctx, st.rec)
	switch {
	case err == nil:
		return outcome{entry: st.entry, drained: true}
	case d.cfg.Permanent(err):
		return d.putAside(st, err, opPublish)
	}
	if ctx.Err() == nil || !errors.Is(ctx.Err(), context.Canceled) { // not a shutdown
		d.metrics.failed(opPublish)
	}
	return outcome{entry: st.entry, err: err}
}

// putAside gets a record out of the way that nothing can be done with now.
func (d *drainer) putAside(st stored, cause error, op string) outcome {
	d.metrics.failed(op)
	if err := d.store.setAside([]entry{st.entry}); err != nil {
		return outcome{entry: st.entry, err: fmt.Errorf("set a record aside: %w", err)}
	}
	d.aside.Add(1)
	d.metrics.setAside.Inc()
	d.cfg.Logger.Error("spool: an event that the log will not take is set aside in the spool's file; the next start offers it again",
		"dir", d.cfg.Dir, "seq", st.seq, "key", clip(string(st.rec.Key)), "bytes", st.size, "error", cause)
	return outcome{entry: st.entry, aside: true}
}

func clip(s string) string { return s[:min(len(s), 80)] }

// collector gathers outcomes.
type collector struct {
	mu sync.Mutex
	result
}

func (c *collector) add(o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case o.drained:
		c.drained = append(c.drained, o.entry)
	case o.aside:
		c.aside = append(c.aside, o.entry)
	case c.err == nil:
		c.err = o.err
	}
}

func (c *collector) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// complain logs the first failure of a series, and now and then how far it has got.
func (d *drainer) complain(err error) {
	now := time.Now()
	if d.failing && now.Sub(d.reminded) < d.cfg.RemindEvery {
		return
	}
	d.failing, d.reminded = true, now
	n, bytes, oldest := d.Depth()
	d.cfg.Logger.Warn("spool: the log does not take what waits on the disk; trying again until it does",
		"events", n, "bytes", bytes, "max_bytes", d.cfg.MaxBytes, "oldest", oldest, "error", err)
}

// relax says when the spool is empty again.
func (d *drainer) relax() {
	if n, _, _ := d.Depth(); n > 0 {
		return
	}
	d.failing = false
	d.cfg.Logger.Info("spool: everything that waited on the disk is in the log")
}
