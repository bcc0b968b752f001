// Command ingest takes WeChat's callbacks into the log.
package main

import (
	"os"

	"qunfa/internal/app"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(app.Main("ingest", "ingest takes WeChat's callbacks into the log.", version, os.Args[1:], os.Stdout, os.Stderr))
}
