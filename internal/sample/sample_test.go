package sample

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lines writes without the time.
func lines(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	l := New(lines(&out), Config{Every: time.Minute, Burst: 2, Clock: func() time.Time { return now }})
	for i := range 5 {
		l.Warn("refused", "n", i)
	}
	l.Line(slog.LevelError, "other", "refused") // another kind, though it reads the same
	now = now.Add(time.Minute - 1)
	l.Warn("refused", "n", 5)
	now = now.Add(1)
	l.Warn("refused", "n", 6)
	l.Warn("refused", "n", 7)
	now = now.Add(time.Hour)
	l.Warn("refused", "n", 8)
	l.Unsampled().Info("as it is")
	want := []string{
		"level=WARN msg=refused n=0", "level=WARN msg=refused n=1", "level=ERROR msg=refused",
		"level=WARN msg=refused n=6 similar_dropped=4", "level=WARN msg=refused n=7", "level=WARN msg=refused n=8", `level=INFO msg="as it is"`,
	}
	if d := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

func TestBurstIsAtLeastOne(t *testing.T) {
	var out bytes.Buffer
	l := New(lines(&out), Config{Every: time.Hour})
	for range 3 {
		l.Warn("again")
	}
	if out.String() != "level=WARN msg=again\n" {
		t.Errorf("log:\n%s", out.String())
	}
}

// A clock that is set back by days must not make the log silent for days.
func TestClockSetBack(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1_000_000, 0)
	l := New(lines(&out), Config{Every: time.Minute, Clock: func() time.Time { return now }})
	l.Warn("refused", "n", 0)
	l.Warn("refused", "n", 1)
	now = now.Add(-72 * time.Hour)
	l.Warn("refused", "n", 2)
	want := "level=WARN msg=refused n=0\nlevel=WARN msg=refused n=2 similar_dropped=1\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}
