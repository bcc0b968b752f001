package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"qunfa/internal/events"
)

const (
	fileName    = "spool.db"
	damagedMark = ".damaged-" // between the file's name and a time
)

// recovery is what came of a damaged file.
type recovery struct {
	cause    error
	kept     string // where it is now
	salvaged int
}

// openDir opens the file in dir whatever state it is in. A damaged one is
// renamed, and what is whole in it is taken over; recovery is nil otherwise.
func openDir(dir string, now time.Time, log *slog.Logger) (*file, *recovery, error) {
	path := filepath.Join(dir, fileName)
	if err := finishRename(path); err != nil {
		return nil, nil, err
	}
	f, err := openOld(path, log)
	var rec *recovery
	if isDamage(err) {
		rec = &recovery{cause: err}
		if rec.kept, rec.salvaged, err = replace(path, now, log); err != nil {
			return nil, rec, err
		}
		f, err = openFile(path)
	}
	if err != nil {
		return nil, rec, err
	}
	// Without this the file itself, with all that is fsynced in it, could
	// vanish from its directory in a power cut.
	if err := syncDir(dir); err != nil {
		return nil, rec, errors.Join(err, f.close())
	}
	return f, rec, nil
}

// openOld opens a file of an earlier process and replaces it by a new one with
// the same records, or makes the first one.
func openOld(path string, log *slog.Logger) (*file, error) {
	_, err := os.Stat(path)
	existed := err == nil
	f, err := openFile(path)
	if err != nil || !existed {
		return f, err
	}
	err = renew(f, path)
	if err != nil && !isDamage(err) { // no room for a second file, say
		log.Warn("spool: the file cannot be made anew at the start; going on with the old one", "file", path, "error", err)
		return f, removeIfThere(path + ".new")
	}
	if err := errors.Join(err, f.close()); err != nil {
		return nil, err
	}
	return openFile(path)
}

// renew writes all that is in a file to a new one, and puts that in its place.
// So a list of free pages that was damaged unnoticed cannot cost records that
// are still good; space that is no longer used is given back, which bbolt never
// does by itself; and what was set aside is offered to the log again.
func renew(f *file, path string) error {
	fresh := path + ".new"
	if err := removeIfThere(fresh); err != nil {
		return err
	}
	out, err := openFile(fresh)
	if err != nil {
		return err
	}
	err = errors.Join(copyAll(f, out), out.close())
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

func copyAll(f, out *file) error {
	aside, err := f.keptAside()
	if err != nil {
		return err
	}
	to := appender{out: out}
	for _, v := range aside {
		_, rec, err := decodeRecord(v)
		if err != nil {
			err = out.keepAside(v)
		} else {
			err = to.add(rec, len(v))
		}
		if err != nil {
			return err
		}
	}
	list, err := f.load()
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(list, 100) {
		recs, err := f.read(chunk)
		if err != nil {
			return err
		}
		for _, r := range recs {
			if r.err != nil {
				return damaged("record %d: %w", r.seq, r.err)
			}
			if err := to.add(r.rec, int(r.size)); err != nil {
				return err
			}
		}
	}
	return to.flush()
}

// isDamage tells a file that cannot be used from a system that does not let us.
func isDamage(err error) bool {
	var d *damage
	return errors.As(err, &d)
}

// replace salvages a damaged file into a new one, then renames both. In this
// order a crash at any point leaves a file that the next start understands.
func replace(path string, now time.Time, log *slog.Logger) (kept string, salvaged int, err error) {
	fresh := path + ".new"
	salvaged, err = salvage(path, fresh)
	if err != nil && !isDamage(err) { // no room, say: what is in there would wait for somebody to notice
		return "", 0, errors.Join(err, removeIfThere(fresh))
	}
	if err != nil {
		log.Error("spool: the damaged file could not be salvaged; it is kept for people to look at", "error", err)
		salvaged = 0
		if err := removeIfThere(fresh); err != nil {
			return "", 0, err
		}
	}
	kept = path + damagedMark + now.UTC().Format("20060102T150405.000")
	if err := os.Rename(path, kept); err != nil {
		return "", 0, fmt.Errorf("spool: set the damaged file aside: %w", err)
	}
	return kept, salvaged, finishRename(path)
}

// finishRename does the second of replace's renames if only the first happened.
// A new file beside one of the right name is unfinished.
func finishRename(path string) error {
	fresh := path + ".new"
	_, err := os.Lstat(path)
	if err == nil {
		return removeIfThere(fresh)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("spool: sync %s: %w", dir, err)
	}
	return nil
}

// found is a whole record somewhere in a file.
type found struct {
	offset int64
	size   int
	seq    uint64
	sum    uint32
}

// salvage writes every whole record of a damaged file to a new one, in order.
// It does not rely on the file's structure: a record is known by its magic and
// its checksum. So it also finds records that were drained and whose place was
// not used again; they are repeated, which is harmless, while a record left out
// would be lost.
func salvage(path, to string) (n int, err error) {
	if err := removeIfThere(to); err != nil {
		return 0, err
	}
	in, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("spool: salvage: %w", err)
	}
	defer in.Close()
	all, err := scan(in)
	if err != nil {
		return 0, fmt.Errorf("spool: salvage: %w", err)
	}
	out, err := openFile(to)
	if err != nil {
		return 0, fmt.Errorf("spool: salvage: %w", err)
	}
	err = copyRecords(in, all, out)
	if err := errors.Join(err, out.close()); err != nil {
		return 0, fmt.Errorf("spool: salvage: %w", err)
	}
	return len(all), nil
}

// scan finds the whole records of a file, in order and each once.
func scan(in *os.File) ([]found, error) {
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	var all []found
	buf := make([]byte, 1<<20)
	next := int64(0) // after the last record: what looks like one inside of it is none
	for base := int64(0); base < info.Size(); base += int64(len(buf) - len(magic) + 1) {
		n, _ := in.ReadAt(buf, base) // a part of the disk that cannot be read is skipped
		for i := 0; ; i++ {
			at := bytes.Index(buf[i:n], []byte(magic))
			if at < 0 {
				break
			}
			i += at
			if offset := base + int64(i); offset >= next {
				if r, ok := recordAt(in, offset); ok {
					all = append(all, r)
					next = offset + int64(r.size)
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.sum, b.sum)) })
	return slices.CompactFunc(all, func(a, b found) bool { return a.seq == b.seq && a.sum == b.sum }), nil
}

func recordAt(in *os.File, offset int64) (found, bool) {
	head := make([]byte, headBytes)
	if _, err := in.ReadAt(head, offset); err != nil {
		return found{}, false
	}
	size, ok := claimedSize(head)
	if !ok {
		return found{}, false
	}
	b := make([]byte, size)
	if _, err := in.ReadAt(b, offset); err != nil {
		return found{}, false
	}
	seq, _, err := decodeRecord(b)
	return found{offset, size, seq, checksum(b)}, err == nil
}

func copyRecords(in *os.File, all []found, out *file) error {
	to := appender{out: out}
	for _, r := range all {
		b := make([]byte, r.size)
		if _, err := in.ReadAt(b, r.offset); err != nil {
			return err
		}
		_, rec, err := decodeRecord(b)
		if err != nil {
			return err
		}
		if err := to.add(rec, r.size); err != nil {
			return err
		}
	}
	return to.flush()
}

// appender adds records to a file, many at once.
type appender struct {
	out   *file
	batch []events.Record
	size  int
}

func (a *appender) add(r events.Record, size int) error {
	a.batch = append(a.batch, r)
	if a.size += size; a.size < 4<<20 {
		return nil
	}
	return a.flush()
}

func (a *appender) flush() error {
	if len(a.batch) == 0 {
		return nil
	}
	_, err := a.out.append(a.batch)
	a.batch, a.size = nil, 0
	return err
}

// damagedFiles counts the files that were set aside.
func damagedFiles(dir string) int {
	names, _ := filepath.Glob(filepath.Join(dir, fileName+damagedMark+"*")) // the pattern is a good one
	return len(names)
}
