package grafana

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
)

const database = "qunfa"

// Accounts of the tests.
const (
	daily    = "wxdaily00000000001" // every send is recorded
	coffee   = "wxcoffee0000000002" // some sends are recorded; its name has a quote in it
	silent   = "wxsilent0000000003" // nobody records its sends
	never    = "wxnever00000000004" // configured; nothing is known of it
	nameless = "wxnoname0000000005" // not configured
)

// rich is a message of which everything is known.
const rich = daily + "/1000"

// world is a ClickHouse with messages of the last month.
type world struct {
	t      *testing.T
	owner  *clickhouse.DB
	reader *clickhouse.DB
	now    time.Time
	zone   *time.Location
	log    []events.Event
}

// newWorld starts an engine with users as operators make them, and fills it with
// everything that can become of a message.
func newWorld(t *testing.T) *world {
	t.Helper()
	addr := startEngine(t)
	open := func(role clickhouse.Role) *clickhouse.DB {
		db, err := clickhouse.Open(clickhouse.Config{Addr: []string{addr}, Database: database, Username: string(role), Password: string(role), TimeZone: "Asia/Shanghai"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
	w := &world{t: t, owner: open(clickhouse.RoleOwner), reader: open(clickhouse.RoleReader), now: time.Now().Truncate(time.Second)}
	if err := w.owner.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.zone, err = w.owner.Location(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = w.owner.UpsertAccounts(t.Context(), []clickhouse.Account{
		{AppID: daily, OriginalID: "gh_1", Name: "晨光日报"}, {AppID: coffee, OriginalID: "gh_2", Name: "O'Neil 咖啡"},
		{AppID: silent, OriginalID: "gh_3", Name: "沉默者"}, {AppID: never, OriginalID: "gh_4", Name: "新账号"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.play()
	w.write()
	return w
}

// startEngine starts an engine whose users are the roles, each with its name as password.
func startEngine(t *testing.T) (addr string) {
	t.Helper()
	var users []clickhouse.User
	for _, role := range clickhouse.Roles() {
		hash := sha256.Sum256([]byte(role))
		users = append(users, clickhouse.User{Name: string(role), Role: role, PasswordSHA256: hex.EncodeToString(hash[:])})
	}
	file, err := clickhouse.UsersXML(database, users)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "users.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "users.d", "qunfa.xml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	engine, err := embedded.StartEngine(t.Context(), embedded.EngineConfig{Dir: dir, LocalEngine: exe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine.Addr()
}

// ago is a moment of an earlier day.
func (w *world) ago(days int, more time.Duration) time.Time {
	return w.now.Add(-time.Duration(days)*24*time.Hour - more)
}

func (w *world) add(d events.Data, received time.Time) {
	w.t.Helper()
	e, err := events.New("qunfa/test", d)
	if err != nil {
		w.t.Fatal(err)
	}
	e.ReceivedAt = received
	w.log = append(w.log, e)
}

func (w *world) submitted(appid string, id int64, at time.Time, audience, campaign string) {
	size := 1000 + id%7
	d := &events.Submitted{
		AppID: appid, MsgID: id, SubmittedAt: at, Recorder: "test", Chase: true, Label: "标题 '" + campaign + "'", Campaign: campaign, MsgType: "mpnews",
		Audience: events.Audience{Kind: audience, Size: &size},
	}
	w.add(d, at)
}

func (w *world) finished(appid string, id int64, at time.Time, status string, total, eligible, sent int64, more func(*events.Finished)) {
	kind, code := events.ParseStatus(status)
	failed := eligible - sent
	d := &events.Finished{
		AppID: appid, MsgID: id, CreateTime: at.Unix(), Status: status, StatusKind: kind, ErrCode: code,
		TotalCount: &total, FilterCount: &eligible, SentCount: &sent, ErrorCount: &failed, Mode: "safe", Format: "xml", Raw: "<xml><Status>" + status + "</Status></xml>",
	}
	if more != nil {
		more(d)
	}
	w.add(d, at.Add(2*time.Second))
}

// play makes the month.
func (w *world) play() {
	audiences := []string{events.AudienceAll, events.AudienceTag, events.AudienceOpenIDs}
	codes := []string{"err(10001)", "err(20001)", "err(30002)", "err(40001)", "err(20431)", "err(99999)"}
	for day := range 25 {
		at, id := w.ago(day, time.Hour), int64(1000+day)
		w.submitted(daily, id, at, audiences[day%3], "秋季'活动")
		worse := int64(25 - day) // the later, the worse
		w.finished(daily, id, at.Add(time.Minute), "send success", 1000, 950, 900-10*worse, nil)
		if day%2 == 0 {
			w.submitted(coffee, id, at, events.AudienceAll, "")
			w.finished(coffee, id, at.Add(2*time.Minute), "send success", 500, 500, 480, nil)
		}
		if day%3 == 0 { // nobody recorded these
			w.finished(coffee, id+100, at, "send success", 200, 190, 180, nil)
			w.finished(silent, id, at, "send success", 100, 90, 80, nil)
		}
		if day < len(codes) {
			w.submitted(daily, id+200, at, events.AudienceTag, "被拒")
			w.finished(daily, id+200, at.Add(time.Minute), codes[day], 0, 0, 0, nil)
		}
	}
	w.finished(nameless, 1, w.ago(3, 0), "send fail", 100, 100, 0, nil)
	w.finished(silent, 50, w.ago(90, 0), "send partial", 100, 100, 50, nil)
	w.odd()
}

// odd makes what seldom happens.
func (w *world) odd() {
	at := w.ago(0, time.Hour)
	one, eleven, twelve := int64(1), int64(11), int64(12)
	// A correction of the first message: it has everything.
	w.finished(daily, 1000, at.Add(3*time.Minute), "send success", 1000, 950, 940, func(d *events.Finished) {
		d.ArticleURLs = []events.Link{{Index: 1, URL: "https://mp.weixin.qq.com/s/1"}, {Index: 2, URL: "https://mp.weixin.qq.com/s/2"}}
		d.Copyright = &events.Copyright{CheckState: &one, Articles: []events.ArticleCheck{
			{Index: 1, AuditState: &eleven, UserDeclareState: &one},
			{Index: 2, AuditState: &twelve, OriginalArticleURL: "https://mp.weixin.qq.com/s/3", CanReprint: &one},
		}}
	})
	w.add(&events.Polled{AppID: daily, MsgID: 1000, PolledAt: at.Add(2 * time.Minute), Attempt: 1, Status: events.PollSuccess, Instance: "test"}, at.Add(2*time.Minute))
	w.add(&events.Deleted{AppID: daily, MsgID: 1000, ArticleIdx: 2, DeletedAt: at.Add(4 * time.Minute)}, at.Add(4*time.Minute))
	// Callbacks that never came: nobody knows yet, found by asking, given up, not asked, deleted.
	for i, poll := range []string{events.PollSending, events.PollSuccess, events.PollSending, "", events.PollDelete} {
		id, sent := int64(2000+i), w.ago(4+i, 0)
		w.submitted(daily, id, sent, events.AudienceOpenIDs, "会员日")
		if poll != "" {
			w.add(&events.Polled{AppID: daily, MsgID: id, PolledAt: sent.Add(time.Hour), Attempt: 1, Status: poll, Instance: "test"}, sent.Add(time.Hour))
		}
	}
	w.add(&events.Abandoned{AppID: daily, MsgID: 2002, AbandonedAt: w.ago(1, 0), Reason: events.ReasonNoAnswer, Detail: "in words", Instance: "test"}, w.ago(1, 0))
	w.add(&events.Polled{AppID: daily, MsgID: 2002, PolledAt: w.ago(2, 0), Attempt: 2, Error: &events.APIError{Code: 40059, Message: "invalid msg id"}, Instance: "test"}, w.ago(2, 0))
	w.add(&events.Submitted{AppID: coffee, MsgID: 3000, SubmittedAt: w.ago(9, 0), Recorder: "import"}, w.ago(1, 0))
	w.add(&events.Abandoned{AppID: coffee, MsgID: 3000, AbandonedAt: w.ago(1, 0), Reason: events.ReasonNotChased, Detail: "imported history", Instance: "test"}, w.ago(1, 0))
}

// write stores the events and the rows that they fold to, as the sink does.
func (w *world) write() {
	w.t.Helper()
	byKey := map[events.Key][]events.Event{}
	var read []events.Event
	for i, e := range w.log {
		record, err := events.Encode(e)
		if err != nil {
			w.t.Fatal(err)
		}
		got, err := events.Decode(events.Message{Record: record, Position: events.Position{Topic: "qunfa.events", Offset: int64(i)}})
		if err != nil {
			w.t.Fatal(err)
		}
		read, byKey[got.Key] = append(read, got), append(byKey[got.Key], got)
	}
	var rows []events.Row
	for _, evs := range byKey {
		row, _ := events.Fold(evs, w.zone)
		rows = append(rows, row)
	}
	if err := w.owner.InsertEvents(w.t.Context(), read); err != nil {
		w.t.Fatal(err)
	}
	if err := w.owner.InsertMessages(w.t.Context(), rows, nil); err != nil {
		w.t.Fatal(err)
	}
}

// month is what the dashboards show when they open: whole days of the database's zone.
func (w *world) month() timeRange {
	today := time.Date(w.now.In(w.zone).Year(), w.now.In(w.zone).Month(), w.now.In(w.zone).Day(), 0, 0, 0, 0, w.zone)
	return timeRange{from: today.AddDate(0, 0, -29), to: today.AddDate(0, 0, 1).Add(-time.Millisecond), interval: time.Hour}
}
