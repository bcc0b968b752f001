package app

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMainCommandLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", "accounts: [{appid: wx1, tokens: [tokenOne], app_secret: hunter2}]\n")
	bad := write("bad.yaml", "acounts: []\n")
	for name, c := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"help":         {[]string{"--help"}, ExitOK, "takes callbacks", ""},
		"version":      {[]string{"--version"}, ExitOK, "v1.2.3", ""},
		"unknown flag": {[]string{"--conf", good}, ExitUsage, "", "--conf"},
		"no file":      {[]string{"--config", filepath.Join(dir, "none.yaml")}, ExitUsage, "", "none.yaml"},
		"unknown key":  {[]string{"--config", bad}, ExitUsage, "", "accounts"},
		"check":        {[]string{"--config", good, "--check-config"}, ExitOK, "1 accounts", "plain"},
		"print":        {[]string{"--config", good, "--print-config"}, ExitOK, "<secret>", ""},
		"no brokers":   {[]string{"--config", good}, ExitUsage, "", "kafka.brokers"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := Main("ingest", "ingest takes callbacks.", "v1.2.3", c.args, &stdout, &stderr)
			if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("exit %d\nstdout: %s\nstderr: %s", code, stdout.String(), stderr.String())
			}
			if out := stdout.String() + stderr.String(); strings.Contains(out, "hunter2") || strings.Contains(out, "tokenOne") {
				t.Errorf("a secret was printed:\n%s", out)
			}
		})
	}
}

func TestBusyPortSaysWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, key := range []string{"admin", "ingest"} {
		cfg := parse(t, "kafka: {brokers: [\"127.0.0.1:1\"]}\nclickhouse: {addr: [\"127.0.0.1:1\"]}\nadmin: {listen: \"127.0.0.1:0\"}\n"+twoAccounts)
		cfg.Ingest.Listen, cfg.Ingest.Internal = "127.0.0.1:0", "127.0.0.1:0"
		switch key {
		case "admin":
			cfg.Admin.Listen = l.Addr().String()
		case "ingest":
			cfg.Ingest.Listen = l.Addr().String()
		}
		_, err := NewHost(cfg, Options{}, Services()...)
		if err == nil || !strings.Contains(err.Error(), "another program has the port") || !strings.Contains(err.Error(), key+".listen") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
