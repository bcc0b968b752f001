package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
)

// stack is a real broker and a real ClickHouse, migrated, with a configuration
// that leads there.
type stack struct {
	target *target
	yaml   string // a file; it leads to ClickHouse alone, since the broker is in memory
	lines  []string
}

func newStack(t *testing.T) *stack {
	t.Helper()
	server, broker := embeddedtest.ClickHouse(t), embeddedtest.Kafka(t)
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.Topic, cfg.Kafka.DeadTopic = broker.Addrs, broker.Topic(t), broker.Topic(t)
	cfg.ClickHouse = config.ClickHouse{Addr: []string{server.Addr}, Database: server.Database(t), Username: server.Username, Password: config.NewSecret(server.Password)}
	cfg.Accounts = []config.Account{{AppID: "wxsafe", Name: "安全账号"}, {AppID: "wxquiet", Name: "Quiet"}}
	s := &stack{target: &target{cfg: cfg, opts: app.Options{Embedded: true, KafkaDial: broker.Dial}, where: "the test's servers"}}
	opts, err := (&globals{Stderr: &bytes.Buffer{}}).options()
	if err != nil {
		t.Fatal(err)
	}
	s.target.opts.Logger = opts.Logger
	if err := app.Migrate(t.Context(), cfg, s.target.opts, func(line string) { s.lines = append(s.lines, line) }); err != nil {
		t.Fatal(err)
	}
	s.yaml = writeFile(t, "qunfa.yaml", fmt.Sprintf("clickhouse: {addr: [%q], database: %s, username: %s, password: %q}\n",
		server.Addr, cfg.ClickHouse.Database, server.Username, server.Password))
	return s
}

// write stores what happened as the sink does.
func (s *stack) write(t *testing.T, data ...events.Data) {
	t.Helper()
	db, err := s.target.database()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var evs []events.Event
	var fates []events.Fate
	byKey := map[events.Key][]events.Event{}
	for i, d := range data {
		e := stored(t, d, events.Position{Topic: s.target.cfg.Kafka.Topic, Offset: int64(i)})
		evs = append(evs, e)
		fates = append(fates, events.Fate{Position: e.Position, EventID: e.ID, Kind: events.FateEvent, At: e.ReceivedAt})
		byKey[e.Key] = append(byKey[e.Key], e)
	}
	var rows []events.Row
	for _, list := range byKey {
		row, _ := events.Fold(list, s.target.cfg.Location())
		rows = append(rows, row)
	}
	for _, err := range []error{db.InsertEvents(t.Context(), evs), db.InsertRecords(t.Context(), fates), db.InsertMessages(t.Context(), rows, nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// stored is an event as it is after its way through the log.
func stored(t *testing.T, d events.Data, at events.Position) events.Event {
	t.Helper()
	e, err := events.New("qunfa/test", d)
	if err != nil {
		t.Fatal(err)
	}
	e.ReceivedAt = e.Time.Add(time.Second)
	record, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if e, err = events.Decode(events.Message{Record: record, Position: at}); err != nil {
		t.Fatal(err)
	}
	return e
}

func p(n int64) *int64 { return &n }

// history is a message of every kind.
func history() []events.Data {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	submitted := func(msgID int64) *events.Submitted {
		return &events.Submitted{AppID: "wxsafe", MsgID: msgID, SubmittedAt: at.Add(time.Duration(msgID) * time.Minute), Recorder: "crm", Chase: true,
			Label: fmt.Sprintf("消息 %d", msgID), Campaign: "三月", Audience: events.Audience{Kind: events.AudienceTag, TagID: p(7), Size: p(1000)}}
	}
	finished := func(msgID int64, status string, counts ...int64) *events.Finished {
		kind, code := events.ParseStatus(status)
		return &events.Finished{AppID: "wxsafe", MsgID: msgID, CreateTime: at.Add(time.Duration(msgID)*time.Minute + 30*time.Second).Unix(), Status: status, StatusKind: kind, ErrCode: code,
			TotalCount: &counts[0], FilterCount: &counts[1], SentCount: &counts[2], ErrorCount: &counts[3], Mode: "safe", Format: "xml", Raw: "<xml/>",
			ArticleURLs: []events.Link{{Index: 1, URL: "http://mp.weixin.qq.com/s/one"}}}
	}
	polled := func(msgID int64, status string) *events.Polled {
		return &events.Polled{AppID: "wxsafe", MsgID: msgID, PolledAt: at.Add(time.Hour), Attempt: 1, Status: status, Instance: "test"}
	}
	history := submitted(7)
	history.Chase = false
	unrecorded := finished(8, "send success", 4, 4, 4, 0)
	unrecorded.AppID = "wxquiet"
	return []events.Data{
		submitted(1), finished(1, "send success", 1000, 950, 945, 5),
		submitted(2), finished(2, "err(20431)", 0, 0, 0, 0),
		submitted(3), polled(3, events.PollSuccess),
		submitted(4), polled(4, events.PollFail),
		submitted(5), polled(5, events.PollSending),
		submitted(6), &events.Abandoned{AppID: "wxsafe", MsgID: 6, AbandonedAt: at.Add(72 * time.Hour), Reason: events.ReasonNoCredentials, Detail: "the configuration has no credentials for the account", Instance: "test"},
		history, unrecorded,
	}
}

func TestMigrateTellsWhatItDid(t *testing.T) {
	s := newStack(t)
	text := strings.Join(s.lines, "\n")
	for _, want := range []string{"topic " + s.target.cfg.Kafka.Topic + ": 1 partitions", "database " + s.target.cfg.ClickHouse.Database, "views", "accounts: 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	got := runWith(t, "", "migrate", "--config", s.yaml) // again, by its command, without Kafka
	if got.code != 0 || !strings.Contains(got.stdout, "the topics are left alone") || !strings.Contains(got.stdout, "everything is there") {
		t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	cfg := *s.target.cfg
	cfg.TimeZone = "Europe/Berlin"
	if err := app.Migrate(t.Context(), &cfg, s.target.opts, nil); err == nil || !strings.Contains(err.Error(), "Asia/Shanghai") {
		t.Errorf("another time zone: %v", err)
	}
}

func TestMessagesAndQuery(t *testing.T) {
	s := newStack(t)
	s.write(t, history()...)
	g := func(args ...string) string {
		t.Helper()
		got := runWith(t, "", append(args, "--config", s.yaml)...)
		if got.code != 0 {
			t.Fatalf("%v: code %d, %s", args, got.code, got.stderr)
		}
		return got.stdout
	}
	golden(t, "messages.table", g("messages", "--format", "table"))
	golden(t, "messages.csv", g("messages"))
	if got := g("messages", "wxsafe", "1", "--raw", "--format", "table"); !strings.Contains(got, "\n<xml/>\n") {
		t.Errorf("no callback in\n%s", got)
	}
	golden(t, "message-sent.table", g("messages", "wxsafe", "1", "--format", "table"))
	golden(t, "message-polled.json", g("messages", "wxsafe", "3"))
	golden(t, "message-rejected.table", g("messages", "wxsafe", "2", "--format", "table"))
	golden(t, "query.json", g("query", "--format", "json", "SELECT msg_id, outcome, sent, submitted_at, articles FROM messages ORDER BY appid DESC, msg_id LIMIT 3"))

	for filter, want := range map[string]string{
		"--outcome=rejected": "2", "--appid=wxquiet": "8", "--campaign=三月 --limit=1": "7", "--since=2026-03-01T00:06:30Z": "7,8",
		"--since=2026-03-01 --outcome=sent": "1,3,8", "--outcome=deleted": "", "--since=1d": "",
	} {
		out := g(append([]string{"messages", "--format", "json"}, strings.Fields(filter)...)...)
		var rows []struct {
			MsgID int64 `json:"msg_id"`
		}
		if err := json.Unmarshal([]byte(out), &rows); err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, r := range rows {
			found[fmt.Sprint(r.MsgID)] = true
		}
		wanted := map[string]bool{}
		for _, n := range strings.FieldsFunc(want, func(r rune) bool { return r == ',' }) {
			wanted[n] = true
		}
		if d := cmp.Diff(wanted, found); d != "" {
			t.Errorf("%s (-want, +got):\n%s", filter, d)
		}
	}
}

func TestQueryLimitsAndErrors(t *testing.T) {
	s := newStack(t)
	ask := func(stdin string, args ...string) result {
		t.Helper()
		return runWith(t, stdin, append([]string{"query", "--config", s.yaml}, args...)...)
	}
	for name, c := range map[string]struct {
		got            result
		code           int
		stdout, stderr string
	}{
		"limit":      {ask("", "--limit", "2", "SELECT number FROM numbers(5)"), 0, "number\n0\n1\n", "only the first 2 rows"},
		"no limit":   {ask("", "--limit", "0", "SELECT number FROM numbers(3)"), 0, "number\n0\n1\n2\n", ""},
		"from stdin": {ask("SELECT 1 AS n;\n"), 0, "n\n1\n", ""},
		"from file":  {ask("", "-f", writeFile(t, "q.sql", "SELECT '中' AS s")), 0, "s\n中\n", ""},
		"unknown":    {ask("", "SELECT nope FROM messages"), 1, "", "nope"},
		"writing":    {ask("", "DROP TABLE message_rows"), 1, "", "readonly"},
		"too slow":   {ask("", "--timeout", "1s", "SELECT sleep(3) FROM numbers(20) SETTINGS max_block_size = 1"), 1, "", "no answer within 1s"},
		"no user":    {ask("", "--user", "nobody", "--password", "wrongsecret", "SELECT 1"), 1, "", "nobody"},
	} {
		if c.got.code != c.code || c.got.stdout != c.stdout || !strings.Contains(c.got.stderr, c.stderr) || strings.Contains(c.got.stderr, "wrongsecret") {
			t.Errorf("%s: code %d\n%s%s", name, c.got.code, c.got.stdout, c.got.stderr)
		}
	}
	if got := ask("", "--write", "CREATE TABLE extra (n Int8) ENGINE = Memory"); got.code != 0 || got.stdout != "" {
		t.Errorf("with --write: %+v", got)
	}
}

func TestDead(t *testing.T) {
	s := newStack(t)
	g, out := testGlobals(t, formatTable)
	if err := (&deadListCmd{}).run(g, s.target); err != nil || !strings.Contains(out.String(), "no dead letters in") {
		t.Fatalf("%s %v", out, err)
	}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	topic := s.target.cfg.Kafka.Topic
	s.produceDead(t,
		events.DeadLetter{Reason: events.DeadUnparsable, Error: "element CreateTime is missing", From: "qunfa/ingest",
			Record: events.Record{Key: []byte("wxsafe"), Value: []byte("<xml>\n<MsgID>1</MsgID></xml>"), Time: at, Headers: []events.Header{{Key: "content-type", Value: []byte("text/xml")}}}},
		events.DeadLetter{Reason: events.DeadUndecodable, Error: "not JSON", From: "qunfa/sink", Origin: &events.Position{Topic: topic, Offset: 42},
			Record: events.Record{Key: []byte("wx\x1bother"), Value: []byte{0, 1, 2, 255}, Time: at.Add(time.Second)}},
		events.DeadLetter{Reason: events.DeadUndecodable, Error: "not JSON", From: "qunfa/sink",
			Record: events.Record{Key: []byte("wxother"), Value: []byte("x"), Time: at.Add(2 * time.Second)}},
	)
	show := func(run func(*globals) error, format string) string {
		t.Helper()
		g, out := testGlobals(t, format)
		if err := run(g); err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer(s.target.cfg.Kafka.DeadTopic, "DEAD-TOPIC", topic, "TOPIC").Replace(out.String())
	}
	list := func(c deadListCmd) func(*globals) error {
		return func(g *globals) error { return c.run(g, s.target) }
	}
	golden(t, "dead-list.csv", show(list(deadListCmd{}), formatCSV))
	if got := show(list(deadListCmd{Reason: events.DeadUndecodable, Limit: 1}), formatTable); !strings.Contains(got, "     2  undecodable") || strings.Contains(got, "0/1") || !strings.Contains(got, "0/2") {
		t.Errorf("the latest of two:\n%s", got)
	}
	one := func(offset int64) func(*globals) error {
		return func(g *globals) error { return (&deadShowCmd{}).run(g, s.target, events.Position{Offset: offset}) }
	}
	golden(t, "dead-text.txt", show(one(0), formatTable))
	golden(t, "dead-bytes.txt", show(one(1), formatTable))
	golden(t, "dead-bytes.json", show(one(1), formatJSON))
	if err := one(9)(g); err == nil || !strings.Contains(err.Error(), "there is no dead letter") {
		t.Errorf("beyond the end: %v", err)
	}
	gone := *s.target
	cfg := *gone.cfg
	gone.cfg, cfg.Kafka.DeadTopic = &cfg, "test-no-such-topic"
	if err := (&deadListCmd{}).run(g, &gone); err == nil || !strings.Contains(err.Error(), "qunfa migrate") {
		t.Errorf("no topic: %v", err)
	}
}

func (s *stack) produceDead(t *testing.T, letters ...events.DeadLetter) {
	t.Helper()
	client, err := s.target.kafka()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	producer, err := app.NewDeadProducer(client, s.target.cfg.Kafka.DeadTopic, s.target.opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range letters {
		if _, err := producer.Produce(t.Context(), d.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func TestStatus(t *testing.T) {
	s := newStack(t)
	s.write(t, history()...)
	s.produceDead(t, events.DeadLetter{Reason: events.DeadUnparsable, Error: "e", From: "f", Record: events.Record{Key: []byte("wxsafe"), Value: []byte("x"), Time: time.Now()}})
	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"status":"degraded","checks":[{"name":"sink","status":"ok"},{"name":"ingest.kafka","status":"degraded","reason":"spooling"}]}`)
	}))
	defer ready.Close()
	c := &statusCmd{Admin: []string{ready.URL}}
	g, out := testGlobals(t, formatTable)
	if err := c.run(g, s.target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := out.String()
	for _, want := range []string{
		"degraded", "ingest.kafka: degraded: spooling", "not yet in ClickHouse: 0", "dead letters in " + s.target.cfg.Kafka.DeadTopic + ": 1, open: 1 (`qunfa dead list` shows them)",
		"schema: ok", "0 to 13", "the oldest pending one was submitted 2026-03-01 08:05:00",
		"missing callbacks cannot be seen", "cannot be seen", "100.0%", "Quiet",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	g, out = testGlobals(t, formatJSON)
	if err := c.run(g, s.target); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Kafka    struct{ Lag, DeadLetters *int64 }
		Messages struct{ Outcomes map[string]int64 }
		Accounts struct {
			Note string
			Rows []map[string]any
		}
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"pending": 1, "sent": 3, "failed": 1, "rejected": 1, "missing": 1, "unknown": 0, "deleted": 0}
	want["pending"]++ // imported history, until it is abandoned
	if d := cmp.Diff(want, r.Messages.Outcomes); d != "" {
		t.Errorf("outcomes (-want, +got):\n%s", d)
	}
	if r.Accounts.Note != recordingNote || r.Accounts.Rows[0]["missing_callbacks"] != nil {
		t.Errorf("an account of unrecorded sends shows %v", r.Accounts.Rows[0])
	}
}

// A part that cannot be asked is not known; it is never 0, and costs only itself.
func TestStatusWithoutServers(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	address := strings.TrimPrefix(gone.URL, "http://")
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.ClickHouse.Addr = []string{address}, []string{address}
	s := newTarget(t, cfg)
	g, out := testGlobals(t, formatJSON)
	if err := (&statusCmd{Admin: []string{address}}).run(g, s); err != errSilent {
		t.Errorf("error %v, want a silent failure", err)
	}
	var r map[string]map[string]any
	var services struct{ Services []doctor.ServiceState }
	_ = json.Unmarshal(out.Bytes(), &r) // the members that are no objects do not fit
	if err := json.Unmarshal(out.Bytes(), &services); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"kafka", "clickhouse", "messages", "accounts"} {
		if r[part]["error"] == nil {
			t.Errorf("%s has no error: %v", part, r[part])
		}
	}
	if r["kafka"]["lag"] != nil || r["kafka"]["dead_letters"] != nil || r["messages"]["outcomes"] != nil || services.Services[0].Error == "" {
		t.Errorf("something is known of nothing:\n%s", out)
	}
}

func newTarget(t *testing.T, cfg *config.Config) *target {
	t.Helper()
	opts, err := (&globals{Stderr: &bytes.Buffer{}}).options()
	if err != nil {
		t.Fatal(err)
	}
	return &target{cfg: cfg, opts: opts, where: "the test's servers"}
}
