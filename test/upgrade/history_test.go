package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needHistory is the environment variable that forbids to skip.
const needHistory = "QUNFA_NEED_HISTORY"

const (
	root       = "../.."
	migrations = "schemas/clickhouse/migrations"
)

// release is a version of the programs.
type release struct {
	name string // of a test
	bin  string // directory of the programs
	// migrations are the names of the files that this version migrates with.
	migrations []string
}

// everyRelease is the environment variable that asks for all older versions, not
// only the oldest and the newest: each takes half a minute of a machine.
const everyRelease = "QUNFA_EVERY_RELEASE"

// olderReleases returns the last version before a change of the migrations that
// has services: before the latest and before the first, or before each.
func olderReleases(t *testing.T) []string {
	t.Helper()
	requireHistory(t)
	var olds []string
	for _, change := range strings.Fields(git(t, "log", "--format=%H", "--", migrations)) {
		before, err := tryGit(t, "rev-parse", "--verify", "--quiet", change+"^")
		if err != nil {
			continue // the first commit of all
		}
		before = strings.TrimSpace(before)
		if files := git(t, "ls-tree", "-r", "--name-only", before, "cmd/sink", migrations); strings.Contains(files, "cmd/sink/") && strings.Contains(files, migrations) {
			olds = append(olds, before)
		}
	}
	if len(olds) == 0 {
		missHistory(t, "the history of this repository does not reach back to another schema")
	}
	if os.Getenv(everyRelease) == "" && len(olds) > 2 {
		return []string{olds[0], olds[len(olds)-1]}
	}
	return olds
}

// requireHistory ends the test if git does not know what came before.
func requireHistory(t *testing.T) {
	t.Helper()
	shallow, err := tryGit(t, "rev-parse", "--is-shallow-repository")
	switch {
	case err != nil:
		missHistory(t, "no git repository: "+err.Error())
	case strings.TrimSpace(shallow) == "true":
		missHistory(t, "this is a shallow clone: git fetch --unshallow gets the rest")
	}
}

// missHistory skips the test, unless somebody counts on it.
func missHistory(t *testing.T, why string) {
	t.Helper()
	text := "older programs cannot be built: " + why
	if os.Getenv(needHistory) != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

func git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryGit(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tryGit runs git in the root of the repository, where paths are relative to it.
func tryGit(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return run(t, root, nil, "git", args...)
}

// run returns what a command printed.
func run(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

// checkout builds the programs of a commit, away from this tree.
func checkout(t *testing.T, commit string) release {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(t.TempDir(), "source.tar")
	git(t, "archive", "--format=tar", "-o", archive, commit)
	if _, err := run(t, dir, nil, "tar", "-xf", archive); err != nil {
		t.Fatal(err)
	}
	return build(t, dir, commit[:10])
}

// today builds the programs of this tree.
func today(t *testing.T) release { t.Helper(); return build(t, root, "today") }

func build(t *testing.T, source, name string) release {
	t.Helper()
	r := release{name: name, bin: t.TempDir()}
	args := []string{"build", "-ldflags=-s -w", "-o", r.bin + string(filepath.Separator), "./cmd/ingest", "./cmd/sink", "./cmd/reconcile", "./cmd/qunfa"}
	if out, err := run(t, source, []string{"CGO_ENABLED=0", "GOWORK=off"}, "go", args...); err != nil {
		t.Fatalf("the programs of %s cannot be built: %v\n%s", name, err, out)
	}
	files, err := fs.Glob(os.DirFS(source), migrations+"/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no migrations (%v)", name, err)
	}
	r.migrations = files
	return r
}
