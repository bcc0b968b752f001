package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
	"qunfa/internal/ingest"
	"qunfa/internal/kafka"
	"qunfa/internal/reconcile"
	"qunfa/internal/sink"
)

// publisher lets ingest and reconcile write through a producer.
type publisher struct {
	producer *kafka.Producer
	admit    func() error // may be nil
}

// errDown is the answer while Kafka is known to be down: trying would only use
// up the seconds that WeChat waits.
var errDown = errors.New("kafka cannot be reached at the moment")

func (p publisher) Publish(ctx context.Context, r events.Record) error {
	if err := admitted(p.admit); err != nil {
		return err
	}
	if p.producer.Down() {
		return errDown
	}
	return p.send(ctx, r)
}

// admitted says why no more events can be taken at the moment; admit may be nil.
func admitted(admit func() error) error {
	if admit == nil {
		return nil
	}
	return admit()
}

// send writes a record, and tells ingest the errors that it has words for.
func (p publisher) send(ctx context.Context, r events.Record) error {
	_, err := p.producer.Produce(ctx, r)
	switch {
	case errors.Is(err, kafka.ErrOverloaded):
		return fmt.Errorf("%w: %w", ingest.ErrOverloaded, err)
	case isRefused(err):
		return fmt.Errorf("%w: %w", ingest.ErrTooLarge, err)
	}
	return err
}

// deadLetters lets the sink write to the dead-letter topic.
type deadLetters struct{ producer *kafka.Producer }

func (d deadLetters) Publish(ctx context.Context, r ...events.Record) error {
	return d.producer.ProduceAll(ctx, r)
}

// session lets the sink read a generation.
type session struct{ *kafka.Generation }

func (s session) Poll(ctx context.Context, maxRecords, maxBytes int) (sink.Batch, error) {
	messages, err := s.Generation.Poll(ctx, maxRecords, maxBytes)
	if err != nil {
		return sink.Batch{}, lost(err)
	}
	b := sink.Batch{Messages: messages}
	for _, r := range s.Trimmed() {
		b.Trimmed = append(b.Trimmed, sink.Range{Partition: r.Partition, From: r.From, To: r.To})
	}
	return b, nil
}

func (s session) Commit(ctx context.Context, next map[int32]int64) error {
	return lost(s.Generation.Commit(ctx, next))
}

func lost(err error) error {
	if errors.Is(err, kafka.ErrGenerationEnded) {
		return fmt.Errorf("%w: %w", sink.ErrLost, err)
	}
	return err
}

// classify tells the sink what to do about an error of ClickHouse.
func classify(err error) sink.Class {
	if errors.Is(err, errRecreated) {
		return sink.ClassPause
	}
	switch clickhouse.ClassOf(err) {
	case clickhouse.ClassAuth, clickhouse.ClassMissing, clickhouse.ClassSchema, clickhouse.ClassFull:
		return sink.ClassPause
	case clickhouse.ClassRow:
		return sink.ClassRow
	}
	return sink.ClassRetry
}

// store lets the sink write the projection.
type store struct {
	*clickhouse.DB
	client *kafka.Client

	mu   sync.Mutex
	log  string          // the name under which records are stored, as Ends found it
	last map[int32]int64 // the last offset of each partition that is known to be stored
}

// errReplaced makes the sink look where the database ends, and read again from there.
var errReplaced = errors.New("records that were stored are not there any more: the database was made anew, or restored from a backup")

// Ends finds out under which name the records of the topic are stored, and
// refuses a topic that is another than the one they are of.
func (s *store) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	generation, err := s.Generation(ctx, topic)
	if err != nil {
		return nil, err
	}
	log := clickhouse.LogName(topic, generation)
	stored, err := s.DB.Ends(ctx, log)
	if err != nil {
		return nil, err
	}
	if err := recognise(ctx, s.client, s.DB, topic, log, stored); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.last = log, map[int32]int64{}
	for p, end := range stored {
		s.last[p] = end - 1
	}
	return stored, nil
}

// InsertEvents implements [sink.Store].
func (s *store) InsertEvents(ctx context.Context, evs []events.Event) error {
	if log := s.logName(); len(evs) > 0 && log != evs[0].Position.Topic {
		evs = slices.Clone(evs)
		for i := range evs {
			evs[i].Position.Topic = log
		}
	}
	return s.DB.InsertEvents(ctx, evs)
}

// InsertRecords implements [sink.Store]. It refuses a database in which the last
// records are missing: with these it would look complete, and what was lost with
// the old one would never be read again.
func (s *store) InsertRecords(ctx context.Context, fates []events.Fate) error {
	log := s.logName()
	if there, err := s.HasRecords(ctx, log, s.known()); err != nil {
		return err
	} else if !there {
		return errReplaced
	}
	if len(fates) > 0 && log != fates[0].Topic {
		fates = slices.Clone(fates)
		for i := range fates {
			fates[i].Topic = log
		}
	}
	if err := s.DB.InsertRecords(ctx, fates); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range fates {
		s.last[fates[i].Partition] = max(s.last[fates[i].Partition], fates[i].Offset)
	}
	return nil
}

func (s *store) known() map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.last)
}

func (s *store) logName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log
}

// pendingStore lets reconcile read the projection.
type pendingStore struct{ db *clickhouse.DB }

func (s pendingStore) Pending(ctx context.Context, q reconcile.PendingQuery) ([]reconcile.Pending, error) {
	found, err := s.db.Pending(ctx, q.SubmittedBefore, q.After, q.Limit)
	if err != nil {
		return nil, err
	}
	page := make([]reconcile.Pending, len(found))
	for i, p := range found {
		page[i] = reconcile.Pending(p)
	}
	return page, nil
}

// ClockSkew implements [reconcile.Store].
func (s pendingStore) ClockSkew(ctx context.Context) (time.Duration, error) {
	return s.db.ClockSkew(ctx)
}

// progress says how much of the log is in the projection.
type progress struct {
	client     *kafka.Client
	db         *clickhouse.DB
	topic      string
	sinkGroup  string
	partitions int // as it was when the topic was found; it never changes
	catchUp    catchUp

	mu     sync.Mutex
	stored map[int32]int64 // where ClickHouse ended when it was last asked
	asked  time.Time
	clock  func() time.Time
}

// EndOffsets leaves out partitions that hold nothing: there is nothing to wait for.
func (p *progress) EndOffsets(ctx context.Context) (map[int32]int64, error) {
	ends, err := p.client.EndOffsets(ctx, p.topic)
	if err != nil {
		return nil, p.client.Diagnose(ctx, err)
	}
	firsts, err := p.client.FirstOffsets(ctx, p.topic)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(ends, func(partition int32, end int64) bool { return firsts[partition] >= end })
	return ends, nil
}

// SinkCommitted believes the group's offsets only as far as ClickHouse holds
// the records: of a database that was dropped, or restored from a backup, the
// group knows nothing until the sink starts again.
func (p *progress) SinkCommitted(ctx context.Context) (map[int32]int64, error) {
	committed, err := p.client.CommittedOffsets(ctx, p.sinkGroup, p.topic)
	if err != nil {
		return nil, p.client.Diagnose(ctx, err)
	}
	stored, err := p.storedUpTo(ctx, committed)
	if err != nil {
		return nil, err
	}
	for partition, offset := range committed {
		if offset > 0 {
			committed[partition] = min(offset, stored[partition])
		}
	}
	return committed, nil
}

// storedUpTo asks ClickHouse again only when the offsets have moved beyond what
// it was known to hold.
func (p *progress) storedUpTo(ctx context.Context, committed map[int32]int64) (map[int32]int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	enough := true
	for partition, offset := range committed {
		enough = enough && p.stored[partition] >= offset
	}
	if enough && p.clock().Sub(p.asked) < storedTTL {
		return p.stored, nil
	}
	stored, err := p.db.CurrentEnds(ctx, p.topic)
	if err != nil {
		return nil, err
	}
	p.stored, p.asked = stored, p.clock()
	return stored, nil
}

// storedTTL bounds how long a database that was dropped goes unnoticed.
const storedTTL = 10 * time.Second

func (p *progress) PartitionOf(appid string) int32 {
	return kafka.PartitionFor([]byte(appid), p.partitions)
}

// Missing returns how many records the projection lacks before it can be shown.
func (p *progress) Missing(ctx context.Context) (int64, error) {
	ends, err := p.EndOffsets(ctx)
	if err != nil {
		return 0, err
	}
	visible, err := p.SinkCommitted(ctx)
	if err != nil {
		return 0, err
	}
	return p.catchUp.missing(ends, visible), nil
}

// cached answers from memory for a while: several scrapers ask at once, and
// each answer costs the database a query.
type cached[T any] struct {
	mu    sync.Mutex
	ttl   time.Duration
	clock func() time.Time
	at    time.Time
	value T
	err   error
}

func (c *cached[T]) get(ctx context.Context, make func(context.Context) (T, error)) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.clock(); c.at.IsZero() || now.Sub(c.at) >= c.ttl || now.Before(c.at) {
		c.value, c.err = make(ctx)
		if ctx.Err() == nil { // an answer cut short by its asker is nobody else's
			c.at = now
		}
	}
	return c.value, c.err
}
