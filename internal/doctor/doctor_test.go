package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qunfa/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testApp    = "wx0123456789abcdef"
	testOther  = "wx1123456789abcdef"
	testToken  = "tokenOfTheTest"
	testBefore = "previousOfTheTest"
	testKey    = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	testKey2   = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
	testSecret = "0123456789abcdef0123456789abcdef"
)

func secrets(list ...string) []config.Secret {
	var all []config.Secret
	for _, s := range list {
		all = append(all, config.NewSecret(s))
	}
	return all
}

// settings are a configuration with one account that is as it should be.
func settings() *config.Config {
	cfg := config.Default()
	cfg.Accounts = []config.Account{{
		AppID: testApp, OriginalID: "gh_0123456789ab", Name: "账号", Tokens: secrets(testToken, testBefore), AESKeys: secrets(testKey), AppSecret: config.NewSecret(testSecret), Poll: true,
	}}
	return cfg
}

// newDoctor is one that has no servers and reaches no network but loopback.
func newDoctor(t *testing.T, change ...func(*Config)) *Doctor {
	t.Helper()
	cfg := Config{Settings: settings(), Network: Network{
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no name service") },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, err := net.SplitHostPort(address); err != nil || !net.ParseIP(host).IsLoopback() {
				return nil, errors.New("no network: " + address)
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
		API: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}}
	for _, f := range change {
		f(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// look runs the checks of that name, as Run does.
func look(t *testing.T, d *Doctor, id string) []Finding {
	t.Helper()
	var checks []Check
	for _, c := range d.Checks() {
		if c.ID == id {
			checks = append(checks, c)
		}
	}
	if len(checks) == 0 {
		t.Fatalf("there is no check %s", id)
	}
	findings := Run(t.Context(), checks, Limits{Each: 10 * time.Second, All: time.Minute, Parallel: 4}, nil)
	for _, f := range findings {
		if f.Check != id || f.Area == "" || f.Checked == "" || f.Found == "" {
			t.Errorf("half a finding: %+v", f)
		}
		if (f.Severity == Warning || f.Severity == Failure) && (f.Remedy == "" || f.Doc == "") {
			t.Errorf("a finding without remedy or document: %+v", f)
		}
		for _, secret := range []string{testToken, testBefore, testKey, testKey2, testSecret} {
			if strings.Contains(f.Found+f.Remedy+f.Subject, secret) {
				t.Errorf("a finding shows a secret: %+v", f)
			}
		}
	}
	return findings
}

// want asks for a finding of that severity that says all of the words, in what
// was found or in what to do; all must be well if well is wanted.
func want(t *testing.T, findings []Finding, s Severity, words ...string) {
	t.Helper()
	found := false
	for _, f := range findings {
		says := f.Severity == s
		for _, w := range words {
			says = says && strings.Contains(f.Subject+" "+f.Found+" "+f.Remedy, w)
		}
		found = found || says
		if s == OK && f.Severity != OK {
			t.Errorf("not all is well: %+v", f)
		}
	}
	if !found {
		t.Errorf("no %s with %q in\n%s", s, words, inLines(findings))
	}
}

func inLines(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(string(f.Severity) + " " + f.Check + " " + f.Subject + ": " + f.Found + " → " + f.Remedy + "\n")
	}
	return b.String()
}

func TestAccountsToLookAt(t *testing.T) {
	many := func(c *Config) {
		for len(c.Settings.Accounts) < 60 {
			a := c.Settings.Accounts[0]
			a.AppID = "wx" + strings.Repeat(string(rune('a'+len(c.Settings.Accounts)%6)), 15) + string(rune('0'+len(c.Settings.Accounts)/10))
			a.OriginalID = ""
			c.Settings.Accounts = append(c.Settings.Accounts, a)
		}
	}
	if d := newDoctor(t, many); len(d.accounts) != 50 || d.left != 10 {
		t.Errorf("%d accounts and %d left", len(d.accounts), d.left)
	}
	want(t, look(t, newDoctor(t, many), "callback.url"), Unchecked, "10 accounts were not looked at", "--account")
	d := newDoctor(t, many, func(c *Config) { c.Accounts = []string{testApp} })
	if len(d.accounts) != 1 || d.accounts[0].AppID != testApp || d.left != 0 {
		t.Errorf("one account was asked for, got %d, %d left", len(d.accounts), d.left)
	}
	if _, err := New(Config{Settings: settings(), Accounts: []string{"wxnobody"}}); err == nil || !strings.Contains(err.Error(), "wxnobody") {
		t.Errorf("an account that is not there: %v", err)
	}
	if _, err := New(Config{Settings: settings(), PublicURL: "ftp://x"}); err == nil || !strings.Contains(err.Error(), "callback URL") {
		t.Errorf("a URL that is none: %v", err)
	}
}

func TestSecretsAreTakenOut(t *testing.T) {
	cfg := settings()
	cfg.Kafka.SASL.Password, cfg.ClickHouse.Password, cfg.Ingest.APIToken = config.NewSecret("passwordOfKafka"), config.NewSecret("passwordOfClickHouse"), config.NewSecret("tokenOfTheAPI")
	cfg.Platforms = []config.Platform{{ComponentAppID: testOther, Tokens: secrets("tokenOfThePlatform"), AESKeys: secrets(testKey2), TokenURLBearer: config.NewSecret("bearerOfThePlatform")}}
	all := []string{testToken, testBefore, testKey, testKey2, testSecret, "passwordOfKafka", "passwordOfClickHouse", "tokenOfTheAPI", "tokenOfThePlatform", "bearerOfThePlatform"}
	text := strings.Join(all, " and ")
	findings := []Finding{{Found: text, Remedy: text, Subject: text, Checked: text}}
	Redact(findings, Secrets(cfg))
	for _, s := range all {
		if f := findings[0]; strings.Contains(f.Found+f.Remedy+f.Subject+f.Checked, s) {
			t.Errorf("%s is still there", s)
		}
	}
	if !strings.Contains(findings[0].Found, hidden+" and "+hidden) {
		t.Errorf("got %q", findings[0].Found)
	}
}
