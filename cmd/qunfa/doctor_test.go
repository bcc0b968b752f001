package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/doctor"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
	"qunfa/internal/local"
	"qunfa/internal/wechat/wechattest"
)

func TestDoctorReport(t *testing.T) {
	at := time.Date(2026, 11, 25, 3, 4, 5, 0, time.FixedZone("CST", 8*3600))
	var accounts []doctor.Finding
	for i := range 5 {
		accounts = append(accounts, doctor.Finding{Area: doctor.AreaCallback, Check: "callback.verification", Subject: fmt.Sprintf("wx%016d", i), Severity: doctor.OK,
			Checked: "WeChat's check of the URL is answered, with every token", Found: "answered right with 2 tokens, in 12ms"})
	}
	findings := slices.Concat([]doctor.Finding{
		{Area: doctor.AreaCallback, Check: "callback.url", Subject: "https://wx.example.com", Severity: doctor.OK, Checked: "the URL is one that WeChat can call", Found: "https, port 443"},
		{Area: doctor.AreaCallback, Check: "callback.certificate", Subject: "wx.example.com", Severity: doctor.Failure, Checked: "the certificate is valid, complete and not about to end",
			Found: "it expired on 2026-11-22: WeChat does not call", Remedy: "renew it, and find out why that did not happen by itself", Doc: "docs/runbook.md#qunfanocallbacks"},
	}, accounts, []doctor.Finding{
		{Area: doctor.AreaCallback, Check: "callback.received", Subject: "wx\x1bnew", Severity: doctor.Unchecked, Checked: "callbacks come, and were seen lately", Found: "not known yet", Remedy: "send a message", Doc: "docs/runbook.md#qunfacallbacksmissing"},
		{Area: doctor.AreaKafka, Check: "kafka.topic", Subject: "qunfa.events", Severity: doctor.Warning, Checked: "the topic exists, and keeps what it is given",
			Found: "min.insync.replicas is 1: what is acknowledged may rest on one disk", Remedy: "kafka-configs --alter --entity-type topics --entity-name qunfa.events --add-config min.insync.replicas=2", Doc: "docs/runbook.md#qunfaproducefailing"},
	})
	r := doctorReport{Where: "the servers of qunfa.yaml", At: at, Version: "test", Seconds: 1.25, Summary: doctor.Count(findings), Findings: findings}
	for i := range 5 { // the same thing to do about several, and what one reason kept from being looked at
		findings = append(findings, doctor.Finding{Area: doctor.AreaAPI, Check: "api.access", Subject: fmt.Sprintf("wx%016d", i), Severity: doctor.Failure, Checked: "WeChat's API lets us in, for this account",
			Found: fmt.Sprintf("wx%016d: the API's allow-list does not have our address (rid: 6a-%d-7)", i, i), Remedy: "enter that address", Doc: "docs/runbook.md#qunfaaccountblocked"})
		findings = append(findings, doctor.Finding{Area: doctor.AreaClickHouse, Check: fmt.Sprintf("clickhouse.%d", i), Severity: doctor.Unchecked, Checked: "x", Found: "the database cannot be asked", Remedy: "see clickhouse.reach"})
	}
	for i, what := range []string{"plain mode", "no app_secret"} { // two things, although the remedy is one
		findings = append(findings, doctor.Finding{Area: doctor.AreaConfig, Check: "config.warnings", Subject: "wx1", Severity: doctor.Warning, Checked: "x", Found: what, Remedy: "think about it", Doc: fmt.Sprint(i)})
	}
	r.Summary, r.Findings = doctor.Count(findings), findings
	for _, format := range []string{formatTable, formatJSON, formatCSV} {
		g, out := testGlobals(t, format)
		if err := r.print(g); err != nil {
			t.Fatal(err)
		}
		golden(t, "doctor."+format, out.String())
	}
	well := doctorReport{Summary: doctor.Count(nil)}
	if text := well.text(80); !strings.Contains(text, "Nothing to do") {
		t.Errorf("of nothing:\n%s", text)
	}
	if strings.Contains(r.text(60), "\x1b") {
		t.Error("what others have written can control the terminal")
	}
	for _, line := range strings.Split(r.text(60), "\n") {
		if len(line) > 60 && strings.Contains(line, " it expired") {
			t.Errorf("a line of %d characters on a terminal of 60: %s", len(line), line)
		}
	}
}

// world is a local stack behind a reverse proxy, and a WeChat.
type world struct {
	t      *testing.T
	stack  *local.Stack
	wechat *wechattest.Simulator
	target *target
	cmd    doctorCmd
	broken atomic.Bool // the proxy answers by itself
	ended  chan error
	stop   context.CancelFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ended: make(chan error, 1)}
	w.startWeChat()
	w.startStack()
	w.startProxy()
	w.target = &target{where: "the test's stack", dir: w.stack.Dir, local: w.stack.Conn}
	w.target.cfg, w.target.opts = w.stack.Conn.Apply(w.stack.Config)
	w.target.opts.Logger = slog.New(slog.DiscardHandler)
	w.cmd.Timeout, w.cmd.Within = 20*time.Second, time.Minute
	return w
}

func (w *world) startWeChat() {
	w.t.Helper()
	s, err := wechattest.New(wechattest.Config{Accounts: []wechattest.Account{{CallbackURL: "https://203.0.113.5/callback"}}})
	if err != nil {
		w.t.Fatal(err)
	}
	s.Start()
	w.t.Cleanup(func() { _ = s.Close() })
	w.wechat = s
}

func (w *world) startStack() {
	w.t.Helper()
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.wechat.Accounts()[0]
	cfg := config.Default()
	cfg.Embedded.Dir, cfg.Embedded.HTTP, cfg.Embedded.TCPPort = filepath.Join(w.t.TempDir(), "data"), false, 0
	cfg.Ingest.Listen, cfg.Ingest.Internal, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.WeChat.BaseURL = config.MustURL(w.wechat.URL())
	cfg.Accounts = []config.Account{{AppID: a.AppID, OriginalID: a.OriginalID, Name: "账号", Poll: true, UpstreamMass: true,
		Tokens: []config.Secret{config.NewSecret(a.Token), config.NewSecret("previousOfTheTest")}, AESKeys: []config.Secret{config.NewSecret(a.AESKey)}, AppSecret: config.NewSecret(a.Secret)}}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.stack, err = local.Start(ctx, cfg, local.Options{
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		Engine: func(c embedded.EngineConfig) embedded.EngineConfig { c.LocalEngine = exe; return c },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { w.ended <- w.stack.Run(ctx) }()
	w.t.Cleanup(w.end)
	w.await("readiness", func() bool { ready, _ := w.stack.Host.Ready(); return ready })
}

// end stops the stack, once.
func (w *world) end() {
	w.stop()
	if err, ok := <-w.ended; ok {
		if err != nil {
			w.t.Errorf("stop: %v", err)
		}
		close(w.ended)
	}
}

func (w *world) await(what string, check func() bool) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !check(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// startProxy is what stands before ingest, at a public name with a good certificate.
func (w *world) startProxy() {
	to := &url.URL{Scheme: "http", Host: w.stack.Conn.Ingest}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: &http.Transport{DisableKeepAlives: true},
		ErrorLog: log.New(io.Discard, "", 0)} // in the end there is nothing behind it
	front := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.broken.Load() {
			http.Error(rw, "bad gateway", http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(front.Close)
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	const name = "example.com" // the name in the certificate of httptest
	w.cmd.URL = "https://" + name
	w.cmd.network = doctor.Network{
		Roots: roots,
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("203.0.113.5")}, nil
		},
		API: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, name+":") {
				address = front.Listener.Addr().String()
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
}

// callback tells of a message as WeChat does, once its send was recorded.
func (w *world) callback(msgID int64) {
	w.t.Helper()
	a := w.wechat.Accounts()[0]
	g, _ := testGlobals(w.t, formatJSON)
	keys := signKeys{appid: a.AppID, owner: a.AppID, token: a.Token, aesKey: a.AESKey, originalID: a.OriginalID, path: "/callback/" + a.AppID}
	c := callbackSignCmd{MsgID: msgID, Status: "send success", Total: 100, BodyFormat: "xml", OpenID: "oTest", Mode: "safe"}
	body, err := c.body(g, keys)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := c.sign(keys, body, time.Now(), [16]byte{})
	if err != nil {
		w.t.Fatal(err)
	}
	c.Post = "http://" + w.stack.Conn.Ingest
	if err := c.post(g, keys, req); err != nil {
		w.t.Fatal(err)
	}
}

// look runs doctor and returns its report, and whether it failed.
func (w *world) look() (doctorReport, bool) {
	w.t.Helper()
	g, out := testGlobals(w.t, formatJSON)
	err := w.cmd.run(g, w.target)
	if err != nil && !errors.Is(err, errSilent) {
		w.t.Fatal(err)
	}
	var r doctorReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		w.t.Fatalf("%v in\n%s", err, out)
	}
	for _, secret := range doctor.Secrets(w.target.cfg) {
		if strings.Contains(out.String(), secret) {
			w.t.Errorf("a secret is shown:\n%s", out)
		}
	}
	return r, err != nil
}

// wants asks for a finding, and for the exit code that belongs to it.
func (w *world) wants(s doctor.Severity, check string, words ...string) {
	w.t.Helper()
	r, failed := w.look()
	if failed != (r.Summary[doctor.Failure] > 0) {
		w.t.Errorf("failed: %v, with %d failures", failed, r.Summary[doctor.Failure])
	}
	for _, f := range r.Findings {
		says := f.Severity == s && f.Check == check
		for _, word := range words {
			says = says && strings.Contains(f.Found+" "+f.Remedy, word)
		}
		if says {
			return
		}
	}
	w.t.Errorf("no %s of %s with %q in\n%s", s, check, words, r.text(200))
}

func (w *world) query(sql string) [][]any {
	w.t.Helper()
	db, err := w.target.database()
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	r, err := db.Query(w.t.Context(), sql)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Rows
}

func (w *world) ends() string {
	w.t.Helper()
	client, err := w.target.kafka()
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	all := ""
	for _, topic := range []string{w.target.cfg.Kafka.Topic, w.target.cfg.Kafka.DeadTopic} {
		ends, err := client.EndOffsets(w.t.Context(), topic)
		if err != nil {
			w.t.Fatal(err)
		}
		all += fmt.Sprint(ends)
	}
	return all
}

// TestDoctor looks at a stack that is well, and then breaks one thing after the other.
func TestDoctor(t *testing.T) {
	w := newWorld(t)
	for id := range int64(5) {
		w.callback(3147483650 + id)
	}
	w.await("the callbacks in the database", func() bool { return fmt.Sprint(w.query("SELECT count() FROM messages")[0][0]) == "5" })
	before := w.ends()
	r, failed := w.look()
	for _, f := range r.Findings {
		if f.Severity != doctor.OK && f.Check != "clickhouse.disk" && f.Check != "services.spool" && f.Check != "services.data" { // the disk is the tester's
			t.Errorf("of a stack that is well: %+v", f)
		}
	}
	if failed || len(r.Findings) < 25 {
		t.Errorf("failed: %v, with\n%s", failed, r.text(200))
	}
	if after := w.ends(); after != before {
		t.Errorf("doctor wrote records: the topics ended at %s, and now at %s", before, after)
	}
	w.breakCallback()
	w.breakAPI()
	w.breakLog()
	w.breakDatabase()
	w.end()
	for _, check := range []string{"callback.verification", "kafka.reach", "clickhouse.reach", "services.ready"} {
		w.wants(doctor.Failure, check)
	}
	w.wants(doctor.Unchecked, "clickhouse.complete")
}

func (w *world) breakCallback() {
	w.broken.Store(true)
	w.wants(doctor.Failure, "callback.verification", "status 502", "the fault is in what stands before it")
	w.broken.Store(false)
	whole := w.target.cfg
	other := *whole
	other.Accounts = slices.Clone(whole.Accounts)
	w.target.cfg = &other
	other.Accounts[0].Tokens = []config.Secret{config.NewSecret("another0123456789")}
	w.wants(doctor.Failure, "callback.verification", "refuses the signature of tokens[0]")
	other.Accounts[0].Tokens = whole.Accounts[0].Tokens
	other.Accounts[0].AESKeys = []config.Secret{config.NewSecret(testKey2)}
	w.wants(doctor.Failure, "callback.encryption", "aes_keys[0]")
	w.target.cfg = whole
}

func (w *world) breakAPI() {
	appid := w.wechat.Accounts()[0].AppID
	w.wechat.DenyIP(appid, true)
	w.wants(doctor.Failure, "api.access", "127.0.0.1", "40164", "IP白名单")
	w.wechat.DenyIP(appid, false)
}

// breakLog writes what no event is.
func (w *world) breakLog() {
	w.t.Helper()
	client, err := w.target.kafka()
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	producer, err := app.NewProducer(client, w.target.cfg.Kafka.Topic, w.target.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	broken := events.Record{Key: []byte("wx"), Value: []byte("{"), Time: time.Now(), Headers: []events.Header{{Key: "ce_type", Value: []byte(string(events.TypeFinished))}, {Key: "ce_specversion", Value: []byte("1.0")}}}
	if _, err := producer.Produce(w.t.Context(), broken); err != nil {
		w.t.Fatal(err)
	}
	if err := producer.Close(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.await("the dead letter", func() bool {
		return fmt.Sprint(w.query("SELECT count() FROM record_rows WHERE kind = 'dead'")[0][0]) == "1"
	})
	w.wants(doctor.Warning, "clickhouse.dead", "1 dead letter", "qunfa dead replay")
}

func (w *world) breakDatabase() {
	w.query("ALTER TABLE event_rows DELETE WHERE offset = 1 SETTINGS mutations_sync = 2")
	w.wants(doctor.Failure, "clickhouse.events", "1 event", "replay --from topic")
	w.query("ALTER TABLE record_rows DELETE WHERE offset = 2 SETTINGS mutations_sync = 2")
	w.wants(doctor.Failure, "clickhouse.complete", "1 are not accounted for")
	w.query("INSERT INTO schema_migrations (version_id, is_applied) VALUES (9999, 1)")
	w.wants(doctor.Failure, "clickhouse.schema", "newer qunfa")
}
