//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a small file system that can be filled.
type disk struct {
	dir   string
	small bool // it is one of its own; else it is a directory like any other
}

// newDisk makes a file system in memory, where that is allowed.
func newDisk(t *testing.T, dir string, megabytes int) *disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &disk{dir: dir}
	err := unix.Mount("qunfa-chaos", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0777", megabytes))
	d.small = err == nil
	if d.small {
		t.Cleanup(func() {
			// Who used it has been ended by now, but a container may take a moment.
			for range 50 {
				if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
					break
				}
				pause(context.Background(), 100*time.Millisecond)
			}
			if err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		})
	} else if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return d
}

// lastRoom is what is left of a disk for a moment before it is full. It is less
// than what ClickHouse keeps from inserts, so that merges have come to an end:
// one that finds no room leaves empty files in place of what it has merged.
const (
	lastRoom   = 32 << 20
	lastMoment = 2 * time.Second
)

// fill leaves no byte free until undo is called.
func (d *disk) fill() (undo func() error, err error) {
	if !d.small {
		return nil, errNotHere
	}
	var ballast []string
	undo = func() error {
		var errs []error
		for _, b := range ballast {
			errs = append(errs, os.Remove(b))
		}
		return errors.Join(errs...)
	}
	for i, leave := range []int64{lastRoom, 0} {
		name := filepath.Join(d.dir, fmt.Sprintf("ballast-%d", i))
		ballast = append(ballast, name)
		if err := take(name, leave); err != nil {
			return undo, err
		}
		if leave > 0 {
			pause(context.Background(), lastMoment)
		}
	}
	return undo, nil
}

// take writes a file that takes all room of its disk but so many bytes.
func take(name string, leave int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// Others write, too: it is full when not even a page can be had.
	for at := int64(0); ; {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			return err
		}
		n := int64(st.Bavail)*st.Bsize - leave
		if leave > 0 && n < st.Bsize {
			return nil
		}
		n = max(n, st.Bsize)
		err := unix.Fallocate(int(f.Fd()), 0, at, n)
		switch {
		case err == nil:
			at += n
		case !errors.Is(err, unix.ENOSPC):
			return err
		case n == st.Bsize:
			return nil
		}
	}
}

// errLeftOut is of faults that could not be made, but need not have been.
var (
	errLeftOut = errors.New("left out")
	errNotHere = fmt.Errorf("%w: making a small file system needs to be root", errLeftOut)
)
