package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of [Config].
const (
	DefaultAddr     = "127.0.0.1:9000"
	DefaultDatabase = "qunfa"
	DefaultUsername = "default"
	DefaultTimeZone = "Asia/Shanghai"
)

// Config says how to reach the database. The zero value means a server on this
// machine.
type Config struct {
	// Addr is host:port of the native protocol. Several are tried in order; in a
	// cluster, beginning with another one each time.
	Addr     []string
	Database string
	Username string
	Password string
	TLS      *tls.Config // nil: no TLS
	// Dial replaces the network; nil is TCP (with TLS if set).
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	// Cluster, if it has a name, spreads the database over several servers.
	Cluster Cluster

	// TimeZone is the zone whose calendar days messages fall on. The first
	// migrate stores it in the database for good; see [DB.Migrate].
	TimeZone string
	// Embedded makes migrate ask for an fsync of every insert: where one machine
	// is all there is, an acknowledged row must survive a power cut.
	Embedded bool

	DialTimeout time.Duration // default 5 s
	// ReadTimeout bounds the wait for an answer. It must lie above the slowest
	// insert and below the consumer group's rebalance timeout. Default 60 s.
	ReadTimeout time.Duration
	MaxConns    int // default 8

	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics are counted, but shown nowhere
	Clock      func() time.Time      // nil: time.Now
}

func (c Config) withDefaults() Config {
	if len(c.Addr) == 0 {
		c.Addr = []string{DefaultAddr}
	}
	setDefault(&c.Database, DefaultDatabase)
	setDefault(&c.Username, DefaultUsername)
	setDefault(&c.TimeZone, DefaultTimeZone)
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.ReadTimeout, time.Minute)
	setDefault(&c.MaxConns, 8)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

func setDefault[T comparable](p *T, value T) {
	if *p == *new(T) {
		*p = value
	}
}

// zoneName bounds what is written into the views: a zone of the IANA database.
var zoneName = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)

// Validate reports what makes the configuration unusable.
func (c Config) Validate() error {
	c = c.withDefaults()
	for _, a := range c.Addr {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("clickhouse address %q: want host:port of the native protocol: %w", a, err)
		}
	}
	if err := checkName("database", c.Database); err != nil {
		return err
	}
	if _, err := loadZone(c.TimeZone); err != nil {
		return err
	}
	if err := c.validateCluster(); err != nil {
		return err
	}
	if c.MaxConns < 0 || c.DialTimeout < 0 || c.ReadTimeout < 0 {
		return errors.New("clickhouse: connection limits and timeouts must not be negative")
	}
	return nil
}

func loadZone(name string) (*time.Location, error) {
	if name == "Local" || !zoneName.MatchString(name) {
		return nil, fmt.Errorf("time zone %q: want a name such as Asia/Shanghai or UTC", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w", name, err)
	}
	return loc, nil
}
