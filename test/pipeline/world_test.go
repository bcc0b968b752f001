package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/kafka"
	"qunfa/internal/wechat/wechattest"
	"qunfa/test/wire"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// patience is how long to wait for what must come. It bounds failures alone.
const patience = 90 * time.Second

const apiToken = "token-of-the-record-api"

// world is an installation of its own: topics, groups and a database that
// nothing else uses, a WeChat with a few accounts, and services as the test starts them.
type world struct {
	t          *testing.T
	cfg        *config.Config
	sim        *wechattest.Simulator
	answers    *answers
	kafka      *wire.Wire  // between the services and Kafka
	clickhouse *wire.Proxy // between the services and ClickHouse

	clock  func() time.Time // of the services; nil: the right one
	client *kafka.Client    // of the test itself, never cut
	db     *clickhouse.DB   // the same
	http   *http.Client

	logs io.Writer // takes what all services log, at every level; nil: the test's output
}

// newWorld prepares everything but topics and database, which migrate makes.
func newWorld(t *testing.T, sim wechattest.Config) *world {
	t.Helper()
	brokers, server := embeddedtest.Kafka(t), embeddedtest.ClickHouse(t)
	w := &world{t: t, http: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}, answers: &answers{next: &http.Transport{MaxIdleConnsPerHost: 32}}}
	t.Cleanup(w.http.CloseIdleConnections)
	w.kafka = wire.New(brokers.Dial)
	w.clickhouse = wire.NewProxy(t, server.Addr)
	w.startSimulator(sim)

	cfg := config.Default()
	w.cfg = cfg
	cfg.Admin.Listen, cfg.Ingest.Listen, cfg.Ingest.Internal = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Ingest.APIToken = config.NewSecret(apiToken)
	cfg.Kafka.Brokers, cfg.Kafka.Topic = brokers.Addrs, brokers.Topic(t)
	cfg.Kafka.DeadTopic = cfg.Kafka.Topic + ".dead"
	s := brokers.Security
	cfg.Kafka.TLS = config.TLS{Enabled: s.TLS, CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile}
	cfg.Kafka.SASL = config.SASL{Mechanism: s.Mechanism, Username: s.Username, Password: config.NewSecret(s.Password)}
	cfg.Kafka.Partitions, cfg.Kafka.ReplicationFactor, cfg.Kafka.MinInsyncReplicas = 3, 1, 1
	cfg.ClickHouse = config.ClickHouse{
		Addr: []string{w.clickhouse.Addr()}, Database: server.Database(t), Username: server.Username, Password: config.NewSecret(server.Password),
	}
	cfg.Sink.Group, cfg.Sink.Interval = brokers.Group(t), 200*time.Millisecond
	cfg.Reconcile.Group, cfg.Reconcile.Instance = brokers.Group(t), "first"
	cfg.Reconcile.Interval, cfg.Reconcile.BarrierTimeout, cfg.Reconcile.RatePerMinute = 500*time.Millisecond, 10*time.Second, 60
	cfg.WeChat.BaseURL = config.MustURL(w.sim.URL())
	w.addAccounts()
	w.openOwn(brokers, server)
	return w
}

func (w *world) startSimulator(cfg wechattest.Config) {
	cfg.Transport = w.answers
	cfg.Limits.PerMinute = 10_000 // the pace of the services is tested where they are
	sim, err := wechattest.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.sim = sim
	w.t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			w.t.Errorf("close the simulator: %v", err)
		}
		w.answers.next.CloseIdleConnections()
	})
	sim.Start()
}

// addAccounts configures the simulator's accounts as their operator would.
func (w *world) addAccounts() {
	for _, a := range w.sim.Accounts() {
		c := config.Account{AppID: a.AppID, OriginalID: a.OriginalID, Name: a.Name, Poll: true, AppSecret: config.NewSecret(a.Secret), Platform: a.Component}
		if a.Component == "" {
			c.Tokens = []config.Secret{config.NewSecret(a.Token)}
			if a.Mode != wechattest.Plain {
				c.AESKeys = []config.Secret{config.NewSecret(a.AESKey)}
			}
		}
		w.cfg.Accounts = append(w.cfg.Accounts, c)
	}
	for _, p := range w.sim.Components() {
		w.cfg.Platforms = append(w.cfg.Platforms, config.Platform{
			ComponentAppID: p.AppID, Tokens: []config.Secret{config.NewSecret(p.Token)}, AESKeys: []config.Secret{config.NewSecret(p.AESKey)},
		})
	}
}

// openOwn opens the test's own ways to Kafka and ClickHouse.
func (w *world) openOwn(brokers *embeddedtest.Brokers, server *embeddedtest.Server) {
	direct := *w.cfg
	direct.ClickHouse.Addr = []string{server.Addr}
	var err error
	if w.client, err = app.NewKafka(&direct, app.Options{KafkaDial: brokers.Dial}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.client.Close)
	if w.db, err = app.OpenClickHouse(&direct, app.Options{}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			w.t.Errorf("close the database: %v", err)
		}
	})
}

// migrate makes topics and database, as `qunfa migrate` does.
func (w *world) migrate() {
	w.t.Helper()
	if err := w.cfg.Validate(); err != nil {
		w.t.Fatal(err)
	}
	if err := app.Migrate(w.t.Context(), w.cfg, app.Options{KafkaDial: w.kafka.Dial}, nil); err != nil {
		w.t.Fatalf("migrate: %v", err)
	}
}

// service is a service in a host of its own, as a process is.
type service struct {
	*app.Host
	w    *world
	name string
	stop func()
}

// start runs a service until stop, or the end of the test.
func (w *world) start(name string, change ...func(*config.Config)) *service {
	w.t.Helper()
	return w.startVia(w.kafka, name, change...)
}

// startVia runs a service whose way to Kafka is its own.
func (w *world) startVia(way *wire.Wire, name string, change ...func(*config.Config)) *service {
	w.t.Helper()
	cfg := *w.cfg
	for _, c := range change {
		c(&cfg)
	}
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if w.logs != nil {
		log = slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	h, err := app.NewHost(&cfg, app.Options{Logger: log, KafkaDial: way.Dial, Clock: w.clock}, name)
	if err != nil {
		w.t.Fatalf("start %s: %v", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	s := &service{Host: h, w: w, name: name}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.t.Errorf("%s: %v", name, err)
		}
	})
	w.t.Cleanup(s.stop)
	return s
}

// startIngest starts ingest and points WeChat's callback URLs at it.
func (w *world) startIngest() *service {
	s := w.start("ingest")
	w.sim.PointAt(s.url())
	return s
}

func (s *service) url() string { return "http://" + s.Ingest().Addr() }

// get fetches a page of the admin listener.
func (s *service) get(path string) (status int, body string) {
	s.w.t.Helper()
	status, body, err := fetch(s.w.http, "http://"+s.AdminAddr()+path)
	if err != nil {
		s.w.t.Fatalf("%s of %s: %v", path, s.name, err)
	}
	return status, body
}

func fetch(c *http.Client, url string) (status int, body string, err error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// awaitReady waits until the services can do their work.
func (w *world) awaitReady(services ...*service) {
	w.t.Helper()
	for _, s := range services {
		w.until(s.name+" is ready", func() string {
			status, body := s.get("/readyz")
			if status == http.StatusOK {
				return ""
			}
			return body
		})
	}
}

// until polls until missing returns nothing: it says what is not right yet.
func (w *world) until(what string, missing func() string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
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
			w.t.Fatalf("after %s still not: %s\n%s", patience, what, why)
		}
	}
}

// send submits a send and records it, unless its plan is that nobody does.
func (w *world) send(in *service, appid string, to wechattest.Audience) wechattest.Receipt {
	w.t.Helper()
	r, err := w.sim.Submit(appid, wechattest.Send{Audience: to, Label: "a label"})
	if err != nil {
		w.t.Fatalf("submit: %v", err)
	}
	if r.Record == wechattest.Unrecorded {
		return r
	}
	body, err := json.Marshal([]wechattest.Receipt{r})
	if err != nil {
		w.t.Fatal(err)
	}
	// Nothing is repeated here: the record API must not lose what it accepted.
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+in.Ingest().InternalAddr()+"/v1/submissions", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+apiToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatalf("record: %v", err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		w.t.Fatalf("record: %s: %s", resp.Status, answer)
	}
	return r
}

// drain waits until every callback was delivered or given up.
func (w *world) drain() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.sim.Drain(ctx); err != nil {
		w.t.Fatalf("callbacks are not delivered: %v; %+v", err, w.sim.Stats())
	}
}

// answers carries pushes and notes how they were answered.
type answers struct {
	next *http.Transport

	mu    sync.Mutex
	count map[int]int // by HTTP status; 0: none
}

// RoundTrip implements [http.RoundTripper].
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.next.RoundTrip(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == nil {
		a.count = map[int]int{}
	}
	if err != nil {
		a.count[0]++
		return nil, err
	}
	a.count[resp.StatusCode]++
	return resp, nil
}

func (a *answers) of(status int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[status]
}

// query asks the database.
func (w *world) query(sql string, args ...any) [][]any {
	w.t.Helper()
	r, err := w.db.Query(w.t.Context(), sql, args...)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return r.Rows
}

// ends returns the end of each partition of the log.
func (w *world) ends() map[int32]int64 {
	w.t.Helper()
	ends, err := w.client.EndOffsets(w.t.Context(), w.cfg.Kafka.Topic)
	if err != nil {
		w.t.Fatal(err)
	}
	return ends
}

func (w *world) records() (n int64) {
	w.t.Helper()
	for _, end := range w.ends() {
		n += end
	}
	return n
}

func number(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

func key(appid string, msgID int64) string { return fmt.Sprintf("%s/%d", appid, msgID) }
