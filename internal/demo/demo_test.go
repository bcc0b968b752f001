package demo_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qunfa/internal/demo"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/local"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// stack gives the local stack what tests have built.
func stack(t testing.TB) func(local.Options) local.Options {
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	return func(o local.Options) local.Options {
		o.Engine = func(c embedded.EngineConfig) embedded.EngineConfig {
			c.LocalEngine = exe
			return c
		}
		return o
	}
}

// TestDemo is the whole pipeline end to end: five accounts in every mode, all
// that can happen to a message, and every figure compared with the truth.
func TestDemo(t *testing.T) {
	ctx := t.Context()
	var out strings.Builder
	dir := filepath.Join(t.TempDir(), "demo")
	if err := demo.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	d, err := demo.Start(ctx, demo.Options{
		Dir: dir, Seed: 7, Out: &out, Stack: stack(t),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	if err := d.Play(ctx); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if err := d.Report(ctx); err != nil {
		t.Fatal(err)
	}
	same, err := d.Verdict(context.WithoutCancel(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if !same {
		t.Errorf("the database differs from the ledger:\n%s", out.String())
	}
	t.Log(out.String())
}

func TestPrepareTouchesNothingOfOthers(t *testing.T) {
	dir := t.TempDir()
	keep := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(keep, []byte("years"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := demo.Prepare(dir); err == nil || !strings.Contains(err.Error(), "not made by qunfa") {
		t.Errorf("a directory of somebody's: %v", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}

	own := filepath.Join(t.TempDir(), "own")
	if err := demo.Prepare(own); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(own, "kafka", "log")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := demo.Prepare(own); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what the last demo left is still there: %v", err)
	}
	lock, err := local.LockDir(own)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := demo.Prepare(own); err == nil || !strings.Contains(err.Error(), "another qunfa is running") {
		t.Errorf("a second instance: %v", err)
	}
}
