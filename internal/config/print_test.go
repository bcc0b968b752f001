package config

import (
	"strings"
	"testing"
)

func fullEnv(name string) (string, bool) {
	v, ok := map[string]string{"USER_NAME": "qunfa", "SECRET_ENV": "SECRETenv"}[name]
	return v, ok
}

func loadFull(t *testing.T) (*Config, []Warning) {
	t.Helper()
	c, warnings, err := Loader{LookupEnv: fullEnv}.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}

func TestPrint(t *testing.T) {
	c, _ := loadFull(t)
	var out strings.Builder
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "SECRET") {
		t.Error("a secret is printed")
	}
	golden(t, "testdata/full.golden", out.String())
}

// What was hidden in print is there for the services.
func TestFullRevealsItsSecrets(t *testing.T) {
	c, _ := loadFull(t)
	a := c.Accounts
	for name, got := range map[string]string{
		"SECRETa":    c.Kafka.SASL.Password.Reveal(),
		"SECRETenv":  c.ClickHouse.Password.Reveal(),
		"SECRETfile": c.Ingest.APIToken.Reveal() + a[0].Tokens[1].Reveal()[10:] + a[5].Tokens[0].Reveal()[10:],
		"SECRETc":    a[1].Tokens[0].Reveal(), // merged
		"https://user:SECRETd@app.example.com/wechat?token=SECRETe": a[0].Upstream.Raw(),
		"https://tokens.example.com/wx2123456789abcdef?key=SECRETg": a[2].TokenURL.Raw(),
		"SECRETh": a[2].TokenURLBearer.Reveal(),
		"SECRETi": a[3].Tokens[0].Reveal(),
	} {
		if got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
	if a[0].Poll != true || a[1].Poll != false || a[1].UpstreamMass || !a[3].UpstreamMass {
		t.Error("defaults of accounts are wrong")
	}
}

func TestPrintFails(t *testing.T) {
	if err := Default().Print(failingWriter{}); err == nil {
		t.Error("a full disk goes unnoticed")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }
