package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrInUse is returned when another process, or another part of this one, has
// the directory.
var ErrInUse = errors.New("in use by another process")

// dirLock is an exclusive lock on a directory, held by the open file. The
// kernel lets go of it when the process ends, so a crash leaves nothing stale.
type dirLock struct{ file *os.File }

// lockDir makes the directory, for its owner only, and locks it by the file of
// that name in it. The error says what the directory holds.
func lockDir(dir, name, holds string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the %s: %w", holds, err)
	}
	lock, err := tryLock(filepath.Join(dir, name))
	if errors.Is(err, ErrInUse) {
		return nil, fmt.Errorf("the directory %s of the %s is %w: is another qunfa running? (stop it, or choose another directory)", dir, holds, err)
	}
	return lock, err
}

// tryLock locks a file and does not wait.
func tryLock(path string) (*dirLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &dirLock{file: f}, nil
	}
	_ = f.Close() // nothing was written
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrInUse
	}
	return nil, fmt.Errorf("cannot lock %s: %w", path, err)
}

// waitLock locks a file, waiting for whoever has it. It calls waiting once
// when it has to.
func waitLock(ctx context.Context, path string, waiting func()) (*dirLock, error) {
	lock, err := tryLock(path)
	if !errors.Is(err, ErrInUse) {
		return lock, err
	}
	waiting()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s: %w", path, ctx.Err())
		case <-tick.C:
		}
		if lock, err = tryLock(path); !errors.Is(err, ErrInUse) {
			return lock, err
		}
	}
}

// Close lets go of the lock. The file stays: removing it would let two
// processes hold locks on two files of one name.
func (l *dirLock) Close() error { return l.file.Close() }
