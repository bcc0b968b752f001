package clickhouse

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// minVersion is the oldest server that is known to do all that the schema asks for.
const minVersion = 25

// DB is a pool of connections to one database. It is safe for concurrent use.
type DB struct {
	cfg     Config
	conn    driver.Conn
	metrics *metrics
}

// Open prepares a pool. It connects to nothing, so that a service can start
// before its database does; see [DB.Ping].
func Open(cfg Config) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	conn, err := clickhouse.Open(cfg.options(cfg.Database))
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	return &DB{cfg: cfg, conn: conn, metrics: newMetrics(cfg.Registerer)}, nil
}

// Close closes the idle connections and makes the pool unusable.
func (db *DB) Close() error { return db.conn.Close() }

// Database returns the name of the database.
func (db *DB) Database() string { return db.cfg.Database }

func (c Config) options(database string) *clickhouse.Options {
	return &clickhouse.Options{
		Addr:             c.Addr,
		Auth:             clickhouse.Auth{Database: database, Username: c.Username, Password: c.Password},
		TLS:              c.TLS,
		DialContext:      c.Dial,
		Compression:      &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		DialTimeout:      c.DialTimeout,
		ReadTimeout:      c.ReadTimeout,
		MaxOpenConns:     c.MaxConns,
		MaxIdleConns:     c.MaxConns,
		ConnMaxLifetime:  10 * time.Minute,
		ConnOpenStrategy: c.openStrategy(),
		Settings:         c.sessionSettings(),
		ClientInfo: clickhouse.ClientInfo{Products: []struct{ Name, Version string }{
			{Name: "qunfa", Version: ""},
		}},
	}
}

// Ping reports whether the server answers, accepts the user, and is one that
// this program can work with.
func (db *DB) Ping(ctx context.Context) error {
	return ping(ctx, db.conn)
}

func ping(ctx context.Context, conn driver.Conn) error {
	var version string
	if err := conn.QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return wrap("connect", err)
	}
	return checkVersion(version)
}

// ClockSkew returns how far our clock is ahead of the server's; precise to the
// time that the question takes.
func (db *DB) ClockSkew(ctx context.Context) (time.Duration, error) {
	var theirs time.Time
	if err := db.conn.QueryRow(ctx, "SELECT now64(3, 'UTC')").Scan(&theirs); err != nil {
		return 0, wrap("read the server's clock", err)
	}
	return db.cfg.Clock().Sub(theirs), nil
}

func checkVersion(version string) error {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return fmt.Errorf("%w: the server calls its version %q, which is not understood", ErrSchema, version)
	}
	if n < minVersion {
		return fmt.Errorf("%w: the server is ClickHouse %s, but version %d or newer is needed", ErrSchema, version, minVersion)
	}
	return nil
}
