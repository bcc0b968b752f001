package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// plainLogger writes lines without the time.
func plainLogger(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestSamplerSaysWhatItDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := NewSampler(2, time.Minute)
		l := s.Logger(plainLogger(&out))
		for i := range 5 {
			l.With("appid", "wx1").Warn("refused", "n", i)
		}
		l.Info("refused") // another level is another line
		<-time.After(time.Minute)
		synctest.Wait()
		l.Warn("refused", "n", 5)
		s.Close()
		want := `level=WARN msg=refused appid=wx1 n=0
level=WARN msg=refused appid=wx1 n=1
level=INFO msg=refused
level=WARN msg=refused appid=wx1 similar_dropped=3 within=1m0s
level=WARN msg=refused n=5
`
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}

func TestSamplerReportsAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := NewSampler(1, time.Hour)
		l := s.Logger(plainLogger(&out)).WithGroup("g")
		for range 3 {
			l.Error("down")
		}
		s.Close()
		l.Error("down")
		want := "level=ERROR msg=down\nlevel=ERROR msg=down g.similar_dropped=2 g.within=1h0m0s\nlevel=ERROR msg=down\n"
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}

// A message made of data must not fill the memory, and is not lost either.
func TestSamplerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := NewSampler(1, time.Hour)
		l := s.Logger(plainLogger(&out))
		for i := range maxSampled + 10 {
			l.Info(fmt.Sprintf("message %d", i))
		}
		if n := len(s.windows); n != maxSampled {
			t.Errorf("%d windows", n)
		}
		if n := strings.Count(out.String(), "\n"); n != maxSampled+10 {
			t.Errorf("%d lines", n)
		}
		s.Close()
	})
}

func TestNewLogger(t *testing.T) {
	for _, tc := range []struct{ format, level, want string }{
		{"text", "info", "level=WARN msg=w\n"},
		{"json", "warn", `"level":"WARN","msg":"w"}` + "\n"},
		{"json", "error", ""},
	} {
		var out bytes.Buffer
		l, err := NewLogger(&out, tc.format, tc.level)
		if err != nil {
			t.Fatal(err)
		}
		l.Debug("d")
		l.Warn("w")
		if !strings.HasSuffix(out.String(), tc.want) || (tc.want == "") != (out.Len() == 0) {
			t.Errorf("%s %s: %q", tc.format, tc.level, out.String())
		}
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"text", "loud"}} {
		if _, err := NewLogger(&bytes.Buffer{}, bad[0], bad[1]); err == nil || !strings.Contains(err.Error(), "want ") {
			t.Errorf("%v: error %v", bad, err)
		}
	}
}
