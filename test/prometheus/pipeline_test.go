//go:build prom

package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/local"
	"qunfa/internal/wechat"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

const (
	token  = "prometheus"
	aesKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"

	plain  = "wx00000000000000a1" // no credentials, upstream is dead
	safe   = "wx00000000000000b1"
	beyond = "wx00000000000000c1" // has no metrics of its own
	asked  = "wx00000000000000d1" // WeChat says SEND_SUCCESS, and its quota is low
	secret = "wx00000000000000e1" // WeChat refuses the secret
	nobody = "wx00000000000000f1" // is not configured

	denied1, denied2, denied3 = denied + "1", denied + "2", denied + "3"
	denied                    = "wx000000000000000" // WeChat refuses our address
)

// ofDamage are the alerts of what is found broken when the services start again,
// which [TestAlertsOfDamage] provokes.
var ofDamage = []string{"QunfaEmbeddedLogFull", "QunfaRecordsTrimmed", "QunfaSinkRewound", "QunfaSpoolFailing"}

// TestAlertsEndToEnd provokes the alerts on a running pipeline that a real
// Prometheus watches, with the rules as they are but for their times, and takes
// what Alertmanager sends.
func TestAlertsEndToEnd(t *testing.T) {
	w := newWatch(t, func(w *watch) { w.damageSpool() })

	// WeChat, asked about messages whose callback never came.
	w.await("QunfaWatchdog", "QunfaSpoolSetAside", "QunfaDeliveryScrapedTwice")
	w.awaitSamples("qunfa_polls_total", "alertmanager_notifications_failed_total", "qunfa_account_audit_failures_total", "qunfa_upstream_requests_total")
	asking := w.expect("QunfaCallbacksMissing", "QunfaNoCallbacks", "QunfaPollsFailing", "QunfaAccountBlocked", "QunfaTokenFailing", "QunfaQuotaLow",
		"QunfaPendingTooLong", "QunfaMessagesGivenUp")
	for i, appid := range []string{asked, denied1, denied2, denied3, secret} {
		w.record(appid, 100+i, 2*time.Hour)
	}
	w.record(plain, 200, 7*time.Hour)
	w.record(plain, 201, 100*time.Hour)
	asking()

	// Callbacks that are accepted, and what they say.
	told := w.expect("QunfaAuditFailed", "QunfaAuditFailedUnattributed", "QunfaDeliveryRateLow", "QunfaDeliveryRateLowOverall", "QunfaSendFailed",
		"QunfaUnknownStatus", "QunfaUpstreamFailing")
	w.tell(plain, 301, "err(10001)", 0, 0)
	w.tell(beyond, 302, "err(20001)", 0, 0)
	w.tell(plain, 303, "send success", 1500, 1000)
	w.tell(plain, 304, "send fail", 0, 0)
	w.tell(plain, 305, "send perhaps", 0, 0)
	told()
	w.sees("QunfaAuditFailed", "appid", plain)
	w.sees("QunfaAuditFailed", "err_code", "10001")
	w.sees("QunfaAuditFailedUnattributed", "err_code", "20001")

	// Callbacks that are not.
	refused := w.expect("QunfaSignatureFailures", "QunfaUnknownAccount", "QunfaCallbacksRefusedByClock", "QunfaClockOff", "QunfaDeadLetters",
		"QunfaRecordAPIFailing", "QunfaAccountsReloadFailing")
	for range 6 {
		w.post(plain, callback{sign: "wrong", want: http.StatusForbidden})
		w.post(nobody, callback{want: http.StatusNotFound})
		w.post(plain, callback{ago: time.Hour, want: http.StatusForbidden})
		w.post(safe, callback{ago: time.Hour, encrypt: true, body: body(400, "send success", 1, 1), want: http.StatusOK})
	}
	w.post(plain, callback{body: strings.Replace(body(401, "send success", 1, 1), "<MsgID>401", "<MsgID>x", 1), want: http.StatusOK})
	w.call("/v1/submissions", "wrong", `[]`, http.StatusUnauthorized)
	w.write("accounts/broken.yaml", "appid: [\n")
	refused()

	// ClickHouse cannot be written to.
	stuck := w.expect("QunfaSinkPaused", "QunfaInsertFailing", "QunfaLagHigh", "QunfaLagGrowing", "QunfaSinkStalled", "QunfaRoundsSkipped")
	w.sql("RENAME TABLE event_rows TO event_rows_away")
	for n := range 40 { // more than ever waited before: the trend counts
		w.tell(plain, 501+n, "send success", 1, 1)
	}
	stuck()
	w.sql("RENAME TABLE event_rows_away TO event_rows")

	// Kafka does not answer: first the spool takes the callbacks, then it is full.
	spooled := w.expect("QunfaCallbackSlow", "QunfaProduceFailing", "QunfaSpoolGrowing", "QunfaSpoolFilling")
	w.gate.freeze()
	w.tell(plain, 601, "send success", 1, 1)
	w.post(plain, callback{body: padded(602, 600<<10), want: http.StatusOK})
	spooled()
	full := w.expect("QunfaCallbackErrors")
	w.post(plain, callback{body: padded(603, 600<<10), want: http.StatusServiceUnavailable})
	full()
	w.gate.thaw()

	// Nothing runs.
	down := []string{"QunfaReceiverDown", "QunfaInstanceDown", "QunfaSinkDown", "QunfaReconcileDown", "QunfaDeliveryPageAbsent"}
	w.forget(down...)
	w.stop()
	w.await(down...)

	// What people got. WeCom refused one message once, which is an alert, too.
	w.await("QunfaNotificationsFailing")
	w.delivered("wecom", "QunfaSendFailed")
	w.delivered("wecom", "QunfaAuditFailed", "涉嫌广告", plain)
	w.delivered("wecom", "QunfaDeliveryRateLow", "公众号的群发送达率过低")
	w.delivered("hook", "QunfaAuditFailed", "Mass messages were rejected and reached nobody.")
	w.delivered("watchdog", "QunfaWatchdog")
	for _, message := range w.messages("wecom") {
		if len(message) > weComLimit {
			t.Errorf("a message of %d bytes:\n%s", len(message), message)
		}
	}
	for _, name := range names(alerts(t)) {
		if slices.Contains(ofDamage, name) == w.fired(name) {
			t.Errorf("%s: fired: %t", name, w.fired(name))
		}
	}
}

// TestAlertsOfDamage fills the log of the embedded broker, lets it trim what
// ClickHouse holds, and then drops the database and damages the spool, before
// the services start again.
func TestAlertsOfDamage(t *testing.T) {
	w := newWatch(t, func(w *watch) { w.maxLog = 64 << 10 })
	w.awaitSamples("qunfa_spool_errors_total", "qunfa_sink_rewinds_total", "qunfa_kafka_trimmed_records_total")

	full := w.expect("QunfaEmbeddedLogFull")
	w.sql("RENAME TABLE event_rows TO event_rows_away")
	for n := range 9 {
		w.post(plain, callback{body: padded(701+n, 8<<10), want: http.StatusOK})
	}
	full()
	w.sql("RENAME TABLE event_rows_away TO event_rows")
	w.until("the log is trimmed", w.trimmed)

	broken := w.expect("QunfaRecordsTrimmed", "QunfaSinkRewound", "QunfaSpoolFailing")
	w.sql("DROP DATABASE " + w.stack.Conn.ClickHouse.Database)
	w.stop()
	w.damageSpool()
	w.maxLog = 0 // room comes back in whole segments, which are larger than this log
	w.startStack()
	broken()
}

// watch is a pipeline and who watches it.
type watch struct {
	*testing.T
	dir        string
	maxLog     config.Size // of the embedded broker, if not the usual one
	admin      string      // address: Prometheus looks there after a restart, too
	stack      *local.Stack
	stop       func()
	gate       *gate
	prometheus string // address

	mu       sync.Mutex
	seen     map[string]map[string]bool // alert: label=value
	received map[string][]string        // receiver: bodies
}

func newWatch(t *testing.T, prepare func(*watch)) *watch {
	w := &watch{T: t, dir: t.TempDir(), admin: "127.0.0.1:0", gate: &gate{}, seen: map[string]map[string]bool{}, received: map[string][]string{}}
	prepare(w)
	w.write("accounts/none.yaml", "[]\n")
	w.startStack()
	alertmanager := w.startAlertmanager(w.serve(w.people))
	w.startPrometheus(alertmanager)
	w.follow()
	return w
}

// trimmed says whether the broker has dropped records that ClickHouse holds.
func (w *watch) trimmed() bool {
	w.Helper()
	client, err := app.NewKafka(w.stack.Config, app.Options{KafkaDial: w.stack.Broker.Dial})
	if err != nil {
		w.Fatal(err)
	}
	defer client.Close()
	first, err := client.FirstOffsets(w.Context(), w.stack.Config.Kafka.Topic)
	return err == nil && first[0] > 0
}

func (w *watch) damageSpool() {
	w.Helper()
	w.write("data/spool/events/spool.db", strings.Repeat("not a spool\n", 1000))
}

func (w *watch) write(name, text string) {
	w.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// serve serves until the test ends, and returns the address.
func (w *watch) serve(h http.HandlerFunc) string {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	w.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String()
}

func (w *watch) startStack() {
	w.Helper()
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		w.Fatal(err)
	}
	stack, err := local.Start(w.Context(), w.config(), local.Options{
		Logger: slog.New(slog.DiscardHandler), // there are hundreds of errors: that is what this is about
		Engine: func(c embedded.EngineConfig) embedded.EngineConfig { c.LocalEngine = exe; return c },
		Wrap:   func(o app.Options) app.Options { o.KafkaDial = w.gate.wrap(o.KafkaDial); return o },
	})
	if err != nil {
		w.Fatal(err)
	}
	w.stack, w.admin = stack, stack.Conn.Admin
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan error, 1)
	go func() { done <- stack.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		w.gate.thaw()
		cancel()
		if err := <-done; err != nil {
			w.Errorf("stop: %v", err)
		}
	})
	w.Cleanup(w.stop)
	w.until("readiness", func() bool { status, _ := stack.Host.Ready(); return status })
}

// config reads a file, as the services do: what is in accounts_dir is added to it.
func (w *watch) config() *config.Config {
	w.Helper()
	w.write("qunfa.yaml", `
ingest: {listen: "127.0.0.1:0", internal: "127.0.0.1:0", spool_max_bytes: 1MiB}
admin: {listen: "`+w.admin+`"}
embedded: {dir: data, tcp_port: 0, http_port: 0}
reconcile: {interval: 1s, barrier_timeout: 1s}
metrics: {accounts: 2}
accounts_dir: accounts
wechat: {base_url: "http://`+w.serve(weChat)+`"}
accounts:
  - {appid: `+plain+`, tokens: [`+token+`], upstream: "http://127.0.0.1:1/gone"}
  - {appid: `+safe+`, tokens: [`+token+`], aes_keys: [`+aesKey+`]}
  - {appid: `+beyond+`, tokens: [`+token+`]}
  - {appid: `+asked+`, tokens: [`+token+`], app_secret: s}
  - {appid: `+denied1+`, tokens: [`+token+`], app_secret: s}
  - {appid: `+denied2+`, tokens: [`+token+`], app_secret: s}
  - {appid: `+denied3+`, tokens: [`+token+`], app_secret: s}
  - {appid: `+secret+`, tokens: [`+token+`], app_secret: s}
`)
	cfg, _, err := config.Load(filepath.Join(w.dir, "qunfa.yaml"))
	if err != nil {
		w.Fatal(err)
	}
	cfg.Embedded.MaxLog = w.maxLog // less than a file may say
	return cfg
}

// weChat is as much of WeChat's API as is needed; the token names the account.
func weChat(rw http.ResponseWriter, r *http.Request) {
	var question struct {
		AppID string      `json:"appid"`
		MsgID json.Number `json:"msg_id"`
	}
	_ = json.NewDecoder(r.Body).Decode(&question) // no body, no names
	answer := map[string]any{"errcode": 0}
	account := r.URL.Query().Get("access_token")
	switch r.URL.Path {
	case "/cgi-bin/stable_token":
		answer = map[string]any{"access_token": question.AppID, "expires_in": 7200}
		if question.AppID == secret {
			answer = map[string]any{"errcode": 40125, "errmsg": "invalid appsecret"}
		}
	case "/cgi-bin/openapi/quota/get":
		answer["quota"] = map[string]any{"daily_limit": 100, "used": 50, "remain": 50}
	case "/cgi-bin/message/mass/get":
		answer = map[string]any{"msg_id": question.MsgID, "msg_status": "SEND_SUCCESS"}
		if strings.HasPrefix(account, denied) {
			answer = map[string]any{"errcode": 40164, "errmsg": "invalid ip 192.0.2.1, not in whitelist"}
		}
	}
	_ = json.NewEncoder(rw).Encode(answer)
}

// people is what Alertmanager sends to: WeCom's API, and two webhooks.
func (w *watch) people(rw http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	answer := `{"errcode":0,"errmsg":"ok","access_token":"t","expires_in":7200}`
	switch r.URL.Path {
	case "/cgi-bin/message/send":
		var m struct {
			Text, Markdown struct{ Content string }
		}
		_ = json.Unmarshal(b, &m)
		message := m.Text.Content + m.Markdown.Content
		if strings.Contains(message, "QunfaSendFailed") && w.take("refused", message) == 1 {
			answer = `{"errcode":60020,"errmsg":"not allow to access from your ip"}`
			break
		}
		w.take("wecom", message)
	case "/hook", "/watchdog":
		w.take(strings.TrimPrefix(r.URL.Path, "/"), string(b))
	}
	_, _ = io.WriteString(rw, answer)
}

func (w *watch) take(receiver, message string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received[receiver] = append(w.received[receiver], message)
	return len(w.received[receiver])
}

func (w *watch) messages(receiver string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.received[receiver])
}

// freeAddress is one that nobody listens on at the moment.
func (w *watch) freeAddress() string {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	if err := l.Close(); err != nil {
		w.Fatal(err)
	}
	return l.Addr().String()
}

// start runs a program until the test ends.
func (w *watch) start(name string, args ...string) {
	w.Helper()
	cmd := exec.Command(tool(w.T, name), args...)
	log, err := os.Create(filepath.Join(w.dir, name+".log"))
	if err != nil {
		w.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // killed by us
		_ = log.Close()
		if w.Failed() {
			b, _ := os.ReadFile(log.Name())
			w.Logf("%s\n%s", name, b[max(0, len(b)-4000):])
		}
	})
}

var waits = regexp.MustCompile(`(group_wait|group_interval): \w+`)

// startAlertmanager runs it with the configuration of the project, which is told
// where the people of this test are, and to wait for nothing.
func (w *watch) startAlertmanager(people string) string {
	w.Helper()
	text := read(w.T, "alertmanager/alertmanager.yml")
	text = strings.ReplaceAll(text, "/etc/alertmanager/secrets/", filepath.Join(w.dir, "secrets")+"/")
	text = strings.Replace(text, "global:\n", "global:\n  wechat_api_url: http://"+people+"/cgi-bin/\n", 1)
	w.write("alertmanager.yml", waits.ReplaceAllString(text, "$1: 1s"))
	w.write("templates/wecom.tmpl", read(w.T, "alertmanager/templates/wecom.tmpl"))
	w.write("secrets/wecom_secret", "secret")
	w.write("secrets/webhook_url", "http://"+people+"/hook")
	w.write("secrets/watchdog_url", "http://"+people+"/watchdog")
	address := w.freeAddress()
	w.start("alertmanager", "--config.file="+filepath.Join(w.dir, "alertmanager.yml"), "--storage.path="+filepath.Join(w.dir, "alertmanager"),
		"--web.listen-address="+address, "--cluster.listen-address=")
	return address
}

// patience are the times that would take too long, by the name of an alert.
// `for` and keep_firing_for are gone everywhere: the unit tests cover them.
var patience = map[string][2]string{
	"QunfaSpoolGrowing":  {"> 60", "> 1"},
	"QunfaLagHigh":       {"> 300", "> 1"},
	"QunfaLagGrowing":    {"> 1000", "> 0"},
	"QunfaSinkStalled":   {"[10m]", "[5s]"},
	"QunfaRoundsSkipped": {"[15m]", "[5s]"},
}

var durations = regexp.MustCompile(`(?m)^( +)(for|keep_firing_for): \w+$`)

func (w *watch) startPrometheus(alertmanager string) {
	w.Helper()
	for _, file := range files(w.T, "prometheus/rules/*.yml") {
		blocks := strings.SplitAfter(durations.ReplaceAllString(read(w.T, strings.TrimPrefix(file, root)), "$1$2: 0s"), "- alert: ")
		for i, block := range blocks {
			name, _, _ := strings.Cut(block, "\n")
			if p, ok := patience[name]; ok {
				blocks[i] = strings.ReplaceAll(block, p[0], p[1])
			}
		}
		w.write("rules/"+filepath.Base(file), strings.Join(blocks, ""))
	}
	admin := w.stack.Conn.Admin
	text := strings.NewReplacer("127.0.0.1:8082", admin, "127.0.0.1:9093", alertmanager, "15s", "1s").Replace(read(w.T, "prometheus/up.yml"))
	text += fmt.Sprintf("\n  - job_name: qunfa-delivery-again\n    metrics_path: /metrics/delivery\n    static_configs: [{targets: [%q]}]\n", admin)
	w.write("prometheus.yml", text)
	w.prometheus = w.freeAddress()
	w.start("prometheus", "--config.file="+filepath.Join(w.dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(w.dir, "tsdb"),
		"--web.listen-address="+w.prometheus)
}

// get asks Prometheus.
func (w *watch) get(path string, data any) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+w.prometheus+path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(data)
}

// follow notes what fires, until the test ends.
func (w *watch) follow() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			w.look()
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	w.Cleanup(func() { cancel(); <-done })
}

func (w *watch) look() {
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string            `json:"state"`
				Labels map[string]string `json:"labels"`
			} `json:"alerts"`
		} `json:"data"`
	}
	if w.get("/api/v1/alerts", &answer) != nil {
		return // not up yet
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range answer.Data.Alerts {
		if a.State != "firing" {
			continue
		}
		name := a.Labels["alertname"]
		if w.seen[name] == nil {
			w.seen[name] = map[string]bool{}
		}
		for label, value := range a.Labels {
			w.seen[name][label+"="+value] = true
		}
	}
}

func (w *watch) fired(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[name] != nil
}

func (w *watch) until(what string, ok func() bool) {
	w.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(45 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			w.Fatalf("%s: not within 45 s", what)
		}
	}
}

// await waits until each of the alerts has fired.
func (w *watch) await(alerts ...string) {
	w.Helper()
	began := time.Now()
	for _, a := range alerts {
		w.until(a, func() bool { return w.fired(a) })
	}
	w.Logf("%4.1f s: %s", time.Since(began).Seconds(), strings.Join(alerts, ", "))
}

// expect is called before something is provoked: what fires for no reason proves
// nothing. The function that it returns waits for the alerts. Those whose times are
// cut so short that a busy machine is enough are let off.
func (w *watch) expect(alerts ...string) (await func()) {
	w.Helper()
	for _, a := range alerts {
		if _, hasty := patience[a]; hasty {
			w.forget(a)
		} else if w.fired(a) {
			w.Errorf("%s has fired before it was provoked", a)
		}
	}
	return func() { w.Helper(); w.await(alerts...) }
}

// forget lets alerts be awaited that fired before, while nothing was up yet.
func (w *watch) forget(alerts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range alerts {
		delete(w.seen, a)
	}
}

// awaitSamples waits until Prometheus has seen metrics more than once: a counter
// has no increase before.
func (w *watch) awaitSamples(metrics ...string) {
	w.Helper()
	for _, m := range metrics {
		w.until("samples of "+m, func() bool { return w.holds("count_over_time(" + m + "[1m]) > 3") })
	}
}

// holds says whether Prometheus has an answer to a query.
func (w *watch) holds(query string) bool {
	var answer struct {
		Data struct{ Result []any }
	}
	return w.get("/api/v1/query?"+url.Values{"query": {query}}.Encode(), &answer) == nil && len(answer.Data.Result) > 0
}

func (w *watch) sees(alert, label, value string) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if have := w.seen[alert]; !have[label+"="+value] {
		w.Errorf("%s fired with %v, want %s=%s", alert, slices.Sorted(maps.Keys(have)), label, value)
	}
}

// delivered waits for one message that has all the words.
func (w *watch) delivered(receiver string, words ...string) {
	w.Helper()
	w.until(fmt.Sprintf("a message to %s with %q", receiver, words), func() bool {
		return slices.ContainsFunc(w.messages(receiver), func(m string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(m, word) })
		})
	})
}

func (w *watch) send(to, contentType string, header map[string]string, body string, want int) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != want {
		w.Fatalf("%s: %s, want %d: %s", to, resp.Status, want, b)
	}
}

// call calls the record API.
func (w *watch) call(path, bearer, body string, want int) {
	w.Helper()
	w.send("http://"+w.stack.Conn.RecordAPI+path, "application/json", map[string]string{"Authorization": "Bearer " + bearer}, body, want)
}

func (w *watch) record(appid string, msgID int, ago time.Duration) {
	w.Helper()
	at := time.Now().Add(-ago).UTC().Format(time.RFC3339)
	w.call("/v1/submissions", w.stack.Conn.APIToken, fmt.Sprintf(`[{"appid": %q, "msg_id": %d, "submitted_at": %q}]`, appid, msgID, at), http.StatusOK)
}

// sql changes the database, with every right.
func (w *watch) sql(statement string) {
	w.Helper()
	c := w.stack.Conn.ClickHouse
	w.send("http://"+c.HTTPAddr+"/?database="+c.Database, "text/plain",
		map[string]string{"X-ClickHouse-User": c.Username, "X-ClickHouse-Key": c.Password}, statement, http.StatusOK)
}

func body(msgID int, status string, total, sent int) string {
	return fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><CreateTime>%d</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>"+
		"<MsgID>%d</MsgID><Status>%s</Status><TotalCount>%d</TotalCount><FilterCount>%d</FilterCount><SentCount>%d</SentCount><ErrorCount>%d</ErrorCount></xml>",
		time.Now().Unix(), msgID, status, total, total, sent, total-sent)
}

func padded(msgID, bytes int) string {
	return strings.Replace(body(msgID, "send success", 1, 1), "<xml>", "<xml><Pad>"+strings.Repeat("x", bytes)+"</Pad>", 1)
}

// callback is a push, good or bad.
type callback struct {
	body    string
	sign    string        // instead of the signature
	ago     time.Duration // its timestamp
	encrypt bool
	want    int // status
}

func (w *watch) tell(appid string, msgID int, status string, total, sent int) {
	w.Helper()
	w.post(appid, callback{body: body(msgID, status, total, sent), want: http.StatusOK})
}

func (w *watch) post(appid string, c callback) {
	w.Helper()
	if c.body == "" {
		c.body = body(1, "send success", 1, 1)
	}
	at := fmt.Sprint(time.Now().Add(-c.ago).Unix())
	q := url.Values{"timestamp": {at}, "nonce": {"1"}, "signature": {wechat.Sign(token, at, "1")}}
	if c.sign != "" {
		q.Set("signature", c.sign)
	}
	if c.encrypt {
		sealed, err := wechat.Encrypt(aesKey, appid, [16]byte{1}, []byte(c.body))
		if err != nil {
			w.Fatal(err)
		}
		q.Set("encrypt_type", "aes")
		q.Set("msg_signature", wechat.Sign(token, at, "1", sealed))
		c.body = "<xml><ToUserName>gh_1</ToUserName><Encrypt>" + sealed + "</Encrypt></xml>"
	}
	w.send("http://"+w.stack.Conn.Ingest+"/callback/"+appid+"?"+q.Encode(), "text/xml", nil, c.body, c.want)
}
