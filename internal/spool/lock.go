package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockDir claims a directory until the file is closed. It is a file of its own,
// since the spool's file can be renamed: a process that waited for that one
// would in the end own what the other has set aside.
func lockDir(dir string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	const pause = 20 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("spool: lock %s: %w", dir, err)
		case waited >= patience:
			_ = f.Close()
			return nil, fmt.Errorf("%w: another process has %s; give each ingest a directory of its own, or stop the other one", ErrLocked, dir)
		}
		<-time.After(pause)
	}
}
