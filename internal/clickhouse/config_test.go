package clickhouse

import (
	"errors"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	for want, cfg := range map[string]Config{
		"host:port":  {Addr: []string{"localhost"}},
		"time zone":  {TimeZone: "Mars/Olympus"},
		"time zone ": {TimeZone: "UTC'); DROP TABLE x"},
		"database":   {Database: "a\x00b"},
		"negative":   {ReadTimeout: -1},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%+v: %v, want an error about %s", cfg, err, want)
		}
		if db, err := Open(cfg); err == nil {
			db.Close()
			t.Errorf("%+v was opened", cfg)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for _, ok := range []string{"25.1.2.3", "26.7.2.1", "100.1"} {
		if err := checkVersion(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{"18.16.1", "24.12.9.1", "", "v26"} {
		if err := checkVersion(bad); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v, want it refused", bad, err)
		}
	}
}

func TestQuote(t *testing.T) {
	if got, want := quoteName("a`b\\c"), "`a\\`b\\\\c`"; got != want {
		t.Errorf("quoteName = %s, want %s", got, want)
	}
	if got, want := quoteText(`it's \`), `'it\'s \\'`; got != want {
		t.Errorf("quoteText = %s, want %s", got, want)
	}
}
