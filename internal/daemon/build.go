package daemon

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Build says what a program was built from.
type Build struct {
	Version  string // v1.2.3, or "devel"
	Revision string // of the repository, 12 characters; empty if not known
	Time     string // of the revision, RFC 3339; empty if not known
	Modified bool   // the working tree had changes
	Go       string // go1.26.0
}

// ReadBuild reads what the Go toolchain noted in the program. A version given
// at build time, for instance by the linker, comes before the toolchain's.
func ReadBuild(version string) Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return buildFrom(version, info)
}

func buildFrom(version string, info *debug.BuildInfo) Build {
	b := Build{Version: version, Go: runtime.Version()}
	if b.Version == "" {
		b.Version = strings.Trim(info.Main.Version, "()")
	}
	setDefault(&b.Version, "devel")
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value[:min(12, len(s.Value))]
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is one line for people.
func (b Build) String() string {
	s := b.Version
	if b.Revision != "" {
		s += " (" + b.Revision
		if b.Modified {
			s += ", modified"
		}
		if b.Time != "" {
			s += ", " + b.Time
		}
		s += ")"
	}
	return fmt.Sprintf("%s %s %s/%s", s, b.Go, runtime.GOOS, runtime.GOARCH)
}
