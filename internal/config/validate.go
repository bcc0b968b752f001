package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"qunfa/internal/events"
)

// checker collects what Validate finds.
type checker struct {
	problems
	origin *origin
}

func (c *checker) problem(kind error, path, format string, args ...any) {
	c.add(&Problem{Kind: kind, Path: path, Message: fmt.Sprintf(format, args...), Place: c.origin.place(path)})
}

// require reports a value that is not ok.
func (c *checker) require(ok bool, path, format string, args ...any) {
	if !ok {
		c.problem(ErrInvalid, path, format, args...)
	}
}

// Validate joins every [*Problem] with what is given. What a service needs and
// was not given is reported by [Config.ValidateFor].
func (c *Config) Validate() error {
	ck := &checker{origin: c.origin}
	ck.general(c)
	ck.kafka(&c.Kafka)
	ck.clickhouse(&c.ClickHouse)
	ck.ingest(&c.Ingest)
	ck.sink(&c.Sink)
	ck.reconcile(&c.Reconcile)
	ck.embedded(&c.Embedded)
	ck.accounts(c.Accounts, c.Platforms)
	ck.platforms(c.Platforms)
	return ck.err()
}

func (c *checker) general(cfg *Config) {
	_, err := time.LoadLocation(cfg.TimeZone)
	c.require(err == nil && cfg.TimeZone != "" && cfg.TimeZone != "Local", "time_zone", "want a zone of the IANA database, such as Asia/Shanghai or UTC")
	c.require(slices.Contains([]string{"text", "json"}, cfg.Log.Format), "log.format", "want text or json")
	c.require(slices.Contains([]string{"debug", "info", "warn", "error"}, cfg.Log.Level), "log.level", "want debug, info, warn or error")
	c.address("admin.listen", cfg.Admin.Listen)
	c.require(!cfg.WeChat.BaseURL.IsZero(), "wechat.base_url", "want the URL of WeChat's API, https://api.weixin.qq.com")
	c.require(cfg.Metrics.Accounts >= 0, "metrics.accounts", "want 0 or more")
}

// address checks host:port; the host may be empty (all interfaces).
func (c *checker) address(path, addr string) {
	_, port, err := net.SplitHostPort(addr)
	n, numErr := strconv.Atoi(port)
	c.require(err == nil && numErr == nil && n >= 0 && n <= 65535, path, "want host:port with a port of 0 to 65535, such as 127.0.0.1:8080")
}

// remote checks host:port to connect to.
func (c *checker) remote(path, addr string) {
	host, port, err := net.SplitHostPort(addr)
	n, numErr := strconv.Atoi(port)
	c.require(err == nil && numErr == nil && host != "" && n > 0 && n <= 65535, path, "want host:port, such as %s", "db1.example.com:9000")
}

// minAPIToken is what ingest asks of a bearer token that others could guess at.
const minAPIToken = 16

func (c *checker) apiToken(path string, token Secret) {
	c.require(token.IsZero() || len(token.Reveal()) >= minAPIToken, path, "want at least %d characters: openssl rand -hex 16 makes one", minAPIToken)
}

// topicName is Kafka's rule, less some room for ".dead".
var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,240}$`)

func (c *checker) kafka(k *Kafka) {
	for i, b := range k.Brokers {
		c.remote(fmt.Sprintf("kafka.brokers[%d]", i), b)
	}
	c.topic("kafka.topic", k.Topic)
	if k.DeadTopic != deadTopicOf(k.Topic) {
		c.topic("kafka.dead_topic", k.DeadTopic)
	}
	c.require(k.Topic != k.DeadTopic, "kafka.dead_topic", "want another topic than kafka.topic")
	c.require(k.Partitions >= 1 && k.Partitions <= 10_000, "kafka.partitions", "want 1 to 10000")
	c.require(k.ReplicationFactor >= 1 && k.ReplicationFactor <= 100, "kafka.replication_factor", "want 1 or more")
	c.require(k.MinInsyncReplicas >= 1 && k.MinInsyncReplicas <= k.ReplicationFactor, "kafka.min_insync_replicas", "want 1 to replication_factor, which is %d", k.ReplicationFactor)
	c.tls("kafka.tls", &k.TLS)
	c.sasl("kafka.sasl", &k.SASL)
}

func (c *checker) topic(path, topic string) {
	c.require(topicName.MatchString(topic) && topic != "." && topic != "..", path, "want 1 to 240 letters, digits, dots, dashes and underscores")
}

func (c *checker) tls(path string, t *TLS) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		c.problem(ErrMissing, path, "cert_file and key_file go together; want both or none")
	}
}

func (c *checker) sasl(path string, s *SASL) {
	if s.Mechanism == "" {
		c.require(s.Username == "" && s.Password.IsZero(), path, "a username or password without a mechanism; want mechanism: plain, scram-sha-256 or scram-sha-512")
		return
	}
	c.require(slices.Contains([]string{"plain", "scram-sha-256", "scram-sha-512"}, s.Mechanism), path+".mechanism", "want plain, scram-sha-256 or scram-sha-512")
	if s.Username == "" || s.Password.IsZero() {
		c.problem(ErrMissing, path, "mechanism needs username and password")
	}
}

// identifier is what may stand unquoted in ClickHouse.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// clusterName is what needs no escaping in SQL and in ClickHouse's own configuration.
var clusterName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

func (c *checker) clickhouse(h *ClickHouse) {
	for i, a := range h.Addr {
		c.remote(fmt.Sprintf("clickhouse.addr[%d]", i), a)
	}
	c.require(identifier.MatchString(h.Database), "clickhouse.database", "want letters, digits and underscores")
	c.require(h.Username != "", "clickhouse.username", "want a user")
	c.tls("clickhouse.tls", &h.TLS)
	c.require(h.Cluster.Name == "" || clusterName.MatchString(h.Cluster.Name), "clickhouse.cluster.name", "want letters, digits, dots, dashes and underscores")
	c.clients(h)
	c.require(h.Retention == 0 || h.Retention >= MinRetention, "clickhouse.retention", "want 35d or more, or 0: figures of the running month need it")
	c.require(h.RawRetention == 0 || h.RawRetention >= 24*time.Hour, "clickhouse.raw_retention", "want 1d or more, or 0")
}

// userName is what can name a user of ClickHouse in SQL and in files alike.
var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func (c *checker) clients(h *ClickHouse) {
	seen := map[string]bool{h.Username: true}
	for i, k := range h.Clients {
		path := fmt.Sprintf("clickhouse.clients[%d]", i)
		c.require(userName.MatchString(k.Name), path+".name", "want letters, digits, '_', '-' and '.', beginning with a letter")
		c.require(!seen[k.Name], path+".name", "want a user of its own: this one is named before")
		seen[k.Name] = true
		for j, a := range k.AppIDs {
			c.require(a != "", fmt.Sprintf("%s.appids[%d]", path, j), "want an appid")
		}
	}
}

func (c *checker) ingest(i *Ingest) {
	c.address("ingest.listen", i.Listen)
	c.address("ingest.internal", i.Internal)
	c.require(i.BodyLimit >= 1<<10 && i.BodyLimit <= 1<<20, "ingest.body_limit", "want 1KiB to 1MiB: WeChat sends nothing larger")
	c.require(i.MaxInFlight >= 1, "ingest.max_in_flight", "want 1 or more")
	c.require(i.KafkaTimeout > 0 && i.KafkaTimeout <= 4*time.Second, "ingest.kafka_timeout", "want more than 0 and at most 4s, since WeChat waits 5s")
	c.require(i.SpoolMaxBytes >= 1<<20, "ingest.spool_max_bytes", "want at least 1MiB")
	c.require(i.TimestampWindow > 0, "ingest.timestamp_window", "want more than 0; 87600h takes any time")
	c.require(i.OldAPIToken.IsZero() || !i.APIToken.IsZero(), "ingest.old_api_token", "without api_token")
	c.require(i.UpstreamTimeout > 0 && i.UpstreamTimeout <= 4500*time.Millisecond, "ingest.upstream_timeout", "want more than 0 and at most 4.5s, since WeChat waits 5s")
	c.require(i.UpstreamQueue >= 1, "ingest.upstream_queue", "want 1 or more")
}

func (c *checker) sink(s *Sink) {
	c.require(s.Group != "", "sink.group", "want a name")
	c.require(s.MaxEvents >= 1 && s.MaxEvents <= 100_000, "sink.max_events", "want 1 to 100000")
	c.require(s.MaxBytes >= 1<<20 && s.MaxBytes <= 256<<20, "sink.max_bytes", "want 1MiB to 256MiB")
	c.require(s.Interval >= 0 && s.Interval <= time.Minute, "sink.interval", "want 0 to 1m")
}

func (c *checker) reconcile(r *Reconcile) {
	c.require(r.Group != "", "reconcile.group", "want a name")
	c.require(r.Instance != "", "reconcile.instance", "want a name")
	c.require(r.Interval > 0, "reconcile.interval", "want more than 0")
	c.require(r.FirstPoll > 0, "reconcile.first_poll", "want more than 0")
	c.require(len(r.Schedule) > 0, "reconcile.schedule", "want at least one duration")
	for i, d := range r.Schedule {
		c.require(d > 0, fmt.Sprintf("reconcile.schedule[%d]", i), "want more than 0")
	}
	c.require(r.GiveUpAfter > r.FirstPoll, "reconcile.give_up_after", "want more than first_poll, which is %s", formatDuration(r.FirstPoll))
	c.require(r.RatePerMinute >= 1 && r.RatePerMinute <= 60, "reconcile.rate_per_minute", "want 1 to 60, WeChat's limit")
	c.require(r.BarrierTimeout > 0, "reconcile.barrier_timeout", "want more than 0")
}

func (c *checker) embedded(e *Embedded) {
	c.require(e.Dir != "", "embedded.dir", "want a directory")
	c.port("embedded.http_port", e.HTTPPort)
	c.port("embedded.tcp_port", e.TCPPort)
	c.require(e.MaxMemory >= 512<<20, "embedded.max_memory", "want at least 512MiB")
	c.require(e.MaxLog == 0 || e.MaxLog >= 64<<20, "embedded.max_log", "want 0 (by the machine's memory) or at least 64MiB")
}

func (c *checker) port(path string, port int) {
	c.require(port >= 0 && port <= 65535, path, "want 0 (any free port) to 65535")
}

// accountPath is how errors name an account, wherever it came from.
func accountPath(a *Account, i int) string {
	if a.path != "" {
		return a.path
	}
	return fmt.Sprintf("accounts[%d]", i)
}

func (c *checker) accounts(list []Account, platforms []Platform) {
	seen := map[string]string{}
	components := map[string]bool{}
	for _, p := range platforms {
		components[p.ComponentAppID] = true
	}
	for i := range list {
		a := &list[i]
		path := accountPath(a, i)
		c.appID(join(path, "appid"), a.AppID, seen)
		c.callbackKeys(path, a.Tokens, a.AESKeys)
		c.require(!a.AllowPlain || len(a.AESKeys) > 0, join(path, "allow_plain"), "only means something beside aes_keys: without them the plain mode is all there is")
		c.require(a.AppSecret.IsZero() || a.TokenURL.IsZero(), join(path, "token_url"), "given beside app_secret; want one of them")
		c.require(a.TokenURLBearer.IsZero() || !a.TokenURL.IsZero(), join(path, "token_url_bearer"), "without token_url")
		if a.Platform != "" {
			c.platformAccount(path, a, components[a.Platform])
		}
	}
}

// platformAccount checks an account whose callbacks come through a platform.
func (c *checker) platformAccount(path string, a *Account, known bool) {
	c.require(known, join(path, "platform"), "no platform in platforms has this component_appid")
	if a.OriginalID == "" {
		c.problem(ErrMissing, join(path, "original_id"), "an account of a platform needs its original_id (gh_…): the appid in the URL is not signed, the original id in the body is")
	}
	c.require(len(a.Tokens) == 0 && len(a.AESKeys) == 0 && a.Upstream.IsZero(), path,
		"an account of a platform uses the platform's tokens, aes_keys and upstream; leave out its own")
}

func (c *checker) platforms(list []Platform) {
	seen := map[string]string{}
	for i := range list {
		p := &list[i]
		path := fmt.Sprintf("platforms[%d]", i)
		c.appID(join(path, "component_appid"), p.ComponentAppID, seen)
		if len(p.Tokens) == 0 || len(p.AESKeys) == 0 {
			c.problem(ErrMissing, path, "a platform needs tokens and aes_keys: WeChat encrypts everything it sends to one")
		}
		c.callbackKeys(path, p.Tokens, p.AESKeys)
		c.require(p.TokenURLBearer.IsZero() || !p.TokenURL.IsZero(), join(path, "token_url_bearer"), "without token_url")
	}
}

// appID checks the form and that no other entry has it.
func (c *checker) appID(path, id string, seen map[string]string) {
	if id == "" {
		c.problem(ErrMissing, path, "want the appid, such as wx0123456789abcdef")
		return
	}
	if err := events.CheckAppID(id); err != nil {
		c.problem(ErrInvalid, path, "%v", err)
		return
	}
	if first, ok := seen[id]; ok {
		where := c.origin.place(first)
		where.Excerpt = ""
		c.problem(ErrDuplicate, path, "appid %s is given twice; first as %s", id, joinNonEmpty(" at ", first, where.String()))
		return
	}
	seen[id] = path
}

func (c *checker) callbackKeys(path string, tokens, aesKeys []Secret) {
	for i, t := range tokens {
		if t.IsZero() {
			c.problem(ErrMissing, fmt.Sprintf("%s.tokens[%d]", path, i), "the token is empty")
		}
	}
	for i, k := range aesKeys {
		if err := checkAESKey(k.Reveal()); err != nil {
			c.problem(ErrInvalid, fmt.Sprintf("%s.aes_keys[%d]", path, i), "%v", err)
		}
	}
	if len(aesKeys) > 0 && len(tokens) == 0 {
		c.problem(ErrMissing, path, "aes_keys without tokens; want both, as the callback page of WeChat shows them")
	}
}

// checkAESKey checks an EncodingAESKey: 43 characters of base64 that stand for
// 32 bytes. The bits left over in the last one need not be zero.
func checkAESKey(key string) error {
	if len(key) != 43 {
		return fmt.Errorf("want an EncodingAESKey of 43 characters; it has %d", len(key))
	}
	if raw, err := base64.StdEncoding.DecodeString(key + "="); err != nil || len(raw) != 32 {
		return errors.New("want an EncodingAESKey: 43 letters and digits")
	}
	return nil
}

// Service names what a process does, for [Config.ValidateFor].
type Service string

// The services that need parts of the configuration.
const (
	ServiceIngest    Service = "ingest"
	ServiceSink      Service = "sink"
	ServiceReconcile Service = "reconcile"
	ServiceMigrate   Service = "migrate"
	ServiceUp        Service = "up" // all of them on an embedded broker and engine
)

// ValidateFor reports what a service needs and the file does not give.
func (c *Config) ValidateFor(s Service) error {
	ck := &checker{origin: c.origin}
	if s != ServiceUp && s != ServiceMigrate && len(c.Kafka.Brokers) == 0 {
		ck.problem(ErrMissing, "kafka.brokers", "%s needs the addresses of Kafka, such as [kafka1:9092, kafka2:9092]", s)
	}
	if s != ServiceUp && s != ServiceIngest && len(c.ClickHouse.Addr) == 0 {
		ck.problem(ErrMissing, "clickhouse.addr", "%s needs the address of ClickHouse, such as [clickhouse1:9000]", s)
	}
	if s == ServiceIngest || s == ServiceUp {
		if len(c.Accounts) == 0 && c.AccountsDir == "" {
			ck.problem(ErrMissing, "accounts", "%s needs at least one account, or an accounts_dir", s)
		}
		if c.Ingest.APIToken.IsZero() && s == ServiceIngest { // up makes one
			ck.problem(ErrMissing, "ingest.api_token", "%s needs the bearer token of its record API, as api_token or api_token_file", s)
		}
		ck.apiToken("ingest.api_token", c.Ingest.APIToken)
		ck.apiToken("ingest.old_api_token", c.Ingest.OldAPIToken)
	}
	return ck.err()
}
