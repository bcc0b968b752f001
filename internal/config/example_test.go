package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const exampleFile = "../../qunfa.example.yaml"

// exampleEnv is what the example's ${NAME}s want to find.
func exampleEnv(name string) (string, bool) {
	if strings.HasSuffix(name, "AES_KEY") {
		return strings.Repeat("a", 43), true
	}
	return "SECRET" + strings.ReplaceAll(name, "_", ""), true
}

// offSetting is a setting that is commented out; prose has a space after the #.
var offSetting = regexp.MustCompile(`(?m)^( *)#([^ \n])`)

// exampleFull is the example with every setting on, and the files it names.
func exampleFull(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secrets/wx1123456789abcdef.token"), "SECRETtoken\n")
	write(t, filepath.Join(dir, "accounts.d/one.yaml"), "appid: wx5123456789abcdef\ntokens: [SECRET5]\n")
	return write(t, filepath.Join(dir, "qunfa.yaml"), offSetting.ReplaceAllString(string(data), "$1$2"))
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExampleLoadsAndIsTheDefault(t *testing.T) {
	c, warnings, err := Loader{LookupEnv: exampleEnv}.Load(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	want := Default()
	want.absolute(&decoder{dir: filepath.Dir(exampleFile)})
	// What has no useful default.
	ignored := cmpopts.IgnoreFields(Config{}, "Accounts", "Kafka.Brokers", "ClickHouse.Addr", "ClickHouse.Password", "Ingest.APIToken", "origin", "own", "kept")
	if diff := cmp.Diff(c, want, ignored); diff != "" {
		t.Errorf("the example does not show the defaults (-example +default)\n%s", diff)
	}
	for _, s := range []Service{ServiceIngest, ServiceSink, ServiceReconcile, ServiceMigrate, ServiceUp} {
		if err := c.ValidateFor(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// Loading proves that every key of the example is known.
func TestExampleWithEverythingOnLoads(t *testing.T) {
	c, _, err := Loader{LookupEnv: exampleEnv}.Load(exampleFull(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, a := range c.Accounts {
		ids = append(ids, a.AppID)
	}
	if want := []string{"wx0123456789abcdef", "wx1123456789abcdef", "wx2123456789abcdef", "wx5123456789abcdef"}; !slices.Equal(ids, want) {
		t.Errorf("accounts %q, want %q", ids, want)
	}
	if got := c.Accounts[1].TokenURL.Raw(); got != "https://tokens.example.com/token/wx1123456789abcdef" {
		t.Errorf("token_url %q", got)
	}
	if a := c.Accounts[2]; a.TokenURL.Raw() != "https://tokens.example.com/authorizer/wx2123456789abcdef" || a.TokenURLBearer.Reveal() != "SECRETTOKENSERVERBEARER" {
		t.Errorf("the platform's token_url is not the account's: %q", a.TokenURL.Raw())
	}
}

func TestExampleIsComplete(t *testing.T) {
	path := exampleFull(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := Loader{LookupEnv: exampleEnv}.decoder(path, data, &origin{marks: map[string]mark{}})
	d.decode("", d.parse(data), reflect.ValueOf(defaults()).Elem())
	index := regexp.MustCompile(`\[\d+\]`)
	given := map[string]bool{}
	for path := range d.origin.marks {
		given[index.ReplaceAllString(path, "")] = true
	}
	for _, path := range allPaths("", reflect.TypeFor[Config]()) {
		if !given[path] {
			t.Errorf("%s is not in the example", path)
		}
	}
}
