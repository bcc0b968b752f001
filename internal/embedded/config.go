package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// The users of the local ClickHouse. The third, default, is the engine's own
// session; it may do nothing but open the ports.
const (
	Username       = "qunfa"  // owns the databases
	ReaderUsername = "reader" // reads what EngineConfig.ReaderGrants says
)

// EngineConfig configures a local ClickHouse. Only Dir is needed.
type EngineConfig struct {
	// Dir holds data, configuration and passwords. One engine at a time.
	Dir string
	// Logger gets the engine's warnings and errors. Default: slog.Default().
	Logger *slog.Logger

	// HTTP opens the HTTP interface on loopback, with the query page /play.
	// Off by default: any page in a browser can send requests to it.
	HTTP bool
	// TCPPort and HTTPPort are wished for; a port that is busy or 0 is
	// replaced by a free one. See Engine.Addr and Engine.HTTPAddr.
	TCPPort, HTTPPort int

	// Databases belong to the user qunfa, who may create and drop them.
	// Default: qunfa.
	Databases []string
	// AllDatabases gives the user qunfa every right. For tests.
	AllDatabases bool
	// ReaderGrants are what the user reader may do, as statements without the
	// user: "GRANT SELECT ON qunfa.messages". What they name need not exist.
	// The engine reads them when it starts.
	ReaderGrants []string

	// MaxMemory is the most that the server takes, in bytes. Default: 2 GiB.
	MaxMemory int64
	// StopTimeout is how long Close waits before it kills. Default: 20 s; a
	// stop usually takes well below 1 s, and 1 s with idle connections.
	StopTimeout time.Duration

	// ClickHouse is the clickhouse executable. Default: from PATH, if it is
	// new enough. NoClickHouse: none, even if there is one.
	ClickHouse string
	// Library is libchdb.so. Default: what Installer installs.
	Library string
	// LocalEngine is the localengine executable. Default: FindLocalEngine.
	LocalEngine string
	// Installer installs the library if it is needed and not given.
	Installer Installer
}

// NoClickHouse in EngineConfig.ClickHouse means not to look for an executable.
const NoClickHouse = "none"

// databaseName is what may stand unquoted in a grant.
var databaseName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c EngineConfig) withDefaults() (EngineConfig, error) {
	if c.Dir == "" {
		return c, errors.New("the local ClickHouse needs a directory")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if len(c.Databases) == 0 {
		c.Databases = []string{"qunfa"}
	}
	for _, name := range c.Databases {
		if !databaseName.MatchString(name) {
			return c, fmt.Errorf("database name %q: only letters, digits and underscores", name)
		}
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = 2 << 30
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 20 * time.Second
	}
	return c, nil
}
