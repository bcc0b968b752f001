//go:build containers

package containers

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/events"
	"qunfa/internal/wechat/wechattest"
	"qunfa/test/internal/proc"
)

// installation is qunfa with a user in Kafka for each service, with topics and
// groups of the names that the documents use.
type installation struct {
	b        *broker
	ch       clickHouse
	sim      *wechattest.Simulator
	db       *clickhouse.DB
	database string
	program  string // qunfa
	file     string // its configuration, as the operator

	services map[string]*running
	logs     map[string]*proc.Log
}

const (
	eventTopic, deadTopic = "qunfa.events", "qunfa.events.dead"
	apiToken              = "token-of-the-record-api"
)

func newInstallation(t *testing.T, b *broker, ch clickHouse) *installation {
	t.Helper()
	i := &installation{b: b, ch: ch, database: "rights_" + strings.ToLower(rand.Text()[:8]), services: map[string]*running{}, logs: map[string]*proc.Log{}}
	sim, err := wechattest.New(wechattest.Config{Seed: 7, Scale: 3600, Accounts: []wechattest.Account{{Name: "公众号", Mode: wechattest.Plain, Format: wechattest.XML, Fans: 1000}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	sim.Start()
	i.sim = sim
	i.program = filepath.Join(t.TempDir(), "qunfa")
	if out, err := exec.Command("go", "build", "-o", i.program, "qunfa/cmd/qunfa").CombinedOutput(); err != nil {
		t.Fatalf("build qunfa: %v\n%s", err, out)
	}
	i.file = i.operatorFile(t)
	t.Cleanup(func() { i.drop(t) })
	return i
}

// operatorFile is a configuration as an operator writes it.
func (i *installation) operatorFile(t *testing.T) string {
	t.Helper()
	return writeFile(t, "qunfa.yaml", fmt.Appendf(nil, `kafka:
  brokers: [%q]
  tls: {ca_file: %q}
  sasl: {mechanism: scram-sha-512, username: qunfa-operator, password: %q}
clickhouse: {addr: [%q], database: %s, username: %s, password: %q}
`, i.b.addrs[secure], i.b.authority.file, password, i.ch.addr, i.database, i.ch.user, i.ch.password))
}

// config is that of a service.
func (i *installation) config(name string) *config.Config {
	cfg := i.b.as(principals[name])
	cfg.ClickHouse = config.ClickHouse{Addr: []string{i.ch.addr}, Database: i.database, Username: i.ch.user, Password: config.NewSecret(i.ch.password)}
	cfg.Ingest.APIToken = config.NewSecret(apiToken)
	cfg.Sink.Interval = 100 * time.Millisecond
	cfg.Reconcile.Interval, cfg.Reconcile.BarrierTimeout, cfg.Reconcile.RatePerMinute = 300*time.Millisecond, 3*time.Second, 60
	cfg.Reconcile.FirstPoll, cfg.Reconcile.Schedule, cfg.Reconcile.GiveUpAfter = time.Second, []time.Duration{time.Second}, time.Hour
	cfg.WeChat.BaseURL = config.MustURL(i.sim.URL())
	a := i.sim.Accounts()[0]
	cfg.Accounts = []config.Account{{AppID: a.AppID, OriginalID: a.OriginalID, Poll: true, AppSecret: config.NewSecret(a.Secret), Tokens: []config.Secret{config.NewSecret(a.Token)}}}
	return cfg
}

func (i *installation) migrate(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := app.Migrate(ctx, i.config("migrate"), app.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	c := i.config("migrate").ClickHouse
	var err error
	if i.db, err = clickhouse.Open(clickhouse.Config{Addr: c.Addr, Database: c.Database, Username: c.Username, Password: c.Password.Reveal()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.db.Close() })
}

func (i *installation) drop(t *testing.T) {
	db, err := clickhouse.Open(clickhouse.Config{Addr: []string{i.ch.addr}, Database: "default", Username: i.ch.user, Password: i.ch.password})
	if err == nil {
		_, err = db.Query(context.Background(), "DROP DATABASE IF EXISTS "+i.database)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Errorf("drop the database: %v", err)
	}
}

func (i *installation) start(t *testing.T) {
	t.Helper()
	for _, name := range app.Services() {
		i.logs[name] = &proc.Log{}
		i.services[name] = startService(t, name, i.config(name), i.logs[name])
	}
	i.sim.PointAt("http://" + i.services["ingest"].host.Ingest().Addr())
}

// everything sends a message whose callback comes, one whose callback never
// comes, a callback and a record that nobody understands, and uses each command
// of the operator that asks Kafka.
func (i *installation) everything(ctx context.Context, t *testing.T) {
	t.Helper()
	i.allReady(ctx, t)
	i.send(ctx, t, wechattest.Success(), "callback")
	i.send(ctx, t, wechattest.Success().Never(), "poll")
	i.awaitLetter(ctx, t, func() { i.spoiltCallback(ctx, t, http.StatusOK) })
	i.awaitLetter(ctx, t, func() { i.spoiltRecord(ctx, t) })
	for _, command := range []string{"status --admin " + i.services["sink"].host.AdminAddr(), "dead list --format csv", "replay --from topic --dry-run",
		"dead replay --reason uninsertable", "dead drop --reason uninsertable --yes"} {
		i.letter(ctx, t)
		if said, err := i.qunfa(ctx, command); err != nil {
			t.Errorf("qunfa %s: %v\n%s", command, err, said)
		}
	}
}

// allReady waits until each service that was started is ready.
func (i *installation) allReady(ctx context.Context, t *testing.T) {
	t.Helper()
	for name := range i.services {
		waitFor(ctx, t, "ready", func() string {
			if ok, why := i.services[name].ready(); !ok || strings.Contains(why, "degraded") && name != "ingest" {
				return name + ": " + strings.ReplaceAll(why, "ready", "well")
			}
			return "ready"
		})
	}
}

// send sends a message, records it, and waits until it is decided.
func (i *installation) send(ctx context.Context, t *testing.T, plan wechattest.Plan, by string) {
	t.Helper()
	id := i.submit(ctx, t, plan)
	waitFor(ctx, t, by, func() string {
		r, err := i.db.Query(ctx, fmt.Sprintf("SELECT toString(decided_by) FROM messages WHERE msg_id = %d", id))
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(r.Rows)
	})
}

func (i *installation) submit(ctx context.Context, t *testing.T, plan wechattest.Plan) int64 {
	t.Helper()
	appid := i.sim.Accounts()[0].AppID
	if err := i.sim.Arrange(appid, plan); err != nil {
		t.Fatal(err)
	}
	r, err := i.sim.Submit(appid, wechattest.Send{Audience: wechattest.All()})
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"appid":%q,"msg_id":%d,"submitted_at":%q}`, appid, r.MsgID, r.SubmittedAt.Format(time.RFC3339))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+i.services["ingest"].host.Ingest().InternalAddr()+"/v1/submissions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+apiToken)
	req.Header.Set("Content-Type", "application/json")
	post(t, req, http.StatusOK)
	return r.MsgID
}

func post(t *testing.T, req *http.Request, want int) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if said, _ := io.ReadAll(res.Body); res.StatusCode != want {
		t.Errorf("%s: %s, want %d: %s", req.URL.Path, res.Status, want, said)
	}
}

// callback posts what WeChat might have sent, signed.
func (i *installation) callback(ctx context.Context, t *testing.T, total string, want int) {
	t.Helper()
	a := i.sim.Accounts()[0]
	now := strconv.FormatInt(time.Now().Unix(), 10)
	signed := []string{a.Token, now, "nonce"}
	slices.Sort(signed)
	sum := sha1.Sum([]byte(strings.Join(signed, "")))
	query := url.Values{"signature": {hex.EncodeToString(sum[:])}, "timestamp": {now}, "nonce": {"nonce"}}
	body := fmt.Sprintf("<xml><ToUserName>%s</ToUserName><FromUserName>o</FromUserName><CreateTime>%s</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>"+
		"<MsgID>77</MsgID><Status>send success</Status><TotalCount>%s</TotalCount></xml>", a.OriginalID, now, total)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+i.services["ingest"].host.Ingest().Addr()+"/callback/"+a.AppID+"?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/xml")
	post(t, req, want)
}

func (i *installation) spoiltCallback(ctx context.Context, t *testing.T, want int) {
	t.Helper()
	i.callback(ctx, t, "dozens", want)
}

// spoiltRecord is an event by its headers, and nothing by its value.
func (i *installation) spoiltRecord(ctx context.Context, t *testing.T) {
	t.Helper()
	r := goodRecord(t)
	r.Value = []byte("{")
	i.produce(ctx, t, eventTopic, r)
}

func goodRecord(t *testing.T) events.Record {
	t.Helper()
	e, err := events.New("qunfa/test", &events.Finished{AppID: "wx1", MsgID: 1, CreateTime: time.Now().Unix(), Status: "send success"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// letter is a dead letter that can be replayed.
func (i *installation) letter(ctx context.Context, t *testing.T) {
	t.Helper()
	r := goodRecord(t)
	i.produce(ctx, t, deadTopic, events.DeadLetter{Record: r, Reason: events.DeadUninsertable, Error: "a test", From: "qunfa/sink"}.Encode())
}

func (i *installation) produce(ctx context.Context, t *testing.T, topic string, r events.Record) {
	t.Helper()
	rec := kafka.Record{Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value)}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, kafka.Header{Key: h.Key, Value: h.Value})
	}
	res, err := i.b.admin(t).Produce(ctx, &kafka.ProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(rec)})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		t.Fatal(err)
	}
}

// awaitLetter waits until what do has done has become a dead letter.
func (i *installation) awaitLetter(ctx context.Context, t *testing.T, do func()) {
	t.Helper()
	before := i.deadRecords(ctx, t)
	do()
	waitFor(ctx, t, "a letter more", func() string {
		if n := i.deadRecords(ctx, t); n > before {
			return "a letter more"
		}
		return "none came\n" + i.logs["sink"].String()
	})
}

func (i *installation) deadRecords(ctx context.Context, t *testing.T) (n int64) {
	t.Helper()
	res, err := i.b.admin(t).ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{deadTopic: {kafka.LastOffsetOf(0), kafka.LastOffsetOf(1)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range res.Topics[deadTopic] {
		n += p.LastOffset
	}
	return n
}

// qunfa runs a command as the operator.
func (i *installation) qunfa(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, i.program, append(strings.Fields(command), "--config", i.file)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
