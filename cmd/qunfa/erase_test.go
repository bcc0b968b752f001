package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (s *stack) erased(t *testing.T, c eraseCmd, format string) (out string, err error) {
	t.Helper()
	g, stdout := testGlobals(t, format)
	g.Stderr = new(bytes.Buffer)
	err = c.run(g, s.target)
	return stdout.String(), err
}

func (s *stack) count(t *testing.T, sql string) any {
	t.Helper()
	db, err := s.target.database()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := db.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	return r.Rows[0][0]
}

func TestEraseCommand(t *testing.T) {
	s := newStack(t)
	s.write(t, history()...)
	const quiet = "SELECT count() FROM event_rows WHERE appid = 'wxquiet'"
	out, err := s.erased(t, eraseCmd{AppID: "wxquiet", DryRun: true}, formatTable)
	if err != nil || !strings.Contains(out, "wxquiet: 1 events before ") || !strings.Contains(out, "nothing was deleted") || s.count(t, quiet) != uint64(1) {
		t.Errorf("dry run: %v\n%s", err, out)
	}
	if _, err = s.erased(t, eraseCmd{AppID: "wxquiet"}, formatTable); err == nil || !strings.Contains(err.Error(), "--yes") || s.count(t, quiet) != uint64(1) {
		t.Errorf("unasked: %v", err)
	}
	out, err = s.erased(t, eraseCmd{AppID: "wxsafe", RawOnly: true, Yes: true}, formatTable)
	if err != nil || !strings.Contains(out, "the openids of 2 callbacks") || s.count(t, "SELECT countIf(raw != '') FROM event_rows WHERE appid = 'wxsafe'") != uint64(0) {
		t.Errorf("openids: %v\n%s", err, out)
	}
	out, err = s.erased(t, eraseCmd{AppID: "wxquiet", Yes: true}, formatTable)
	if err != nil || !strings.Contains(out, "wxquiet: erased") || s.count(t, quiet) != uint64(0) {
		t.Errorf("erase: %v\n%s", err, out)
	}
	out, err = s.erased(t, eraseCmd{List: true}, formatJSON)
	var list []erasureJSON
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) != 2 || list[0].AppID != "wxquiet" || list[1].Scope != "raw" {
		t.Fatalf("list: %v\n%s", err, out)
	}
	if out, err = s.erased(t, eraseCmd{List: true}, formatTable); err != nil || !strings.Contains(out, "qunfa erase (process ") {
		t.Errorf("list as a table: %v\n%s", err, out)
	}

	other := newStack(t) // a database that knows nothing of it, as an older backup
	other.write(t, history()...)
	file := filepath.Join(t.TempDir(), "erasures.json")
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err = other.erased(t, eraseCmd{Again: file, Yes: true}, formatTable); err != nil || other.count(t, quiet) != uint64(0) || other.count(t, "SELECT count() FROM erasure_rows") != uint64(2) {
		t.Errorf("again: %v\n%s", err, out)
	}
}

func TestEraseUsage(t *testing.T) {
	for want, c := range map[string]eraseCmd{
		"which account":          {},
		"lies in the future":     {AppID: "wx1", Before: time.Now().Add(time.Hour).Format(time.RFC3339)},
		"want a time such as":    {AppID: "wx1", Before: "yesterday"},
		"no such file":           {Again: filepath.Join(t.TempDir(), "none")},
		"want what `qunfa erase": {Again: "testdata"},
	} {
		if c.Again == "testdata" {
			c.Again = filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(c.Again, []byte("appid: wx1"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.entries(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestExpireCommand(t *testing.T) {
	s := newStack(t)
	s.write(t, history()...) // of 2026-03-01
	g, out := testGlobals(t, formatTable)
	g.Stderr = new(bytes.Buffer)
	if err := (&expireCmd{}).run(g, s.target); err == nil || !strings.Contains(err.Error(), "keeps everything") {
		t.Errorf("without retention: %v", err)
	}
	db, err := s.target.database()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const day = 24 * time.Hour
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(100*day + 12*time.Hour)
	if err := (&expireCmd{DryRun: true}).once(g, db, 100*day, 50*day, at); err != nil || s.count(t, "SELECT count() FROM messages") != uint64(8) {
		t.Errorf("dry run: %v", err)
	}
	if err := (&expireCmd{}).once(g, db, 100*day, 50*day, at); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7 messages with 12 events ended before 2026-03-01T12:00:00Z", "3 callbacks with an openid came before", "a dry run", "they have expired"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if n := s.count(t, "SELECT groupArray(msg_id) FROM messages"); len(n.([]int64)) != 1 || n.([]int64)[0] != 6 {
		t.Errorf("left: messages %v, want the one that was abandoned three days later", n)
	}
}
