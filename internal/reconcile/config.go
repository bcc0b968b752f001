package reconcile

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how hard to ask. Zero values mean the defaults given here.
type Config struct {
	// Instance names this replica in events; two replicas must not share it.
	Instance string
	Schedule Schedule

	RoundInterval  time.Duration // from the start of a round to the start of the next: 15 s
	IdleInterval   time.Duration // the same at most, when nothing is due before: 60 s
	BarrierTimeout time.Duration // how long a round waits for the sink: 60 s
	BarrierPoll    time.Duration // how often it looks meanwhile: 200 ms

	Workers     int // accounts asked about at the same time: 16
	MaxPolls    int // polls in a round: 2,000
	MaxAbandons int // messages given up in a round: 10,000
	PageSize    int // pending messages read at once: 10,000

	// WeChat takes 60 requests a minute and account across all mass endpoints.
	// At the defaults a replica makes at most 25 in any minute, so that the
	// account's own sends, and a second replica during a handover, fit beside it.
	PollsPerMinute float64 // of one account: 20
	Burst          int     // polls of one account in a round: those of one round interval, 5

	ReadTimeout    time.Duration // for one answer of the log or the projection: 30 s
	AskTimeout     time.Duration // for one answer of WeChat: 10 s
	PublishTimeout time.Duration // for one event to be in the log: 10 s
	MaxClockSkew   time.Duration // how far our clock may be from the database's: 5 min

	// Calls of mass/get that are left to others: the larger of QuotaFloor (10)
	// and QuotaReserve (0.1) of the daily limit, but never more than half of it.
	QuotaFloor    int64
	QuotaReserve  float64
	QuotaInterval time.Duration // how old a reading of the quota may be: 1 h
	// QuotaZone is where WeChat's day begins at midnight: Asia/Shanghai.
	QuotaZone *time.Location

	RetryBackoff   Backoff       // after "busy" or no answer: 5 s to 10 min
	TokenBackoff   Backoff       // after a refused token: 1 min to 1 h
	RateBackoff    Backoff       // after 45011, never less than Initial: 1 min to 15 min
	BlockedRetry   time.Duration // after an error that only people can mend: 1 h
	ForgetAfter    time.Duration // when the state of an idle account is dropped: 1 h
	MetricAccounts int           // accounts with a quota series of their own: 500

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Clock      func() time.Time
}

// Backoff is a wait that doubles from Initial to Max, give or take a fifth.
type Backoff struct{ Initial, Max time.Duration }

// DefaultConfig returns the configuration of production, without a name.
func DefaultConfig() Config {
	return Config{
		Schedule:       DefaultSchedule(),
		RoundInterval:  15 * time.Second,
		IdleInterval:   time.Minute,
		BarrierTimeout: time.Minute,
		BarrierPoll:    200 * time.Millisecond,
		Workers:        16,
		MaxPolls:       2_000,
		MaxAbandons:    10_000,
		PageSize:       10_000,
		PollsPerMinute: 20,
		Burst:          5,
		ReadTimeout:    30 * time.Second,
		AskTimeout:     10 * time.Second,
		PublishTimeout: 10 * time.Second,
		MaxClockSkew:   5 * time.Minute,
		QuotaFloor:     10,
		QuotaReserve:   0.1,
		QuotaInterval:  time.Hour,
		// China has kept one time all year since 1991, so no time zone data is needed.
		QuotaZone:      time.FixedZone("Asia/Shanghai", 8*60*60),
		RetryBackoff:   Backoff{Initial: 5 * time.Second, Max: 10 * time.Minute},
		TokenBackoff:   Backoff{Initial: time.Minute, Max: time.Hour},
		RateBackoff:    Backoff{Initial: time.Minute, Max: 15 * time.Minute},
		BlockedRetry:   time.Hour,
		ForgetAfter:    time.Hour,
		MetricAccounts: 500,
		Logger:         slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registerer:     prometheus.NewRegistry(),
		Clock:          time.Now,
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	if c.Schedule.isZero() {
		c.Schedule = d.Schedule
	}
	or(&c.RoundInterval, d.RoundInterval)
	or(&c.IdleInterval, max(d.IdleInterval, c.RoundInterval))
	or(&c.BarrierTimeout, d.BarrierTimeout)
	or(&c.BarrierPoll, d.BarrierPoll)
	or(&c.Workers, d.Workers)
	or(&c.MaxPolls, d.MaxPolls)
	or(&c.MaxAbandons, d.MaxAbandons)
	or(&c.PageSize, d.PageSize)
	or(&c.PollsPerMinute, d.PollsPerMinute)
	// As many as come in between two rounds, or the rate would not be reached.
	or(&c.Burst, max(1, int(c.PollsPerMinute*c.RoundInterval.Minutes())))
	or(&c.ReadTimeout, d.ReadTimeout)
	or(&c.AskTimeout, d.AskTimeout)
	or(&c.PublishTimeout, d.PublishTimeout)
	or(&c.MaxClockSkew, d.MaxClockSkew)
	or(&c.QuotaFloor, d.QuotaFloor)
	or(&c.QuotaReserve, d.QuotaReserve)
	or(&c.QuotaInterval, d.QuotaInterval)
	or(&c.QuotaZone, d.QuotaZone)
	or(&c.RetryBackoff, d.RetryBackoff)
	or(&c.TokenBackoff, d.TokenBackoff)
	or(&c.RateBackoff, d.RateBackoff)
	or(&c.BlockedRetry, d.BlockedRetry)
	or(&c.ForgetAfter, d.ForgetAfter)
	or(&c.MetricAccounts, d.MetricAccounts)
	or(&c.Logger, d.Logger)
	if c.Registerer == nil {
		c.Registerer = d.Registerer
	}
	if c.Clock == nil {
		c.Clock = d.Clock
	}
	return c
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Scaled returns the configuration with all waits that belong to WeChat multiplied by
// factor, and rounds that follow as closely as that needs: a demo plays three days in a
// minute. The barrier and the timeouts stay, for Kafka and ClickHouse do not
// get faster; so does the rate of polls, which the real minute of WeChat limits.
func (c Config) Scaled(factor float64) Config {
	c = c.withDefaults()
	scale := func(d time.Duration, least time.Duration) time.Duration {
		return max(least, time.Duration(float64(d)*factor))
	}
	const tick = 100 * time.Millisecond
	both := func(b Backoff) Backoff { return Backoff{scale(b.Initial, tick), scale(b.Max, tick)} }
	c.Schedule = c.Schedule.Scaled(factor)
	c.RoundInterval = scale(c.RoundInterval, 5*tick)
	c.IdleInterval = scale(c.IdleInterval, 5*tick)
	c.RetryBackoff, c.TokenBackoff, c.RateBackoff = both(c.RetryBackoff), both(c.TokenBackoff), both(c.RateBackoff)
	c.BlockedRetry = scale(c.BlockedRetry, 10*tick)
	c.QuotaInterval = scale(c.QuotaInterval, 10*tick)
	return c
}

// Validate says what is wrong with a configuration; zero values are not.
func (c Config) Validate() error {
	c = c.withDefaults()
	errs := []error{c.Schedule.Validate()}
	if c.Instance == "" {
		errs = append(errs, errors.New("instance: want a name that no other replica has"))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"round interval", c.RoundInterval},
		{"barrier timeout", c.BarrierTimeout},
		{"barrier poll", c.BarrierPoll},
		{"read timeout", c.ReadTimeout},
		{"ask timeout", c.AskTimeout},
		{"publish timeout", c.PublishTimeout},
		{"clock skew", c.MaxClockSkew},
		{"quota interval", c.QuotaInterval},
		{"retry backoff", c.RetryBackoff.Initial},
		{"token backoff", c.TokenBackoff.Initial},
		{"rate backoff", c.RateBackoff.Initial},
		{"blocked retry", c.BlockedRetry},
		{"forget after", c.ForgetAfter},
	} {
		if d.d <= 0 {
			errs = append(errs, fmt.Errorf("%s %s: want more than 0", d.name, d.d))
		}
	}
	if c.IdleInterval < c.RoundInterval {
		errs = append(errs, fmt.Errorf("idle interval %s: want at least the round interval %s", c.IdleInterval, c.RoundInterval))
	}
	for _, n := range []struct {
		name string
		n    float64
	}{
		{"workers", float64(c.Workers)},
		{"polls in a round", float64(c.MaxPolls)},
		{"abandons in a round", float64(c.MaxAbandons)},
		{"page size", float64(c.PageSize)},
		{"polls per minute", c.PollsPerMinute},
		{"burst", float64(c.Burst)},
	} {
		if n.n <= 0 {
			errs = append(errs, fmt.Errorf("%s %g: want more than 0", n.name, n.n))
		}
	}
	return errors.Join(errs...)
}
