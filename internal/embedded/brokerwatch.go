package embedded

import (
	"context"
	"errors"
	"time"
)

// watchSize keeps an eye on the size of the log until ctx ends.
func (b *Broker) watchSize(ctx context.Context) {
	tick := time.NewTicker(b.config.WatchInterval)
	defer tick.Stop()
	var warnedAt int64 // the size at the last warning, 0 while below the cap
	for {
		size, err := b.LogBytes(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.logger.Warn("cannot measure the log of the embedded broker", "err", err)
		default:
			b.metrics.logBytes.Set(float64(size))
			warnedAt = b.limitSize(ctx, size, warnedAt)
			b.full.Store(warnedAt > 0)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// limitSize trims a log that is over its cap, and warns when that is not
// enough, again each time it grew by a tenth. It returns the size at the last
// warning.
func (b *Broker) limitSize(ctx context.Context, size, warnedAt int64) int64 {
	if size <= b.config.MaxLogBytes {
		return 0
	}
	left, err := b.trimStored(ctx)
	if err != nil {
		if ctx.Err() == nil {
			b.logger.Warn("cannot trim the log of the embedded broker", "err", err)
		}
		left = size
	}
	if left < size {
		b.logger.Warn("the log of the embedded broker reached its cap and was trimmed; what was trimmed is in ClickHouse only, and a rebuild reads it there",
			"bytes_before", size, "bytes", left, "cap", b.config.MaxLogBytes)
	}
	if left <= b.config.MaxLogBytes {
		return 0
	}
	if left < warnedAt+warnedAt/10 {
		return warnedAt
	}
	b.logger.Warn("the log of the embedded broker is over its cap; after a crash as much memory is needed to read it again",
		"bytes", left, "cap", b.config.MaxLogBytes)
	return left
}

// trimStored trims what is stored elsewhere and returns the size that is left.
func (b *Broker) trimStored(ctx context.Context) (int64, error) {
	if b.config.Stored == nil {
		return b.LogBytes(ctx)
	}
	stored, err := b.config.Stored(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for topic, partitions := range stored {
		for partition, before := range partitions {
			_, err := b.Trim(ctx, topic, partition, before)
			errs = append(errs, err)
		}
	}
	size, err := b.LogBytes(ctx)
	return size, errors.Join(append(errs, err)...)
}
