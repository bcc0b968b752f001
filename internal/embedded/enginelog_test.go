package embedded

import (
	"log/slog"
	"strings"
	"testing"
)

func TestParseEngineLine(t *testing.T) {
	const head = "2026.11.24 22:10:16.936123 [ 4242 ] {} "
	for line, want := range map[string]struct {
		level              slog.Level
		component, message string
	}{
		head + "<Warning> qunfa.t (409482c7): Removing temporary directory": {slog.LevelWarn, "qunfa.t (409482c7)", "Removing temporary directory"},
		head + "<Error> MergeTreeBackgroundExecutor: Code: 243":             {slog.LevelError, "MergeTreeBackgroundExecutor", "Code: 243"},
		head + "<Fatal> BaseDaemon: ########":                               {slog.LevelError, "BaseDaemon", "########"},
		head + "<Information> Application: ready":                           {slog.LevelDebug, "Application", "ready"},
		// What a client got as its answer.
		"2026.11.24 22:10:16.936123 [ 4242 ] {0f-a} <Error> executeQuery: Code: 60": {slog.LevelDebug, "executeQuery", "Code: 60"},
		head + "<Error> TCPHandler: Code: 497":                                      {slog.LevelDebug, "TCPHandler", "Code: 497"},
		head + "<Error> : Code: 497. (in query: CREATE TABLE t)":                    {slog.LevelDebug, "", "Code: 497. (in query: CREATE TABLE t)"},
		head + "<Warning> BackgroundSchedulePool/BgSchPool: Temporarily pause":      {slog.LevelDebug, "BackgroundSchedulePool/BgSchPool", "Temporarily pause"},
		"11. ? @ 0x0000000013b5f811":                                                {slog.LevelDebug, "", "11. ? @ 0x0000000013b5f811"},
		"localengine: cannot listen":                                                {slog.LevelWarn, "", "localengine: cannot listen"},
		"Code: 36. DB::Exception: Failed to parse grant query.":                     {slog.LevelWarn, "", "Code: 36. DB::Exception: Failed to parse grant query."},
	} {
		level, component, message := parseEngineLine(line)
		if level != want.level || component != want.component || message != want.message {
			t.Errorf("%s:\ngot  %v %q %q\nwant %+v", line, level, component, message, want)
		}
	}
}

func TestEngineLog(t *testing.T) {
	var out strings.Builder
	log := newEngineLog(slog.New(slog.NewTextHandler(&out, nil)))
	long := "localengine: " + strings.Repeat("x", 100_000)
	log.read(strings.NewReader("\nlocalengine: one\n" + long + "\nunfinished\nlocalengine: two"))
	if got := strings.Count(out.String(), "\n"); got != 3 {
		t.Errorf("%d records, want 3 without details and empty lines", got)
	}
	last := log.last()
	if !strings.HasPrefix(last, "localengine: one; localengine: xxx") || !strings.HasSuffix(last, "…; localengine: two") {
		t.Errorf("last: %.50q … %q", last, last[max(0, len(last)-50):])
	}
	if len(last) > 2*maxLogLine {
		t.Errorf("a line of %d bytes was kept whole", len(long))
	}
	for range 3 * keptLines {
		log.read(strings.NewReader("localengine: more\n"))
	}
	if got := strings.Count(log.last(), "more"); got != keptLines {
		t.Errorf("kept %d lines, want %d", got, keptLines)
	}
}

// FuzzEngineLog: whatever the engine prints, every line is read to the end,
// records are at most maxLogLine long, and no more than keptLines are kept.
func FuzzEngineLog(f *testing.F) {
	f.Add("2026.11.24 22:10:16.936123 [ 4242 ] {} <Error> a: b\n0. ? @ 0x1\n")
	f.Add("Code: 1\r\n\n\x00\xff localengine: x")
	f.Add(strings.Repeat("localengine: y\n", 2*keptLines))
	f.Fuzz(func(t *testing.T, output string) {
		log := newEngineLog(slog.New(slog.DiscardHandler))
		in := strings.NewReader(output)
		log.read(in)
		if in.Len() > 0 {
			t.Errorf("%d bytes were not read", in.Len())
		}
		if len(log.lines) > keptLines {
			t.Errorf("%d lines kept", len(log.lines))
		}
		for _, line := range log.lines {
			if len(line) > maxLogLine+len("…") {
				t.Errorf("a line of %d bytes kept", len(line))
			}
		}
	})
}
