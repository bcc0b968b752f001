package embedded

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServerFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a <b> & c")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config, err := EngineConfig{
		Dir: dir, Databases: []string{"one", "two"}, MaxMemory: 1 << 30,
		ReaderGrants: []string{"GRANT SELECT(a) ON one.`<v>`"},
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	creds := credentials{Password: "secret-of-the-owner", ReaderPassword: "secret-of-the-reader"}
	if err := writeServerFiles(config, creds, ports{tcp: 21000, http: 21001}); err != nil {
		t.Fatal(err)
	}
	text := wantXML(t, filepath.Join(dir, configFile)) + wantXML(t, filepath.Join(dir, usersFile))
	for _, want := range []string{
		dir + "/data/", "21000", "21001", "1073741824", "GRANT ALL ON one.*", "GRANT ALL ON two.*", "GRANT SELECT(a) ON one.`<v>`",
		hexSHA256(creds.Password), hexSHA256(creds.ReaderPassword), "GRANT SET DEFINER ON qunfa",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the files do not have %q", want)
		}
	}
	if strings.Contains(text, "secret-of") {
		t.Error("the files have a password in the clear")
	}

	if err := writeServerFiles(config, creds, ports{tcp: 21000}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, configFile)); err != nil || strings.Contains(string(data), "http_port") {
		t.Errorf("HTTP is on without being asked for: %v", err)
	}
}

// wantXML returns the text of an XML file.
func wantXML(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for dec := xml.NewDecoder(bytes.NewReader(data)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if chars, ok := token.(xml.CharData); ok {
			text.Write(chars)
		}
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	first, err := loadCredentials(dir)
	if err != nil || len(first.Password) < 20 || first.Password == first.ReaderPassword {
		t.Fatalf("new: %v", err)
	}
	if again, err := loadCredentials(dir); err != nil || again != first {
		t.Errorf("again: changed, %v", err)
	}
	for _, damaged := range []string{"", "{", `{"password":"x"}`} {
		if err := os.WriteFile(filepath.Join(dir, credentialsFile), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadCredentials(dir); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%q: %v, want to be told what to do", damaged, err)
		}
	}
}

func TestChoosePorts(t *testing.T) {
	busy, err := net.Listen("tcp", address(0))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().(*net.TCPAddr).Port
	got, err := choosePorts(EngineConfig{HTTP: true, TCPPort: taken, HTTPPort: taken})
	if err != nil || got.tcp == taken || got.http == taken || got.tcp == got.http {
		t.Errorf("%+v, %v, want others than %d", got, err, taken)
	}
	free, err := choosePorts(EngineConfig{TCPPort: got.tcp, HTTPPort: got.tcp})
	if err != nil || free != (ports{tcp: got.tcp}) {
		t.Errorf("%+v, %v, want %d and no HTTP", free, err, got.tcp)
	}
}

func TestChildEnvironmentHasNoSecrets(t *testing.T) {
	t.Setenv("QUNFA_SECRET", "secret")
	t.Setenv("CLICKHOUSE_USER", "somebody")
	t.Setenv("PATH", "/bin")
	env := strings.Join(childEnvironment("/home/of/engine"), "\n")
	if strings.Contains(env, "secret") || strings.Contains(env, "CLICKHOUSE") {
		t.Errorf("environment: %s", env)
	}
	if !strings.Contains(env, "HOME=/home/of/engine") || !strings.Contains(env, "PATH=/bin") {
		t.Errorf("environment: %s", env)
	}
}

func TestDefaultLogBytes(t *testing.T) {
	const gib = 1 << 30
	for memory, want := range map[int64]int64{0: 2 * gib, 4 * gib: gib, 64 * gib: 2 * gib} {
		if got := defaultLogBytes(memory); got != want {
			t.Errorf("with %d of memory: %d, want %d", memory, got, want)
		}
	}
}

func TestBrokerConfigDefaults(t *testing.T) {
	config, err := BrokerConfig{Dir: "relative"}.withDefaults()
	if err != nil || !filepath.IsAbs(config.Dir) || config.MaxLogBytes < 1<<20 || config.Logger != slog.Default() {
		t.Errorf("%+v, %v", config, err)
	}
}
