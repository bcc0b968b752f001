package clickhouse_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// fixture writes events as the sink does: to the log's form and back, then
// append, read back, fold, write.
type fixture struct {
	t      *testing.T
	db     *clickhouse.DB
	loc    *time.Location
	topic  string
	now    time.Time
	offset int64
}

func newFixture(t *testing.T, db *clickhouse.DB) *fixture {
	t.Helper()
	loc, err := db.Location(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, db: db, loc: loc, topic: "qunfa.events", now: time.Now().UTC().Truncate(time.Millisecond)}
}

func (f *fixture) time(s string) time.Time {
	f.t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		f.t.Fatal(err)
	}
	return at
}

func (f *fixture) event(d events.Data) events.Event {
	f.t.Helper()
	e, err := events.New("qunfa/test", d)
	if err != nil {
		f.t.Fatal(err)
	}
	e.ReceivedAt = e.Time.Add(time.Second)
	return e
}

func (f *fixture) submitted(appid string, msgID int64, at string, more func(*events.Submitted)) events.Event {
	f.t.Helper()
	d := &events.Submitted{AppID: appid, MsgID: msgID, SubmittedAt: f.time(at), Recorder: "test", Chase: true}
	if more != nil {
		more(d)
	}
	return f.event(d)
}

func (f *fixture) finished(appid string, msgID int64, at, status string, total, eligible, sent, failed int64) events.Event {
	f.t.Helper()
	kind, code := events.ParseStatus(status)
	return f.event(&events.Finished{
		AppID: appid, MsgID: msgID, CreateTime: f.time(at).Unix(), Status: status, StatusKind: kind, ErrCode: code,
		TotalCount: &total, FilterCount: &eligible, SentCount: &sent, ErrorCount: &failed, Mode: "safe", Format: "xml", Raw: "<xml>原文</xml>",
	})
}

func (f *fixture) polled(appid string, msgID int64, at, status string) events.Event {
	f.t.Helper()
	return f.event(&events.Polled{AppID: appid, MsgID: msgID, PolledAt: f.time(at), Attempt: 1, Status: status, Instance: "test"})
}

func (f *fixture) abandoned(appid string, msgID int64, at, reason string) events.Event {
	f.t.Helper()
	return f.event(&events.Abandoned{AppID: appid, MsgID: msgID, AbandonedAt: f.time(at), Reason: reason, Detail: "in words", Instance: "test"})
}

// write stores events in one batch.
func (f *fixture) write(evs ...events.Event) {
	f.t.Helper()
	f.append(evs...)
	f.fold(keysOf(evs)...)
}

// append stores events and the fates of their records.
func (f *fixture) append(evs ...events.Event) {
	f.t.Helper()
	var read []events.Event
	var fates []events.Fate
	for _, e := range evs {
		record, err := events.Encode(e)
		if err != nil {
			f.t.Fatal(err)
		}
		at := events.Position{Topic: f.topic, Partition: 0, Offset: f.offset}
		f.offset++
		got, err := events.Decode(events.Message{Record: record, Position: at})
		if err != nil {
			f.t.Fatal(err)
		}
		read = append(read, got)
		fates = append(fates, events.Fate{Position: at, EventID: got.ID, Kind: events.FateEvent, At: got.ReceivedAt})
	}
	if err := f.db.InsertEvents(f.t.Context(), read); err != nil {
		f.t.Fatal(err)
	}
	if err := f.db.InsertRecords(f.t.Context(), fates); err != nil {
		f.t.Fatal(err)
	}
}

// fold reads the messages' events back and writes their rows.
func (f *fixture) fold(keys ...events.Key) {
	f.t.Helper()
	rows, stones := f.folded(keys...)
	if err := f.db.InsertMessages(f.t.Context(), rows, stones); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) folded(keys ...events.Key) ([]events.Row, []events.Tombstone) {
	f.t.Helper()
	history, err := f.db.History(f.t.Context(), keys)
	if err != nil {
		f.t.Fatal(err)
	}
	byKey := map[events.Key][]events.Event{}
	for _, e := range history {
		byKey[e.Key] = append(byKey[e.Key], e)
	}
	var rows []events.Row
	var stones []events.Tombstone
	for _, k := range keys {
		row, more := events.Fold(byKey[k], f.loc)
		rows, stones = append(rows, row), append(stones, more...)
	}
	return rows, stones
}

func keysOf(evs []events.Event) []events.Key {
	var keys []events.Key
	for _, e := range evs {
		keys = append(keys, e.Key)
	}
	slices.SortFunc(keys, func(a, b events.Key) int {
		return cmp.Or(cmp.Compare(a.AppID, b.AppID), cmp.Compare(a.MsgID, b.MsgID))
	})
	return slices.Compact(keys)
}
