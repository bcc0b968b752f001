package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// fakeDatabase is a ClickHouse that is as it should be, until a test changes it.
type fakeDatabase struct {
	now                                     func() time.Time
	zone                                    string
	serverErr, schemaErr, queryErr, restErr error
	missing                                 []string
	disks                                   []clickhouse.Disk
	sick                                    []clickhouse.SickTable
	generation                              int
	coverage                                []clickhouse.Coverage
	lost                                    []clickhouse.Lost
	outcomes                                [][]any
	accounts                                [][]any
}

func newFakeDatabase() *fakeDatabase {
	return &fakeDatabase{
		now: time.Now, zone: "Asia/Shanghai", generation: 1,
		disks:    []clickhouse.Disk{{Name: "default", Free: 50 << 30, Total: 100 << 30}},
		coverage: []clickhouse.Coverage{stored(0, 0, 9, 10)},
	}
}

// stored is a partition of which so many of the offsets are accounted for.
func stored(p int32, first, last, records int64) clickhouse.Coverage {
	return clickhouse.Coverage{Topic: topic, Partition: p, First: first, Last: last, Records: records, Kinds: map[string]int64{events.FateEvent: records}}
}

func (f *fakeDatabase) InspectServer(context.Context) (clickhouse.ServerState, error) {
	return clickhouse.ServerState{Version: "26.7.1", Now: f.now(), Uptime: 3 * time.Hour}, f.serverErr
}
func (f *fakeDatabase) CheckSchema(context.Context) error {
	return errors.Join(f.serverErr, f.schemaErr)
}
func (f *fakeDatabase) Location(context.Context) (*time.Location, error) {
	return time.LoadLocation(f.zone)
}
func (f *fakeDatabase) MissingGrants(context.Context, clickhouse.Role) ([]string, error) {
	return f.missing, f.restErr
}
func (f *fakeDatabase) Disks(context.Context) ([]clickhouse.Disk, error) { return f.disks, f.restErr }
func (f *fakeDatabase) SickTables(context.Context) ([]clickhouse.SickTable, error) {
	return f.sick, f.restErr
}
func (f *fakeDatabase) Generation(context.Context, string) (int, error) { return f.generation, nil }
func (f *fakeDatabase) Coverage(context.Context) ([]clickhouse.Coverage, error) {
	return f.coverage, f.restErr
}
func (f *fakeDatabase) LostEvents(context.Context) ([]clickhouse.Lost, error) {
	return f.lost, f.restErr
}

func (f *fakeDatabase) Query(_ context.Context, sql string, _ ...any) (*clickhouse.Result, error) {
	if strings.Contains(sql, "FROM accounts") {
		return &clickhouse.Result{Rows: f.accounts}, f.queryErr
	}
	return &clickhouse.Result{Rows: f.outcomes}, f.queryErr
}

func withDatabase(change func(*fakeDatabase)) func(*Config) {
	return func(c *Config) {
		f := newFakeDatabase()
		if change != nil {
			change(f)
		}
		c.Database = f
		if c.DeadLetters == nil {
			c.DeadLetters = func(context.Context) (map[string]int, error) { return map[string]int{}, nil }
		}
	}
}

func TestClickHouseAsItShouldBe(t *testing.T) {
	d := newDoctor(t, withLog(nil), withDatabase(nil))
	for id, says := range map[string]string{
		"clickhouse.reach": "ClickHouse 26.7.1, up for 3 hours", "clickhouse.schema": "days in Asia/Shanghai", "clickhouse.grants": "all there", "clickhouse.disk": "50.0 GiB free",
		"clickhouse.tables": "no part set aside", "clickhouse.clock": "less than", "clickhouse.complete": "10 records in 2 partitions, none passed over", "clickhouse.events": "all there",
		"clickhouse.dead": "none open", "clickhouse.pending": "none pending",
	} {
		want(t, look(t, d, id), OK, says)
	}
}

func TestClickHouseFaults(t *testing.T) {
	pending := func(age time.Duration) func(*fakeDatabase) {
		return func(f *fakeDatabase) {
			f.outcomes = [][]any{{"sent", uint64(9), nil}, {"pending", uint64(2), time.Now().Add(-age)}}
		}
	}
	room := func(free, total uint64) func(*fakeDatabase) {
		return func(f *fakeDatabase) { f.disks = []clickhouse.Disk{{Name: "hot", Free: free, Total: total}} }
	}
	odd := errors.New("odd")
	for name, test := range map[string]struct {
		change func(*fakeDatabase)
		id     string
		s      Severity
		words  []string
	}{
		"down":           {func(f *fakeDatabase) { f.serverErr = odd }, "clickhouse.reach", Failure, []string{"odd", "clickhouse.addr"}},
		"down, schema":   {func(f *fakeDatabase) { f.serverErr = odd }, "clickhouse.schema", Unchecked, []string{"see clickhouse.reach"}},
		"down, the rest": {func(f *fakeDatabase) { f.serverErr = odd }, "clickhouse.complete", Unchecked, []string{"see clickhouse.reach"}},
		"old schema":     {func(f *fakeDatabase) { f.schemaErr = fmt.Errorf("%w: run qunfa migrate", clickhouse.ErrSchema) }, "clickhouse.schema", Failure, []string{"qunfa migrate"}},
		"other zone":     {func(f *fakeDatabase) { f.zone = "UTC" }, "clickhouse.schema", Failure, []string{"UTC", "Asia/Shanghai", "time_zone"}},
		"no right":       {func(f *fakeDatabase) { f.missing = []string{"GRANT INSERT ON q.event_rows"} }, "clickhouse.grants", Failure, []string{"1 right", "GRANT INSERT ON q.event_rows TO"}},
		"rights hidden":  {func(f *fakeDatabase) { f.restErr = odd }, "clickhouse.grants", Unchecked, []string{"odd"}},
		"disk full":      {room(1<<30, 100<<30), "clickhouse.disk", Failure, []string{"hot", "make room now"}},
		"disk small":     {room(100<<20, 1<<30), "clickhouse.disk", Failure, []string{"100.0 MiB"}},
		"disk filling":   {room(8<<30, 100<<30), "clickhouse.disk", Warning, []string{"8%"}},
		"disk hidden":    {func(f *fakeDatabase) { f.restErr = odd }, "clickhouse.disk", Unchecked, []string{"system.disks"}},
		"disk unknown":   {func(f *fakeDatabase) { f.disks = nil }, "clickhouse.disk", Unchecked, []string{"no disk"}},
		"broken part":    {func(f *fakeDatabase) { f.sick = []clickhouse.SickTable{{Table: "event_rows", Detached: 2}} }, "clickhouse.tables", Failure, []string{"event_rows", "2 parts", "replay"}},
		"read-only":      {func(f *fakeDatabase) { f.sick = []clickhouse.SickTable{{Table: "event_rows", ReadOnly: true}} }, "clickhouse.tables", Failure, []string{"read-only", "Keeper"}},
		"tables hidden":  {func(f *fakeDatabase) { f.restErr = odd }, "clickhouse.tables", Unchecked, []string{"system.detached_parts"}},
		"clock behind":   {func(f *fakeDatabase) { f.now = func() time.Time { return time.Now().Add(-time.Minute) } }, "clickhouse.clock", Warning, []string{"ahead of that of ClickHouse"}},
		"clock ahead":    {func(f *fakeDatabase) { f.now = func() time.Time { return time.Now().Add(time.Hour) } }, "clickhouse.clock", Failure, []string{"behind that of ClickHouse"}},
		"lost events":    {func(f *fakeDatabase) { f.lost = []clickhouse.Lost{{Topic: topic, Records: 3, First: 4, Last: 8}} }, "clickhouse.events", Failure, []string{"3 events", "4 and 8", "replay --from topic"}},
		"events unknown": {func(f *fakeDatabase) { f.restErr = odd }, "clickhouse.events", Failure, []string{"odd"}},
		"pending young":  {pending(time.Hour), "clickhouse.pending", OK, []string{"2 messages pending"}},
		"pending old":    {pending(10 * time.Hour), "clickhouse.pending", Warning, []string{"10 hours", "api.access"}},
		"pending stuck":  {pending(100 * time.Hour), "clickhouse.pending", Failure, []string{"4 days", "reconcile"}},
		"views hidden":   {func(f *fakeDatabase) { f.queryErr = odd }, "clickhouse.pending", Unchecked, []string{"odd"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, look(t, newDoctor(t, withLog(nil), withDatabase(test.change)), test.id), test.s, test.words...)
		})
	}
	want(t, look(t, newDoctor(t), "clickhouse.reach"), Failure, "names no ClickHouse", "clickhouse.addr")
}

// The log has offsets 0 to 9 of partition 0, all of them committed, and has
// trimmed all 5 of partition 1.
func TestComplete(t *testing.T) {
	holds := func(list ...clickhouse.Coverage) func(*fakeDatabase) {
		return func(f *fakeDatabase) { f.coverage = list }
	}
	recreated := stored(0, 0, 9, 10)
	recreated.Topic = topic + "#2"
	trimmed := stored(0, 0, 9, 10)
	trimmed.Kinds = map[string]int64{events.FateEvent: 8, events.FateTrimmed: 2}
	for name, test := range map[string]struct {
		log   func(*fakeLog)
		db    func(*fakeDatabase)
		s     Severity
		words []string
	}{
		"a gap":          {nil, holds(stored(0, 0, 9, 8)), Failure, []string{topic + "/0", "2 are not accounted for", "replay --from topic"}},
		"a new database": {nil, holds(), Failure, []string{"committed offset 10", "made anew", "restart it"}},
		"an old backup":  {nil, holds(stored(0, 0, 5, 6)), Failure, []string{"up to offset 6", "committed up to 10", "backup"}},
		"another topic":  {nil, holds(stored(0, 0, 20, 21)), Failure, []string{"ends at offset 10", "qunfa topic adopt"}},
		"no beginning":   {nil, holds(stored(0, 3, 9, 7)), Failure, []string{"records 0 to 2", "never stored"}},
		"expired":        {func(f *fakeLog) { f.first[0], f.ends[0], f.committed[0] = 15, 20, 8 }, holds(stored(0, 0, 9, 10)), Failure, []string{"10 to 14 expired"}},
		"expired, noted": {nil, holds(trimmed), Warning, []string{"2 records expired"}},
		"nothing yet":    {func(f *fakeLog) { f.committed[0] = -1 }, holds(), OK, []string{"0 records"}},
		"read by half":   {func(f *fakeLog) { f.committed[0] = 6 }, holds(stored(0, 0, 5, 6)), OK, []string{"6 records"}},
		"adopted": {nil, func(f *fakeDatabase) {
			f.generation = 2
			f.coverage = []clickhouse.Coverage{stored(0, 0, 99, 50), recreated}
		}, OK, []string{"10 records"}},
		"Kafka away":      {func(f *fakeLog) { f.down = errors.New("odd") }, holds(stored(0, 0, 9, 10)), Unchecked, []string{"without Kafka"}},
		"Kafka away, gap": {func(f *fakeLog) { f.down = errors.New("odd") }, holds(stored(0, 0, 9, 9)), Failure, []string{"1 are not accounted for"}},
		"unknown":         {nil, func(f *fakeDatabase) { f.restErr = errors.New("odd") }, Failure, []string{"odd"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, look(t, newDoctor(t, withLog(test.log), withDatabase(test.db)), "clickhouse.complete"), test.s, test.words...)
		})
	}
}

func TestDeadLetters(t *testing.T) {
	letters := func(open map[string]int, err error) func(*Config) {
		return func(c *Config) {
			c.DeadLetters = func(context.Context) (map[string]int, error) { return open, err }
		}
	}
	find := func(change func(*Config)) []Finding {
		return look(t, newDoctor(t, withLog(nil), change, withDatabase(nil)), "clickhouse.dead")
	}
	want(t, find(letters(map[string]int{"unparsable": 2, "undecodable": 0}, nil)), Warning, "unparsable", "2 dead letters open", "qunfa dead replay")
	want(t, find(letters(nil, errors.New("odd"))), Unchecked, "odd")
}

func TestCallbacksReceived(t *testing.T) {
	row := func(callbacks, recorded int64, missing any, last, submitted any) func(*fakeDatabase) {
		return func(f *fakeDatabase) { f.accounts = [][]any{{testApp, callbacks, recorded, missing, last, submitted}} }
	}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for name, test := range map[string]struct {
		change func(*fakeDatabase)
		s      Severity
		words  []string
	}{
		"unknown":           {nil, Unchecked, []string{testApp, "not known yet"}},
		"just recorded":     {row(0, 1, int64(0), nil, ago(time.Minute)), OK, []string{"still to come"}},
		"never":             {row(0, 3, int64(3), nil, ago(time.Hour)), Failure, []string{"not one callback has ever come", "已启用"}},
		"stopped":           {row(5, 6, int64(1), ago(48*time.Hour), ago(2*time.Hour)), Warning, []string{"came 2 days ago", "2 hours ago"}},
		"well":              {row(5, 5, int64(0), ago(time.Hour), ago(2*time.Hour)), OK, []string{"came 60 minutes ago", "missing of the recorded sends: 0"}},
		"nothing recorded":  {row(5, 0, nil, ago(time.Hour), nil), OK, []string{"cannot be seen"}},
		"cannot be read":    {func(f *fakeDatabase) { f.queryErr = errors.New("odd") }, Unchecked, []string{"odd"}},
		"no ClickHouse":     {func(*fakeDatabase) {}, Unchecked, nil},
		"of other accounts": {func(f *fakeDatabase) { f.accounts = [][]any{{"wxelse", int64(1), int64(1), nil, nil, nil}} }, Unchecked, []string{testApp}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoctor(t, withDatabase(test.change))
			if name == "no ClickHouse" {
				d = newDoctor(t)
			}
			want(t, look(t, d, "callback.received"), test.s, test.words...)
		})
	}
}
