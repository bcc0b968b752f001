package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"qunfa/internal/embedded/engineproto"
)

// minClickHouse is the first major version with all that the schema uses.
const minClickHouse = 25

// FindLocalEngine returns the path of the localengine executable: what
// QUNFA_LOCALENGINE names, else the one beside the running executable, where
// make puts it, else the one on PATH.
func FindLocalEngine() (string, error) {
	if path := os.Getenv("QUNFA_LOCALENGINE"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("QUNFA_LOCALENGINE: %w", err)
		}
		return path, nil
	}
	self, err := os.Executable()
	if err == nil {
		beside := filepath.Join(filepath.Dir(self), engineproto.Name)
		if _, err := exec.LookPath(beside); err == nil {
			return beside, nil
		}
	}
	if path, err := exec.LookPath(engineproto.Name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("cannot find the executable %s: build it with make, beside qunfa, or name it in QUNFA_LOCALENGINE", engineproto.Name)
}

// clickHouse is a clickhouse executable.
type clickHouse struct {
	path    string
	version string
	major   int
}

// findClickHouse returns the executable of that name and its version. Having
// none is not an error, so only ok says whether there is one.
func findClickHouse(ctx context.Context, name string) (found clickHouse, ok bool) {
	path, err := exec.LookPath(name)
	if err != nil {
		return clickHouse{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "local", "--version")
	cmd.WaitDelay = time.Second
	output, err := cmd.Output()
	if err != nil {
		return clickHouse{path: path}, true
	}
	version, major := parseClickHouseVersion(string(output))
	return clickHouse{path: path, version: version, major: major}, true
}

// "ClickHouse local version 26.3.2.3 (official build)."
var clickHouseVersion = regexp.MustCompile(`version (\d+)(?:\.\d+)+`)

// parseClickHouseVersion finds the version in what --version prints. A major
// version of 0 means that there is none.
func parseClickHouseVersion(output string) (version string, major int) {
	m := clickHouseVersion.FindStringSubmatch(output)
	if m == nil {
		return "", 0
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return "", 0
	}
	return m[0][len("version "):], major
}
