// Command reconcile asks WeChat about messages whose callback never came.
package main

import (
	"os"

	"qunfa/internal/app"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(app.Main("reconcile", "reconcile asks WeChat about messages whose callback never came.", version, os.Args[1:], os.Stdout, os.Stderr))
}
