package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxSampled bounds how many different messages a [Sampler] tells apart. Ours
// are constants; a message made of data would fill the memory otherwise.
const maxSampled = 1000

// Sampler lets through at most so many lines of each message and level per
// interval. At the end of an interval in which lines were dropped it writes the
// message once more with similar_dropped, their number.
type Sampler struct {
	limit    int
	interval time.Duration

	mu      sync.Mutex
	windows map[sampleKey]*window
	closed  bool
}

type sampleKey struct {
	level   slog.Level
	message string
}

// window is one interval of one message. It exists from the first line to the
// interval's end.
type window struct {
	lines, dropped int
	next           slog.Handler // of the line dropped last
	timer          *time.Timer
}

// NewSampler returns a sampler for up to limit lines per interval.
func NewSampler(limit int, interval time.Duration) *Sampler {
	return &Sampler{limit: limit, interval: interval, windows: map[sampleKey]*window{}}
}

// Logger returns l, sampled. Loggers made from it with With share its limits,
// and so do other loggers of the same sampler.
func (s *Sampler) Logger(l *slog.Logger) *slog.Logger {
	return slog.New(sampled{s, l.Handler()})
}

// Close writes what is left to say about dropped lines, and from then on lets
// everything through.
func (s *Sampler) Close() {
	s.mu.Lock()
	s.closed = true
	windows := s.windows
	s.windows = nil
	s.mu.Unlock()
	for key, w := range windows {
		w.timer.Stop()
		s.report(key, w)
	}
}

// admit counts a line and says whether it is to be written.
func (s *Sampler) admit(key sampleKey, next slog.Handler) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	w := s.windows[key]
	if w == nil {
		if len(s.windows) >= maxSampled {
			return true
		}
		w = &window{timer: time.AfterFunc(s.interval, func() { s.end(key) })}
		s.windows[key] = w
	}
	w.lines++
	if w.lines <= s.limit {
		return true
	}
	w.dropped++
	w.next = next
	return false
}

func (s *Sampler) end(key sampleKey) {
	s.mu.Lock()
	w := s.windows[key]
	delete(s.windows, key)
	s.mu.Unlock()
	if w != nil { // Close may have been faster
		s.report(key, w)
	}
}

func (s *Sampler) report(key sampleKey, w *window) {
	if w.dropped == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), key.level, key.message, 0)
	r.AddAttrs(slog.Int("similar_dropped", w.dropped), slog.Duration("within", s.interval))
	_ = w.next.Handle(context.Background(), r) // as slog itself: there is nowhere to report it
}

// sampled is the handler in front of another.
type sampled struct {
	sampler *Sampler
	next    slog.Handler
}

func (h sampled) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h sampled) Handle(ctx context.Context, r slog.Record) error {
	if !h.sampler.admit(sampleKey{r.Level, r.Message}, h.next) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (h sampled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sampled{h.sampler, h.next.WithAttrs(attrs)}
}

func (h sampled) WithGroup(name string) slog.Handler {
	return sampled{h.sampler, h.next.WithGroup(name)}
}
