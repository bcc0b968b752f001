package embedded

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseClickHouseVersion(t *testing.T) {
	for output, want := range map[string]struct {
		version string
		major   int
	}{
		"ClickHouse local version 26.3.2.3 (official build).\n": {"26.3.2.3", 26},
		"ClickHouse client version 18.16.1.\n":                  {"18.16.1", 18},
		"ClickHouse local version 25.8.1.1-lts.":                {"25.8.1.1", 25},
		"version of something":                                  {"", 0},
		"version 999999999999999999999.1":                       {"", 0},
		"":                                                      {"", 0},
	} {
		if version, major := parseClickHouseVersion(output); version != want.version || major != want.major {
			t.Errorf("%q: %q, %d, want %+v", output, version, major, want)
		}
	}
}

// executable writes a shell script.
func executable(t *testing.T, path, script string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChooseProgram(t *testing.T) {
	for name, c := range map[string]struct {
		script, clickhouse string
		want, warning      string
	}{
		"new":       {script: "echo 'ClickHouse local version 25.1.2.3.'", want: "ClickHouse 25.1.2.3"},
		"old":       {script: "echo 'ClickHouse client version 18.16.1.'", want: "libchdb", warning: "18.16.1"},
		"broken":    {script: "exit 1", want: "libchdb", warning: "too old or does not run"},
		"none":      {want: "libchdb"},
		"unwanted":  {script: "echo 'ClickHouse local version 26.1.2.3.'", clickhouse: NoClickHouse, want: "libchdb"},
		"elsewhere": {script: "exit 1", clickhouse: "elsewhere", want: "ClickHouse 25.9.1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("PATH", dir+":/usr/bin:/bin")
			if c.script != "" {
				executable(t, filepath.Join(dir, "clickhouse"), c.script)
			}
			executable(t, filepath.Join(dir, "elsewhere"), "echo 'ClickHouse local version 25.9.1.'")
			var log strings.Builder
			got, err := chooseProgram(t.Context(), EngineConfig{
				ClickHouse: c.clickhouse, Library: "given", LocalEngine: "given",
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil || !strings.HasPrefix(got.String(), c.want) {
				t.Errorf("chose %v, %v, want %s", got, err, c.want)
			}
			if c.warning == "" && log.Len() > 0 || !strings.Contains(log.String(), c.warning) {
				t.Errorf("log %q, want %q", log.String(), c.warning)
			}
		})
	}
}

func TestFindLocalEngine(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("QUNFA_LOCALENGINE", "")
	t.Setenv("PATH", dir)
	if path, err := FindLocalEngine(); err == nil || !strings.Contains(err.Error(), "QUNFA_LOCALENGINE") {
		t.Errorf("found %s, %v, want an error that says what to do", path, err)
	}
	onPath := executable(t, filepath.Join(dir, "localengine"), "exit 0")
	if path, err := FindLocalEngine(); err != nil || path != onPath {
		t.Errorf("found %s, %v, want %s", path, err, onPath)
	}
	named := executable(t, filepath.Join(t.TempDir(), "another"), "exit 0")
	t.Setenv("QUNFA_LOCALENGINE", named)
	if path, err := FindLocalEngine(); err != nil || path != named {
		t.Errorf("found %s, %v, want %s", path, err, named)
	}
	t.Setenv("QUNFA_LOCALENGINE", "/nonexistent")
	if path, err := FindLocalEngine(); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("found %s, %v, want an error with the path", path, err)
	}
}
