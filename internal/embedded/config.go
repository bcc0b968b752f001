package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	// Registerer gets the metrics of the engine; nil: none.
	Registerer prometheus.Registerer

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
	// ReaderTimeZone is the zone of today() and now() for the user reader, an
	// IANA name; empty: the server's, which is UTC.
	ReaderTimeZone string

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

// BrokerConfig configures an embedded broker. The zero value is one in memory.
type BrokerConfig struct {
	// Dir holds the log; one broker at a time. Empty: all is in memory and
	// gone when the broker is closed. For tests.
	Dir string
	// Logger gets the broker's warnings and errors. Default: slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics of the broker; nil: none.
	Registerer prometheus.Registerer

	// MaxLogBytes is the size of the log above which it is trimmed, if Stored
	// is given, and warned about. Default: 2 GiB, or a quarter of the memory
	// of the machine if that is less, since the log is read into memory again
	// after a crash.
	MaxLogBytes int64
	// Stored says what is stored elsewhere for good and can be trimmed: by
	// topic and partition the offset after the last such record. nil: nothing.
	Stored func(ctx context.Context) (map[string]map[int32]int64, error)
	// WatchInterval is how often the size is measured. Default: 10 s.
	WatchInterval time.Duration
}

func (c BrokerConfig) withDefaults() (BrokerConfig, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MaxLogBytes == 0 {
		c.MaxLogBytes = defaultLogBytes(memoryBytes())
	}
	if c.WatchInterval == 0 {
		c.WatchInterval = 10 * time.Second
	}
	if c.Dir == "" {
		return c, nil
	}
	var err error
	c.Dir, err = filepath.Abs(c.Dir)
	return c, err
}

// defaultLogBytes is 2 GiB or a quarter of the memory, which is 0 if unknown.
func defaultLogBytes(memory int64) int64 {
	const most = 2 << 30
	if memory == 0 {
		return most
	}
	return min(most, memory/4)
}
