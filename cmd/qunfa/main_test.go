package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"

	"qunfa/internal/embedded/embeddedtest"
)

// testdata is absolute, since some tests change the directory.
var testdata, _ = filepath.Abs("testdata")

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	text.OverrideRuneWidthEastAsianWidth(false) // as main does
	embeddedtest.Main(m)
}

// result is what a run of the program left.
type result struct {
	code           int
	stdout, stderr string
}

// runWith runs the program in a directory of its own, without a terminal.
func runWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return result{code, out.String(), errs.String()}
}

// testGlobals are those of a command that is run without its command line.
func testGlobals(t *testing.T, format string) (*globals, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &globals{Format: format, Config: defaultConfig, ctx: ctx, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &bytes.Buffer{}, Version: "test"}, &out
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join(testdata, name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want, +got):\n%s", path, d)
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	bad := writeFile(t, "bad.yaml", "time_zone: Nowhere/City\n")
	for name, c := range map[string]struct {
		args []string
		code int
		says string // in either output
	}{
		"no arguments":      {nil, 0, "Usage: qunfa <command>"},
		"help":              {[]string{"query", "--help"}, 0, "--timeout"},
		"version":           {[]string{"version"}, 0, "go1."},
		"no such command":   {[]string{"queri"}, 2, "queri"},
		"no such flag":      {[]string{"query", "--fomat", "csv", "SELECT 1"}, 2, "--fomat"},
		"no such format":    {[]string{"query", "--format", "xml", "SELECT 1"}, 2, "xml"},
		"nothing runs":      {[]string{"query", "SELECT 1"}, 1, "nothing runs in ./qunfa-data or ./qunfa-demo: start it with `qunfa up`"},
		"nothing runs in":   {[]string{"status", "--data", "elsewhere"}, 1, "nothing runs in ./elsewhere:"},
		"no configuration":  {[]string{"query", "--config", "missing.yaml", "SELECT 1"}, 2, "missing.yaml"},
		"bad configuration": {[]string{"check-config", "--config", bad}, 2, "time_zone"},
		"migrate nothing":   {[]string{"migrate"}, 2, "qunfa.yaml"},
		"empty statement":   {[]string{"query", " ; "}, 2, "empty"},
		"half a message":    {[]string{"messages", "wx1"}, 2, "APPID MSGID"},
		"no position":       {[]string{"dead", "show", "17"}, 2, "PARTITION/OFFSET"},
		"nothing to record": {[]string{"record"}, 2, "msg_id"},
	} {
		t.Run(name, func(t *testing.T) {
			got := runWith(t, "", c.args...)
			if got.code != c.code || !strings.Contains(got.stdout+got.stderr, c.says) {
				t.Errorf("code %d, want %d with %q\n%s%s", got.code, c.code, c.says, got.stdout, got.stderr)
			}
		})
	}
}

// Every command has a text of its own in the help, and no flag is without one.
func TestHelp(t *testing.T) {
	var c cli
	c.Stdout, c.Stderr = &bytes.Buffer{}, &bytes.Buffer{}
	parser, err := newParser(&c, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Leaves(false) {
		if n.Help == "" {
			t.Errorf("%s has no help", n.Path())
		}
		for _, f := range n.Flags {
			if f.Help == "" {
				t.Errorf("%s --%s has no help", n.Path(), f.Name)
			}
		}
	}
}

func TestCheckConfig(t *testing.T) {
	path := writeFile(t, "qunfa.yaml", testConfig+`
  - {appid: wxplain, name: Plain, tokens: [plaintoken]}
  - {appid: wxplatform, original_id: gh_000000000001, platform: wxcomponent}
platforms:
  - {component_appid: wxcomponent, tokens: [componenttoken], aes_keys: [`+testKey2+`], token_url: "https://tokens.example.com/$APPID$?key=hidden"}
`)
	dir := filepath.Dir(path)
	t.Chdir(dir)
	got := runWith(t, "", "check-config")
	if got.code != 0 || !strings.Contains(got.stderr, "plain mode") {
		t.Errorf("code %d, %s", got.code, got.stderr)
	}
	golden(t, "check-config.txt", got.stdout)
	got = runWith(t, "", "check-config", "--format", "json")
	golden(t, "check-config.json", got.stdout)
	got = runWith(t, "", "check-config", "--print")
	if !strings.Contains(got.stdout, "<secret>") {
		t.Errorf("nothing is hidden in\n%s", got.stdout)
	}
	for _, args := range [][]string{{"check-config"}, {"check-config", "--print"}, {"check-config", "--format", "json"}} {
		all := runWith(t, "", args...)
		for _, secret := range []string{testToken, testKey, testKey2, "plaintoken", "componenttoken", "hidden"} {
			if strings.Contains(all.stdout+all.stderr, secret) {
				t.Errorf("%v shows the secret %s", args, secret)
			}
		}
	}
}

const (
	testToken = "tokenOfTheTest"
	testKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	testKey2  = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"

	testConfig = `ingest: {api_token: 0123456789abcdef0123}
accounts:
  - {appid: wxsafe, name: 安全账号, original_id: gh_0123456789ab, tokens: [` + testToken + `, previous], aes_keys: [` + testKey + `], app_secret: secretOfTheTest}`
)

func TestMigrateGrants(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("QUNFA_WRITER_PASSWORD", "writerpassword")
	got := runWith(t, "", "migrate", "--grants")
	if got.code != 0 {
		t.Fatal(got.stderr)
	}
	for _, want := range []string{"CREATE USER IF NOT EXISTS `qunfa`", "TO `qunfa_reader`;", ".messages TO"} {
		if !strings.Contains(strings.ReplaceAll(got.stdout, `"`, "`"), want) {
			t.Errorf("no %q in\n%s", want, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "writerpassword") || strings.Contains(got.stderr, "writerpassword") {
		t.Error("a password that was given is shown")
	}
	if !strings.Contains(got.stderr, "the password of qunfa_reader is ") {
		t.Errorf("the password that was made up is not told: %s", got.stderr)
	}
	got = runWith(t, "", "migrate", "--users-xml", "--reader", "grafana")
	if got.code != 0 || !strings.Contains(got.stdout, "<grafana>") {
		t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func TestMigrateGrantsClients(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	const clients = "clickhouse: {clients: [{name: agency, appids: [wx1], password: agencypassword}, {name: brand, appids: [wx2, wx3]}]}\n"
	if err := os.WriteFile("qunfa.yaml", []byte(clients), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runWith(t, "", "migrate", "--grants")
	for _, want := range []string{"CREATE USER IF NOT EXISTS `agency`", "CREATE ROW POLICY OR REPLACE `brand` ON `qunfa`.messages", "TO `agency`, `brand`;"} {
		if got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("code %d, no %q in\n%s%s", got.code, want, got.stdout, got.stderr)
		}
	}
	if strings.Contains(got.stdout, "wx1") || strings.Contains(got.stdout+got.stderr, "agencypassword") || !strings.Contains(got.stderr, "the password of brand is ") {
		t.Errorf("accounts or passwords are in what is printed:\n%s%s", got.stdout, got.stderr)
	}
	got = runWith(t, "", "migrate", "--users-xml")
	if got.code != 0 || !strings.Contains(got.stdout, "<messages><filter>appid IN (SELECT appid FROM `qunfa`.client_accounts WHERE client = &#39;brand&#39;)") {
		t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got = runWith(t, "", "migrate", "--grants", "--reader", "brand"); got.code == 0 || !strings.Contains(got.stderr, "cannot both be the user brand") {
		t.Errorf("the reader is a client: code %d, %s", got.code, got.stderr)
	}
}
