package local_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qunfa/internal/config"
	"qunfa/internal/local"
)

// FuzzReadConnection: whatever is in connection.json, it is understood or an
// error that does not repeat what may be a password.
func FuzzReadConnection(f *testing.F) {
	const secret = "the-password-in-it"
	good, err := json.Marshal(local.Connection{PID: os.Getpid(), ClickHouse: local.ClickHouse{Addr: "127.0.0.1:1", Database: "qunfa", Password: secret}, KafkaSocket: "/tmp/s", Topic: "t"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	for _, s := range []string{"", "{}", "null", "[]", `{"pid":-1}`, `{"pid":1e99}`, `{"pid":"x","api_token":"` + secret + `"}`, `{"started":"` + secret + `"}`, `{"clickhouse":{"addr":7}}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "connection.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := local.ReadConnection(dir)
		if (err == nil) == (c == nil) {
			t.Fatalf("%+v, %v", c, err)
		}
		if err != nil {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
			return
		}
		cfg, _ := c.Apply(config.Default())
		if cfg.ClickHouse.Database != c.ClickHouse.Database {
			t.Errorf("the database is %q, want %q", cfg.ClickHouse.Database, c.ClickHouse.Database)
		}
	})
}
