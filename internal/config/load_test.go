package config

import (
	"testing"
	"time"
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
