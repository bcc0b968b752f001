//go:build !linux

package main

import (
	"fmt"
	"os"

	"qunfa/internal/embedded/engineproto"
)

func main() {
	fmt.Fprintln(os.Stderr, "localengine: only for Linux; elsewhere put a clickhouse binary, version 25 or newer, on PATH")
	os.Exit(int(engineproto.ExitLibrary))
}
