//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/ebitengine/purego"
)

// library is the part of libchdb's C interface that is used.
type library struct {
	version     func() string
	setHandlers func(enabled int32)
	cmdline     func(argc int32, argv **byte) uintptr
	resultError func(result uintptr) string
}

// loadLibrary loads libchdb from an absolute path.
func loadLibrary(path string) (lib *library, err error) {
	if _, err := os.Stat(path); err != nil { // says it better than the loader does
		return nil, fmt.Errorf("cannot find the engine's library: %w", err)
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("cannot load the engine's library (it needs a Linux with glibc): %w", err)
	}
	defer func() {
		if r := recover(); r != nil { // purego panics when a symbol is missing
			lib, err = nil, fmt.Errorf("%s is not a libchdb that can be used: %v", path, r)
		}
	}()
	lib = new(library)
	purego.RegisterLibFunc(&lib.version, handle, "chdb_version")
	purego.RegisterLibFunc(&lib.setHandlers, handle, "chdb_set_signal_handlers_enabled")
	purego.RegisterLibFunc(&lib.cmdline, handle, "chdb_query_cmdline")
	purego.RegisterLibFunc(&lib.resultError, handle, "chdb_result_error")
	return lib, nil
}

// runCommandLine runs clickhouse-local until it ends and returns the error
// that it reports, which is empty for most failures: those are only printed.
func (l *library) runCommandLine(args []string) (string, error) {
	// argv ends with a null pointer, as in C.
	argv := make([]*byte, len(args)+1)
	for i, arg := range args {
		p, err := syscall.BytePtrFromString(arg)
		if err != nil {
			return "", fmt.Errorf("argument %q: %w", arg, err)
		}
		argv[i] = p
	}
	// Its handlers report crashes of its own code with a stack; SIGTERM and
	// the like stay with us.
	l.setHandlers(1)
	// It keeps state per thread, so the call stays on one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	result := l.cmdline(int32(len(args)), &argv[0])
	runtime.KeepAlive(argv)
	return l.resultError(result), nil
}
