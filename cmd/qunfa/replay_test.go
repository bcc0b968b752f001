package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/events"
)

// rawCallback is what an old decoder has read without its articles.
const rawCallback = `<xml><ToUserName>gh_1</ToUserName><CreateTime>1772323230</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>
<MsgID>1</MsgID><Status>send success</Status><TotalCount>1000</TotalCount><FilterCount>950</FilterCount><SentCount>945</SentCount><ErrorCount>5</ErrorCount>
<ArticleUrlResult><Count>1</Count><ResultList><item><ArticleIdx>1</ArticleIdx><ArticleUrl>http://mp.weixin.qq.com/s/one</ArticleUrl></item></ResultList></ArticleUrlResult></xml>`

// replayed runs the command and returns what it printed.
func (s *stack) replayed(t *testing.T, c replayCmd, format string) string {
	t.Helper()
	g, out := testGlobals(t, format)
	if err := c.run(g, s.target); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestReplay(t *testing.T) {
	s := newStack(t)
	all := history()
	for _, d := range all {
		if f, ok := d.(*events.Finished); ok && f.MsgID == 1 {
			f.ArticleURLs, f.Raw = nil, rawCallback
		}
	}
	s.write(t, all...)
	db, err := s.target.database()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Query(t.Context(), "ALTER TABLE message_rows DELETE WHERE msg_id = 2 SETTINGS mutations_sync = 1"); err != nil {
		t.Fatal(err)
	}
	golden(t, "replay-dry.table", s.replayed(t, replayCmd{From: "events", DryRun: true}, formatTable))
	golden(t, "replay.table", s.replayed(t, replayCmd{From: "events", Verify: true}, formatTable))
	golden(t, "replay-reparse.json", s.replayed(t, replayCmd{From: "events", Verify: true, Reparse: true}, formatJSON))
	if got := s.replayed(t, replayCmd{From: "events"}, formatTable); strings.Contains(got, "outcome") {
		t.Errorf("compared without being asked:\n%s", got)
	}
	r, err := db.Query(t.Context(), "SELECT arrayElement(articles, 1).url FROM messages WHERE msg_id = 1")
	if err != nil || r.Rows[0][0] != "http://mp.weixin.qq.com/s/one" {
		t.Errorf("articles %v, %v", r, err)
	}
	if _, err := db.Query(t.Context(), "ALTER TABLE event_rows DELETE WHERE msg_id = 3 SETTINGS mutations_sync = 1"); err != nil {
		t.Fatal(err)
	}
	g, _ := testGlobals(t, formatTable)
	var stderr bytes.Buffer
	g.Stderr = &stderr
	if err := (&replayCmd{From: "events", Verify: true}).run(g, s.target); !errors.Is(err, errSilent) || !strings.Contains(stderr.String(), "2 records of "+s.target.cfg.Kafka.Topic+"/0 (offsets 4 to 5)") {
		t.Errorf("events are lost: %v\n%s", err, stderr.String())
	}
	g, _ = testGlobals(t, formatCSV)
	if err := (&replayCmd{From: "events"}).run(g, s.target); err == nil || !strings.Contains(err.Error(), "--format") {
		t.Errorf("as CSV: %v", err)
	}
}

// The whole topic is stored again into a database that has lost everything.
func TestReplayFromTopic(t *testing.T) {
	s := newStack(t)
	client, err := s.target.kafka()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	producer, err := app.NewProducer(client, s.target.cfg.Kafka.Topic, s.target.opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range history() {
		e, err := events.New("qunfa/test", d)
		if err != nil {
			t.Fatal(err)
		}
		e.ReceivedAt = e.Time
		record, err := events.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := producer.Produce(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Swapped  bool
		Messages int
		Imported struct {
			Records int
			Kinds   map[string]int
		}
	}
	if err := json.Unmarshal([]byte(s.replayed(t, replayCmd{From: "topic", Verify: true}, formatJSON)), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Swapped || got.Messages != 8 || got.Imported.Records != 14 || got.Imported.Kinds[events.FateEvent] != 14 {
		t.Errorf("report %+v", got)
	}
	db, err := s.target.database()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if ends, err := db.Ends(t.Context(), s.target.cfg.Kafka.Topic); err != nil || ends[0] != 14 {
		t.Errorf("a sink begins at %v, %v", ends, err)
	}
}

func TestReplayNeedsTheOwner(t *testing.T) {
	s := newStack(t)
	cfg := *s.target.cfg
	cfg.ClickHouse.Username, cfg.ClickHouse.Password = "nobody", config.NewSecret("wrongsecret")
	other := *s.target
	other.cfg = &cfg
	g, _ := testGlobals(t, formatTable)
	err := (&replayCmd{From: "events"}).run(g, &other)
	if err == nil || !strings.Contains(err.Error(), "--user") || strings.Contains(err.Error(), "wrongsecret") {
		t.Errorf("without rights: %v", err)
	}
	own := replayCmd{From: "events", ownerFlags: ownerFlags{User: s.target.cfg.ClickHouse.Username, Password: s.target.cfg.ClickHouse.Password.Reveal()}}
	if err := own.run(g, &other); err != nil {
		t.Errorf("as the owner: %v", err)
	}
}

func TestReplayTellsEachStepOnce(t *testing.T) {
	s := newStack(t)
	s.write(t, history()...)
	g, _ := testGlobals(t, formatTable)
	var stderr bytes.Buffer
	g.Stderr = &stderr
	if err := (&replayCmd{From: "events", Verify: true}).run(g, s.target); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"folding events: 0 of 14", "comparing months", "swapping the tables", "cleaning up"} {
		if strings.Count(stderr.String(), step+"\n") != 1 {
			t.Errorf("step %q is not told once:\n%s", step, stderr.String())
		}
	}
}
