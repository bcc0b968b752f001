package app

import (
	"fmt"
	"runtime"
	"testing"

	"qunfa/internal/config"
	"qunfa/internal/ingest"
	"qunfa/internal/wechat"
	"qunfa/test/cpu"
)

// BenchmarkDirectory makes of 100,000 accounts what ingest and reconcile keep, as at the
// start and at each change of accounts_dir.
func BenchmarkDirectory(b *testing.B) {
	const n = 100_000
	cfg := config.Default()
	for i := range n {
		cfg.Accounts = append(cfg.Accounts, config.Account{
			AppID: fmt.Sprintf("wx%016x", i), OriginalID: fmt.Sprintf("gh_%012x", i), Poll: true,
			Tokens:    []config.Secret{config.NewSecret(fmt.Sprintf("%020x", i))},
			AESKeys:   []config.Secret{config.NewSecret(fmt.Sprintf("%043x", i))},
			AppSecret: config.NewSecret(fmt.Sprintf("%032x", i)),
		})
	}
	b.Run("ingest", func(b *testing.B) {
		d, err := ingest.NewDirectory(nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		measure(b, n, func() {
			accounts, platforms, err := directoryOf(cfg)
			if err == nil {
				err = d.Replace(accounts, platforms)
			}
			if err != nil {
				b.Fatal(err)
			}
		})
		runtime.KeepAlive(d)
	})
	b.Run("reconcile", func(b *testing.B) {
		client, err := wechat.NewClient(wechat.Config{})
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		a, err := newAsker(client, config.Default())
		if err != nil {
			b.Fatal(err)
		}
		measure(b, n, func() {
			if err := a.reload(cfg); err != nil {
				b.Fatal(err)
			}
		})
		runtime.KeepAlive(a)
	})
}

// measure reports the processor time of f, and what it keeps, for each of n things.
func measure(b *testing.B, n int, f func()) {
	b.Helper()
	before := inUse()
	end := cpu.Start(b, "account")
	for b.Loop() {
		f()
	}
	end(b.N * n)
	b.ReportMetric(float64(inUse()-before)/float64(n), "heap-B/account")
}

func inUse() int64 {
	runtime.GC()
	runtime.GC() // what has finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
