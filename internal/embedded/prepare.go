package embedded

import (
	"context"
	"os"
)

// Prepare makes sure that an engine can be started, and names it: it looks for
// a clickhouse on PATH, or installs the library while it tells its progress.
func Prepare(ctx context.Context, progress func(InstallProgress)) (string, error) {
	c, err := EngineConfig{Dir: os.TempDir(), Installer: Installer{Progress: progress}}.withDefaults()
	if err != nil {
		return "", err
	}
	p, err := chooseProgram(ctx, c)
	if err != nil {
		return "", err
	}
	return p.String(), nil
}
