package spool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// spooled makes a spool of n records that wait, among them large ones, after
// others that were drained. It returns their values in order.
func spooled(t testing.TB, dir string, n int) []string {
	t.Helper()
	log := &fakeLog{down: true}
	s := open(t, dir, log)
	for i := range 10 {
		publish(t, s, record("wx1", fmt.Sprint("drained ", i)))
	}
	log.set(func(l *fakeLog) { l.down = false })
	stop := run(t, s)
	untilEmpty(t, s)
	stop()
	log.set(func(l *fakeLog) { l.down = true })
	var values []string
	var batch []*waiting
	for i := range n {
		size := 300
		if i%10 == 3 {
			size = 9000 // more than a page
		}
		v := fmt.Sprintf("%04d %s", i, strings.Repeat(string(rune('a'+i%26)), size))
		values = append(values, v)
		batch = append(batch, &waiting{rec: record("wx1", v), done: make(chan error, 1)})
		if len(batch) == 7 || i == n-1 { // as many transactions as there would be
			s.commit(batch)
			batch = nil
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return values
}

// recovered opens what is in dir, drains it, and returns what came out.
func recovered(t testing.TB, dir string) (got []string, damagedFiles float64) {
	t.Helper()
	log := &fakeLog{}
	s := open(t, dir, log)
	damagedFiles = gather(t, s)["qunfa_spool_damaged_files"]
	stop := run(t, s)
	untilEmpty(t, s)
	publish(t, s, record("wx1", "and it works"))
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	values := log.values()
	if values[len(values)-1] != "and it works" {
		t.Errorf("the last record is %.20q", values[len(values)-1])
	}
	return slices.DeleteFunc(values[:len(values)-1], func(v string) bool { return strings.HasPrefix(v, "drained ") }), damagedFiles
}

// intact returns the values whose records are still in the file, by another
// way than the spool's. bbolt moves records about, so there may be several copies.
func intact(file []byte, values []string) []string {
	var whole []string
	for _, v := range values {
		for from := 0; ; {
			i := bytes.Index(file[from:], []byte(v))
			if i < 0 {
				break
			}
			from += i + 1
			// The record begins shortly before its value.
			start := bytes.LastIndex(file[:from], []byte(magic))
			if start < 0 {
				continue
			}
			if _, ok := wholeRecord(file[start:]); ok {
				whole = append(whole, v)
				break
			}
		}
	}
	return whole
}

// Whatever part of the file is damaged: the spool starts, says so, keeps the
// file, and loses no record but those whose own bytes are damaged.
func TestDamagedFile(t *testing.T) {
	template := t.TempDir()
	values := spooled(t, template, 120)
	good, err := os.ReadFile(filepath.Join(template, fileName))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	rnd := rand.New(rand.NewPCG(1, 2))
	cases := map[string][]byte{
		"nothing but zeros":    make([]byte, len(good)),
		"another file":         []byte(strings.Repeat("this is no database\n", 1000)),
		"one byte":             {1},
		"cut off in the midst": bytes.Clone(good[:len(good)/2]),
		"cut off in a page":    bytes.Clone(good[:len(good)/3+17]),
		"no beginning":         append(make([]byte, 2*page), good[2*page:]...),
		"half of it repeated":  append(bytes.Clone(good[:len(good)/2]), good[:len(good)/2]...),
	}
	for p := range len(good) / page {
		for name, fill := range map[string]func(b []byte){
			"zeros": func(b []byte) { clear(b) },
			"noise": func(b []byte) {
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
			},
			"ones": func(b []byte) {
				for i := range b {
					b[i] = 0xff
				}
			},
		} {
			b := bytes.Clone(good)
			fill(b[p*page : (p+1)*page])
			if p < 4 || rnd.IntN(6) == 0 { // each costs a few fsyncs
				cases[fmt.Sprintf("page %d is %s", p, name)] = b
			}
		}
	}
	harmless := 0
	for name, file := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
				t.Fatal(err)
			}
			got, kept := recovered(t, dir)
			if d := cmp.Diff(intact(file, values), firsts(got)); d != "" {
				t.Errorf("records (-whole in the file +drained):\n%s", d)
			}
			if kept == 0 {
				harmless++ // a page that nothing refers to
				return
			}
			names, err := filepath.Glob(filepath.Join(dir, fileName+damagedMark+"*"))
			if err != nil || len(names) != 1 {
				t.Fatalf("files %q, %v", names, err)
			}
			if b, err := os.ReadFile(names[0]); err != nil || !bytes.Equal(b, file) {
				t.Errorf("the damaged file was not kept as it was: %v", err)
			}
			if _, kept := recovered(t, dir); kept != 1 {
				t.Errorf("after another start there are %v damaged files", kept)
			}
		})
	}
	if harmless > len(cases)/2 {
		t.Errorf("%d of %d damages were not noticed: what was tested?", harmless, len(cases))
	}
}

// The two renames that set a file aside may be cut short by a crash.
func TestACrashWhileAFileIsSetAside(t *testing.T) {
	for name, prepare := range map[string]func(path string){
		"before the first rename": func(path string) {
			if err := os.WriteFile(path+".new", []byte("unfinished"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"between the renames": func(path string) {
			if err := os.Rename(path, path+".new"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			want := spooled(t, dir, 5)
			prepare(filepath.Join(dir, fileName))
			if got, _ := recovered(t, dir); cmp.Diff(want, got) != "" {
				t.Errorf("records (-want +got):\n%s", cmp.Diff(want, got))
			}
			if _, err := os.Stat(filepath.Join(dir, fileName+".new")); !os.IsNotExist(err) {
				t.Errorf("the new file is still there: %v", err)
			}
		})
	}
}

// What only cannot be reached must not be set aside.
func TestAFileOutOfReachIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, fileName, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(t, dir, &fakeLog{}); err == nil {
		t.Error("a directory in the place of the file is no error")
	}
	if n := damagedFiles(dir); n != 0 {
		t.Errorf("%d files were set aside", n)
	}
}

// A record whose bytes go bad while the spool runs holds nothing up.
func TestARecordThatGoesBad(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{down: true}
	s := open(t, dir, log)
	for _, v := range []string{"one", "two", "three"} {
		publish(t, s, record("wx1", v))
	}
	sabotage(s, &faulty{})
	s.store = spoiler{s.store}
	log.set(func(l *fakeLog) { l.down = false })
	stop := run(t, s)
	until(t, "nothing waits", func() string {
		if n, bytes, _ := s.Depth(); n > 0 || bytes > 0 {
			return fmt.Sprint(n, bytes)
		}
		return ""
	})
	stop()
	if d := cmp.Diff([]string{"one", "three"}, log.values()); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
	if n := gather(t, s)["qunfa_spool_set_aside_total"]; n != 1 {
		t.Errorf("%v records were set aside, want 1", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := recovered(t, dir); cmp.Diff([]string{"two"}, got) != "" { // its bytes were good after all
		t.Errorf("after a restart: %q", got)
	}
}

// spoiler cannot read the second of several records.
type spoiler struct{ store }

func (s spoiler) read(list []entry) ([]stored, error) {
	out, err := s.store.read(list)
	for i := range out {
		if string(out[i].rec.Value) == "two" {
			out[i].err = errDamaged
		}
	}
	return out, err
}

// bbolt gives no space back; an empty file is made anew at the next start.
func TestALargeFileIsShrunkWhenItIsEmpty(t *testing.T) {
	dir, log := t.TempDir(), &fakeLog{down: true}
	s := open(t, dir, log)
	for range 6 {
		publish(t, s, record("wx1", strings.Repeat("x", 1<<20)))
	}
	log.set(func(l *fakeLog) { l.down = false })
	stop := run(t, s)
	untilEmpty(t, s)
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, fileName))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if before := size(); before < 4<<20 {
		t.Fatalf("the file has %d bytes only", before)
	}
	open(t, dir, log)
	if after := size(); after > 1<<20 {
		t.Errorf("the file has %d bytes after a restart", after)
	}
}

// FuzzOpen: whatever a part of the file is overwritten with, the spool opens
// and works, and has every record whose bytes are still whole.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	values := spooled(f, dir, 12)
	good, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte("x"), uint32(len(good)))
	f.Add(uint32(8192), make([]byte, 40), uint32(len(good)))
	f.Add(uint32(100), []byte{0xff, 0xff, 0xff, 0xff}, uint32(5000))
	f.Fuzz(func(t *testing.T, at uint32, with []byte, size uint32) {
		file := bytes.Clone(good)
		copy(file[int(at)%len(file):], with)
		file = file[:min(len(file), int(size))]
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _ := recovered(t, dir)
		if d := cmp.Diff(intact(file, values), firsts(got)); d != "" {
			t.Errorf("records (-whole in the file +drained):\n%s", d)
		}
	})
}
