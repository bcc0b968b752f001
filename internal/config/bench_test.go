package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"qunfa/test/cpu"
)

// accountYAML is an account with everything that one in safe mode has; if it is of a
// platform, with what that needs.
func accountYAML(i int, platform bool) string {
	if platform {
		return fmt.Sprintf("- {appid: wx%016x, original_id: gh_%012x, name: 公众号 %d, platform: wx9123456789abcdef}\n", i, i, i)
	}
	return fmt.Sprintf("- appid: wx%016x\n  original_id: gh_%012x\n  name: 公众号 %d\n  tokens: [%020x]\n  aes_keys: [%043x]\n  app_secret: %032x\n", i, i, i, i, i, i)
}

// BenchmarkAccounts reads accounts_dir, as at the start and at each change: what it
// takes, and what it keeps of each account.
func BenchmarkAccounts(b *testing.B) {
	for _, c := range []struct {
		accounts, files int
		platform        bool
	}{
		{10_000, 1, false}, {100_000, 1, false}, {100_000, 100, false}, {100_000, 100_000, false}, {100_000, 100, true},
	} {
		name := fmt.Sprintf("accounts=%d/files=%d/platform=%t", c.accounts, c.files, c.platform)
		b.Run(name, func(b *testing.B) {
			path, size := accountsFiles(b, c.accounts, c.files, c.platform)
			before := heap()
			cfg, _, err := Load(path)
			if err != nil {
				b.Fatal(err)
			}
			kept := heap() - before
			if len(cfg.Accounts) != c.accounts {
				b.Fatalf("%d accounts", len(cfg.Accounts))
			}
			b.ReportAllocs()
			end := cpu.Start(b, "account")
			for b.Loop() {
				if set, err := (Loader{}).reloadAccounts(cfg, nil); err != nil || len(set.accounts) != c.accounts {
					b.Fatal(len(set.accounts), err)
				}
			}
			end(b.N * c.accounts)
			b.ReportMetric(float64(size)/float64(c.accounts), "file-B/account")
			b.ReportMetric(float64(kept)/float64(c.accounts), "heap-B/account")
			runtime.KeepAlive(cfg)
		})
	}
}

// accountsFiles writes a configuration with an accounts_dir.
func accountsFiles(b *testing.B, accounts, files int, platform bool) (path string, size int) {
	b.Helper()
	dir := b.TempDir()
	each := accounts / files
	for f := range files {
		var text strings.Builder
		for i := range each {
			text.WriteString(accountYAML(f*each+i, platform))
		}
		size += text.Len()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.yaml", f)), []byte(text.String()), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	path = filepath.Join(b.TempDir(), "qunfa.yaml")
	text := fmt.Sprintf("accounts_dir: %s\nplatforms:\n- {component_appid: wx9123456789abcdef, tokens: [token], aes_keys: [%043d]}\n", dir, 0)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path, size
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what has finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
