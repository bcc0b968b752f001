package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"qunfa/internal/events"
)

// entry is a record in the file, as memory keeps it.
type entry struct {
	seq  uint64
	size int64
	at   time.Time // the record's time
}

// stored is a record read back.
type stored struct {
	entry
	rec events.Record
	err error // it cannot be used; the others can
}

// store is what the spool needs of its file. Each call is one transaction,
// fsynced when it returns nil.
type store interface {
	// append returns the entries also with an error: the transaction may have
	// happened all the same.
	append(recs []events.Record) ([]entry, error)
	has(e entry) bool
	read(list []entry) ([]stored, error)
	remove(list []entry) error
	// setAside keeps records out of the way, as they are.
	setAside(list []entry) error
	close() error
}

var (
	bucketRecords = []byte("records") // by sequence number
	bucketAside   = []byte("aside")   // the same, of what nobody takes
	bucketMeta    = []byte("meta")
	keyCount      = []byte("count") // of the records, to notice when some are missing
)

// file is a store in a bbolt file.
type file struct{ db *bolt.DB }

// damage is an error that comes from what is in the file, and not from the
// system around it.
type damage struct{ err error }

func (d *damage) Error() string { return d.err.Error() }
func (d *damage) Unwrap() error { return d.err }

func damaged(format string, args ...any) error { return &damage{fmt.Errorf(format, args...)} }

// guarded turns what bbolt does on a damaged page, which is to panic or to read
// beyond the file, into an error.
func guarded(do func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = damaged("the file's structure is broken: %v", p)
		}
	}()
	return do()
}

// openFile opens or makes a file, and reads all of it: what is broken should
// turn out now, and not in the middle of the next outage.
func openFile(path string) (*file, error) {
	f := &file{}
	var raw *os.File
	err := guarded(func() (err error) {
		f.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoStatistics: true,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				var err error
				raw, err = os.OpenFile(name, flag, mode)
				return raw, err
			},
		})
		return err
	})
	if err != nil {
		if raw != nil {
			_ = raw.Close() // bbolt has, unless it panicked
		}
		if !bySystem(err) {
			err = &damage{err}
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	for _, step := range []func() error{f.verifyMetas, f.verify, f.prepare} {
		if err := guarded(step); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.close())
		}
	}
	return f, nil
}

// bySystem tells why a file could not even be opened: because it is out of
// reach, or because of what is in it. What only is out of reach must not be set
// aside. Writing comes later, and its errors, of which bbolt passes on the text
// alone, say nothing about the file.
func bySystem(err error) bool {
	var number syscall.Errno
	return errors.Is(err, bolterrors.ErrTimeout) || errors.As(err, &number) && number != syscall.EIO
}

// verifyMetas looks at both of bbolt's meta pages. If one is broken bbolt goes
// by the other, that is, it forgets the last transaction without a word.
func (f *file) verifyMetas() error {
	const (
		pageHead = 16 // before the meta
		summed   = 56 // bytes of the meta, then their FNV-1a sum
	)
	raw, err := os.Open(f.db.Path())
	if err != nil {
		return err
	}
	defer raw.Close()
	for page := range int64(2) {
		b := make([]byte, summed+8)
		if _, err := raw.ReadAt(b, page*int64(f.db.Info().PageSize)+pageHead); err != nil {
			return damaged("meta page %d cannot be read: %w", page, err)
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[:summed]) // never fails
		if sum.Sum64() != binary.NativeEndian.Uint64(b[summed:]) {
			return damaged("meta page %d is broken", page)
		}
	}
	return nil
}

// verify reads every record. It leaves out which pages are free, and bbolt's own
// check of that cannot be used on a file that may be damaged: it follows broken
// numbers in a goroutine of its own. Instead no file is written to in which an
// earlier process has written; see [renew].
func (f *file) verify() error {
	return f.db.View(func(tx *bolt.Tx) error {
		info, err := os.Stat(f.db.Path())
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return damaged("the file has %d bytes of %d", info.Size(), tx.Size())
		}
		return verifyRecords(tx)
	})
}

func verifyRecords(tx *bolt.Tx) error {
	var n uint64
	for _, name := range [][]byte{bucketRecords, bucketAside} {
		b := tx.Bucket(name)
		if b == nil {
			continue
		}
		err := b.ForEach(func(k, v []byte) error {
			seq, _, err := decodeRecord(v)
			if string(name) == string(bucketAside) {
				return nil // may well be damaged
			}
			if err != nil || len(k) != 8 || seq != binary.BigEndian.Uint64(k) {
				return damaged("record %x is damaged", k)
			}
			n++
			return nil
		})
		if err != nil {
			return err
		}
	}
	if want := count(tx); n != want {
		return damaged("%d records can be found of %d", n, want)
	}
	return nil
}

func count(tx *bolt.Tx) uint64 {
	if b := tx.Bucket(bucketMeta); b != nil {
		if v := b.Get(keyCount); len(v) == 8 {
			return binary.BigEndian.Uint64(v)
		}
	}
	return 0
}

// addCount must be called in every transaction that changes the number of records.
func addCount(tx *bolt.Tx, n int) error {
	return tx.Bucket(bucketMeta).Put(keyCount, binary.BigEndian.AppendUint64(nil, count(tx)+uint64(n)))
}

// prepare makes the buckets of a new file. One that has them is not written to:
// the disk may be full.
func (f *file) prepare() error {
	all := [][]byte{bucketRecords, bucketAside, bucketMeta}
	complete := true
	err := f.db.View(func(tx *bolt.Tx) error {
		for _, name := range all {
			complete = complete && tx.Bucket(name) != nil
		}
		return nil
	})
	if err != nil || complete {
		return err
	}
	return f.db.Update(func(tx *bolt.Tx) error {
		for _, name := range all {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// load lists the records in order.
func (f *file) load() (list []entry, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketRecords).ForEach(func(k, v []byte) error {
			seq, r, err := decodeRecord(v)
			if err != nil {
				return damaged("record %x is damaged", k)
			}
			list = append(list, entry{seq, int64(len(v)), r.Time})
			return nil
		})
	})
	return list, err
}

// keptAside returns what was set aside, in order.
func (f *file) keptAside() (values [][]byte, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketAside).ForEach(func(_, v []byte) error {
			values = append(values, bytes.Clone(v))
			return nil
		})
	})
	return values, err
}

// keepAside sets bytes aside that are no record.
func (f *file) keepAside(v []byte) error {
	return f.update(func(tx *bolt.Tx) error {
		seq, err := tx.Bucket(bucketRecords).NextSequence()
		if err != nil {
			return err
		}
		return tx.Bucket(bucketAside).Put(keyOf(seq), v)
	})
}

// move passes over records that are not there: the count tells of them at the
// next start.
func move(tx *bolt.Tx, from, to []byte, keys [][]byte) (n int, err error) {
	a, b := tx.Bucket(from), tx.Bucket(to)
	for _, k := range keys {
		v := a.Get(k)
		if v == nil {
			continue
		}
		if err := b.Put(k, bytes.Clone(v)); err != nil {
			return n, err
		}
		if err := a.Delete(k); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (f *file) view(do func(*bolt.Tx) error) error {
	return guarded(func() error { return f.db.View(do) })
}

func (f *file) update(do func(*bolt.Tx) error) error {
	return guarded(func() error { return f.db.Update(do) })
}

func keyOf(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

func (f *file) append(recs []events.Record) (list []entry, err error) {
	err = f.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketRecords)
		b.FillPercent = 0.9 // keys only grow
		for _, r := range recs {
			seq, err := b.NextSequence()
			if err != nil {
				return err
			}
			v := encodeRecord(seq, r)
			list = append(list, entry{seq, int64(len(v)), r.Time})
			if err := b.Put(keyOf(seq), v); err != nil {
				return err
			}
		}
		return addCount(tx, len(recs))
	})
	return list, err
}

func (f *file) has(e entry) (found bool) {
	err := f.view(func(tx *bolt.Tx) error {
		found = tx.Bucket(bucketRecords).Get(keyOf(e.seq)) != nil
		return nil
	})
	return err == nil && found
}

func (f *file) read(list []entry) (out []stored, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketRecords)
		for _, e := range list {
			s := stored{entry: e}
			_, s.rec, s.err = decodeRecord(b.Get(keyOf(e.seq)))
			out = append(out, s)
		}
		return nil
	})
	return out, err
}

func (f *file) remove(list []entry) error {
	return f.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketRecords)
		for _, e := range list {
			if err := b.Delete(keyOf(e.seq)); err != nil {
				return err
			}
		}
		return addCount(tx, -len(list))
	})
}

func (f *file) setAside(list []entry) error {
	return f.update(func(tx *bolt.Tx) error {
		var keys [][]byte
		for _, e := range list {
			keys = append(keys, keyOf(e.seq))
		}
		n, err := move(tx, bucketRecords, bucketAside, keys)
		return errors.Join(err, addCount(tx, -n))
	})
}

func (f *file) close() error { return guarded(f.db.Close) }
