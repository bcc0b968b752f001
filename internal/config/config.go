package config

import (
	"time"
	_ "time/tzdata" // time_zone must work in an image that has no zone files
)

// Config is the whole configuration. [Default] has its defaults.
//
// docs/configuration.md is made from these types: the meaning of a key is the
// comment of its field. The tag used says which programs look at it ("all" are
// all services and qunfa up; without a tag it is as the section says), range
// and values say what is allowed, and a test tries both against Validate.
type Config struct {
	// Time zone of calendar days: "messages of today" for instance. A name of the IANA database, such as Asia/Shanghai or UTC. The first
	// `qunfa migrate` or `qunfa up` stores it in the database; later another one is refused, and changing it means a new database.
	TimeZone string `yaml:"time_zone" used:"ingest, sink, reconcile, migrate, up, commands"`
	// How the services log, to standard error.
	Log Log `yaml:"log" used:"all"`
	// The listener for metrics and health checks: `/metrics`, `/healthz`, `/readyz` and, of the sink, `/metrics/delivery`.
	Admin Admin `yaml:"admin" used:"all"`
	// The event log. `qunfa up` has a broker of its own, and refuses a file that names brokers.
	Kafka Kafka `yaml:"kafka" used:"ingest, sink, reconcile, migrate, commands"`
	// The database. `qunfa up` has one of its own, and refuses a file that names addresses. `ingest` does not use it.
	ClickHouse ClickHouse `yaml:"clickhouse" used:"sink, reconcile, migrate, commands"`
	// The service that WeChat calls.
	Ingest Ingest `yaml:"ingest" used:"ingest, up"`
	// The service that writes what is in Kafka to ClickHouse.
	Sink Sink `yaml:"sink" used:"sink, up"`
	// The service that asks WeChat about messages whose callback never came.
	Reconcile Reconcile `yaml:"reconcile" used:"reconcile, up"`
	// Where WeChat's API is.
	WeChat WeChat `yaml:"wechat" used:"reconcile, up"`
	// How much is exported.
	Metrics Metrics `yaml:"metrics" used:"sink, reconcile, up"`
	// What `qunfa up` runs on: a broker and a ClickHouse for this one machine.
	Embedded Embedded `yaml:"embedded" used:"up"`
	// The Official Accounts (公众号): those of the file, and then those of `accounts_dir`.
	Accounts []Account `yaml:"accounts" used:"ingest, sink, reconcile, up, commands"`
	// Directory of more accounts, in `*.yaml` and `*.yml` files: each one account, or a list of accounts, written as under `accounts`. Files
	// whose name begins with a dot are passed over. Changes of these files, and of the secret files that they name, are taken over within
	// seconds, or at once on SIGHUP; if something is wrong with any of them, nothing changes, and the log, `/readyz` and a metric say why.
	AccountsDir string `yaml:"accounts_dir" used:"ingest, sink, reconcile, up, commands"`
	// Third-party platforms (第三方平台): one callback URL each, for all accounts that name the platform.
	Platforms []Platform `yaml:"platforms" used:"ingest, reconcile, up, commands"`

	origin *origin // where the values came from; nil when built in Go
	own    int     // how many Accounts are from the file itself
	kept   keptFiles
}

// Log says how to log.
type Log struct {
	// text for people, json for machines.
	Format string `yaml:"format" values:"text|json"`
	// The least level that is logged.
	Level string `yaml:"level" values:"debug|info|warn|error"`
}

// Admin is the listener for metrics and health checks.
type Admin struct {
	// Address, host:port. It asks nobody who they are, so keep it private. Services on one machine need one each.
	Listen string `yaml:"listen" used:"all, commands"`
	// Serve Go's profiles under `/debug/pprof` as well.
	Pprof bool `yaml:"pprof"`
}

// Kafka says where the events go.
type Kafka struct {
	// Addresses to begin with, host:port; the others are found through them.
	Brokers []string `yaml:"brokers"`
	// Topic of the events. 1 to 240 letters, digits, dots, dashes and underscores.
	Topic string `yaml:"topic" used:"all, migrate, commands"`
	// Topic of what cannot be read or stored. Left out: `topic` and `.dead`.
	DeadTopic string `yaml:"dead_topic" used:"ingest, sink, up, migrate, commands"`
	// Partitions of the topic when `qunfa migrate` creates it. All events of an account must stay in one, so the number cannot be changed later.
	Partitions int `yaml:"partitions" used:"migrate" range:"1..10000"`
	// Copies of each partition when the topics are created.
	ReplicationFactor int `yaml:"replication_factor" used:"migrate" range:"1..100"`
	// Copies that must have a record before it counts as written; a setting of the topics when they are created. 1 to
	// `replication_factor`. Left out, or 0: one less than that, but at least 1.
	MinInsyncReplicas int `yaml:"min_insync_replicas" used:"migrate"`
	// Encryption of the connections to Kafka. Certificates are always checked; there is no way to turn that off.
	TLS TLS `yaml:"tls"`
	// Login to Kafka. Without a mechanism: none.
	SASL SASL `yaml:"sasl"`
}

// TLS says whether and how to encrypt a connection. Certificates are always
// checked.
type TLS struct {
	// Encrypt. Any other key of this section turns it on as well.
	Enabled bool `yaml:"enabled"`
	// PEM file of the authorities that signed the servers' certificates. Left out: those of the system.
	CAFile string `yaml:"ca_file"`
	// PEM file of our own certificate, where the servers ask for one (mutual TLS); together with `key_file`.
	CertFile string `yaml:"cert_file"`
	// PEM file of its key.
	KeyFile string `yaml:"key_file"`
	// Name that the servers' certificates must have. Left out: the host connected to.
	ServerName string `yaml:"server_name"`
}

// SASL says how to log in to Kafka. No mechanism: not at all.
type SASL struct {
	// How to log in. With `plain` the password is sent as it is, so use it with TLS alone.
	Mechanism string `yaml:"mechanism" values:"plain|scram-sha-256|scram-sha-512"`
	// Whom to log in as.
	Username string `yaml:"username"`
	// Its password.
	Password Secret `yaml:"password"`
}

// ClickHouse says where the projection is.
type ClickHouse struct {
	// Addresses of the native protocol (not HTTP), host:port. Several are tried in this order; in a cluster, beginning with
	// another one each time.
	Addr []string `yaml:"addr"`
	// Database of tables and views. Letters, digits and underscores.
	Database string `yaml:"database" used:"sink, reconcile, migrate, up, commands"`
	// Whom to log in as. `qunfa migrate` needs a user who may create the database; the services need the rights of the writer
	// (`qunfa migrate --grants`); for commands that ask, a reader is enough.
	Username string `yaml:"username"`
	// Its password.
	Password Secret `yaml:"password"`
	// Encryption of the connections to ClickHouse.
	TLS TLS `yaml:"tls"`
	// Spreads the database over the shards of a ClickHouse cluster. See [clusters](cluster.md).
	Cluster Cluster `yaml:"cluster"`
	// Users of ClickHouse who may see some accounts alone. `qunfa migrate` stores which; `qunfa migrate --grants` prints how to make
	// the users, which has to be done once for each.
	Clients []Client `yaml:"clients" used:"migrate"`
	// How long messages are kept, from the latest thing that happened to each, such as `400d`. `qunfa expire` deletes older ones, whole, when it
	// is run; see [retention](retention.md). At least `35d`; 0: for ever.
	Retention time.Duration `yaml:"retention" used:"commands"`
	// How long the openids in callbacks (`raw`, `from_user`) are kept, likewise. At least `1d`; 0: as long as the message.
	RawRetention time.Duration `yaml:"raw_retention" used:"commands"`
}

// Cluster says that the database is on several servers.
type Cluster struct {
	// What `remote_servers` of the ClickHouse servers calls the cluster. Empty: no cluster; one server has everything.
	Name string `yaml:"name"`
	// Tables are replicated through Keeper, and statements go to all servers `ON CLUSTER`. Without it every shard is one
	// server, no Keeper is needed, and `clickhouse.addr` must list all of the servers.
	Replicated bool `yaml:"replicated"`
}

// MinRetention is the least time for which messages can be kept: the counters
// of delivery count the running month, and must not fall.
const MinRetention = 35 * 24 * time.Hour

// Client is a user of ClickHouse who may see some accounts alone.
type Client struct {
	// The user's name. Letters, digits, dots, dashes and underscores.
	Name string `yaml:"name"`
	// The accounts that it may see. One that is taken out of the list is seen no more after the next `qunfa migrate`.
	AppIDs []string `yaml:"appids"`
	// Its password, for `qunfa migrate --grants` and `--users-xml`, which print the hash. Left out: they make one and tell it.
	Password Secret `yaml:"password"`
}

// Ingest configures the service that WeChat calls.
type Ingest struct {
	// Address for WeChat: `/callback/APPID` and `/platform/COMPONENT_APPID/callback/APPID`. Put a reverse proxy with TLS before it.
	Listen string `yaml:"listen"`
	// Where WeChat reaches it, for `qunfa doctor` to look from outside: what stands before `/callback/APPID` in the URL that is entered in WeChat's
	// console, or all of it with `{appid}` in it. Left out: doctor asks `listen` instead.
	PublicURL URL `yaml:"public_url" used:"commands"`
	// Address for your own programs: the record API, `POST /v1/submissions`.
	Internal string `yaml:"internal" used:"ingest, up, commands"`
	// Bearer token of the record API, at least 16 characters. `ingest` does not start without one; `qunfa up` makes one.
	APIToken Secret `yaml:"api_token" used:"ingest, up, commands"`
	// Taken as well as `api_token`, while you change that.
	OldAPIToken Secret `yaml:"old_api_token"`
	// Record sends of accounts that are not in the configuration.
	AllowUnknown bool `yaml:"allow_unknown"`
	// Largest body of a callback.
	BodyLimit Size `yaml:"body_limit" range:"1KiB..1MiB"`
	// Callbacks at work at once; beyond, the answer is 503 at once, and WeChat tries again.
	MaxInFlight int `yaml:"max_in_flight" range:"1.."`
	// How long Kafka may take to acknowledge before the spool is used; without a spool the answer is then 503. WeChat waits 5 s in all.
	KafkaTimeout time.Duration `yaml:"kafka_timeout" range:">0s..4s"`
	// Directory of the spool, which keeps events on this machine's disk while Kafka cannot take them. Each `ingest` needs its own, on
	// a disk that outlasts it. Left out: none, so that callbacks are lost if Kafka is away for longer than WeChat repeats them; with
	// `qunfa up`: `spool` in `embedded.dir`.
	SpoolDir string `yaml:"spool_dir"`
	// Room of the spool for events, and as much again for callbacks that cannot be read; beyond, the answer is 503.
	SpoolMaxBytes Size `yaml:"spool_max_bytes" range:"1MiB.."`
	// Unencrypted callbacks whose time is further than this from our clock are refused. Encrypted ones are only counted: a wrong clock must not lose them.
	TimestampWindow time.Duration `yaml:"timestamp_window" range:">0s.."`
	// How long the application behind us has for its answer, from the arrival of the push. Later, WeChat gets `success` without it.
	UpstreamTimeout time.Duration `yaml:"upstream_timeout" range:">0s..4.5s"`
	// Pushes that may wait to be passed on after WeChat has its answer; beyond, they are not passed on, and counted.
	UpstreamQueue int `yaml:"upstream_queue" range:"1.."`
}

// Sink configures the service that writes ClickHouse.
type Sink struct {
	// Kafka consumer group of all sinks. `reconcile` waits for it, so it must have the same value there.
	Group string `yaml:"group" used:"sink, reconcile, up, commands"`
	// Most events in one batch.
	MaxEvents int `yaml:"max_events" range:"1..100000"`
	// Most bytes in one batch.
	MaxBytes Size `yaml:"max_bytes" range:"1MiB..256MiB"`
	// Least time between the starts of two batches. Shorter means fresher figures, and more work for ClickHouse.
	Interval time.Duration `yaml:"interval" range:"0s..1m"`
}

// Reconcile configures the service that asks WeChat.
type Reconcile struct {
	// Kafka consumer group; replicas share the accounts by it.
	Group string `yaml:"group"`
	// Name of this replica in the events.
	Instance string `yaml:"instance" default:"the name of the host"`
	// Time between two rounds.
	Interval time.Duration `yaml:"interval" range:">0s.."`
	// When WeChat is asked first, from the submission on. An administrator may take 30 minutes to confirm a send.
	FirstPoll time.Duration `yaml:"first_poll" range:">0s.."`
	// Times from poll to poll; the last one repeats. Each more than 0.
	Schedule []time.Duration `yaml:"schedule"`
	// When nobody asks any more, from the submission on: the message is then `missing`. More than `first_poll`.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// Polls a minute, for each account. WeChat allows 60 for all calls about mass messages together.
	RatePerMinute int `yaml:"rate_per_minute" range:"1..60"`
	// How long a round waits until the sink has written everything, before the round is skipped.
	BarrierTimeout time.Duration `yaml:"barrier_timeout" range:">0s.."`
}

// WeChat says where WeChat's API is.
type WeChat struct {
	// URL of the API. Another one is for tests and for proxies.
	BaseURL URL `yaml:"base_url"`
}

// Metrics bounds what is exported.
type Metrics struct {
	// How many accounts have metrics of their own; beyond, alerts name the account by SQL. 0: none.
	Accounts int `yaml:"accounts" range:"0.."`
}

// Embedded configures the broker and the ClickHouse of qunfa up.
type Embedded struct {
	// Where everything is kept. Commands look here for a `qunfa up` that runs.
	Dir string `yaml:"dir" used:"up, commands"`
	// Serve ClickHouse's HTTP interface, with its query page `/play`, on loopback.
	HTTP bool `yaml:"http"`
	// Its port. If it is busy another one is taken, and printed. 0: any free port.
	HTTPPort int `yaml:"http_port" range:"0..65535"`
	// Port of ClickHouse's native protocol, likewise.
	TCPPort int `yaml:"tcp_port" range:"0..65535"`
	// Memory that ClickHouse may use.
	MaxMemory Size `yaml:"max_memory" range:"512MiB.."`
	// Most that the broker's files may take, at least 64MiB; what ClickHouse holds is trimmed before that. 0: by the machine's memory, at most 2GiB.
	MaxLog Size `yaml:"max_log"`
}

// Account is one Official Account.
type Account struct {
	// AppID of the account. Needed; each only once.
	AppID string `yaml:"appid"`
	// Original id (原始ID, `gh_…`), by which callbacks name the account. Needed for accounts of a platform, where it proves whom a callback is about.
	OriginalID string `yaml:"original_id"`
	// Name for screens. Left out: the appid.
	Name string `yaml:"name"`
	// Token (令牌) of the callback URL: the current one first, then, while it is changed, the previous one. Without any, callbacks of the account are refused.
	Tokens []Secret `yaml:"tokens" used:"ingest, up, commands"`
	// EncodingAESKey, 43 characters, likewise. Without any the account is in plain mode (明文模式), in which whoever has seen one callback URL can forge others.
	AESKeys []Secret `yaml:"aes_keys" used:"ingest, up, commands"`
	// Take unencrypted callbacks although there are `aes_keys`. For the time of a change alone.
	AllowPlain bool `yaml:"allow_plain" used:"ingest, up"`
	// AppSecret, to ask WeChat about messages whose callback never came. Without it and without `token_url` they end as `missing`.
	AppSecret Secret `yaml:"app_secret" used:"reconcile, up"`
	// Instead of `app_secret`: your own token server, which must answer a GET with `{"access_token": "…", "expires_in": 7200}`. `$APPID$` in it is the appid.
	TokenURL URL `yaml:"token_url" used:"reconcile, up"`
	// Bearer token for `token_url`.
	TokenURLBearer Secret `yaml:"token_url_bearer" used:"reconcile, up"`
	// Ask WeChat. `false`: never, so that messages without a callback end as `missing`.
	Poll bool `yaml:"poll" used:"reconcile, up"`
	// `component_appid` of the platform that the account's callbacks come through; it then has no tokens, keys and upstream of its own.
	Platform string `yaml:"platform" used:"ingest, reconcile, up"`
	// The application that had the callback URL before. It gets every push unchanged, and its answer goes back to WeChat. `$APPID$` in it is the appid.
	Upstream URL `yaml:"upstream" used:"ingest, up"`
	// Pass the results of mass messages on to it as well, after they are stored.
	UpstreamMass bool `yaml:"upstream_mass" used:"ingest, up"`

	path string // as errors name it
}

// Platform is a third-party platform (第三方平台), whose one callback URL serves
// many accounts: those that name it.
type Platform struct {
	// AppID of the platform. Needed. The URL to enter in WeChat is `https://YOUR.HOST/platform/COMPONENT_APPID/callback/$APPID$`.
	ComponentAppID string `yaml:"component_appid"`
	// Name for screens.
	Name string `yaml:"name"`
	// Tokens of its callback URL, as those of an account. Needed.
	Tokens []Secret `yaml:"tokens" used:"ingest, up"`
	// Its EncodingAESKeys. Needed: platforms have no plain mode.
	AESKeys []Secret `yaml:"aes_keys" used:"ingest, up"`
	// Token server for those of its accounts that have no credentials of their own.
	TokenURL URL `yaml:"token_url" used:"reconcile, up"`
	// Bearer token for `token_url`.
	TokenURLBearer Secret `yaml:"token_url_bearer" used:"reconcile, up"`
	// The application that had the callback URL before, as for an account.
	Upstream URL `yaml:"upstream" used:"ingest, up"`
	// Pass the results of mass messages on to it as well.
	UpstreamMass bool `yaml:"upstream_mass" used:"ingest, up"`
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
		ClickHouse: ClickHouse{Database: "qunfa", Username: "qunfa", Cluster: Cluster{Replicated: true}},
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
