package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/daemon"
	"qunfa/internal/events"
)

// ServiceState is what an admin listener says.
type ServiceState struct {
	Address string          `json:"address"`
	Status  daemon.Status   `json:"status,omitempty"`
	Checks  []daemon.Result `json:"checks,omitempty"`
	Error   string          `json:"error,omitempty"`

	date string // of the answer, by the service's clock
}

// AdminURL is a page of an admin listener, whose address may be a URL.
func AdminURL(address, page string) string {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	return strings.TrimSuffix(address, "/") + page
}

// AskService asks a service whether it is ready.
func AskService(ctx context.Context, client *http.Client, address string) ServiceState {
	s := ServiceState{Address: address}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, AdminURL(address, "/readyz?format=json"), nil)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	res, err := client.Do(req)
	if err != nil {
		s.Error = fmt.Sprintf("does not answer: %v", err)
		return s
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&s); err != nil {
		s.Error = fmt.Sprintf("status %d with an answer that is not qunfa's: %v", res.StatusCode, err)
	}
	s.Address, s.date = address, res.Header.Get("Date")
	return s
}

// LogState is how long the log is and how far the sink has come. What is not
// known is nil, never 0.
type LogState struct {
	Topic       string         `json:"topic"`
	Partitions  []LogPartition `json:"partitions"`
	Lag         *int64         `json:"lag"` // records in Kafka and not yet in ClickHouse
	DeadTopic   string         `json:"dead_topic"`
	DeadLetters *int64         `json:"dead_letters"`      // nil: not counted, or not known
	OpenLetters *int64         `json:"dead_letters_open"` // of them, neither replayed nor dropped
	Error       string         `json:"error,omitempty"`
}

// LogPartition is a partition of the log.
type LogPartition struct {
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
	End       int64  `json:"end"`
	Committed *int64 `json:"committed"` // nil: the sink has never committed
	Lag       int64  `json:"lag"`
}

// NewLogState is one of which nothing is known yet.
func NewLogState(topic, deadTopic string) LogState {
	return LogState{Topic: topic, DeadTopic: deadTopic, Partitions: []LogPartition{}}
}

// Offsets is what status needs of a [Log].
type Offsets interface {
	FirstOffsets(ctx context.Context, topic string) (map[int32]int64, error)
	EndOffsets(ctx context.Context, topic string) (map[int32]int64, error)
	CommittedOffsets(ctx context.Context, group, topic string) (map[int32]int64, error)
}

// Ask fills in all but the dead letters. The error is not put into it: it may
// have to be explained first.
func (k *LogState) Ask(ctx context.Context, log Offsets, group string) error {
	committed, err := log.CommittedOffsets(ctx, group, k.Topic)
	if err != nil {
		return err
	}
	first, err := log.FirstOffsets(ctx, k.Topic)
	if err != nil {
		return err
	}
	ends, err := log.EndOffsets(ctx, k.Topic)
	if err != nil {
		return err
	}
	var lag int64
	for p, end := range ends {
		s := LogPartition{Partition: p, First: first[p], End: end}
		from := first[p]
		if c, ok := committed[p]; ok && c >= 0 {
			s.Committed, from = &c, max(c, first[p])
		}
		s.Lag = max(0, end-from)
		lag += s.Lag
		k.Partitions = append(k.Partitions, s)
	}
	slices.SortFunc(k.Partitions, func(a, b LogPartition) int { return int(a.Partition - b.Partition) })
	k.Lag = &lag
	return nil
}

// DatabaseState is a database and how much of the log it holds.
type DatabaseState struct {
	Version  string          `json:"version,omitempty"`
	Database string          `json:"database"`
	Schema   string          `json:"schema,omitempty"` // ok, or what is wrong with it
	Coverage []CoverageState `json:"coverage"`
	Error    string          `json:"error,omitempty"`
}

// CoverageState says whether every record of a partition is accounted for.
type CoverageState struct {
	Topic     string           `json:"topic"`
	Partition int32            `json:"partition"`
	First     int64            `json:"first"`
	Last      int64            `json:"last"`
	Records   int64            `json:"records"`
	Missing   int64            `json:"missing"`
	Kinds     map[string]int64 `json:"kinds"`
}

// Ask fills it in.
func (s *DatabaseState) Ask(ctx context.Context, db Database) error {
	server, err := db.InspectServer(ctx)
	if err != nil {
		return err
	}
	s.Version, s.Schema = server.Version, "ok"
	if err := db.CheckSchema(ctx); err != nil {
		s.Schema = err.Error()
		return nil
	}
	coverage, err := db.Coverage(ctx)
	if err != nil {
		return err
	}
	for _, c := range coverage {
		s.Coverage = append(s.Coverage, coverageState(c))
	}
	return nil
}

func coverageState(c clickhouse.Coverage) CoverageState {
	return CoverageState{c.Topic, c.Partition, c.First, c.Last, c.Records, c.Missing(), c.Kinds}
}

// MessagesState is how many messages ended how.
type MessagesState struct {
	Outcomes      map[string]int64 `json:"outcomes"` // nil: not known
	OldestPending *time.Time       `json:"oldest_pending"`
	Error         string           `json:"error,omitempty"`
}

// Ask fills it in.
func (s *MessagesState) Ask(ctx context.Context, db Reader) error {
	r, err := db.Query(ctx, "SELECT outcome, count(), minIf(submitted_at, outcome = 'pending') FROM messages GROUP BY outcome")
	if err != nil {
		return err
	}
	s.Outcomes = map[string]int64{}
	for _, o := range events.Outcomes() {
		s.Outcomes[string(o)] = 0
	}
	for _, row := range r.Rows {
		outcome, _ := row[0].(string)
		n, _ := row[1].(uint64)
		s.Outcomes[outcome] = int64(n)
		if at, ok := row[2].(time.Time); ok && outcome == string(events.OutcomePending) {
			s.OldestPending = &at
		}
	}
	return nil
}
