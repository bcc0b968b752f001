// Package sample keeps a log readable while the same thing happens again and
// again: it lets a few lines of each kind through per period and counts the rest.
package sample

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Config says how many lines pass.
type Config struct {
	// Every is the period. The first line of a kind begins one.
	Every time.Duration
	// Burst is how many lines of a kind pass in a period. Default 1.
	Burst int
	// Clock is for tests; nil is time.Now.
	Clock func() time.Time
}

// Logger writes the first lines of each kind in a period, and counts those that
// follow: the next one that passes says their number as similar_dropped. The hot
// path must not be slowed by its own log, least of all under attack, and an
// outage must not fill the disk with one sentence.
type Logger struct {
	log *slog.Logger
	cfg Config

	mu    sync.Mutex
	kinds map[string]*period
}

// period is the current one of a kind.
type period struct {
	since   time.Time
	written int
	dropped int
}

// New returns a sampled logger. It may be used by several goroutines.
func New(log *slog.Logger, cfg Config) *Logger {
	cfg.Burst = max(cfg.Burst, 1)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Logger{log: log, cfg: cfg, kinds: map[string]*period{}}
}

// Line logs msg, or counts it as dropped. Kinds are kept for ever, so they must
// come from a closed set.
func (l *Logger) Line(level slog.Level, kind, msg string, args ...any) {
	pass, dropped := l.admit(kind)
	if !pass {
		return
	}
	if dropped > 0 {
		args = append(args, "similar_dropped", dropped)
	}
	l.log.Log(context.Background(), level, msg, args...)
}

// Warn is Line for a message that is a kind of its own, and so a constant.
func (l *Logger) Warn(msg string, args ...any) { l.Line(slog.LevelWarn, msg, msg, args...) }

// Unsampled returns the logger behind.
func (l *Logger) Unsampled() *slog.Logger { return l.log }

func (l *Logger) admit(kind string) (pass bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Clock()
	p := l.kinds[kind]
	if p == nil {
		p = &period{since: now}
		l.kinds[kind] = p
	}
	if now.Sub(p.since) >= l.cfg.Every || now.Before(p.since) { // or the clock was set back
		dropped = p.dropped
		*p = period{since: now}
	}
	if p.written >= l.cfg.Burst {
		p.dropped++
		return false, 0
	}
	p.written++
	return true, dropped
}
