package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Sink writes the partitions of its sessions to the store.
type Sink struct {
	cfg     Config
	store   Store
	dead    DeadLetters
	log     *slog.Logger
	metrics *Metrics
	state   state
}

// New makes a sink. It does nothing until [Sink.Run].
func New(cfg Config, store Store, dead DeadLetters) (*Sink, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(cfg.Registerer)
	}
	return &Sink{cfg: cfg, store: store, dead: dead, log: cfg.Logger, metrics: cfg.Metrics}, nil
}

// Run works on a session until ctx ends or its partitions are lost; both
// are no error. The batch in hand is finished first, within [Config.Grace].
func (s *Sink) Run(ctx context.Context, session Session) error {
	s.state.begin()
	defer s.state.end()
	err := s.run(ctx, session)
	if ctx.Err() != nil || errors.Is(err, ErrLost) {
		return nil
	}
	if errors.Is(err, errGone) {
		s.metrics.paused.Set(0)
		s.log.Warn("the session ends, and the next one reads again what the database has lost", "error", err)
		return nil
	}
	return err
}

func (s *Sink) run(ctx context.Context, session Session) error {
	next, err := s.start(ctx, session)
	if err != nil {
		return err
	}
	pace := newPace(s.cfg.Interval, s.cfg.Now)
	for {
		s.state.reached(next)
		if err := pace.wait(ctx); err != nil {
			return err
		}
		polled, err := session.Poll(ctx, s.cfg.MaxRecords, s.cfg.MaxBytes)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		pace.started()
		if err := s.finish(ctx, session, polled, next); err != nil {
			return err
		}
		s.state.caughtUp(polled, next)
	}
}

// finish writes a batch and commits it. When ctx ends meanwhile it has
// [Config.Grace] left: stopping in the middle loses nothing, but costs a repetition.
func (s *Sink) finish(ctx context.Context, session Session, polled Batch, next map[int32]int64) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(s.cfg.Grace, cancel)
	})
	defer func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}()

	began := s.cfg.Now()
	if err := s.write(ctx, work, polled); err != nil {
		return err
	}
	advance(next, polled)
	if err := session.Commit(work, maps.Clone(next)); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	now := s.cfg.Now()
	s.metrics.batches.Inc()
	s.metrics.batchSize.Observe(float64(len(polled.Messages)))
	s.metrics.batchTime.Observe(now.Sub(began).Seconds())
	s.metrics.lastCommit.Set(float64(now.Unix()))
	return nil
}

// start decides where to read from: where the group left off, or, if ClickHouse
// holds less than that, where ClickHouse ends. That happens when its database
// was dropped, or restored from a backup, or lost its last rows with its power.
func (s *Sink) start(ctx context.Context, session Session) (map[int32]int64, error) {
	var ends map[int32]int64
	err := s.attempt(ctx, ctx, stepEnds, func(ctx context.Context) (err error) {
		ends, err = s.store.Ends(ctx, s.cfg.Topic)
		return err
	})
	if err != nil {
		return nil, err
	}
	next, rewound := startAt(session.Owned(), ends)
	if err := session.Begin(maps.Clone(next)); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	if len(rewound) == 0 {
		return next, nil
	}
	s.metrics.rewinds.Inc()
	s.log.Warn("ClickHouse holds fewer records than were committed: reading them again", "topic", s.cfg.Topic, "from", fmt.Sprint(rewound))
	s.state.rewound(rewound)
	// The committed offsets say what ClickHouse holds; others wait for them.
	if known := withoutUnknown(rewound); len(known) > 0 {
		if err := session.Commit(ctx, known); err != nil {
			return nil, fmt.Errorf("commit the rewound offsets: %w", err)
		}
	}
	return next, nil
}

// startAt returns where to read each partition, and those of them that go back.
func startAt(owned, ends map[int32]int64) (next, rewound map[int32]int64) {
	next, rewound = map[int32]int64{}, map[int32]int64{}
	for p, committed := range owned {
		end, stored := ends[p]
		switch {
		case committed <= 0:
			next[p] = committed
		case !stored:
			next[p], rewound[p] = 0, 0
		case end < committed:
			next[p], rewound[p] = end, end
		default:
			next[p] = committed
		}
	}
	return next, rewound
}

func withoutUnknown(offsets map[int32]int64) map[int32]int64 {
	known := map[int32]int64{}
	for p, o := range offsets {
		if o >= 0 {
			known[p] = o
		}
	}
	return known
}

func advance(next map[int32]int64, b Batch) {
	for _, r := range b.Trimmed {
		next[r.Partition] = max(next[r.Partition], r.To)
	}
	for i := range b.Messages {
		m := &b.Messages[i]
		next[m.Partition] = max(next[m.Partition], m.Offset+1)
	}
}

// attempt repeats a step until it succeeds, ctx ends or a row is to blame. An
// attempt itself runs under work, which outlives ctx by the grace.
func (s *Sink) attempt(ctx, work context.Context, step string, do func(context.Context) error) error {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval = 100 * time.Millisecond
	policy.MaxInterval = s.cfg.MaxBackoff
	var failing bool
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		var err error
		if failing && writes(step) {
			err = s.stillThere(work)
		}
		if err == nil {
			err = do(work)
		}
		if errors.Is(err, errGone) {
			return struct{}{}, backoff.Permanent(err)
		}
		if err == nil {
			return struct{}{}, nil
		}
		if work.Err() != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		class := s.cfg.Classify(err)
		s.metrics.failures.WithLabelValues(step, classNames[class]).Inc()
		if class == ClassRow {
			return struct{}{}, backoff.Permanent(err)
		}
		if s.fail(step, class, err) {
			failing = true
		}
		return struct{}{}, err
	}, backoff.WithBackOff(policy), backoff.WithMaxElapsedTime(0))
	if err == nil && failing {
		s.recover(step)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// fail notes a failure, and logs it if it is not the one that was logged last.
func (s *Sink) fail(step string, class Class, err error) bool {
	if class == ClassPause {
		s.metrics.paused.Set(1)
	}
	if s.state.failing(step, err) {
		s.log.Error("cannot write: nothing is lost, the sink tries again until it can", "step", step, "class", classNames[class], "error", err)
	}
	return true
}

func (s *Sink) recover(step string) {
	s.metrics.paused.Set(0)
	s.state.working()
	s.log.Info("writing again", "step", step)
}

// pace keeps batches apart, so that ClickHouse sees few parts under load.
type pace struct {
	interval time.Duration
	now      func() time.Time
	last     time.Time
}

func newPace(interval time.Duration, now func() time.Time) *pace {
	return &pace{interval: interval, now: now}
}

func (p *pace) started() { p.last = p.now() }

func (p *pace) wait(ctx context.Context) error {
	if p.last.IsZero() {
		return ctx.Err()
	}
	// Never longer than the interval, whatever the clock did meanwhile.
	t := time.NewTimer(min(p.last.Add(p.interval).Sub(p.now()), p.interval))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
