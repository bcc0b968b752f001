package demo_test

import (
	"context"
	"log/slog"
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
	d, err := demo.Start(ctx, demo.Options{
		Dir: filepath.Join(t.TempDir(), "demo"), Seed: 7, Out: &out, Stack: stack(t),
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
