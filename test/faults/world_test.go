package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/kafka"
	"qunfa/internal/wechat"
	"qunfa/test/wire"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func containsAll(s string, texts ...string) bool {
	return !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(s, t) })
}

// patience is how long to wait for what must come. It bounds failures alone.
const patience = time.Minute

const (
	appid = "wx0123456789abcdef"
	token = "token-of-the-account"
)

// fault is an installation of its own, in which a fault will be made.
type fault struct {
	t       *testing.T
	cfg     *config.Config
	options app.Options
	kafka   *wire.Wire  // between the services and Kafka
	server  *wire.Proxy // between the services and ClickHouse
	log     *lines
	http    *http.Client

	client   *kafka.Client // of the test itself: never in trouble
	db       *clickhouse.DB
	services map[string]*service

	padding int // bytes that make callbacks larger

	ready  string            // every page of /readyz that was seen
	wanted map[int64]request // the callback that WeChat sends for each message
	told   map[int64]bool    // those of them that were answered with success
}

// parts are what an installation is made of; nil: what all tests share.
type parts struct {
	brokers *embeddedtest.Brokers
	server  *embeddedtest.Server
	own     bool // the server is the test's own
	change  func(*config.Config, *app.Options)
	// admin migrates where the services may not.
	admin func(*config.Config)
}

// newFault migrates, and prepares services.
func newFault(t *testing.T, p parts) *fault {
	t.Helper()
	if p.brokers == nil {
		p.brokers = embeddedtest.Kafka(t)
	}
	if p.server == nil {
		p.server = embeddedtest.ClickHouse(t)
	}
	f := &fault{
		t: t, log: &lines{out: t.Output()}, http: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second},
		services: map[string]*service{}, wanted: map[int64]request{}, told: map[int64]bool{},
	}
	t.Cleanup(f.http.CloseIdleConnections)
	f.kafka, f.server = wire.New(p.brokers.Dial), wire.NewProxy(t, p.server.Addr)
	f.options = app.Options{KafkaDial: f.kafka.Dial, Logger: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	f.cfg = f.config(p)
	if p.change != nil {
		p.change(f.cfg, &f.options)
	}
	f.openOwn(p)
	if err := app.Migrate(t.Context(), f.own(p), app.Options{KafkaDial: p.brokers.Dial}, nil); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return f
}

func (f *fault) config(p parts) *config.Config {
	cfg := config.Default()
	cfg.Admin.Listen, cfg.Ingest.Listen, cfg.Ingest.Internal = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Kafka.Brokers, cfg.Kafka.Topic = p.brokers.Addrs, p.brokers.Topic(f.t)
	cfg.Kafka.DeadTopic = cfg.Kafka.Topic + ".dead"
	cfg.Kafka.Partitions, cfg.Kafka.ReplicationFactor, cfg.Kafka.MinInsyncReplicas = 2, 1, 1
	cfg.ClickHouse = config.ClickHouse{
		Addr: []string{f.server.Addr()}, Database: database(f.t, p), Username: p.server.Username, Password: config.NewSecret(p.server.Password),
	}
	cfg.Sink.Group, cfg.Sink.Interval = p.brokers.Group(f.t), 100*time.Millisecond
	cfg.Accounts = []config.Account{{AppID: appid, OriginalID: "gh_1", Name: "账号", Tokens: []config.Secret{config.NewSecret(token)}}}
	return cfg
}

// database is a name for a database; only that of a shared server is dropped in the end.
func database(t *testing.T, p parts) string {
	if p.own {
		return "qunfa"
	}
	return p.server.Database(t)
}

// own is the configuration of the test itself.
func (f *fault) own(p parts) *config.Config {
	own := *f.cfg
	own.ClickHouse.Addr = []string{p.server.Addr}
	if p.admin != nil {
		p.admin(&own)
	}
	return &own
}

func (f *fault) openOwn(p parts) {
	own := f.own(p)
	var err error
	if f.client, err = app.NewKafka(own, app.Options{KafkaDial: p.brokers.Dial}); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(f.client.Close)
	if f.db, err = app.OpenClickHouse(own, app.Options{}); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := f.db.Close(); err != nil {
			f.t.Errorf("close the database: %v", err)
		}
	})
}

// service is a service in a host of its own, as a process is.
type service struct {
	*app.Host
	stop func()
}

// start runs services until the end of the test.
func (f *fault) start(names ...string) {
	f.t.Helper()
	for _, name := range names {
		f.services[name] = f.startOne(strings.TrimRight(name, "0123456789"))
	}
}

func (f *fault) startOne(name string) *service {
	f.t.Helper()
	cfg := *f.cfg
	h, err := app.NewHost(&cfg, f.options, name)
	if err != nil {
		f.t.Fatalf("start %s: %v", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	s := &service{Host: h}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			f.t.Errorf("%s ended: %v", name, err)
		}
	})
	f.t.Cleanup(s.stop)
	return s
}

// begin starts ingest and sink and lets a few callbacks through.
func (f *fault) begin() {
	f.t.Helper()
	f.start("ingest", "sink")
	f.awaitReady()
	f.tell(3)
	f.settle()
}

// sees waits until the services say everything that the row of this test quotes,
// while something goes on.
func (f *fault) sees(meanwhile ...func()) {
	f.t.Helper()
	r, ok := table(f.t)[f.t.Name()]
	if !ok {
		f.t.Fatalf("%s has no row for this test", operations)
	}
	var page, metrics string
	f.until("the services say what the table quotes", func() string {
		page, metrics = "", ""
		for _, do := range meanwhile {
			do()
		}
		for _, name := range slices.Sorted(maps.Keys(f.services)) {
			page += f.page(name, "/readyz") + "\n"
			metrics += f.page(name, "/metrics") + "\n"
		}
		f.ready += page
		if why := r.missing(f.log.String(), f.ready, metrics); why != "" {
			return why + "\nhave:\n" + page
		}
		return ""
	})
}

// page fetches a page of a service's admin listener.
func (f *fault) page(name, path string) string {
	f.t.Helper()
	resp, err := f.http.Get("http://" + f.services[name].AdminAddr() + path)
	if err != nil {
		f.t.Fatalf("%s of %s: %v", path, name, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s of %s: %v", path, name, err)
	}
	return string(b)
}

// awaitReady waits until all services can do their work.
func (f *fault) awaitReady() {
	f.t.Helper()
	for name := range f.services {
		f.until(name+" is ready", func() string {
			if page := f.page(name, "/readyz"); !strings.HasPrefix(page, "ready") {
				return page
			}
			return ""
		})
	}
}

// stays checks, for a while, that something does not change.
func (f *fault) stays(what string, wrong func() string) {
	f.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		if why := wrong(); why != "" {
			f.t.Fatalf("%s: %s", what, why)
		}
		<-tick.C
	}
}

// until polls until missing returns nothing: it says what is not right yet.
func (f *fault) until(what string, missing func() string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		why := missing()
		if why == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("after %s still not: %s\n%s", patience, what, why)
		}
	}
}

// request is a push as WeChat sends it.
type request struct{ path, body string }

// document is the result of a message, as of a second, with something in it that nobody knows.
func document(id int64, at string, padding int) string {
	return fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><CreateTime>%s</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>"+
		"<MsgID>%d</MsgID><Status>send success</Status><TotalCount>100</TotalCount><FilterCount>80</FilterCount><SentCount>75</SentCount><ErrorCount>5</ErrorCount><Padding>%s</Padding></xml>", at, id, strings.Repeat("x", padding))
}

// tell lets WeChat report n more messages. It returns how many were taken.
func (f *fault) tell(n int) (taken int) {
	f.t.Helper()
	for range n {
		id, _ := f.next()
		if f.post(id) == http.StatusOK {
			taken++
		}
	}
	return taken
}

// next makes the callback of another message.
func (f *fault) next() (id int64, r request) {
	id, at := f.nextID(), strconv.FormatInt(time.Now().Unix(), 10)
	q := url.Values{"timestamp": {at}, "nonce": {"1"}, "signature": {wechat.Sign(token, at, "1")}}
	r = request{"/callback/" + appid + "?" + q.Encode(), document(id, at, f.padding)}
	f.wanted[id] = r
	return id, r
}

func (f *fault) nextID() int64 { return int64(1_000_000 + len(f.wanted)) }

const (
	safeAppID = "wx00000000000safe1"
	aesKey    = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// safeAccount is an account in the safe mode.
func safeAccount() config.Account {
	return config.Account{
		AppID: safeAppID, OriginalID: "gh_1", Name: "安全", Tokens: []config.Secret{config.NewSecret(token)}, AESKeys: []config.Secret{config.NewSecret(aesKey)},
	}
}

// tellSafe lets WeChat report a message of the account in the safe mode.
func (f *fault) tellSafe() (status int) {
	f.t.Helper()
	id, at := f.nextID(), strconv.FormatInt(time.Now().Unix(), 10)
	encrypted, err := wechat.Encrypt(aesKey, safeAppID, [16]byte{}, []byte(document(id, at, 0)))
	if err != nil {
		f.t.Fatal(err)
	}
	q := url.Values{"timestamp": {at}, "nonce": {"1"}, "encrypt_type": {"aes"}, "msg_signature": {wechat.Sign(token, at, "1", encrypted)}}
	f.wanted[id] = request{"/callback/" + safeAppID + "?" + q.Encode(), "<xml><ToUserName>gh_1</ToUserName><Encrypt>" + encrypted + "</Encrypt></xml>"}
	return f.post(id)
}

// post sends a callback once, as WeChat does again and again.
func (f *fault) post(id int64) (status int) {
	f.t.Helper()
	r := f.wanted[id]
	resp, err := f.http.Post("http://"+f.ingestAddr()+r.path, "text/xml", strings.NewReader(r.body))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp.StatusCode
	}
	if string(answer) != "success" {
		f.t.Errorf("a callback was answered %q", answer)
	}
	f.told[id] = true
	return http.StatusOK
}

// ingestAddr is where WeChat's callback URL leads: to any ingest that runs.
func (f *fault) ingestAddr() string {
	for _, name := range slices.Sorted(maps.Keys(f.services)) {
		if in := f.services[name].Ingest(); in != nil {
			return in.Addr()
		}
	}
	f.t.Fatal("no ingest runs")
	return ""
}

// retell lets WeChat repeat what was not answered with success, until it is.
func (f *fault) retell() {
	f.t.Helper()
	f.until("every callback is taken", func() string {
		for id := range f.wanted {
			if !f.told[id] {
				if status := f.post(id); status != http.StatusOK {
					return fmt.Sprint("status ", status)
				}
			}
		}
		return ""
	})
}

// query asks the database.
func (f *fault) query(sql string, args ...any) [][]any {
	f.t.Helper()
	r, err := f.db.Query(f.t.Context(), sql, args...)
	if err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return r.Rows
}

// settle waits until the database holds every message once, with its figures,
// and an account of every record of the log.
func (f *fault) settle() {
	f.t.Helper()
	f.retell()
	want := map[int64]string{}
	for id := range f.wanted {
		want[id] = "sent 100 80 20 75 5 1"
	}
	f.until("the database holds every message once", func() string {
		have := map[int64]string{}
		r, err := f.db.Query(f.t.Context(), "SELECT msg_id, outcome, total, eligible, filtered, sent, errors, callbacks FROM messages")
		if err != nil {
			return err.Error()
		}
		for _, m := range r.Rows {
			if have[m[0].(int64)] != "" {
				f.t.Errorf("message %d stands there twice", m[0])
			}
			have[m[0].(int64)] = strings.Trim(fmt.Sprint(m[1:]), "[]")
		}
		return cmp.Diff(want, have)
	})
	f.complete()
}

// complete waits until every record of the log has become something, and of
// topics that it replaces, too.
func (f *fault) complete() {
	f.t.Helper()
	f.until("every record of the log is accounted for", func() string {
		generation, err := f.db.Generation(f.t.Context(), f.cfg.Kafka.Topic)
		if err != nil {
			return err.Error()
		}
		coverage, err := f.db.Coverage(f.t.Context())
		if err != nil {
			return err.Error()
		}
		ends, err := f.client.EndOffsets(f.t.Context(), f.cfg.Kafka.Topic)
		if err != nil {
			return err.Error()
		}
		maps.DeleteFunc(ends, func(_ int32, end int64) bool { return end == 0 })
		have := map[int32]int64{}
		for _, c := range coverage {
			if c.Missing() != 0 || c.First != 0 {
				return fmt.Sprintf("%+v", c)
			}
			if c.Topic == clickhouse.LogName(f.cfg.Kafka.Topic, generation) {
				have[c.Partition] = c.Last + 1
			}
		}
		return cmp.Diff(ends, have)
	})
}

// saidOnce checks that a text was logged by one line, however often it was tried.
func (f *fault) saidOnce(texts ...string) {
	f.t.Helper()
	for _, text := range texts {
		if n := f.log.count(text); n != 1 {
			f.t.Errorf("%q was logged %d times, want once", text, n)
		}
	}
}

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
	out io.Writer
}

// Write gets a line at a time.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(b, []byte("level=WARN")) || bytes.Contains(b, []byte("level=ERROR")) {
		_, _ = l.out.Write(b) // for whoever reads a failure
	}
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) count(text string) (n int) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// reopen goes to the database at another address.
func (f *fault) reopen(addr string) {
	f.t.Helper()
	own := *f.cfg
	own.ClickHouse.Addr = []string{addr}
	db, err := app.OpenClickHouse(&own, app.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	old := f.db
	f.db = db
	f.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			f.t.Errorf("close the database: %v", err)
		}
	})
	_ = old.Close() // of a server that has gone
}
