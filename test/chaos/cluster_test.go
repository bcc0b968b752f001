//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/kafka"
	"qunfa/internal/wechat/wechattest"
	"qunfa/test/internal/proc"
)

const (
	clickhouseImage = "clickhouse/clickhouse-server:26.7"

	topic, deadTopic         = "qunfa.events", "qunfa.events.dead"
	sinkGroup, askGroup      = "qunfa-sink", "qunfa-reconcile"
	offsetsTopic             = "__consumer_offsets"
	databaseUser, databasePw = "chaos", "password-of-the-database"
)

// cluster is the world of Kafka and ClickHouse in containers, and of services
// as processes.
type cluster struct {
	*stage
	brokers  *brokers
	database *container
	dbDisk   *disk
	dbAddr   string // for the test: past the proxies
	spools   map[string]*disk
	services map[string]*service
	apis     []string

	cfg    *config.Config // of the test itself
	client *kafka.Client
	db     *clickhouse.DB
}

func startCluster(s *stage) *cluster {
	c := &cluster{stage: s, services: map[string]*service{}, spools: map[string]*disk{}}
	sweep(s.t)
	net := network(s.t)
	s.say("building the programs, starting three brokers (%s) and %s", kafkaImage, clickhouseImage)
	built := make(chan error, 1)
	go func() { built <- proc.Build(s.dir, "ingest", "sink", "reconcile") }()
	c.startDatabase(net)
	c.brokers = s.startBrokers(net)
	if err := <-built; err != nil {
		s.t.Fatal(err)
	}
	var fronts []string
	for _, name := range []string{"ingest-1", "ingest-2"} {
		v := c.prepare(name)
		fronts = append(fronts, v.front)
	}
	s.startWeChat(fronts...)
	s.wires.add(s.address(), strings.TrimPrefix(s.sim.URL(), "http://"), "reconcile–WeChat")
	for _, name := range []string{"sink-1", "sink-2", "sink-3", "reconcile-1", "reconcile-2", "reconcile-3"} {
		c.prepare(name)
	}
	for _, v := range c.services {
		c.configure(v)
	}
	c.open()
	c.migrate()
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		if !strings.HasSuffix(name, "-3") {
			c.startReady(c.services[name])
		}
	}
	return c
}

// keepRoom is what docs/operations.md advises for ClickHouse.
const keepRoom = `<clickhouse>
  <merge_tree>
    <min_free_disk_bytes_to_perform_insert>134217728</min_free_disk_bytes_to_perform_insert>
  </merge_tree>
</clickhouse>
`

func (c *cluster) startDatabase(network string) {
	c.dbAddr = c.address()
	c.dbDisk = newDisk(c.t, filepath.Join(c.dir, "clickhouse"), 1536)
	settings := filepath.Join(c.dir, "merges.xml")
	if err := os.WriteFile(settings, []byte(keepRoom), 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.database = runContainer(c.t, "clickhouse", "--volume", settings+":/etc/clickhouse-server/config.d/merges.xml:ro", "--network", network, "--publish", c.dbAddr+":9000",
		"--env", "CLICKHOUSE_USER="+databaseUser, "--env", "CLICKHOUSE_PASSWORD="+databasePw, "--env", "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT=1",
		"--volume", c.dbDisk.dir+":/var/lib/clickhouse", clickhouseImage)
}

// prepare gives a service its addresses.
func (c *cluster) prepare(name string) *service {
	kind, _, _ := strings.Cut(name, "-")
	v := &service{stage: c.stage, name: name, kind: kind, admin: c.address()}
	if kind == "ingest" {
		v.front = c.address()
		c.apis = append(c.apis, c.address())
		c.spools[name] = newDisk(c.t, filepath.Join(c.dir, name+"-spool"), 32)
	}
	v.cmd = proc.Command{Path: filepath.Join(c.dir, kind), Args: []string{"--config", filepath.Join(c.dir, name+".yaml")}, Dir: c.dir}
	c.services[name] = v
	return v
}

// configure writes the configuration of a service as its operator would.
func (c *cluster) configure(v *service) {
	c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "log: {level: info}\nadmin: {listen: %q}\n", v.admin)
	fmt.Fprintf(&b, "kafka: {brokers: [\"%s\"]}\n", strings.Join(c.brokers.behind[v.kind], `", "`))
	if v.kind != "ingest" {
		wire := c.address()
		c.wires.add(wire, c.dbAddr, v.kind+"–ClickHouse")
		fmt.Fprintf(&b, "clickhouse: {addr: [%q], username: %s, password: %s}\n", wire, databaseUser, databasePw)
	} else {
		api := c.apis[int(v.name[len(v.name)-1]-'1')]
		fmt.Fprintf(&b, "ingest: {listen: %q, internal: %q, api_token: %s, spool_dir: %s}\n", v.front, api, apiToken, c.spools[v.name].dir)
	}
	if v.kind == "reconcile" {
		b.WriteString(reconcileYAML(v.name))
		fmt.Fprintf(&b, "wechat: {base_url: \"http://%s\"}\n", c.wires.named["reconcile–WeChat"][0].Listen)
	}
	b.WriteString(accountsYAML(c.sim))
	if err := os.WriteFile(filepath.Join(c.dir, v.name+".yaml"), []byte(b.String()), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// The schedule of reconcile: three days in a minute and a half.
const (
	firstPoll = 10 * time.Second
	giveUp    = 75 * time.Second
)

func reconcileYAML(instance string) string {
	return fmt.Sprintf("reconcile: {instance: %s, interval: 1s, first_poll: %s, schedule: [5s], give_up_after: %s, rate_per_minute: 60, barrier_timeout: 30s}\n",
		instance, firstPoll, giveUp)
}

func accountsYAML(sim *wechattest.Simulator) string {
	var b strings.Builder
	b.WriteString("accounts:\n")
	for _, a := range sim.Accounts() {
		fmt.Fprintf(&b, "  - appid: %s\n    original_id: %s\n    name: %q\n    app_secret: %q\n", a.AppID, a.OriginalID, a.Name, a.Secret)
		if a.Component != "" {
			fmt.Fprintf(&b, "    platform: %s\n", a.Component)
			continue
		}
		fmt.Fprintf(&b, "    tokens: [%q]\n", a.Token)
		if a.Mode != wechattest.Plain {
			fmt.Fprintf(&b, "    aes_keys: [%q]\n", a.AESKey)
		}
	}
	b.WriteString("platforms:\n")
	for _, p := range sim.Components() {
		fmt.Fprintf(&b, "  - component_appid: %s\n    tokens: [%q]\n    aes_keys: [%q]\n", p.AppID, p.Token, p.AESKey)
	}
	return b.String()
}

// open opens the test's own ways to Kafka and ClickHouse.
func (c *cluster) open() {
	c.t.Helper()
	c.cfg = config.Default()
	c.cfg.Kafka.Brokers = c.brokers.hosts
	c.cfg.ClickHouse = config.ClickHouse{Addr: []string{c.dbAddr}, Database: "qunfa", Username: databaseUser, Password: config.NewSecret(databasePw)}
	var err error
	if c.client, err = app.NewKafka(c.cfg, app.Options{}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.client.Close)
	if c.db, err = app.OpenClickHouse(c.cfg, app.Options{}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = c.db.Close() })
}

func (c *cluster) migrate() {
	c.t.Helper()
	c.say("migrating: 12 partitions, replication factor 3, min.insync.replicas 2")
	c.until("the servers are migrated", 3*time.Minute, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := app.Migrate(ctx, c.cfg, app.Options{}, nil); err != nil {
			return fmt.Sprintf("%v\n%s", err, c.database.log())
		}
		return ""
	})
}

// startReady starts a service for the first time.
func (c *cluster) startReady(v *service) {
	c.t.Helper()
	if err := v.run(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(v.end)
	c.until(v.name+" is ready", time.Minute, v.unready)
}

// unready says why a service is not ready.
func (v *service) unready() string {
	status, body, err := v.get("/readyz")
	if err != nil || status != 200 {
		return fmt.Sprint(v.name, ": ", status, " ", body, err)
	}
	return ""
}

// Roles of brokers, which are looked up when they are put in trouble.
const (
	roleLeader      = "the leader of partition 3"
	roleCoordinator = "the coordinator of the sinks"
	roleAsker       = "the coordinator of reconcile"
	roleController  = "the active controller"
	allBrokers      = "all brokers"
	theDatabase     = "ClickHouse"

	kafkaWires = "Kafka's wires"
)

func (c *cluster) moves() []move {
	s := time.Second
	end := []string{"kill", "stop", "freeze"}
	return slices.Concat(
		each("ingest", s, 8*s, end, "ingest-1", "ingest-2"),
		each("sink", s, 12*s, end, "sink-1", "sink-2"),
		each("reconcile", s, 12*s, end, "reconcile-1", "reconcile-2"),
		each("brokers", 5*s, 15*s, end, roleLeader, roleCoordinator, roleController),
		each("brokers", 5*s, 15*s, []string{"kill", "freeze"}, roleAsker),
		each("brokers", 4*s, 10*s, []string{"freeze", "kill"}, allBrokers),
		each("clickhouse", 3*s, 15*s, end, theDatabase),
		// Wires. Those to Kafka share proxies.
		each(kafkaWires, 2*s, 10*s, wireTroubles, "ingest–Kafka", "sink–Kafka", "reconcile–Kafka"),
		each(kafkaWires, 2*s, 10*s, []string{"cut", "drop"}, "services–kafka-1", "services–kafka-2"),
		each("sink–ClickHouse", 2*s, 10*s, wireTroubles, "sink–ClickHouse"),
		each("reconcile–ClickHouse", 2*s, 10*s, wireTroubles, "reconcile–ClickHouse"),
		each("reconcile–WeChat", 2*s, 10*s, wireTroubles, "reconcile–WeChat"),
		// Disks.
		each("clickhouse", 5*s, 15*s, []string{"starve"}, theDatabase),
		each("brokers", 5*s, 10*s, []string{"starve"}, roleLeader),
		each(kafkaWires, 4*s, 8*s, []string{"starve"}, "ingest-1", "ingest-2"),
		// Members that join for a while, so that partitions are shared anew.
		each("sink-3", 4*s, 12*s, []string{"join"}, "sink-3"),
		each("reconcile-3", 4*s, 12*s, []string{"join"}, "reconcile-3"),
	)
}

// trouble makes a fault. It returns what it was made of, and what ends it.
func (c *cluster) trouble(m move) (on string, undo func() error, err error) {
	switch {
	case m.what == "starve":
		return c.starve(m)
	case m.what == "join":
		undo, err = c.services[m.whom].join()
	case c.wires.named[m.whom] != nil:
		undo, err = c.wires.trouble(m.what, m.whom)
	case c.services[m.whom] != nil:
		undo, err = c.services[m.whom].trouble(m.what)
	case m.whom == theDatabase:
		undo, err = c.database.trouble(m.what)
	case m.group == "brokers":
		return c.troubleBrokers(m)
	default:
		err = fmt.Errorf("nobody knows %s", m.whom)
	}
	return "", undo, err
}

// wholePatience is how long a fault of a broker waits until the last one is healed.
const wholePatience = 2 * time.Minute

func (c *cluster) troubleBrokers(m move) (on string, undo func() error, err error) {
	if why := c.await(context.Background(), wholePatience, func() string { return c.brokers.whole(topic, deadTopic, offsetsTopic) }); why != "" {
		return "", nil, fmt.Errorf("%w: the brokers need longer than %s for the last fault: %s", errLeftOut, wholePatience, why)
	}
	var chosen []*broker
	if m.whom == allBrokers {
		chosen = c.brokers.all
	} else {
		one, err := c.byRole(m.whom)
		if err != nil {
			return "", nil, err
		}
		chosen = []*broker{one}
		on = fmt.Sprintf("kafka-%d", one.id)
	}
	var undos []func() error
	for _, b := range chosen {
		undo, e := b.trouble(m.what)
		err = errors.Join(err, e)
		if undo != nil {
			undos = append(undos, undo)
		}
	}
	return on, func() error {
		var errs []error
		for _, undo := range undos {
			errs = append(errs, undo())
		}
		return errors.Join(errs...)
	}, err
}

// starve fills a disk.
func (c *cluster) starve(m move) (on string, undo func() error, err error) {
	switch m.whom {
	case theDatabase:
		undo, err = c.dbDisk.fill()
		return "", undo, err
	case roleLeader:
		return c.starveBroker(m)
	}
	return c.starveSpool(m.whom)
}

// starveBroker fills the disk of a broker, which then ends itself; who mends it
// makes room and starts it again.
func (c *cluster) starveBroker(m move) (on string, undo func() error, err error) {
	b, err := c.byRole(m.whom)
	if err != nil {
		return "", nil, err
	}
	empty, err := b.disk.fill()
	return fmt.Sprintf("kafka-%d", b.id), func() error { return errors.Join(empty(), b.revive()) }, err
}

// starveSpool fills the disk of a spool while Kafka cannot be reached, so that
// the spool is needed.
func (c *cluster) starveSpool(name string) (on string, undo func() error, err error) {
	v := c.services[name]
	over := v.stage.front.excuse(v.front, true)
	empty, err := c.spools[name].fill()
	if err != nil {
		over()
		return "", nil, err
	}
	mend, err := c.wires.trouble("cut", "ingest–Kafka")
	if err != nil {
		over()
		return "", empty, err
	}
	return "and its wire to Kafka cut", func() error {
		defer over()
		return errors.Join(empty(), mend())
	}, nil
}

// byRole finds the broker that has a role now.
func (c *cluster) byRole(role string) (*broker, error) {
	switch role {
	case roleLeader:
		return c.brokers.leader(topic, 3)
	case roleCoordinator:
		return c.brokers.coordinator(sinkGroup)
	case roleAsker:
		return c.brokers.coordinator(askGroup)
	case roleController:
		return c.brokers.controller()
	}
	return nil, fmt.Errorf("there is no role %s", role)
}

func (c *cluster) running() []*service {
	var all []*service
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		if v := c.services[name]; v.current(false) != nil && !strings.HasSuffix(name, "-3") {
			all = append(all, v)
		}
	}
	return all
}

func (c *cluster) checks(ctx context.Context) ([]check, error) {
	return storedChecks(ctx, c.client, c.db, topic, deadTopic, sinkGroup)
}

func (c *cluster) rows(ctx context.Context) ([]row, error) { return storedRows(ctx, c.db) }
