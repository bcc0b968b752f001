package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched is a watcher over a directory, in fake time.
type watched struct {
	*Watcher
	t      *testing.T
	dir    string
	reload chan os.Signal
	refuse error

	mu      sync.Mutex
	applied [][]string // appids and first tokens of each set
	logged  bytes.Buffer
	reg     *prometheus.Registry
	cancel  context.CancelFunc
	version int
}

const watchInterval = 5 * time.Second

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, dir: t.TempDir(), reload: make(chan os.Signal), reg: prometheus.NewRegistry()}
	w.write("accounts.d/a.yaml", "appid: wx1\ntokens: [{file: ../token}]\n")
	w.write("token", "first")
	c, _, err := Load(w.write("q.yaml", "accounts_dir: accounts.d\naccounts: [{appid: wx0, tokens: [abc]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.Watcher = NewWatcher(WatcherConfig{
		Config: c, Reload: w.reload, Registerer: w.reg, Logger: slog.New(slog.NewTextHandler(w, nil)),
		Apply: func(_ context.Context, accounts []Account) error {
			if w.refuse != nil {
				return w.refuse
			}
			var ids []string
			for _, a := range accounts {
				ids = append(ids, a.AppID+"="+Reveal(a.Tokens)[0])
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.applied = append(w.applied, ids)
			return nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return w
}

// write gives each version of a file another time, whatever the file system's
// clock does meanwhile.
func (w *watched) write(name, text string) string {
	w.t.Helper()
	path := write(w.t, filepath.Join(w.dir, name), text)
	w.version++
	at := time.Unix(1_700_000_000+int64(w.version), 0)
	if err := os.Chtimes(path, at, at); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// Write takes the log.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.Write(p)
}

func (w *watched) log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.String()
}

func (w *watched) sets() [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.applied)
}

func (w *watched) pass(intervals int) {
	<-time.After(time.Duration(intervals) * watchInterval)
	synctest.Wait()
}

func (w *watched) want(sets ...[]string) {
	w.t.Helper()
	if diff := cmp.Diff(w.sets(), sets); diff != "" {
		w.t.Errorf("applied (-got +want)\n%s\n%s", diff, w.log())
	}
}

func TestWatcherTakesChangesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		first := []string{"wx0=abc", "wx1=first"}
		w.want(first)
		w.pass(10)
		w.want(first) // nothing changed
		w.write("accounts.d/b.yaml", "- appid: wx2\n  tokens: [abc]\n")
		w.pass(1)
		w.want(first) // it may still be being written
		w.pass(1)
		second := []string{"wx0=abc", "wx1=first", "wx2=abc"}
		w.want(first, second)
		w.write("token", "other") // of the same size
		w.pass(2)
		w.want(first, second, []string{"wx0=abc", "wx1=other", "wx2=abc"})
		if err := w.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWatcherWaitsForTheWriterToFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		for range 5 {
			w.write("accounts.d/b.yaml", "- appid: wx2\n  tokens: [abc]\n")
			w.pass(1)
		}
		if len(w.sets()) != 1 {
			t.Errorf("read while it was written: %v", w.sets())
		}
		w.pass(1)
		if len(w.sets()) != 2 {
			t.Errorf("not read at last: %v", w.sets())
		}
	})
}

func TestWatcherKeepsTheOldWhenTheNewIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		for name, tc := range map[string]struct {
			text string
			kind error
		}{
			"broken":             {"appid: [", ErrSyntax},
			"unknown key":        {"appid: wx2\ntoken: SECRETa\n", ErrUnknownKey},
			"duplicate":          {"appid: wx0\n", ErrDuplicate},
			"secret file gone":   {"appid: wx2\ntokens: [{file: ../gone}]\n", ErrSecret},
			"wrong aes key":      {"appid: wx2\ntokens: [abc]\naes_keys: [SECRETb]\n", ErrInvalid},
			"not an account":     {"just a text", ErrType},
			"platform not there": {"{appid: wx2, platform: wx9, original_id: gh_1}", ErrInvalid},
		} {
			w.write("accounts.d/b.yaml", tc.text)
			w.pass(2)
			err := w.Check(t.Context())
			if !errors.Is(err, tc.kind) {
				t.Errorf("%s: %v", name, err)
			}
			if d, ok := err.(interface{ Degraded() bool }); !ok || !d.Degraded() {
				t.Errorf("%s: the service would not be ready: %v", name, err)
			}
		}
		w.want([]string{"wx0=abc", "wx1=first"})
		if strings.Contains(w.log(), "SECRET") || !strings.Contains(w.log(), "b.yaml:") {
			t.Errorf("log: %s", w.log())
		}
		w.wantMetrics(2, 1, 1, 7)

		w.write("gone", "back") // a secret file that appears is a change as well
		w.write("accounts.d/b.yaml", "appid: wx2\ntokens: [{file: ../gone}]\n")
		w.pass(2)
		w.want([]string{"wx0=abc", "wx1=first"}, []string{"wx0=abc", "wx1=first", "wx2=back"})
		w.wantMetrics(3, 0, 2, 7)
		if err := w.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func (w *watched) wantMetrics(accounts, failing, applied, refused int) {
	w.t.Helper()
	want := fmt.Sprintf(`# HELP qunfa_accounts Accounts that are configured and in force.
# TYPE qunfa_accounts gauge
qunfa_accounts %d
# HELP qunfa_accounts_reload_failing 1 while the content of accounts_dir is refused and older accounts are in force.
# TYPE qunfa_accounts_reload_failing gauge
qunfa_accounts_reload_failing %d
# HELP qunfa_accounts_reloads_total Times that accounts_dir was read, by what came of it.
# TYPE qunfa_accounts_reloads_total counter
qunfa_accounts_reloads_total{result="applied"} %d
qunfa_accounts_reloads_total{result="refused"} %d
`, accounts, failing, applied, refused)
	if err := testutil.GatherAndCompare(w.reg, strings.NewReader(want)); err != nil {
		w.t.Error(err)
	}
}

func TestWatcherKeepsAccountsWhenTheDirectoryIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		if err := os.Remove(filepath.Join(w.dir, "accounts.d/a.yaml")); err != nil {
			t.Fatal(err)
		}
		w.pass(2)
		if err := w.Check(t.Context()); !errors.Is(err, ErrNoAccounts) {
			t.Errorf("empty: %v", err)
		}
		if err := os.Remove(filepath.Join(w.dir, "accounts.d")); err != nil {
			t.Fatal(err)
		}
		w.pass(2)
		if err := w.Check(t.Context()); !errors.Is(err, ErrFile) {
			t.Errorf("gone: %v", err)
		}
		w.want([]string{"wx0=abc", "wx1=first"})
	})
}

func TestWatcherReloadsOnSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.reload <- syscall.SIGHUP
		synctest.Wait()
		if len(w.sets()) != 2 {
			t.Errorf("applied %v", w.sets())
		}
		w.refuse = errors.New("the directory of accounts is full")
		w.reload <- syscall.SIGHUP
		synctest.Wait()
		if err := w.Check(t.Context()); !errors.Is(err, w.refuse) {
			t.Errorf("error %v", err)
		}
	})
}

func TestWatcherWithoutDirectoryOnlyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatcher(WatcherConfig{Config: Default()})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := w.Run(ctx); err != nil || w.Check(ctx) != nil {
			t.Error(err)
		}
	})
}

func TestWatcherLooksLessOftenAtManyFiles(t *testing.T) {
	w := NewWatcher(WatcherConfig{Config: Default()})
	for files, want := range map[int]time.Duration{0: 5 * time.Second, 999: 5 * time.Second, 3000: 20 * time.Second, 300_000: time.Minute} {
		w.secrets = make([]stamp, files)
		if got := w.interval(); got != want {
			t.Errorf("%d files: %s, want %s", files, got, want)
		}
	}
}

// Among many files only those that changed are read again, and what comes of it is what
// reading all of them gives.
func TestReloadReadsWhatChanged(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("a.yaml", "- {appid: wxa1, tokens: [{file: token}]}\n")
	b := file("b.yaml", "- {appid: wxb1, tokens: [one]}\n")
	file("token", "old")
	path := filepath.Join(t.TempDir(), "qunfa.yaml")
	if err := os.WriteFile(path, []byte("accounts_dir: "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	reread := func() (accountSet, accountSet) {
		t.Helper()
		some, err := (Loader{}).reloadAccounts(cfg, cfg.kept)
		if err != nil {
			t.Fatal(err)
		}
		all, err := (Loader{}).reloadAccounts(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		return some, all
	}
	tokens := func(s accountSet) (list []string) {
		for _, a := range s.accounts {
			list = append(list, a.Tokens[0].Reveal())
		}
		return list
	}
	for _, step := range []struct {
		change  func()
		want    []string
		keepsB  bool
		keepsA  bool
		comment string
	}{
		{func() {}, []string{"old", "one"}, true, true, "nothing"},
		{func() { file("b.yaml", "- {appid: wxb1, tokens: [another]}\n") }, []string{"old", "another"}, false, true, "a file"},
		{func() { file("token", "newer") }, []string{"newer", "another"}, true, false, "a secret file"},
	} {
		step.change()
		some, all := reread()
		if !slices.Equal(tokens(some), step.want) || !slices.Equal(tokens(all), step.want) {
			t.Errorf("%s changed: %v, and %v of all, want %v", step.comment, tokens(some), tokens(all), step.want)
		}
		kept := func(name string) bool {
			return &some.kept[name].accounts[0] == &cfg.kept[name].accounts[0]
		}
		if kept(b) != step.keepsB || kept(filepath.Join(dir, "a.yaml")) != step.keepsA {
			t.Errorf("%s changed: kept a %t, b %t", step.comment, kept(filepath.Join(dir, "a.yaml")), kept(b))
		}
		cfg.kept = some.kept
	}
	// An error names file and line also of what was kept.
	file("c.yaml", "- {appid: wxa1, tokens: [one]}\n")
	_, err = (Loader{}).reloadAccounts(cfg, cfg.kept)
	if err == nil || !strings.Contains(err.Error(), "a.yaml:1") || !strings.Contains(err.Error(), "c.yaml:1") {
		t.Errorf("got %v, want both places", err)
	}
}
