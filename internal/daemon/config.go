package daemon

import (
	"log/slog"
	"time"
)

// DefaultStopTimeout bounds a shutdown. Whoever stops a process from outside has
// to leave it a little more before SIGKILL.
const DefaultStopTimeout = 30 * time.Second

// Config configures a [Daemon]. The zero value is usable.
type Config struct {
	Logger *slog.Logger // nil: no logging

	// StopTimeout bounds the whole shutdown. Two thirds of it are for services
	// to return, the rest is for the steps. Default [DefaultStopTimeout].
	StopTimeout time.Duration
	// StepTimeout bounds each step of the shutdown. Default 5 s.
	StepTimeout time.Duration
}

func (c Config) withDefaults() Config {
	c.Logger = loggerOrNone(c.Logger)
	setDefault(&c.StopTimeout, DefaultStopTimeout)
	setDefault(&c.StepTimeout, 5*time.Second)
	return c
}

func loggerOrNone(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

func setDefault[T comparable](p *T, value T) {
	if *p == *new(T) {
		*p = value
	}
}
