package main

import (
	"bytes"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/doctor"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
)

// newLog is a broker with both topics, and nothing else.
func newLog(t *testing.T) *stack {
	t.Helper()
	broker := embeddedtest.Kafka(t)
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.Topic, cfg.Kafka.DeadTopic = broker.Addrs, broker.Topic(t), broker.Topic(t)
	s := &stack{target: newTarget(t, cfg)}
	s.target.opts.Embedded, s.target.opts.KafkaDial = true, broker.Dial
	client, err := s.target.kafka()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for topic, bytes := range map[string]int{cfg.Kafka.Topic: 1 << 20, cfg.Kafka.DeadTopic: 2 << 20} {
		if _, err := client.EnsureTopic(t.Context(), kafka.TopicConfig{Name: topic, Partitions: 1, ReplicationFactor: 1, MaxMessageBytes: bytes}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// eventRecords are the records of the topic of events.
func (s *stack) eventRecords(t *testing.T) []events.Record {
	t.Helper()
	client, err := s.target.kafka()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	first, ends, err := bounds(t.Context(), client, s.target.cfg.Kafka.Topic)
	if err != nil {
		t.Fatal(err)
	}
	var all []events.Record
	err = client.Read(t.Context(), s.target.cfg.Kafka.Topic, first, ends, func(m events.Message) error {
		all = append(all, m.Record)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (s *stack) replay(t *testing.T, c deadReplayCmd) (string, error) {
	t.Helper()
	g, out := testGlobals(t, formatTable)
	p, err := c.pick()
	if err != nil {
		t.Fatal(err)
	}
	err = c.run(g, s.target, p)
	return out.String() + g.Stderr.(*bytes.Buffer).String(), err
}

func (s *stack) drop(t *testing.T, c deadDropCmd) (string, error) {
	t.Helper()
	g, out := testGlobals(t, formatTable)
	p, err := c.pick()
	if err != nil {
		t.Fatal(err)
	}
	err = c.run(g, s.target, p)
	return out.String(), err
}

// states lists the letters: where they are, and what was done with them.
func (s *stack) states(t *testing.T) map[string]string {
	t.Helper()
	states := map[string]string{}
	for _, all := range []bool{true, false} {
		g, out := testGlobals(t, formatCSV)
		if err := (&deadListCmd{All: all}).run(g, s.target); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n")[1:] {
			f := strings.Split(line, ",")
			if all {
				states[f[0]] = f[len(f)-1]
				continue
			}
			if states[f[0]] != letterOpen {
				t.Errorf("list shows %s, which is %s", f[0], states[f[0]])
			}
			states[f[0]] = "listed"
		}
	}
	return states
}

func goodRecord(t *testing.T, msgID int64) events.Record {
	t.Helper()
	e, err := events.New("qunfa/ingest", &events.Finished{AppID: "wxsafe", MsgID: msgID, CreateTime: 1772366405, Status: "send success"})
	if err != nil {
		t.Fatal(err)
	}
	e.ReceivedAt = time.Unix(1772366407, 0).UTC()
	r, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func callback(msgID, createTime string) events.Record {
	return events.Record{
		Key: []byte("wxsafe"), Time: time.Unix(1772366407, 0).UTC(),
		Value: []byte("<xml><ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName><CreateTime>" + createTime + "</CreateTime><MsgType>event</MsgType>" +
			"<Event>MASSSENDJOBFINISH</Event><MsgID>" + msgID + "</MsgID><Status>send success</Status></xml>"),
		Headers: []events.Header{{Key: "qunfa_callback_mode", Value: []byte("safe")}, {Key: "qunfa_callback_format", Value: []byte("xml")}},
	}
}

// What can be used by now goes to the topic of events, as it was, or, if it was
// a callback, as the event that it should have been; the rest stays open.
func TestDeadReplay(t *testing.T) {
	s := newLog(t)
	broken := goodRecord(t, 2)
	broken.Value = []byte("{")
	huge := goodRecord(t, 6)
	huge.Value = append(huge.Value, bytes.Repeat([]byte(" "), 1<<20)...)
	letters := []events.DeadLetter{
		{Reason: events.DeadUndecodable, Error: "e", From: "qunfa/sink", Origin: &events.Position{Topic: s.target.cfg.Kafka.Topic}, Record: goodRecord(t, 1)},
		{Reason: events.DeadUndecodable, Error: "e", From: "qunfa/sink", Record: broken},
		{Reason: events.DeadUninsertable, Error: "e", From: "qunfa/sink", Record: goodRecord(t, 3)},
		{Reason: events.DeadUnparsable, Error: "e", From: "qunfa/ingest", Record: callback("4", "1772366405")},
		{Reason: events.DeadUnparsable, Error: "e", From: "qunfa/ingest", Record: callback("5", "today")},
		{Reason: events.DeadUninsertable, Error: "e", From: "qunfa/sink", Record: huge},
	}
	s.produceDead(t, letters...)
	said, err := s.replay(t, deadReplayCmd{deadPick{All: true}, true})
	if err != errSilent || !strings.Contains(said, "4 would be replayed, 2 stay open") || len(s.eventRecords(t)) != 0 {
		t.Fatalf("a dry run sent %d records: %v\n%s", len(s.eventRecords(t)), err, said)
	}
	said, err = s.replay(t, deadReplayCmd{deadPick{All: true}, false})
	if err != errSilent || !strings.Contains(said, "3 replayed, 3 stay open") {
		t.Errorf("replay: %v\n%s", err, said)
	}
	for _, want := range []string{"0/1: still cannot be decoded", "0/4: still cannot be read", "0/5: "} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	ids := map[events.ID]int{}
	for _, r := range s.eventRecords(t) {
		e, err := events.Decode(events.Message{Record: r})
		if err != nil {
			t.Fatal(err)
		}
		ids[e.ID]++
		if !e.ReceivedAt.Equal(time.Unix(1772366407, 0)) || e.Source != "qunfa/ingest" {
			t.Errorf("event %s of %s was received at %s", e.Key, e.Source, e.ReceivedAt)
		}
	}
	for _, msgID := range []int64{1, 3, 4} {
		e, err := events.Decode(events.Message{Record: goodRecord(t, msgID)})
		if err != nil {
			t.Fatal(err)
		}
		if ids[e.ID] == 0 {
			t.Errorf("event of message %d was not sent", msgID)
		}
	}
	if first := s.eventRecords(t)[0]; len(ids) != 3 || !cmp.Equal(first.Headers, letters[0].Headers) || string(first.Value) != string(letters[0].Value) {
		t.Errorf("%d events, the first is %+v", len(ids), first)
	}
	want := map[string]string{"0/0": letterReplayed, "0/1": "listed", "0/2": letterReplayed, "0/3": letterReplayed, "0/4": "listed", "0/5": "listed"}
	if d := cmp.Diff(want, s.states(t)); d != "" {
		t.Errorf("states (-want, +got):\n%s", d)
	}
}

// Done letters are left alone unless they are named; dropped ones are gone from
// the list; a position without a letter is refused.
func TestDeadDrop(t *testing.T) {
	s := newLog(t)
	s.produceDead(t,
		events.DeadLetter{Reason: events.DeadUninsertable, Error: "e", From: "qunfa/sink", Record: goodRecord(t, 1)},
		events.DeadLetter{Reason: events.DeadUndecodable, Error: "e", From: "qunfa/sink", Record: events.Record{Key: []byte("wx"), Value: []byte("x")}},
		events.DeadLetter{Reason: events.DeadUninsertable, Error: "e", From: "qunfa/sink", Record: goodRecord(t, 2)},
	)
	var usage *usageError
	if said, err := s.drop(t, deadDropCmd{deadPick{Reason: events.DeadUndecodable}, false}); !errors.As(err, &usage) || !strings.Contains(said, "1 would be dropped") {
		t.Errorf("without --yes: %v\n%s", err, said)
	}
	if said, err := s.replay(t, deadReplayCmd{deadPick{Positions: []string{"0/2"}}, false}); err != nil || !strings.Contains(said, "1 replayed") {
		t.Errorf("one by position: %v\n%s", err, said)
	}
	if d := cmp.Diff(map[string]string{"0/0": "listed", "0/1": "listed", "0/2": letterReplayed}, s.states(t)); d != "" {
		t.Errorf("states (-want, +got):\n%s", d)
	}
	if said, err := s.drop(t, deadDropCmd{deadPick{Reason: events.DeadUndecodable}, true}); err != nil || !strings.Contains(said, "1 dropped") {
		t.Errorf("drop: %v\n%s", err, said)
	}
	if said, err := s.replay(t, deadReplayCmd{deadPick{All: true}, false}); err != nil || said != "1 replayed\n" {
		t.Errorf("the one that is left: %v\n%s", err, said)
	}
	if said, err := s.replay(t, deadReplayCmd{deadPick{Positions: []string{"0/0", "0/99"}}, false}); err != errSilent || !strings.Contains(said, "0/99: there is no dead letter here") || !strings.Contains(said, "1 replayed, 1 stay open") {
		t.Errorf("one again and one that is not there: %v\n%s", err, said)
	}
	if got := len(s.eventRecords(t)); got != 3 {
		t.Errorf("%d records were sent, want 3", got)
	}
	if d := cmp.Diff(map[string]string{"0/0": letterReplayed, "0/1": letterDropped, "0/2": letterReplayed}, s.states(t)); d != "" {
		t.Errorf("states (-want, +got):\n%s", d)
	}
	g, out := testGlobals(t, formatTable)
	if err := (&deadShowCmd{}).run(g, s.target, events.Position{Offset: 1}); err != nil || !strings.Contains(out.String(), "state      dropped\n") {
		t.Errorf("show does not say that the letter was dropped: %v\n%s", err, out)
	}
}

// status counts letters, not the marks that say what was done with them.
func TestStatusCountsLetters(t *testing.T) {
	s := newLog(t)
	for i := range int64(3) {
		s.produceDead(t, events.DeadLetter{Reason: events.DeadUninsertable, Error: "e", From: "qunfa/sink", Record: goodRecord(t, i+1)})
	}
	if said, err := s.drop(t, deadDropCmd{deadPick{Positions: []string{"0/1"}}, true}); err != nil {
		t.Fatal(err, said)
	}
	client, err := s.target.kafka()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	k := doctor.NewLogState(s.target.cfg.Kafka.Topic, s.target.cfg.Kafka.DeadTopic)
	if err := countDead(t.Context(), client, &k); err != nil {
		t.Fatal(err)
	}
	if k.DeadLetters == nil || *k.DeadLetters != 3 || *k.OpenLetters != 2 {
		t.Errorf("%s letters, %s of them open; want 3 and 2", known(k.DeadLetters), known(k.OpenLetters))
	}
}

// A person waits for the answer, so it comes soon also when Kafka does not.
func TestDeadWithoutKafka(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // the kernel accepts, and nobody answers
	for address, says := range map[string]string{
		strings.TrimPrefix(gone.URL, "http://"): "nothing listens at the broker's address",
		silent.Addr().String():                  "the broker did not answer in time",
	} {
		cfg := config.Default()
		cfg.Kafka.Brokers = []string{address}
		g, _ := testGlobals(t, formatTable)
		start := time.Now()
		err := (&deadListCmd{}).run(g, newTarget(t, cfg))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want advice: %s", err, says)
		}
		if took := time.Since(start); took > 3*kafkaPatience {
			t.Errorf("%s: the answer took %s", says, took)
		}
	}
}

// A replay that ends between sending and marking leaves letters open that were
// sent. The next one sends them again: the same events, which count once.
func TestDeadReplayInterrupted(t *testing.T) {
	s := newLog(t)
	const n = deadChunk + 100
	var letters []events.DeadLetter
	for i := range int64(n) {
		letters = append(letters, events.DeadLetter{Reason: events.DeadUninsertable, Error: "e", From: "qunfa/sink", Record: goodRecord(t, i+1)})
	}
	s.produceDead(t, letters...)

	g, _ := testGlobals(t, formatTable)
	w := &deadWork{g: g, what: letterReplayed}
	if err := w.connect(s.target); err != nil {
		t.Fatal(err)
	}
	var chunk []deadItem
	for i := range deadChunk {
		chunk = append(chunk, deadItem{place{0, int64(i)}, letters[i].Record})
	}
	if sent, err := w.send(t.Context(), chunk); err != nil || len(sent) != deadChunk {
		t.Fatalf("%d sent, %v", len(sent), err)
	}
	if err := w.close(); err != nil { // and here it ends
		t.Fatal(err)
	}

	if said, err := s.replay(t, deadReplayCmd{deadPick{All: true}, false}); err != nil || said != "600 replayed\n" {
		t.Errorf("%v\n%s", err, said)
	}
	ids := map[events.ID]bool{}
	records := s.eventRecords(t)
	for _, r := range records {
		e, err := events.Decode(events.Message{Record: r})
		if err != nil {
			t.Fatal(err)
		}
		ids[e.ID] = true
	}
	if len(records) != n+deadChunk || len(ids) != n {
		t.Errorf("%d records of %d events, want %d of %d", len(records), len(ids), n+deadChunk, n)
	}
	if said, err := s.replay(t, deadReplayCmd{deadPick{All: true}, false}); err != nil || said != "0 replayed\n" {
		t.Errorf("once more: %v\n%s", err, said)
	}
}

func TestDeadPick(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"nothing":         {[]string{"dead", "replay"}, "which dead letters?"},
		"two ways":        {[]string{"dead", "drop", "--all", "--reason", "unparsable"}, "which dead letters?"},
		"no reason":       {[]string{"dead", "drop", "--reason", "bad"}, "uninsertable"},
		"no position":     {[]string{"dead", "replay", "17"}, "PARTITION/OFFSET"},
		"nothing to drop": {[]string{"dead", "drop", "--yes"}, "which dead letters?"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := runWith(t, "", c.args...); got.code != app.ExitUsage || !strings.Contains(got.stderr, c.says) {
				t.Errorf("code %d, want %d with %q\n%s", got.code, app.ExitUsage, c.says, got.stderr)
			}
		})
	}
}

// A record that is no mark of ours is none, and a dead letter is never one.
func TestMarks(t *testing.T) {
	r, err := encodeMark(letterDropped, []place{{0, 1}, {1, 7}}, time.Unix(1772366407, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got := markOf(r); got != letterDropped || string(r.Value) != `{"letters":{"0":[1],"1":[7]}}` {
		t.Errorf("a mark says %q of %s", got, r.Value)
	}
	if dead := (events.DeadLetter{Record: r, Reason: events.DeadUndecodable}).Encode(); isMark(dead) {
		t.Error("a mark that died is still a mark")
	}
	if isMark(goodRecord(t, 1)) {
		t.Error("an event is a mark")
	}
}
