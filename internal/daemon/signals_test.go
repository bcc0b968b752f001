package daemon

import (
	"bytes"
	"context"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

func TestFirstSignalCancelsSecondExits(t *testing.T) {
	ch := make(chan os.Signal)
	exited := make(chan int)
	var out bytes.Buffer
	ctx, stop := watchSignals(context.Background(), ch, &out, func(code int) { exited <- code })
	ch <- syscall.SIGINT
	<-ctx.Done()
	ch <- syscall.SIGINT
	if code := <-exited; code != 130 {
		t.Errorf("exit code %d", code)
	}
	stop()
	if want := "interrupt: stopping; once more exits at once\ninterrupt again: exiting at once\n"; out.String() != want {
		t.Errorf("said %q", out.String())
	}
}

func TestSignalsOfTheProcess(t *testing.T) {
	var out bytes.Buffer
	ctx, stop := Signals(t.Context(), &out)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	stop()
	if !strings.HasPrefix(out.String(), "terminated: stopping") {
		t.Errorf("said %q", out.String())
	}
}

func TestBuild(t *testing.T) {
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	b := buildFrom("", info)
	if got := b.String(); !strings.HasPrefix(got, "devel (0123456789ab, modified, 2026-01-02T03:04:05Z) go1.") {
		t.Errorf("got %q", got)
	}
	if got := buildFrom("v1.2.3", &debug.BuildInfo{}).String(); !strings.HasPrefix(got, "v1.2.3 go1.") {
		t.Errorf("got %q", got)
	}
	if ReadBuild("").Version == "" {
		t.Error("no version")
	}
}
