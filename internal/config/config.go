package config

import (
	"time"
	_ "time/tzdata" // time_zone must work in an image that has no zone files
)

// Config is the whole configuration. [Default] has its defaults; the keys are
// described in qunfa.example.yaml.
type Config struct {
	TimeZone    string     `yaml:"time_zone"` // IANA name
	Log         Log        `yaml:"log"`
	Admin       Admin      `yaml:"admin"`
	Kafka       Kafka      `yaml:"kafka"`
	ClickHouse  ClickHouse `yaml:"clickhouse"`
	Ingest      Ingest     `yaml:"ingest"`
	Sink        Sink       `yaml:"sink"`
	Reconcile   Reconcile  `yaml:"reconcile"`
	WeChat      WeChat     `yaml:"wechat"`
	Metrics     Metrics    `yaml:"metrics"`
	Embedded    Embedded   `yaml:"embedded"`
	Accounts    []Account  `yaml:"accounts"` // from the file, then from AccountsDir
	AccountsDir string     `yaml:"accounts_dir"`
	Platforms   []Platform `yaml:"platforms"`

	origin *origin // where the values came from; nil when built in Go
	own    int     // how many Accounts are from the file itself
}

// Log says how to log.
type Log struct {
	Format string `yaml:"format"` // text or json
	Level  string `yaml:"level"`  // debug, info, warn, error
}

// Admin is the listener for metrics and health checks.
type Admin struct {
	Listen string `yaml:"listen"`
	Pprof  bool   `yaml:"pprof"` // also serve /debug/pprof
}

// Kafka says where the events go.
type Kafka struct {
	Brokers           []string `yaml:"brokers"`
	Topic             string   `yaml:"topic"`
	DeadTopic         string   `yaml:"dead_topic"` // empty in the file: Topic + ".dead"
	Partitions        int      `yaml:"partitions"` // used when the topic is created
	ReplicationFactor int      `yaml:"replication_factor"`
	MinInsyncReplicas int      `yaml:"min_insync_replicas"` // 0 in the file: all but one
	TLS               TLS      `yaml:"tls"`
	SASL              SASL     `yaml:"sasl"`
}

// TLS says whether and how to encrypt a connection. Certificates are always
// checked.
type TLS struct {
	Enabled    bool   `yaml:"enabled"`     // set when any other field is
	CAFile     string `yaml:"ca_file"`     // PEM; empty: the system's
	CertFile   string `yaml:"cert_file"`   // PEM; with KeyFile: mutual TLS
	KeyFile    string `yaml:"key_file"`    // PEM
	ServerName string `yaml:"server_name"` // empty: the host connected to
}

// SASL says how to log in to Kafka. No mechanism: not at all.
type SASL struct {
	Mechanism string `yaml:"mechanism"` // plain, scram-sha-256, scram-sha-512
	Username  string `yaml:"username"`
	Password  Secret `yaml:"password"`
}

// ClickHouse says where the projection is.
type ClickHouse struct {
	Addr     []string `yaml:"addr"` // host:port of the native protocol
	Database string   `yaml:"database"`
	Username string   `yaml:"username"`
	Password Secret   `yaml:"password"`
	TLS      TLS      `yaml:"tls"`
}

// Ingest configures the service that WeChat calls.
type Ingest struct {
	Listen          string        `yaml:"listen"`           // for WeChat
	Internal        string        `yaml:"internal"`         // for the record API
	APIToken        Secret        `yaml:"api_token"`        // bearer token of the record API
	OldAPIToken     Secret        `yaml:"old_api_token"`    // taken as well, during a rotation
	AllowUnknown    bool          `yaml:"allow_unknown"`    // record sends of accounts not listed here
	BodyLimit       Size          `yaml:"body_limit"`       // of a callback
	MaxInFlight     int           `yaml:"max_in_flight"`    // callbacks; beyond: 503 at once
	KafkaTimeout    time.Duration `yaml:"kafka_timeout"`    // WeChat waits 5 s in all
	SpoolDir        string        `yaml:"spool_dir"`        // empty: none, but for qunfa up
	SpoolMaxBytes   Size          `yaml:"spool_max_bytes"`  // beyond: 503
	TimestampWindow time.Duration `yaml:"timestamp_window"` // in plain mode
	UpstreamTimeout time.Duration `yaml:"upstream_timeout"` // from the receipt of the push
	UpstreamQueue   int           `yaml:"upstream_queue"`   // pushes passed on after their ack
}

// Sink configures the service that writes ClickHouse.
type Sink struct {
	Group     string        `yaml:"group"`
	MaxEvents int           `yaml:"max_events"` // per batch
	MaxBytes  Size          `yaml:"max_bytes"`  // per batch
	Interval  time.Duration `yaml:"interval"`   // between the starts of two batches, at least
}

// Reconcile configures the service that asks WeChat.
type Reconcile struct {
	Group          string          `yaml:"group"`
	Instance       string          `yaml:"instance"`   // empty in the file: the host name
	Interval       time.Duration   `yaml:"interval"`   // between two rounds
	FirstPoll      time.Duration   `yaml:"first_poll"` // after submission
	Schedule       []time.Duration `yaml:"schedule"`   // between polls; the last one repeats
	GiveUpAfter    time.Duration   `yaml:"give_up_after"`
	RatePerMinute  int             `yaml:"rate_per_minute"` // per account
	BarrierTimeout time.Duration   `yaml:"barrier_timeout"`
}

// WeChat says where WeChat's API is.
type WeChat struct {
	BaseURL URL `yaml:"base_url"`
}

// Metrics bounds what is exported.
type Metrics struct {
	Accounts int `yaml:"accounts"` // accounts with series of their own; 0: none
}

// Embedded configures the broker and the ClickHouse of qunfa up.
type Embedded struct {
	Dir       string `yaml:"dir"`
	HTTP      bool   `yaml:"http"`       // ClickHouse's HTTP interface and query page
	HTTPPort  int    `yaml:"http_port"`  // 0: any free port
	TCPPort   int    `yaml:"tcp_port"`   // 0: any free port
	MaxMemory Size   `yaml:"max_memory"` // of ClickHouse
	MaxLog    Size   `yaml:"max_log"`    // of the broker; 0: by the machine's memory
}

// Account is one Official Account.
type Account struct {
	AppID          string   `yaml:"appid"`
	OriginalID     string   `yaml:"original_id"` // gh_…
	Name           string   `yaml:"name"`
	Tokens         []Secret `yaml:"tokens"`      // current first
	AESKeys        []Secret `yaml:"aes_keys"`    // current first; none: plain mode
	AllowPlain     bool     `yaml:"allow_plain"` // in spite of AESKeys
	AppSecret      Secret   `yaml:"app_secret"`
	TokenURL       URL      `yaml:"token_url"` // instead of AppSecret
	TokenURLBearer Secret   `yaml:"token_url_bearer"`
	Poll           bool     `yaml:"poll"`     // default true
	Platform       string   `yaml:"platform"` // component appid, if its callbacks come through one
	Upstream       URL      `yaml:"upstream"`
	UpstreamMass   bool     `yaml:"upstream_mass"` // default true

	path string // as errors name it
}

// Platform is a third-party platform (第三方平台), whose one callback URL serves
// many accounts: those that name it.
type Platform struct {
	ComponentAppID string   `yaml:"component_appid"`
	Name           string   `yaml:"name"`
	Tokens         []Secret `yaml:"tokens"`
	AESKeys        []Secret `yaml:"aes_keys"`
	TokenURL       URL      `yaml:"token_url"` // for its accounts that have none
	TokenURLBearer Secret   `yaml:"token_url_bearer"`
	Upstream       URL      `yaml:"upstream"`
	UpstreamMass   bool     `yaml:"upstream_mass"` // default true
}

func (a *Account) setDefaults() { a.Poll, a.UpstreamMass = true, true }

func (p *Platform) setDefaults() { p.UpstreamMass = true }

// HasCredentials says whether the account's messages can be polled.
func (a *Account) HasCredentials() bool {
	return !a.AppSecret.IsZero() || !a.TokenURL.IsZero()
}

// Default is the configuration of an empty file.
func Default() *Config {
	c := defaults()
	c.derive()
	return c
}

// defaults is Default before anything is derived from other values.
func defaults() *Config {
	return &Config{
		TimeZone: "Asia/Shanghai",
		Log:      Log{Format: "text", Level: "info"},
		Admin:    Admin{Listen: "127.0.0.1:8082"},
		Kafka: Kafka{
			Topic:             "qunfa.events",
			Partitions:        12,
			ReplicationFactor: 3,
		},
		ClickHouse: ClickHouse{Database: "qunfa", Username: "qunfa"},
		Ingest: Ingest{
			Listen:          "127.0.0.1:8080",
			Internal:        "127.0.0.1:8081",
			BodyLimit:       1 << 20,
			MaxInFlight:     512,
			KafkaTimeout:    2 * time.Second,
			SpoolMaxBytes:   256 << 20,
			TimestampWindow: 5 * time.Minute,
			UpstreamTimeout: 4 * time.Second,
			UpstreamQueue:   1024,
		},
		Sink: Sink{Group: "qunfa-sink", MaxEvents: 10_000, MaxBytes: 16 << 20, Interval: time.Second},
		Reconcile: Reconcile{
			Group:          "qunfa-reconcile",
			Interval:       15 * time.Second,
			FirstPoll:      45 * time.Minute,
			Schedule:       hours(0.25, 0.5, 1, 2, 4, 8, 24),
			GiveUpAfter:    72 * time.Hour,
			RatePerMinute:  20,
			BarrierTimeout: time.Minute,
		},
		WeChat:   WeChat{BaseURL: MustURL("https://api.weixin.qq.com")},
		Metrics:  Metrics{Accounts: 500},
		Embedded: Embedded{Dir: "qunfa-data", HTTP: true, HTTPPort: 8123, TCPPort: 9000, MaxMemory: 2 << 30},
	}
}

func hours(list ...float64) []time.Duration {
	var out []time.Duration
	for _, h := range list {
		out = append(out, time.Duration(h*float64(time.Hour)))
	}
	return out
}

// Location is TimeZone, which Validate has checked; UTC if it is not a zone.
func (c *Config) Location() *time.Location {
	loc, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return time.UTC
	}
	return loc
}
