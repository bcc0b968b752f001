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

// fill leaves no byte free until undo is called.
func (d *disk) fill() (undo func() error, err error) {
	if !d.small {
		return nil, errNotHere
	}
	ballast := filepath.Join(d.dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Others write, too: it is full when not even a page can be had.
	for at := int64(0); ; {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			return nil, err
		}
		n := max(int64(st.Bavail)*st.Bsize, st.Bsize)
		err := unix.Fallocate(int(f.Fd()), 0, at, n)
		if errors.Is(err, unix.ENOSPC) && n == st.Bsize {
			break
		}
		if err == nil {
			at += n
		} else if !errors.Is(err, unix.ENOSPC) {
			return nil, err
		}
	}
	return func() error { return os.Remove(ballast) }, nil
}

// errLeftOut is of faults that could not be made, but need not have been.
var (
	errLeftOut = errors.New("left out")
	errNotHere = fmt.Errorf("%w: making a small file system needs to be root", errLeftOut)
)
