// Package docs tests the documentation: its queries run, its links lead
// somewhere, the tests that it names exist, and its list of metrics is the
// truth. `go test ./test/docs -update` writes what is generated.
package docs

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/local"
	"qunfa/internal/wechat"
)

var update = flag.Bool("update", false, "write what is generated instead of comparing it")

func TestMain(m *testing.M) { embeddedtest.Main(m) }

const (
	root   = "../.." // of the project
	appid  = "wx0123456789abcdef"
	secret = "docs" // the token of its callbacks
)

// startStack runs what `qunfa up` runs, for one account in plain mode that is never polled.
func startStack(t *testing.T) *local.Stack {
	t.Helper()
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	cfg := loadAccount(t)
	cfg.Embedded.Dir, cfg.Embedded.HTTP, cfg.Embedded.TCPPort = filepath.Join(t.TempDir(), "data"), false, 0
	cfg.Ingest.Listen, cfg.Ingest.Internal, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s, err := local.Start(t.Context(), cfg, local.Options{
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		Engine: func(c embedded.EngineConfig) embedded.EngineConfig { c.LocalEngine = exe; return c },
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }() // t.Context ends before the cleanup below
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	await(t, "readiness", func() bool { ready, _ := s.Host.Ready(); return ready })
	return s
}

// loadAccount reads a configuration whose account is in accounts_dir, so that the metrics of that are there.
func loadAccount(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"qunfa.yaml":        "accounts_dir: accounts\n",
		"accounts/one.yaml": "{appid: " + appid + ", name: 账号, tokens: [" + secret + "]}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, _, err := config.Load(filepath.Join(dir, "qunfa.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func await(t *testing.T, what string, check func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !check(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// reader asks as people do: with the rights of the reader.
func reader(t *testing.T, s *local.Stack) *clickhouse.DB {
	t.Helper()
	cfg := *s.Config
	cfg.ClickHouse.Username = s.Conn.ClickHouse.ReaderUsername
	cfg.ClickHouse.Password = config.NewSecret(s.Conn.ClickHouse.ReaderPassword)
	return openDB(t, &cfg)
}

func openDB(t *testing.T, cfg *config.Config) *clickhouse.DB {
	t.Helper()
	db, err := app.OpenClickHouse(cfg, app.Options{})
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

// tell posts a callback in plain mode, as WeChat does.
func tell(t *testing.T, s *local.Stack, msgID int64, status string, total, eligible, sent int64) {
	t.Helper()
	at := strconv.FormatInt(time.Now().Unix(), 10)
	q := url.Values{"timestamp": {at}, "nonce": {"1"}, "signature": {wechat.Sign(secret, at, "1")}}
	body := fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><CreateTime>%s</CreateTime><MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event>"+
		"<MsgID>%d</MsgID><Status>%s</Status><TotalCount>%d</TotalCount><FilterCount>%d</FilterCount><SentCount>%d</SentCount><ErrorCount>%d</ErrorCount></xml>",
		at, msgID, status, total, eligible, sent, eligible-sent)
	post(t, "http://"+s.Conn.Ingest+"/callback/"+appid+"?"+q.Encode(), "text/xml", "", body)
}

func record(t *testing.T, s *local.Stack, msgID int64, label string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"appid": appid, "msg_id": msgID, "label": label, "campaign": "docs", "audience": "all"})
	if err != nil {
		t.Fatal(err)
	}
	post(t, "http://"+s.Conn.RecordAPI+"/v1/submissions", "application/json", s.Conn.APIToken, string(body))
}

func post(t *testing.T, to, contentType, bearer, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", to, resp.Status)
	}
}

// block is a fenced block of a document.
type block struct {
	file string
	line int
	text string
}

// inlineQuery is a query in a code span, or on a command line.
var inlineQuery = regexp.MustCompile("[`\"](SELECT [^`\"\n]* FROM [^`\"\n]*)[`\"]")

var fence = regexp.MustCompile("(?ms)^```sql\n(.*?)^```")

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func queries(t *testing.T) []block {
	t.Helper()
	var blocks []block
	for _, file := range documents(t) {
		text := read(t, file)
		for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
			blocks = append(blocks, block{file, 1 + strings.Count(text[:at[2]], "\n"), text[at[2]:at[3]]})
		}
		for _, at := range inlineQuery.FindAllStringSubmatchIndex(text, -1) {
			sql := strings.ReplaceAll(text[at[2]:at[3]], "…", "1") // stands for a value
			blocks = append(blocks, block{file, 1 + strings.Count(text[:at[2]], "\n"), sql})
		}
	}
	return blocks
}

// TestQueriesRun executes every query of the documents, as the reader. Those
// that no message of this test can answer need not find anything.
func TestQueriesRun(t *testing.T) {
	s := startStack(t)
	db, owner := reader(t, s), openDB(t, s.Config)
	for i, label := range []string{"今日早报", "迟到的书评", "试吃邀请"} {
		record(t, s, int64(100+i), label)
	}
	tell(t, s, 100, "send success", 100, 90, 88)
	tell(t, s, 101, "err(10001)", 0, 0, 0)
	tell(t, s, 103, "err(99999)", 0, 0, 0) // recorded by nobody
	await(t, "messages in the database", func() bool {
		r, err := db.Query(t.Context(), "SELECT count() FROM messages WHERE callback_received")
		return err == nil && fmt.Sprint(r.Rows) == "[[3]]"
	})
	blocks := queries(t)
	if len(blocks) < 20 {
		t.Fatalf("only %d queries found", len(blocks))
	}
	answered := 0
	for _, b := range blocks {
		asker := db
		if strings.Contains(b.text, "schema_migrations") { // is for those who migrate
			asker = owner
		}
		r, err := asker.Query(t.Context(), strings.TrimRight(strings.TrimSpace(b.text), ";"))
		if err != nil {
			t.Errorf("%s:%d: %v", b.file, b.line, err)
			continue
		}
		if len(r.Rows) > 0 {
			answered++
		}
	}
	if answered < len(blocks)/2 {
		t.Errorf("only %d of %d queries found anything", answered, len(blocks))
	}
	t.Run("metrics", func(t *testing.T) { generated(t, "docs/metrics.md", metricsDocument(t, s)) })
	t.Run("schema", func(t *testing.T) { checkSchema(t, owner) })
}

func firstDifference(have, want string) string {
	h, w := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range min(len(h), len(w)) {
		if h[i] != w[i] {
			return fmt.Sprintf("line %d\n- %s\n+ %s", i+1, h[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines instead of %d", len(h), len(w))
}

var testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")

// TestNamedTestsExist holds the promise of guarantees.md that a test stands
// behind every line.
func TestNamedTestsExist(t *testing.T) {
	exists := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, line := range bytes.Split(b, []byte("\n")) {
			if name, ok := bytes.CutPrefix(line, []byte("func ")); ok {
				name, _, _ = bytes.Cut(name, []byte("("))
				exists[string(name)] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, file := range documents(t) {
		for _, m := range testName.FindAllStringSubmatch(read(t, file), -1) {
			named++
			if !exists[m[1]] {
				t.Errorf("%s names %s, which does not exist", file, m[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d names of tests found", named)
	}
}
