//go:build linux

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	lockFile    = "localengine.lock"
	historyFile = "localengine.history"
)

// prepareDir makes and locks the data directory. The lock is held until the
// returned file is closed or the process ends.
func prepareDir(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(path, "metadata"), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	// Left by the last run; what was typed into it is of no use to anybody.
	err = os.Remove(filepath.Join(path, historyFile))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = writeSystemDatabase(filepath.Join(path, "metadata", "system.sql"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot prepare the data directory: %w", err), lock.Close())
	}
	return lock, nil
}

func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // the lock is what failed
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", path, err)
	}
	return f, nil
}

// writeSystemDatabase makes the database system a persistent one, unless it
// already is. The one that clickhouse-local makes for itself is in memory:
// system.query_log and the other logs would leave their files behind at the
// first stop, forget that they are theirs, and fail from the second start on.
func writeSystemDatabase(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	statement := fmt.Sprintf("ATTACH DATABASE _ UUID '%s'\nENGINE = Atomic\n", randomUUID())
	// By a rename, for half a statement would keep the engine from starting.
	if err := os.WriteFile(file+".tmp", []byte(statement), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".tmp", file)
}

// randomUUID is a version 4 UUID.
func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
