package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func (d *Doctor) diskChecks() []Check {
	var checks []Check
	if dir := d.cfg.Settings.Ingest.SpoolDir; dir != "" {
		checks = append(checks, Check{Area: AreaServices, ID: "services.spool", Subject: dir, What: "the spool's directory has room, and nothing was set aside in it", Doc: runbook + "qunfaspoolfailing",
			Run: func(_ context.Context, r Result) { d.checkSpoolDir(r, dir) }})
	}
	if dir := d.cfg.Settings.Embedded.Dir; d.cfg.Embedded && dir != "" {
		checks = append(checks, Check{Area: AreaServices, ID: "services.data", Subject: dir, What: "the directory of all data has room", Doc: runbook + "qunfaembeddedlogfull",
			Run: func(_ context.Context, r Result) { checkRoom(r, dir, "callbacks are refused when there is none") }})
	}
	return checks
}

func (d *Doctor) checkSpoolDir(r Result, dir string) {
	free, ok := checkRoom(r, dir, "callbacks are lost during an outage of Kafka when there is none")
	if !ok {
		return
	}
	if most := uint64(d.cfg.Settings.Ingest.SpoolMaxBytes); free < most {
		r.Warn("make room, or lower ingest.spool_max_bytes to what there is", "%s are free, and the spool may grow to %s", size(free), size(most))
	}
	// The two spools, of events and of dead letters, have directories of their own in it.
	for _, pattern := range []string{"*.damaged-*", filepath.Join("*", "*.damaged-*")} {
		damaged, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is a good one
		for _, file := range damaged {
			r.Warn("what was whole in it was taken over; keep it until that is looked at, then remove it", "a damaged file was set aside: %s", file)
		}
	}
}

// checkRoom looks at the disk of a directory; false if it cannot.
func checkRoom(r Result, dir, otherwise string) (free uint64, ok bool) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		r.Unchecked("look at it where the service runs", "there is no such directory on this machine")
		return 0, false
	}
	free, total, err := room(dir)
	if err != nil {
		r.Unchecked("", "its disk cannot be looked at: %v", err)
		return 0, false
	}
	judgeRoom(r, free, total, otherwise)
	return free, true
}

// room is what is left of the disk of a directory to those who are not root.
func room(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := uint64(s.Bsize) //nolint:gosec,unconvert // its type differs between systems
	return s.Bavail * block, s.Blocks * block, nil
}
