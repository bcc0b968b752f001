package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"qunfa/internal/sample"
)

// Handler works through one generation. ctx ends with the generation (its cause
// is then [ErrGenerationEnded]) or when Run is to end; the handler finishes what
// it has in hand, commits it, and returns. Until then the other members wait, for
// RebalanceTimeout at most. Heartbeats go on while it works.
type Handler func(ctx context.Context, g *Generation) error

// Group is one member of a consumer group that reads one topic.
type Group struct {
	client  *Client
	cfg     GroupConfig
	log     *slog.Logger
	sampler *sample.Logger
	metrics *groupMetrics

	current atomic.Pointer[Generation]
	mu      sync.Mutex
	health  error
}

// sampleEvery is how often a line about the same trouble is written.
const sampleEvery = 5 * time.Second

// errNotJoined is the health of a member before its first generation.
var errNotJoined = errors.New("not in the consumer group yet")

// NewGroup checks the configuration. Nothing starts before [Group.Run].
func NewGroup(client *Client, cfg GroupConfig, log *slog.Logger, reg prometheus.Registerer) (*Group, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newGroupMetrics(reg, cfg.GroupID, cfg.Topic)
	if err != nil {
		return nil, fmt.Errorf("kafka: group %s: %w", cfg.GroupID, err)
	}
	log = cmp.Or(log, slog.New(slog.DiscardHandler)).With("group", cfg.GroupID, "topic", cfg.Topic)
	return &Group{client: client, cfg: cfg, log: log, sampler: sample.New(log, sample.Config{Every: sampleEvery}), metrics: m, health: errNotJoined}, nil
}

// Healthy returns nil while the member is part of a generation and can read its
// partitions, or why not.
func (g *Group) Healthy() error {
	g.mu.Lock()
	err := g.health
	g.mu.Unlock()
	if gen := g.current.Load(); err == nil && gen != nil {
		err = gen.unreadable(time.Now())
	}
	return wrap(err, "group %s", g.cfg.GroupID)
}

func (g *Group) setHealth(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health = err
}

// Lag returns how far the group is behind in the partitions that are this
// member's right now. Partitions of which nothing is known yet are missing.
func (g *Group) Lag() map[int32]Lag {
	gen := g.current.Load()
	if gen == nil {
		return nil
	}
	return gen.lag(time.Now())
}

// Run takes part in the group until ctx ends, and then leaves it and returns
// nil. It calls handle for one generation after the other, never for two at a
// time. A handler that returns because its generation has ended, or without an
// error, is called again with the next generation; any other error of a handler
// ends Run and is returned. Trouble with Kafka never ends Run: it is logged,
// counted, shown by Healthy, and tried again.
func (g *Group) Run(ctx context.Context, handle Handler) error {
	g.metrics.lag.add(g)
	defer g.metrics.lag.remove(g)
	defer g.setHealth(errNotJoined)
	var old sync.WaitGroup
	defer old.Wait()
	for brokers := g.client.Brokers(); ; brokers = rotate(brokers) {
		if !g.awaitTopic(ctx) {
			return nil
		}
		m, err := g.newMember(brokers)
		if err != nil {
			return err
		}
		again, err := g.take(ctx, m, handle)
		if !again {
			m.close(g.cfg.LeaveTimeout)
			return err
		}
		// A frozen broker may hold the old member for as long as it is frozen.
		old.Go(func() { m.close(g.cfg.LeaveTimeout) })
		if !sleep(ctx, g.cfg.JoinBackoff) {
			return nil
		}
	}
}

// awaitTopic waits until the topic exists. kafka-go would join without it, end
// the generation at once, and do so again without a pause; and its requests
// create the topic, with the broker's defaults, where brokers allow that.
func (g *Group) awaitTopic(ctx context.Context) bool {
	for {
		if _, err := g.client.lookForTopic(ctx, g.cfg.Topic); err == nil {
			return true
		} else if ctx.Err() == nil {
			g.joinFailed(err)
		}
		if !sleep(ctx, g.cfg.JoinBackoff) {
			return false
		}
	}
}

// rotate moves the first broker to the end: kafka-go always asks the first one
// that accepts a connection, even if it never answers.
func rotate(brokers []string) []string {
	return append(brokers[1:len(brokers):len(brokers)], brokers[0])
}

// member is our place in the group together with its connections.
type member struct {
	group *kafka.ConsumerGroup
	conns *cutter
}

func (g *Group) newMember(brokers []string) (*member, error) {
	conns := newCutter(g.client.dial)
	cg, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                     g.cfg.GroupID,
		Brokers:                brokers,
		Dialer:                 g.client.dialer(conns.Dial),
		Topics:                 []string{g.cfg.Topic},
		HeartbeatInterval:      g.cfg.HeartbeatInterval,
		SessionTimeout:         g.cfg.SessionTimeout,
		RebalanceTimeout:       g.cfg.RebalanceTimeout,
		JoinGroupBackoff:       g.cfg.JoinBackoff,
		PartitionWatchInterval: g.cfg.WatchInterval,
		WatchPartitionChanges:  true,
		StartOffset:            kafka.FirstOffset,
		Timeout:                g.cfg.RequestTimeout,
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) {
			g.log.Debug("kafka-go: " + fmt.Sprintf(format, args...)) // Next returns what matters of it
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("kafka: group %s: %w", g.cfg.GroupID, err)
	}
	return &member{cg, conns}, nil
}

// close leaves the group, politely for as long as grace.
func (m *member) close(grace time.Duration) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = m.group.Close() // never fails
	}()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
		m.conns.Cut()
		<-gone
	}
}

// take serves the member's generations. It returns true if the member is of no
// more use and another one should take its place.
func (g *Group) take(ctx context.Context, m *member, handle Handler) (again bool, err error) {
	for {
		kg, err := m.group.Next(ctx)
		if ctx.Err() != nil {
			return false, nil
		}
		if err != nil {
			g.joinFailed(err)
			var code kafka.Error
			if !errors.As(err, &code) {
				return true, nil
			}
			continue // kafka-go waits for JoinBackoff by itself
		}
		if err := g.serve(ctx, kg, handle); err != nil {
			return false, err
		}
		if ctx.Err() != nil {
			return false, nil
		}
	}
}

func (g *Group) joinFailed(err error) {
	g.setHealth(err)
	g.metrics.joinErrors.WithLabelValues(string(ClassOf(err))).Inc()
	g.sampler.Warn("cannot take part in the consumer group; trying again", g.client.told(err)...)
}

// serve runs the handler for one generation and waits for it.
func (g *Group) serve(ctx context.Context, kg *kafka.Generation, handle Handler) error {
	hctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	gen := newGeneration(hctx, g, kg, end)
	finished := make(chan struct{})
	// kafka-go rejoins only when every function of a generation has returned,
	// and ends the generation when one does: this is the handler's stand-in.
	kg.Start(func(kctx context.Context) {
		select {
		case <-kctx.Done():
			end(ErrGenerationEnded)
			<-finished
		case <-finished:
		}
	})
	g.enter(gen)
	start := time.Now()
	err := handle(hctx, gen)
	ended := hctx.Err() != nil
	gen.close()
	g.leave(gen)
	close(finished)
	if err != nil && !ended && !errors.Is(err, ErrGenerationEnded) {
		return err
	}
	if !ended || len(gen.parts) == 0 && time.Since(start) < g.cfg.JoinBackoff {
		// Neither a handler that gives up at once may spin, nor a member of a
		// group whose topic was deleted: kafka-go ends its generations at once.
		sleep(ctx, g.cfg.JoinBackoff)
	}
	return nil
}

func (g *Group) enter(gen *Generation) {
	g.metrics.generations.Inc()
	g.current.Store(gen)
	g.setHealth(nil)
	g.log.Info("joined the consumer group", "generation", gen.ID, "member", gen.MemberID, "partitions", gen.partitions())
}

func (g *Group) leave(gen *Generation) {
	g.current.CompareAndSwap(gen, nil)
	g.setHealth(errNotJoined)
	g.log.Info("the generation has ended", "generation", gen.ID)
}

// commit makes one attempt.
func (g *Group) commit(ctx context.Context, generation int32, memberID string, next map[int32]int64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	commits := make([]kafka.OffsetCommit, 0, len(next))
	for _, p := range sortedKeys(next) {
		commits = append(commits, kafka.OffsetCommit{Partition: int(p), Offset: next[p]})
	}
	res, err := g.client.kc.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID:      g.cfg.GroupID,
		GenerationID: int(generation),
		MemberID:     memberID,
		Topics:       map[string][]kafka.OffsetCommit{g.cfg.Topic: commits},
	})
	if err != nil {
		return err
	}
	for _, p := range res.Topics[g.cfg.Topic] {
		if p.Error != nil {
			return partitionError(p.Partition, p.Error)
		}
	}
	if n := len(res.Topics[g.cfg.Topic]); n != len(next) {
		return fmt.Errorf("the broker answered for %d of %d partitions: %w", n, len(next), kafka.GroupCoordinatorNotAvailable)
	}
	return nil
}

func (g *Group) fetchFailed(partition int32, err error) {
	g.metrics.fetchErrors.WithLabelValues(string(ClassOf(err))).Inc()
	g.sampler.Warn("cannot read a partition; trying again", append(g.client.told(err), "partition", partition)...)
}

func (g *Group) fetched(items []item) {
	bytes := 0
	for _, it := range items {
		bytes += it.size
	}
	g.metrics.records.Add(float64(len(items)))
	g.metrics.bytes.Add(float64(bytes))
	g.metrics.prefetched.Add(float64(bytes))
}

func (g *Group) trimmed(r Range) {
	g.metrics.trimmed.Add(float64(r.To - r.From))
	g.log.Error("records were deleted from the topic before they were read; going on behind them",
		"partition", r.Partition, "from", r.From, "to", r.To, "records", r.To-r.From)
}
