package doctor

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
)

// Log is what is asked of Kafka; [kafka.Client] is one.
type Log interface {
	FirstOffsets(ctx context.Context, topic string) (map[int32]int64, error)
	EndOffsets(ctx context.Context, topic string) (map[int32]int64, error)
	CommittedOffsets(ctx context.Context, group, topic string) (map[int32]int64, error)
	ReadAt(ctx context.Context, topic string, partition int32, offset int64) (m events.Message, found bool, err error)
	InspectTopic(ctx context.Context, topic string) (kafka.TopicState, error)
	InspectGroup(ctx context.Context, group string) (kafka.GroupState, error)
	CheckWrite(ctx context.Context, topic string) error
	Diagnose(ctx context.Context, err error) error
}

// Database is what is asked of ClickHouse as the services do; [clickhouse.DB] is one.
type Database interface {
	Reader
	InspectServer(ctx context.Context) (clickhouse.ServerState, error)
	CheckSchema(ctx context.Context) error
	Location(ctx context.Context) (*time.Location, error)
	MissingGrants(ctx context.Context, role clickhouse.Role) ([]string, error)
	Disks(ctx context.Context) ([]clickhouse.Disk, error)
	SickTables(ctx context.Context) ([]clickhouse.SickTable, error)
	Generation(ctx context.Context, topic string) (int, error)
	Coverage(ctx context.Context) ([]clickhouse.Coverage, error)
	LostEvents(ctx context.Context) ([]clickhouse.Lost, error)
}

// Reader is what the views are asked through.
type Reader interface {
	Query(ctx context.Context, sql string, args ...any) (*clickhouse.Result, error)
}

// Config says what to look at. Settings is required.
type Config struct {
	Settings *config.Config
	// Accounts are the appids to look at. Empty: all, but for what is asked of
	// each account by itself the first MaxAccounts.
	Accounts    []string
	MaxAccounts int // default 50

	// PublicURL is where WeChat calls: what stands before /callback/APPID, or all
	// of it with {appid} (and, for platforms, {component}) in it. Empty: that of
	// Settings; if there is none, ingest itself is asked.
	PublicURL    string
	AllowPrivate bool // the name may lead to a private address here, as with split DNS

	// Embedded says that everything is of `qunfa up`.
	Embedded bool
	// Admins are the admin addresses of services. Empty: that of Settings, which
	// need not be reachable from here.
	Admins []string

	Log      Log      // nil: Settings names no Kafka
	Database Database // nil: Settings names no ClickHouse
	Reader   Reader   // asks the views; nil: as Database
	// DeadLetters counts the open dead letters by reason; nil: not looked at.
	DeadLetters func(context.Context) (map[string]int, error)

	Clock   func() time.Time // default time.Now
	Network Network
}

// Network is how the network is reached; tests replace it.
type Network struct {
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Roots   *x509.CertPool // nil: the system's
	API     *http.Client   // for WeChat's API; nil: with the environment's proxy
}

func (c Config) withDefaults() Config {
	if c.MaxAccounts == 0 {
		c.MaxAccounts = 50
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Reader == nil && c.Database != nil {
		c.Reader = c.Database
	}
	if c.PublicURL == "" {
		c.PublicURL = c.Settings.Ingest.PublicURL.Raw()
	}
	if c.Network.Resolve == nil {
		c.Network.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Network.Dial == nil {
		c.Network.Dial = (&net.Dialer{}).DialContext
	}
	return c
}
