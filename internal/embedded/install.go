package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// libraryVersion is that of the npm package. A new version means new files in
// npm/, where the lock pins the package and its integrity, and a new checksum.
const libraryVersion = "26.7.3-stable.1"

// checksum identifies a library file.
type checksum struct {
	sha256 string
	size   int64 // bytes
}

// libraryChecksum is that of libchdb.so of libraryVersion.
var libraryChecksum = checksum{
	sha256: "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
	size:   566330096,
}

// libraryFile is where npm puts the library, below the directory of package.json.
var libraryFile = filepath.Join("node_modules", "@chdb", "lib-linux-x64-gnu", "libchdb.so")

// verifiedFile marks a directory whose library was checked.
const verifiedFile = "verified.json"

//go:embed npm/package.json npm/package-lock.json
var npmFiles embed.FS

// Errors of an installation, by what the user can do about it.
var (
	// ErrPlatform: there is no library for this system.
	ErrPlatform = errors.New("the local ClickHouse library exists only for Linux on amd64 with glibc: " +
		"here, put a clickhouse binary of version 25 or newer on PATH")
	// ErrNoNPM: npm is not installed.
	ErrNoNPM = errors.New("npm is needed to install the local ClickHouse engine and is not on PATH: " +
		"install Node.js with npm, or put a clickhouse binary of version 25 or newer on PATH")
	// ErrNetwork: npm could not reach its registry.
	ErrNetwork = errors.New("npm cannot reach its registry to download the local ClickHouse engine: " +
		"check the network and npm's proxy settings")
	// ErrIntegrity: what was downloaded is not what was pinned.
	ErrIntegrity = errors.New("the local ClickHouse engine that was downloaded is not the one that was asked for: " +
		"a proxy or mirror may have changed it, or the download was damaged (npm cache verify)")
	// ErrDiskFull: the package needs 543 MB, and 170 MB more in npm's cache.
	ErrDiskFull = errors.New("the disk is full: the local ClickHouse engine needs 750 MB")
)

// InstallStage is what an installation is doing.
type InstallStage string

// The stages, in order. Only the download is always reported.
const (
	StageWaiting     InstallStage = "waiting for another installation"
	StageDownloading InstallStage = "downloading"
	StageVerifying   InstallStage = "verifying"
)

// InstallProgress is how far an installation is, in bytes on disk; both are 0
// where that is not known.
type InstallProgress struct {
	Stage       InstallStage
	Done, Total int64
}

// Installer gets the ClickHouse library from its npm package.
type Installer struct {
	// CacheDir is where it goes, in a directory by version. Default: [CacheDir].
	CacheDir string
	// NPM is the command. Default: npm from PATH.
	NPM string
	// Progress is called a few times per second while there is something to
	// tell, never twice at a time; nil: nobody wants to know.
	Progress func(InstallProgress)

	want checksum // for tests; default: libraryChecksum
}

// Install installs into the user's cache with [Installer] and returns the path
// of the library.
func Install(ctx context.Context, progress func(InstallProgress)) (string, error) {
	return Installer{Progress: progress}.Install(ctx)
}

// CacheDir is the directory for downloads: QUNFA_CACHE_DIR, or qunfa in the
// user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv("QUNFA_CACHE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory (QUNFA_CACHE_DIR can name one): %w", err)
	}
	return filepath.Join(dir, "qunfa"), nil
}

// Install returns the path of the library, after installing it if need be.
// Installations by several processes happen one after the other, and all but
// the first find the work done. The errors wrap one of the Err variables above
// where the cause is known.
func (i Installer) Install(ctx context.Context) (string, error) {
	if err := checkPlatform(runtime.GOOS, runtime.GOARCH, hasGlibc()); err != nil {
		return "", err
	}
	if i.CacheDir == "" {
		dir, err := CacheDir()
		if err != nil {
			return "", err
		}
		i.CacheDir = dir
	}
	if i.want == (checksum{}) {
		i.want = libraryChecksum
	}
	dir := filepath.Join(i.CacheDir, "engine-"+libraryVersion)
	library := filepath.Join(dir, libraryFile)
	if i.isVerified(dir) {
		return library, nil
	}
	if err := os.MkdirAll(i.CacheDir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cache directory: %w", err)
	}
	lock, err := waitLock(ctx, dir+".lock", func() { i.report(StageWaiting, 0, 0) })
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if i.isVerified(dir) { // somebody else did it while we waited
		return library, nil
	}
	if err := i.install(ctx, dir); err != nil {
		return "", err
	}
	return library, nil
}

// install does the work, under the lock.
func (i Installer) install(ctx context.Context, dir string) error {
	// The mark is lost when the cache was copied or restored: look again
	// before downloading again.
	if _, err := os.Stat(filepath.Join(dir, libraryFile)); err == nil && i.verify(ctx, dir) == nil {
		return nil
	}
	staging := dir + ".partial"
	if err := os.RemoveAll(staging); err != nil {
		return fmt.Errorf("cannot remove what an earlier installation left: %w", err)
	}
	if err := writeNPMFiles(staging); err != nil {
		return fmt.Errorf("cannot prepare the installation: %w", err)
	}
	if err := i.runNPM(ctx, staging); err != nil {
		return errors.Join(err, os.RemoveAll(staging))
	}
	if err := i.verify(ctx, staging); err != nil {
		return errors.Join(err, os.RemoveAll(staging))
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot replace the damaged installation: %w", err)
	}
	return os.Rename(staging, dir)
}

func (i Installer) report(stage InstallStage, done, total int64) {
	if i.Progress != nil {
		i.Progress(InstallProgress{Stage: stage, Done: done, Total: total})
	}
}

// checkPlatform says whether the package has a library for a platform.
func checkPlatform(goos, goarch string, glibc bool) error {
	if goos != "linux" || goarch != "amd64" || !glibc {
		return fmt.Errorf("%s/%s: %w", goos, goarch, ErrPlatform)
	}
	return nil
}

// hasGlibc looks for glibc's loader, the interpreter of every dynamic binary.
func hasGlibc() bool {
	_, err := os.Stat("/lib64/ld-linux-x86-64.so.2")
	return err == nil
}

func writeNPMFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	names, err := fs.Glob(npmFiles, "npm/*.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		data, err := npmFiles.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// runNPM lets npm download and unpack the package. npm shows no progress
// without a terminal, so it is measured by what is on disk.
func (i Installer) runNPM(ctx context.Context, dir string) error {
	npm := i.NPM
	if npm == "" {
		npm = "npm"
	}
	path, err := exec.LookPath(npm)
	if err != nil {
		return ErrNoNPM
	}
	// No scripts: the package needs none, and none should run unseen.
	cmd := exec.CommandContext(ctx, path, "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	output := newTail(4 << 10)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot run npm: %w", err)
	}
	stop := i.watchSize(dir)
	err = cmd.Wait()
	stop()
	if ctx.Err() != nil {
		return fmt.Errorf("installing the local ClickHouse engine: %w", ctx.Err())
	}
	if err != nil {
		return npmError(err, output.String())
	}
	return nil
}

// watchSize reports the growth of a directory until stop is called.
func (i Installer) watchSize(dir string) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			i.report(StageDownloading, min(dirSize(dir), i.want.size), i.want.size)
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(quit); <-done }
}

// dirSize adds up the files below a directory. Files come and go while npm
// works, so it passes over what it cannot see.
func dirSize(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

// npmError tells what went wrong by the codes in npm's output.
func npmError(err error, output string) error {
	causes := []struct {
		err   error
		codes []string
	}{
		{ErrIntegrity, []string{"EINTEGRITY"}},
		{ErrDiskFull, []string{"ENOSPC", "EDQUOT"}},
		{ErrPlatform, []string{"EBADPLATFORM"}},
		{ErrNetwork, []string{"ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ERR_SOCKET_TIMEOUT", "ENOTCACHED"}},
	}
	for _, cause := range causes {
		for _, code := range cause.codes {
			if strings.Contains(output, code) {
				return fmt.Errorf("%w (npm: %s)", cause.err, code)
			}
		}
	}
	return fmt.Errorf("npm cannot install the local ClickHouse engine: %w: %s", err, strings.TrimSpace(output))
}

// verified is the mark of a checked library: what is cheap to compare later.
type verified struct {
	SHA256   string    `json:"sha256"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// isVerified says whether the library in a directory is the one that was
// checked there. Hashing half a gigabyte takes seconds, so that is done once.
func (i Installer) isVerified(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, verifiedFile))
	if err != nil {
		return false
	}
	var mark verified
	if err := json.Unmarshal(data, &mark); err != nil {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, libraryFile))
	return err == nil && mark.SHA256 == i.want.sha256 &&
		mark.Size == info.Size() && mark.Modified.Equal(info.ModTime())
}

// verify hashes the library and marks its directory. npm checks the package
// against the lock, but skips an optional dependency silently when that fails;
// so what will be loaded into a process is checked here once more.
func (i Installer) verify(ctx context.Context, dir string) error {
	path := filepath.Join(dir, libraryFile)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("npm did not install the library: %w", err)
	}
	i.report(StageVerifying, 0, info.Size())
	sum, err := hashFile(ctx, path)
	if err != nil {
		return fmt.Errorf("cannot verify the library: %w", err)
	}
	if sum != i.want.sha256 {
		return fmt.Errorf("%w: sha256 of %s is %s, not %s", ErrIntegrity, filepath.Base(path), sum, i.want.sha256)
	}
	mark, err := json.Marshal(verified{SHA256: sum, Size: info.Size(), Modified: info.ModTime()})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, verifiedFile), append(mark, '\n'), 0o644)
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, contextReader{ctx, f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// contextReader ends a long copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// tail is a writer that keeps the end of what is written, for errors.
type tail struct {
	limit int
	buf   bytes.Buffer
}

func newTail(limit int) *tail { return &tail{limit: limit} }

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if n := t.buf.Len() - t.limit; n > 0 {
		t.buf.Next(n)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.buf.String() }
