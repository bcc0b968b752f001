package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// childOfSystem does what a process can only do to itself as a whole.
func childOfSystem(role string) error {
	if role == "no room at the start" {
		return childStartsWithoutRoom()
	}
	s, err := Open(Config{Dir: os.Getenv(childDir)}, &fakeLog{down: true})
	if err != nil {
		return err
	}
	if err := s.Publish(context.Background(), record("wx1", "before")); err != nil {
		return err
	}
	fmt.Println("taken before")
	switch role {
	case "no fsync":
		err = failSyncs()
	case "no room":
		err = limitFiles(1 << 20)
	}
	if err != nil {
		return err
	}
	refused := false
	for i := range 100 {
		v := fmt.Sprint(i, strings.Repeat(" ", 40_000))
		if err := s.Publish(context.Background(), record("wx1", v)); err == nil {
			fmt.Println("taken", v)
		} else if !refused {
			refused = true
			fmt.Println("refused", err)
		}
	}
	if err := s.Ready(); err != nil {
		fmt.Println("ready", err)
	}
	return nil
}

// childStartsWithoutRoom opens a spool that is larger than any file may be, and drains it.
func childStartsWithoutRoom() error {
	if err := limitFiles(1 << 20); err != nil {
		return err
	}
	log := &fakeLog{}
	s, err := Open(Config{Dir: os.Getenv(childDir)}, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for n, _, _ := s.Depth(); n > 0; n, _, _ = s.Depth() {
		sleep(ctx, time.Millisecond)
	}
	cancel()
	for _, v := range log.values() {
		fmt.Println("drained", v)
	}
	return <-done
}

// failSyncs makes the kernel answer every fsync of this process with EIO.
func failSyncs() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	const load, equal, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	program := []unix.SockFilter{
		{Code: load, K: 0}, // the number of the call
		{Code: equal, K: unix.SYS_FSYNC, Jt: 2},
		{Code: equal, K: unix.SYS_FDATASYNC, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(syscall.EIO)},
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// limitFiles makes writing beyond a size fail, as on a disk that is full.
func limitFiles(size uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: size})
}

// said returns what a child printed, by the first word of each line.
func said(t *testing.T, role, dir string) map[string][]string {
	t.Helper()
	cmd, out := start(t, role, childDir+"="+dir)
	lines := map[string][]string{}
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		word, rest, _ := strings.Cut(scanner.Text(), " ")
		lines[word] = append(lines[word], rest)
	}
	if err := errors.Join(scanner.Err(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestNoSuccessWithoutFsync: success rests on fsync itself. Where the kernel
// refuses it, nothing is acknowledged.
func TestNoSuccessWithoutFsync(t *testing.T) {
	dir := t.TempDir()
	lines := said(t, "no fsync", dir)
	if d := cmp.Diff([]string{"before"}, lines["taken"]); d != "" {
		t.Errorf("acknowledged (-want +got):\n%s", d)
	}
	if len(lines["refused"]) != 1 || !strings.Contains(lines["refused"][0], syscall.EIO.Error()) {
		t.Errorf("refused with %q", lines["refused"])
	}
	if len(lines["ready"]) != 1 || !strings.Contains(lines["ready"][0], "cannot be written to") {
		t.Errorf("ready says %q", lines["ready"])
	}
	got, kept := recovered(t, dir)
	if len(got) == 0 || got[0] != "before" || kept != 0 {
		t.Errorf("%d records, the first %.20q; %v damaged files", len(got), got[0], kept)
	}
}

// TestDiskFull: a disk without room costs nothing that was acknowledged.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	lines := said(t, "no room", dir)
	if len(lines["taken"]) < 5 || len(lines["refused"]) != 1 || !strings.Contains(lines["refused"][0], syscall.EFBIG.Error()) {
		t.Fatalf("%d taken, refused with %q", len(lines["taken"]), lines["refused"])
	}
	got, kept := recovered(t, dir)
	if d := cmp.Diff(lines["taken"], got); d != "" || kept != 0 {
		t.Errorf("%v damaged files; records (-acknowledged +drained):\n%s", kept, d)
	}
}

// TestNoRoomAtTheStart: a disk without room for a new file is no reason not to
// start, nor to take the old one for damaged.
func TestNoRoomAtTheStart(t *testing.T) {
	dir := t.TempDir()
	want := spooled(t, dir, 2000)
	lines := said(t, "no room at the start", dir)
	if d := cmp.Diff(want, lines["drained"]); d != "" {
		t.Errorf("records (-want +drained):\n%s", d)
	}
	if n := damagedFiles(dir); n != 0 {
		t.Errorf("%d damaged files", n)
	}
	if _, err := os.Stat(dir + "/" + fileName + ".new"); !os.IsNotExist(err) {
		t.Errorf("the new file was left: %v", err)
	}
}
