package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/events"
)

// The tests of this file run the test binary as a process of its own.
const (
	childRole = "QUNFA_SPOOL_CHILD" // what it is to do
	childDir  = "QUNFA_SPOOL_DIR"
	childLog  = "QUNFA_SPOOL_LOG"  // a file
	childBase = "QUNFA_SPOOL_BASE" // the first number to publish
)

func child(role string) int {
	var err error
	switch role {
	case "publish":
		err = childPublishes()
	default:
		err = childOfSystem(role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// fileLog appends to a file, which outlasts the process.
type fileLog struct {
	f    *os.File
	n    atomic.Int64
	down atomic.Bool
}

func (l *fileLog) Publish(_ context.Context, r events.Record) error {
	n := l.n.Add(1)
	if n%5 == 1 {
		return errAway
	}
	if _, err := l.f.WriteString(string(r.Value) + "\n"); err != nil {
		return err
	}
	if n%11 == 1 { // it is in, but the answer gets lost
		return errAway
	}
	return nil
}

func (l *fileLog) Down() bool { return l.down.Load() }

// childPublishes publishes and drains at once until it is killed. Every
// acknowledgement is a line on stdout.
func childPublishes() error {
	f, err := os.OpenFile(os.Getenv(childLog), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	base, err := strconv.Atoi(os.Getenv(childBase))
	if err != nil {
		return err
	}
	log := &fileLog{f: f}
	s, err := Open(Config{Dir: os.Getenv(childDir), RetryMax: 5 * time.Millisecond}, log)
	if err != nil {
		return err
	}
	go s.Run(context.Background())
	go func() {
		for {
			log.down.Store(rand.IntN(2) == 0)
			<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond) // the pace of the outages, nothing waits for it
		}
	}()
	failed := make(chan error)
	for p := range 8 {
		go func() {
			for i := base; ; i++ {
				v := fmt.Sprintf("wx%d %d", p, i)
				if err := s.Publish(context.Background(), record(fmt.Sprintf("wx%d", p), v)); err != nil {
					failed <- err
					return
				}
				if _, err := os.Stdout.WriteString(v + "\n"); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

func start(t *testing.T, role string, env ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childRole+"="+role)...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// TestKilled kills a process under load, again and again. What it has
// acknowledged comes out in the end, for each key in its order.
func TestKilled(t *testing.T) {
	dir, logFile := t.TempDir(), t.TempDir()+"/log"
	acked := map[string][]string{}
	for round := range 5 {
		cmd, out := start(t, "publish", childDir+"="+dir, childLog+"="+logFile, childBase+"="+strconv.Itoa(round*1_000_000))
		enough := 100 + rand.IntN(200)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			key, _, _ := strings.Cut(lines.Text(), " ")
			acked[key] = append(acked[key], lines.Text())
			if n == enough {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child has ended by itself: %v", err)
		}
	}
	rest := &fakeLog{}
	s := open(t, dir, rest)
	if n := gather(t, s)["qunfa_spool_damaged_files"]; n != 0 {
		t.Errorf("%v files were damaged: a kill must not do that", n)
	}
	run(t, s)
	untilEmpty(t, s)
	b, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	logged := map[string][]string{}
	for _, v := range firsts(append(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(string(b), " ", "/"), "\n", " ")), slashed(rest.values())...)) {
		v = strings.ReplaceAll(v, "/", " ")
		key, _, _ := strings.Cut(v, " ")
		if slices.Contains(acked[key], v) { // others were on their way
			logged[key] = append(logged[key], v)
		}
	}
	if d := cmp.Diff(acked, logged); d != "" {
		t.Errorf("the log, repetitions aside (-acknowledged +log):\n%s", d)
	}
}

func slashed(values []string) (out []string) {
	for _, v := range values {
		out = append(out, strings.ReplaceAll(v, " ", "/"))
	}
	return out
}

// TestOtherProcess: the lock holds between processes, and ends with its owner.
func TestOtherProcess(t *testing.T) {
	dir := t.TempDir()
	cmd, out := start(t, "publish", childDir+"="+dir, childLog+"="+t.TempDir()+"/log", childBase+"=0")
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the child says nothing")
	}
	var drained sync.WaitGroup
	drained.Go(func() { _, _ = io.Copy(io.Discard, out) })
	if _, err := tryOpen(t, dir, &fakeLog{}, func(c *Config) { c.LockTimeout = 100 * time.Millisecond }); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	drained.Wait()
	_ = cmd.Wait() // killed
	open(t, dir, &fakeLog{})
}
