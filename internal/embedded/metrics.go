package embedded

import "sync/atomic"

// engineMetrics are the figures of an [Engine].
type engineMetrics struct {
	restarts atomic.Uint64
	up       atomic.Bool
}
