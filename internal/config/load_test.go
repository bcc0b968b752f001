package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func parseText(t *testing.T, text string, env map[string]string) (*Config, []Warning, error) {
	t.Helper()
	l := Loader{LookupEnv: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	return l.Parse("qunfa.yaml", []byte(text))
}

func TestParseKeepsDefaultsAndTakesValues(t *testing.T) {
	c, _, err := parseText(t, `
kafka: {brokers: ["${HOST}:9092"], topic: t1}
ingest:
  api_token: ${API}
reconcile:
  schedule: [1m, 24h]
accounts:
  - appid: wx0123456789abcdef
    tokens: [0123, $$x]
`, map[string]string{"HOST": "k1", "API": "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Kafka.Brokers[0]; got != "k1:9092" {
		t.Errorf("broker %q", got)
	}
	if c.Kafka.DeadTopic != "t1.dead" || c.Ingest.APIToken.Reveal() != "s3cret" || c.Reconcile.Schedule[1] != 24*time.Hour {
		t.Errorf("unexpected: %+v", c)
	}
	a := c.Accounts[0]
	if !a.Poll || !a.UpstreamMass || a.Tokens[0].Reveal() != "0123" || a.Tokens[1].Reveal() != "$x" {
		t.Errorf("account %+v %q", a, Reveal(a.Tokens))
	}
}

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestExpandEnv(t *testing.T) {
	env := map[string]string{"A": "1", "B_2": "two", "NESTED": "${A}", "EMPTY": ""}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	for in, want := range map[string]string{
		"":              "",
		"plain":         "plain",
		"${A}":          "1",
		"x${A}y${B_2}z": "x1ytwoz",
		"${NESTED}":     "${A}", // not again
		"${EMPTY}":      "",
		"$$":            "$",
		"$${A}":         "${A}",
		"cost $5":       "cost $5",
		"$APPID$":       "$APPID$",
		"end$":          "end$",
	} {
		if got, err := expandEnv(in, lookup); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"${", "${}", "${A", "${1A}", "${A-B}", "${NOPE}"} {
		if got, err := expandEnv(in, lookup); err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"brokers", "topic", "aes_keys", "tokens"}
	for in, want := range map[string]string{
		"broker": "brokers", "brokesr": "brokers", "Topic": "topic", "aeskeys": "aes_keys", "aes_key": "aes_keys",
		"token": "tokens", "zookeeper": "", "x": "", strings.Repeat("b", 1000): "",
	} {
		if got := nearest(in, known); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func TestSizesAndDurations(t *testing.T) {
	for in, want := range map[string]Size{"0": 0, "1023": 1023, "64KiB": 64 << 10, "2 MiB": 2 << 20, "1GiB": 1 << 30} {
		var s Size
		if err := s.setText(in); err != nil || s != want {
			t.Errorf("%s: %d, %v", in, s, err)
		}
	}
	for _, in := range []string{"", "KiB", "-1", "1.5MiB", "1MB", "9999999999GiB"} {
		var s Size
		if err := s.setText(in); err == nil {
			t.Errorf("%q: accepted as %d", in, s)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 45 * time.Minute: "45m", 72 * time.Hour: "72h", 90 * time.Second: "1m30s",
		400 * 24 * time.Hour: "400d", 90 * time.Minute: "1h30m", 500 * time.Millisecond: "500ms", time.Hour + time.Second: "1h0m1s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
		if got, err := parseDuration(want); err != nil || got != d {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
	for _, in := range []string{"d", "-1d", "1.5d", "1d2h", "99999d"} {
		if d, err := parseDuration(in); err == nil {
			t.Errorf("%q: accepted as %v", in, d)
		}
	}
}

// Empty files, comments and keys without a value mean the defaults.
func TestEmptyMeansDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "\ufeff", "kafka:\naccounts:\nlog: {level: }\ningest:\n  api_token:\n", "null"} {
		c, _, err := parseText(t, strings.TrimPrefix(text, "\ufeff"), nil)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(c, Default(), cmpopts.IgnoreUnexported(Config{}), cmpopts.IgnoreFields(Embedded{}, "Dir")); diff != "" {
			t.Errorf("%q (-got +want)\n%s", text, diff)
		}
	}
}

func TestLoadOfAFileThatIsNotThere(t *testing.T) {
	_, _, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "none.yaml: cannot read the file: no such file") {
		t.Errorf("error %v", err)
	}
}

func TestRelativePathsCountFromTheFile(t *testing.T) {
	c, _, err := Loader{}.Parse("/etc/qunfa/qunfa.yaml", []byte("kafka: {tls: {ca_file: ca.pem}}\ningest: {spool_dir: spool}\nembedded: {dir: /var/lib/qunfa}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Kafka.TLS.CAFile != "/etc/qunfa/ca.pem" || !c.Kafka.TLS.Enabled || c.ClickHouse.TLS.Enabled || c.Embedded.Dir != "/var/lib/qunfa" || c.Ingest.SpoolDir != "/etc/qunfa/spool" {
		t.Errorf("got %+v %q %q", c.Kafka.TLS, c.Embedded.Dir, c.Ingest.SpoolDir)
	}
}

func TestShortAPITokensAreRefusedBeforeTheStart(t *testing.T) {
	c := Default()
	c.Accounts = []Account{{AppID: "wx1"}}
	c.Kafka.Brokers = []string{"kafka:9092"}
	c.Ingest.APIToken, c.Ingest.OldAPIToken = NewSecret("fifteen letters"), NewSecret("sixteen letters!")
	for _, s := range []Service{ServiceIngest, ServiceUp} {
		err := c.ValidateFor(s)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "ingest.api_token: want at least 16 characters") || strings.Contains(err.Error(), "old_api_token") {
			t.Errorf("%s: %v", s, err)
		}
		if strings.Contains(err.Error(), "fifteen") {
			t.Errorf("%s: the error quotes the token", s)
		}
	}
}

func TestValidateForNamesWhatIsMissing(t *testing.T) {
	for service, want := range map[Service][]string{
		ServiceIngest:    {"accounts", "ingest.api_token", "kafka.brokers"},
		ServiceSink:      {"clickhouse.addr", "kafka.brokers"},
		ServiceReconcile: {"clickhouse.addr", "kafka.brokers"},
		ServiceMigrate:   {"clickhouse.addr"},
		ServiceUp:        {"accounts"},
	} {
		err := Default().ValidateFor(service)
		if !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v", service, err)
			continue
		}
		for _, path := range want {
			if !strings.Contains(err.Error(), path+": "+string(service)+" needs ") {
				t.Errorf("%s: %s is not named:\n%v", service, path, err)
			}
		}
		if n := len(strings.Split(err.Error(), "\n")); n != len(want) {
			t.Errorf("%s: %d problems:\n%v", service, n, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	_, warnings, err := parseText(t, `admin: {listen: ":8082"}
ingest: {internal: 0.0.0.0:8081}
accounts:
  - {appid: wx1, tokens: [a]}
  - {appid: wx2}
  - appid: wx3
    tokens: [abc]
    aes_keys: [SECRETaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]
    allow_plain: true
    poll: false
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, strings.SplitAfter(w.String(), ": ")[1]+w.Message[:20])
	}
	want := []string{
		"admin.listen: metrics and health c",
		"ingest.internal: the record API can b",
		"accounts[0].tokens[0]: WeChat's console tak",
		"accounts[0]: plain mode: whoever ",
		"accounts[0]: no app_secret and no",
		"accounts[1]: no tokens: callbacks",
		"accounts[1]: no app_secret and no",
		"accounts[2]: allow_plain: whoever",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	if got := warnings[2].Place; got.Line != 4 || got.Column != 27 {
		t.Errorf("the token's place is %s", got)
	}
}

// The same warning about 100,000 accounts is not written 100,000 times.
func TestWarningsAreSummedUp(t *testing.T) {
	c := Default()
	for i := range 100 {
		c.Accounts = append(c.Accounts, Account{AppID: fmt.Sprintf("wx%d", i), Tokens: []Secret{NewSecret("abc")}})
	}
	ws := c.Warnings()
	if len(ws) != maxSameWarning+1 || !strings.HasPrefix(ws[maxSameWarning].String(), "95 more: plain mode") {
		t.Errorf("%d warnings: %v", len(ws), ws)
	}
}

func TestDuplicatesAcrossFilesNameBothPlaces(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "accounts.d/a.yaml"), "- appid: wx1\n  tokens: [abc]\n")
	write(t, filepath.Join(dir, "accounts.d/b.yml"), "appid: wx1\ntokens: [abc]\n")
	path := write(t, filepath.Join(dir, "q.yaml"), "accounts_dir: accounts.d\n")
	_, _, err := Load(path)
	want := fmt.Sprintf("%s:1:8: accounts_dir/b.yml.appid: appid wx1 is given twice; first as accounts_dir/a.yaml[0].appid at %s:1:10",
		filepath.Join(dir, "accounts.d/b.yml"), filepath.Join(dir, "accounts.d/a.yaml"))
	if !errors.Is(err, ErrDuplicate) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
