package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// service is an admin listener with that readiness and these metrics.
func service(t *testing.T, ready, metrics string, off time.Duration) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		switch r.URL.Path {
		case "/readyz":
			say(w, 200, ready)
		case "/metrics":
			started := time.Now().Add(-2 * time.Hour).Unix()
			say(w, 200, fmt.Sprintf("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n%s", started, metrics))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

const readyJSON = `{"status":"ok","checks":[{"name":"sink","status":"ok"},{"name":"sink.kafka","status":"ok"}]}`

func asks(addresses ...string) func(*Config) {
	return func(c *Config) { c.Admins = addresses }
}

func TestServicesReady(t *testing.T) {
	find := func(ready string, off time.Duration) []Finding {
		return look(t, newDoctor(t, asks(service(t, ready, "", off))), "services.ready")
	}
	want(t, find(readyJSON, 0), OK, "ready: sink, sink.kafka")
	want(t, find(`{"status":"not_ready","checks":[{"name":"sink","status":"not_ready","reason":"cannot write"}]}`, 0), Failure, "sink: cannot write")
	want(t, find(`{"status":"degraded","checks":[{"name":"ingest.kafka","status":"degraded","reason":"spooling"}]}`, 0), Warning, "ingest.kafka: spooling")
	want(t, find("<html>", 0), Failure, "not qunfa's")
	want(t, find(readyJSON, -time.Minute), Warning, "our clock is", "ahead of the service's")
	want(t, find(readyJSON, time.Hour), Failure, "behind the service's")

	gone := httptest.NewServer(nil)
	gone.Close()
	address := gone.Listener.Addr().String()
	want(t, look(t, newDoctor(t, asks(address)), "services.ready"), Failure, address, "does not answer")
	guessed := func(c *Config) { c.Settings.Admin.Listen = address }
	want(t, look(t, newDoctor(t, guessed), "services.ready"), Unchecked, "--admin")
	want(t, look(t, newDoctor(t, guessed, func(c *Config) { c.Embedded = true }), "services.ready"), Failure, "does not answer")
	want(t, look(t, newDoctor(t, asks(address)), "services.metrics"), Unchecked, "see services.ready")
}

func TestServicesMetrics(t *testing.T) {
	gauge := func(name string, value any) string { return fmt.Sprintf("# TYPE %s gauge\n%s %v\n", name, name, value) }
	result := func(name string) string {
		return fmt.Sprintf("# TYPE qunfa_callbacks_total counter\nqunfa_callbacks_total{result=\"finished\",service=\"ingest\"} 9\nqunfa_callbacks_total{result=%q,service=\"ingest\"} 3\n", name)
	}
	spool := func(used int) string {
		return "# TYPE qunfa_spool_records gauge\nqunfa_spool_records{spool=\"events\"} 5\nqunfa_spool_records{spool=\"dead\"} 1\n" + gauge("qunfa_spool_bytes", used) + gauge("qunfa_spool_max_bytes", 1<<20) +
			gauge("qunfa_spool_oldest_timestamp_seconds", time.Now().Add(-3*time.Hour).Unix())
	}
	for name, test := range map[string]struct {
		metrics string
		s       Severity
		words   []string
	}{
		"well":              {result("passed") + gauge("qunfa_spool_records", 0) + gauge("process_open_fds", 20) + gauge("process_max_fds", 65536), OK, []string{"nothing out of the ordinary", "2 hours"}},
		"URL checks":        {result("url_refused"), OK, nil}, // the doctor's own are among them
		"signature":         {result("signature"), Warning, []string{"3 callbacks refused for a wrong signature", "tokens"}},
		"decrypt":           {result("decrypt"), Warning, []string{"EncodingAESKey"}},
		"plain":             {result("plain_refused"), Warning, []string{"安全模式"}},
		"mismatch":          {result("account_mismatch"), Warning, []string{"original_id"}},
		"unknown account":   {result("unknown_account"), Warning, []string{"not configured"}},
		"timestamp":         {result("timestamp"), Warning, []string{"set the clock"}},
		"unavailable":       {result("unavailable"), Failure, []string{"perhaps lost", "spool"}},
		"overload":          {result("overload"), Failure, []string{"perhaps lost"}},
		"spooling":          {spool(1000), Warning, []string{"6 events in the spool", "3 hours", "of 1.0 MiB"}},
		"spool filling":     {spool(900_000), Failure, []string{"bring Kafka back", "lost"}},
		"set aside":         {gauge("qunfa_spool_set_aside_records", 2), Warning, []string{"2 events set aside"}},
		"damaged":           {gauge("qunfa_spool_damaged_files", 1), Warning, []string{"1 damaged file"}},
		"produce failing":   {gauge("qunfa_kafka_produce_failing_lanes", 4), Failure, []string{"cannot be written"}},
		"sink paused":       {gauge("qunfa_sink_paused", 1), Failure, []string{"sink waits", "nothing is lost"}},
		"accounts blocked":  {"# TYPE qunfa_reconcile_account_blocked gauge\nqunfa_reconcile_account_blocked{class=\"config\"} 2\nqunfa_reconcile_account_blocked{class=\"retry\"} 7\n", Failure, []string{"2 accounts", "api.access"}},
		"only retries":      {"# TYPE qunfa_reconcile_account_blocked gauge\nqunfa_reconcile_account_blocked{class=\"retry\"} 7\n", OK, nil},
		"skewed":            {"# TYPE qunfa_callback_clock_skewed_total counter\nqunfa_callback_clock_skewed_total 5\n", Warning, []string{"far from its clock"}},
		"other original id": {"# TYPE qunfa_callback_original_id_mismatches_total counter\nqunfa_callback_original_id_mismatches_total 1\n", Warning, []string{"correct original_id"}},
		"files used":        {gauge("process_open_fds", 900) + gauge("process_max_fds", 1024), Failure, []string{"900 of 1024", "LimitNOFILE"}},
		"few files":         {gauge("process_open_fds", 10) + gauge("process_max_fds", 256), Warning, []string{"256"}},
		"nonsense":          {"{", Unchecked, []string{"cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, look(t, newDoctor(t, asks(service(t, readyJSON, test.metrics, 0))), "services.metrics"), test.s, test.words...)
		})
	}
}

func TestSpoolDirectory(t *testing.T) {
	dir := t.TempDir()
	in := func(change func(*Config)) *Doctor {
		return newDoctor(t, func(c *Config) { c.Settings.Ingest.SpoolDir, c.Settings.Ingest.SpoolMaxBytes = dir, 1<<20 }, change)
	}
	none := func(*Config) {}
	if findings := look(t, in(none), "services.spool"); strings.Contains(inLines(findings), "damaged") || strings.Contains(inLines(findings), "spool may grow") {
		t.Errorf("of an empty directory:\n%s", inLines(findings))
	}
	want(t, look(t, in(func(c *Config) { c.Settings.Ingest.SpoolMaxBytes = 1 << 60 }), "services.spool"), Warning, "spool may grow to", "spool_max_bytes")
	want(t, look(t, in(func(c *Config) { c.Settings.Ingest.SpoolDir = filepath.Join(dir, "elsewhere") }), "services.spool"), Unchecked, "no such directory")
	if err := os.MkdirAll(filepath.Join(dir, "dead"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"spool.db.damaged-1", "dead/spool.db.damaged-2"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, look(t, in(none), "services.spool"), Warning, name)
	}
	for _, c := range in(func(c *Config) { c.Settings.Ingest.SpoolDir = "" }).Checks() {
		if c.ID == "services.spool" {
			t.Error("there is a check of a spool that is not configured")
		}
	}
}

func TestDataDirectory(t *testing.T) {
	d := newDoctor(t, func(c *Config) { c.Embedded, c.Settings.Embedded.Dir = true, t.TempDir() })
	if f := look(t, d, "services.data"); len(f) != 1 || !strings.Contains(f[0].Found, "free of") {
		t.Errorf("got\n%s", inLines(f))
	}
	for _, test := range []struct {
		free, total uint64
		s           Severity
	}{{50 << 30, 100 << 30, OK}, {9 << 30, 100 << 30, Warning}, {2 << 30, 100 << 30, Failure}, {200 << 20, 1 << 30, Failure}, {0, 0, Failure}} {
		var list []Finding
		judgeRoom(Result{Check{Doc: "x"}, &list}, test.free, test.total, "it stops")
		if len(list) != 1 || list[0].Severity != test.s {
			t.Errorf("%d of %d: %+v, want %s", test.free, test.total, list, test.s)
		}
	}
}
