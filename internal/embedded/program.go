package embedded

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"qunfa/internal/embedded/engineproto"
)

// program is a way to run a ClickHouse server.
type program interface {
	// command runs it with the files in c.Dir. The caller sets the streams.
	command(c EngineConfig, p ports) *exec.Cmd
	// announces says whether it prints engineproto.Ready.
	announces() bool
	// stop asks it to end. It does not wait.
	stop(cmd *exec.Cmd, stdin io.Closer) error
	// String names it for people.
	String() string
}

// chooseProgram prefers an installed clickhouse, which is a server without
// workarounds, to the library.
func chooseProgram(ctx context.Context, c EngineConfig) (program, error) {
	if c.ClickHouse != NoClickHouse {
		name := c.ClickHouse
		if name == "" {
			name = "clickhouse"
		}
		found, ok := findClickHouse(ctx, name)
		switch {
		case ok && found.major >= minClickHouse:
			return serverProgram{found}, nil
		case ok:
			c.Logger.Warn("the clickhouse on PATH is too old or does not run, using the library instead",
				"path", found.path, "version", found.version, "needed", minClickHouse)
		}
	}
	return newLibraryProgram(ctx, c)
}

// libraryProgram is libchdb in cmd/localengine.
type libraryProgram struct{ executable, library string }

func newLibraryProgram(ctx context.Context, c EngineConfig) (program, error) {
	p := libraryProgram{executable: c.LocalEngine, library: c.Library}
	var err error
	if p.library == "" {
		if p.library, err = c.Installer.Install(ctx); err != nil {
			return nil, err
		}
	}
	if p.executable == "" {
		if p.executable, err = FindLocalEngine(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p libraryProgram) command(c EngineConfig, ports ports) *exec.Cmd {
	cmd := exec.Command(p.executable,
		"-lib", p.library,
		"-path", filepath.Join(c.Dir, dataDir),
		"-config", filepath.Join(c.Dir, configFile),
		"-host", host,
		"-tcp", strconv.Itoa(ports.tcp),
		"-http", strconv.Itoa(ports.http))
	cmd.Env = childEnvironment(c.Dir)
	cmd.SysProcAttr = detached()
	return cmd
}

func (libraryProgram) announces() bool { return true }

func (libraryProgram) stop(_ *exec.Cmd, stdin io.Closer) error { return stdin.Close() }

func (p libraryProgram) String() string {
	return "libchdb " + libraryVersion + " (" + engineproto.Name + ")"
}

// serverProgram is an installed clickhouse.
type serverProgram struct{ clickHouse }

func (p serverProgram) command(c EngineConfig, _ ports) *exec.Cmd {
	cmd := exec.Command(p.path, "server", "--config-file="+filepath.Join(c.Dir, configFile))
	// Its watchdog would be a second process between it and us.
	cmd.Env = append(childEnvironment(c.Dir), "CLICKHOUSE_WATCHDOG_ENABLE=0")
	cmd.Dir = c.Dir
	cmd.SysProcAttr = endsWithParent(detached())
	return cmd
}

func (serverProgram) announces() bool { return false }

func (serverProgram) stop(cmd *exec.Cmd, _ io.Closer) error {
	return cmd.Process.Signal(syscall.SIGTERM)
}

func (p serverProgram) String() string { return "ClickHouse " + p.version + " (" + p.path + ")" }

// detached takes a child out of our process group: a Ctrl-C in the terminal is
// for us, who stop the engine after everything that uses it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// childEnvironment is the little that the engine needs of our environment.
// Passwords and tokens are none of its business, CLICKHOUSE_USER and the like
// would change what it does, and so would a client's configuration in the
// user's home.
func childEnvironment(home string) []string {
	env := []string{"HOME=" + home}
	for _, name := range []string{"PATH", "TMPDIR", "LANG", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
