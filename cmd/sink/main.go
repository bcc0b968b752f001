// Command sink writes the log to ClickHouse.
package main

import (
	"os"

	"qunfa/internal/app"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(app.Main("sink", "sink writes the log to ClickHouse.", version, os.Args[1:], os.Stdout, os.Stderr))
}
