// Package engineproto is what internal/embedded and its child process
// cmd/localengine have to agree on: how the child says that it is ready and
// why it ended. It is a package of its own so that the parent, which stays a
// static binary, does not link the loader of the library.
//
// The conversation is small. The parent keeps a pipe open on the child's
// standard input; the child ends cleanly when that pipe closes, so also when
// the parent is killed. The child writes one line that starts with [Ready] to
// its standard output once its ports are bound, and everything that a person
// should read to standard error.
package engineproto

import "fmt"

// Name is the file name of the child's executable.
const Name = "localengine"

// Ready begins the only line on the child's standard output. The version of
// the engine follows after a space.
const Ready = "READY"

// ExitCode is why the child ended.
type ExitCode int

// The exit codes of the child.
const (
	// ExitStopped: asked to stop, by closed standard input or a signal.
	ExitStopped ExitCode = 0
	// ExitFailed: the engine ended by itself. The reason is on standard error.
	ExitFailed ExitCode = 1
	// ExitUsage: wrong flags.
	ExitUsage ExitCode = 2
	// ExitLibrary: the library is missing, damaged or does not fit this system.
	ExitLibrary ExitCode = 3
	// ExitDirectory: the data directory is in use by another process, or not usable.
	ExitDirectory ExitCode = 4
	// ExitPort: a port could not be bound.
	ExitPort ExitCode = 5
	// ExitConfig: the configuration is missing or was refused.
	ExitConfig ExitCode = 6
)

// String says the code in words, for errors.
func (c ExitCode) String() string {
	switch c {
	case ExitStopped:
		return "stopped"
	case ExitFailed:
		return "failed"
	case ExitUsage:
		return "wrong arguments"
	case ExitLibrary:
		return "library not usable"
	case ExitDirectory:
		return "data directory in use or not usable"
	case ExitPort:
		return "port not available"
	case ExitConfig:
		return "configuration refused"
	default:
		return fmt.Sprintf("exit code %d", int(c))
	}
}
