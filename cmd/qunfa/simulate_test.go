package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/config"
)

// The demo of docker-compose.yml and the simulator must know the same accounts.
func TestSimulatedAccountsAreThoseOfTheDemo(t *testing.T) {
	r := runWith(t, "", "simulate", "--accounts")
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	const demo = "../../deploy/compose/demo/accounts/demo.yaml"
	file, err := os.ReadFile(demo)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(file), r.stdout); d != "" {
		t.Errorf("%s is not what `qunfa simulate --accounts` prints (-file, +printed):\n%s", demo, d)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(r.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(writeFile(t, "qunfa.yaml", "accounts_dir: "+dir+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Accounts) != 5 {
		t.Errorf("%d accounts, want 5", len(cfg.Accounts))
	}
}

// acceptAll is a record API that takes everything, and counts.
func acceptAll(t *testing.T, recorded *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Submissions []json.RawMessage `json:"submissions"`
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &in)
		}
		if err != nil || r.Header.Get("Authorization") != "Bearer secret-of-the-test" {
			t.Errorf("record API: %v, %q", err, r.Header.Get("Authorization"))
		}
		var results bytes.Buffer
		for i := range in.Submissions {
			fmt.Fprintf(&results, `,{"index":%d,"status":"accepted"}`, i)
		}
		fmt.Fprintf(w, `{"results":[%s]}`, bytes.TrimPrefix(results.Bytes(), []byte(",")))
		recorded.Add(int64(len(in.Submissions)))
	})
}

func TestSimulateRecordsAndCallsBackUntilItIsStopped(t *testing.T) {
	var recorded, callbacks atomic.Int64
	api := httptest.NewServer(acceptAll(t, &recorded))
	t.Cleanup(api.Close)
	ingest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		callbacks.Add(1)
		_, _ = io.WriteString(w, "success")
	}))
	t.Cleanup(ingest.Close)

	g, out := testGlobals(t, "auto")
	ctx, stop := context.WithCancel(g.ctx)
	defer stop()
	g.ctx = ctx
	c := simulateCmd{
		Seed: 1, Listen: "127.0.0.1:0", Ingest: ingest.URL, API: api.URL, Token: writeFile(t, "token", "secret-of-the-test\n"),
		Every: time.Millisecond, Scale: 100_000,
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(g) }()

	// The history has 240 sends or so, and after it they never end.
	const enough = 400
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for recorded.Load() < enough || callbacks.Load() < enough {
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("the simulator ended by itself: %v", err)
		case <-time.After(time.Minute):
			t.Fatalf("after a minute %d sends recorded, %d callbacks", recorded.Load(), callbacks.Load())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("told to end, it said %v", err)
	}
	if !bytes.Contains(out.Bytes(), []byte("the play is over")) {
		t.Errorf("output: %s", out)
	}
}
