package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeNPM is a shell script in place of npm. It notes each run, finds in its
// directory what npm would find, and does what the test wants.
func fakeNPM(t *testing.T, action string) (path string, runs func() int) {
	t.Helper()
	dir := t.TempDir()
	path, log := filepath.Join(dir, "npm"), filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >> %s\ntest -f package.json -a -f package-lock.json || exit 9\n%s\n", log, action)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, func() int {
		data, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Count(string(data), "ci --ignore-scripts")
	}
}

// unpack is an action that puts a library where npm would.
func unpack(content string) string {
	return fmt.Sprintf("mkdir -p %s && printf '%%s' '%s' > %s", filepath.Dir(libraryFile), content, libraryFile)
}

const goodContent = "library"

// goodChecksum is that of goodContent.
var goodChecksum = checksum{sha256: hexSHA256(goodContent), size: int64(len(goodContent))}

func newInstaller(t *testing.T, action string) (Installer, func() int) {
	t.Helper()
	npm, runs := fakeNPM(t, action)
	return Installer{CacheDir: filepath.Join(t.TempDir(), "cache"), NPM: npm, want: goodChecksum}, runs
}

func TestInstall(t *testing.T) {
	installer, runs := newInstaller(t, unpack(goodContent))
	var stages []InstallStage
	installer.Progress = func(p InstallProgress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
		if p.Done > p.Total {
			t.Errorf("progress %+v", p)
		}
	}
	library, err := installer.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(library); err != nil || string(data) != goodContent {
		t.Errorf("library: %q, %v", data, err)
	}
	if got := fmt.Sprint(stages); got != "[downloading verifying]" {
		t.Errorf("stages %s", got)
	}

	again, err := installer.Install(t.Context())
	if err != nil || again != library || runs() != 1 {
		t.Errorf("second time: %s, %v after %d runs of npm, want the same after one", again, err, runs())
	}
}

// TestInstallLooksAgain is about caches that were copied, and about bad disks.
func TestInstallLooksAgain(t *testing.T) {
	installer, runs := newInstaller(t, unpack(goodContent))
	library, err := installer.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	touched := time.Now().Add(time.Hour)
	if err := os.Chtimes(library, touched, touched); err != nil {
		t.Fatal(err)
	}
	if _, err := installer.Install(t.Context()); err != nil || runs() != 1 {
		t.Errorf("touched: %v after %d runs of npm, want a check without another", err, runs())
	}
	if err := os.WriteFile(library, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(library, touched.Add(1), touched.Add(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := installer.Install(t.Context()); err != nil || runs() != 2 {
		t.Errorf("damaged: %v after %d runs of npm, want a second", err, runs())
	}
}

func TestInstallErrors(t *testing.T) {
	for name, c := range map[string]struct {
		action string
		want   error
	}{
		"other content": {unpack("LIBRARY"), ErrIntegrity},
		"npm integrity": {"echo 'npm error code EINTEGRITY' >&2; exit 1", ErrIntegrity},
		"no network":    {"echo 'npm error code ENOTFOUND' >&2; exit 1", ErrNetwork},
		"refused":       {"echo 'npm error code ECONNREFUSED' >&2; exit 1", ErrNetwork},
		"disk full":     {"echo 'npm error code ENOSPC' >&2; exit 1", ErrDiskFull},
		"platform":      {"echo 'npm error code EBADPLATFORM' >&2; exit 1", ErrPlatform},
		"other":         {"echo 'something else' >&2; exit 1", nil},
		"nothing":       {"exit 0", os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			installer, _ := newInstaller(t, c.action)
			_, err := installer.Install(t.Context())
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if name == "other" && !strings.Contains(err.Error(), "something else") {
				t.Errorf("error %v, want npm's words", err)
			}
			left, err := filepath.Glob(filepath.Join(installer.CacheDir, "engine-*"))
			if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
				t.Errorf("left behind: %v, %v, want the lock alone", left, err)
			}
		})
	}
}

func TestInstallWithoutNPM(t *testing.T) {
	installer := Installer{CacheDir: t.TempDir(), NPM: "npm-that-does-not-exist", want: goodChecksum}
	if _, err := installer.Install(t.Context()); !errors.Is(err, ErrNoNPM) {
		t.Errorf("error %v, want ErrNoNPM", err)
	}
}

func TestInstallCanBeCancelled(t *testing.T) {
	installer, runs := newInstaller(t, "exec sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	installer.Progress = func(InstallProgress) {
		if runs() > 0 {
			cancel()
		}
	}
	if _, err := installer.Install(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
}

func TestInstallOnceForAll(t *testing.T) {
	installer, runs := newInstaller(t, unpack(goodContent))
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := installer.Install(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if runs() != 1 {
		t.Errorf("npm ran %d times", runs())
	}
}

func TestInstallWaitsForAnother(t *testing.T) {
	installer, runs := newInstaller(t, unpack(goodContent))
	if err := os.MkdirAll(installer.CacheDir, 0o755); err != nil {
		t.Fatal(err)
	}
	other, err := tryLock(filepath.Join(installer.CacheDir, "engine-"+libraryVersion+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	installer.Progress = func(p InstallProgress) {
		if p.Stage != StageWaiting {
			return
		}
		if runs() != 0 {
			t.Error("npm ran while another installation had the lock")
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := installer.Install(t.Context()); err != nil || runs() != 1 {
		t.Errorf("%v after %d runs", err, runs())
	}

	if other, err = tryLock(filepath.Join(installer.CacheDir, "engine-"+libraryVersion+".lock")); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	installer.want.sha256 = "other" // so that it is not done already
	ctx, cancel := context.WithCancel(t.Context())
	installer.Progress = func(InstallProgress) { cancel() }
	if _, err := installer.Install(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled while waiting", err)
	}
}

func TestCheckPlatform(t *testing.T) {
	for _, c := range []struct {
		goos, goarch string
		glibc, want  bool
	}{
		{"linux", "amd64", true, true},
		{"linux", "amd64", false, false},
		{"linux", "arm64", true, false},
		{"darwin", "arm64", false, false},
	} {
		err := checkPlatform(c.goos, c.goarch, c.glibc)
		if (err == nil) != c.want || err != nil && !errors.Is(err, ErrPlatform) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestCacheDir(t *testing.T) {
	t.Setenv("QUNFA_CACHE_DIR", "/somewhere/else")
	if dir, err := CacheDir(); err != nil || dir != "/somewhere/else" {
		t.Errorf("%s, %v", dir, err)
	}
	t.Setenv("QUNFA_CACHE_DIR", "")
	t.Setenv("XDG_CACHE_HOME", "/home/cache")
	if dir, err := CacheDir(); err != nil || dir != "/home/cache/qunfa" {
		t.Errorf("%s, %v", dir, err)
	}
}

// TestLock checks that the lock pins the version we check, and names no
// server: npm is to ask the registry that the user has configured.
func TestLock(t *testing.T) {
	data, err := npmFiles.ReadFile("npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity, Resolved string }
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		t.Fatal(err)
	}
	entry := lock.Packages[filepath.Dir(libraryFile)]
	if entry.Version != libraryVersion || !strings.HasPrefix(entry.Integrity, "sha512-") || entry.Resolved != "" {
		t.Errorf("lock has %+v", entry)
	}
	if len(lock.Packages) != 2 {
		t.Errorf("lock has %d packages, want this one and ours", len(lock.Packages))
	}
	manifest, err := npmFiles.ReadFile("npm/package.json")
	if err != nil || !strings.Contains(string(manifest), `"`+libraryVersion+`"`) {
		t.Errorf("package.json does not pin %s: %v", libraryVersion, err)
	}
}

func TestTail(t *testing.T) {
	end := newTail(5)
	for _, s := range []string{"abc", "defg", "", "h"} {
		if n, err := end.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("write %q: %d, %v", s, n, err)
		}
	}
	if end.String() != "defgh" {
		t.Errorf("kept %q", end.String())
	}
}
