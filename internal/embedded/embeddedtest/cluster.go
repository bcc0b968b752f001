package embeddedtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qunfa/internal/embedded"
)

// ClusterName is what servers of a [Cluster] call it.
const ClusterName = "two"

// Cluster is two ClickHouse servers that know each other as the shards of one
// cluster, each without replicas. There is no Keeper: Replicated engines and
// ON CLUSTER do not work.
type Cluster struct {
	// Shards are the servers, in the order of their numbers.
	Shards []*Server
	// Username and Password are of a user of each of them who may do everything,
	// as which they also ask each other.
	Username, Password string
}

// ClusterOptions says how a cluster is to be; the zero value will do.
type ClusterOptions struct {
	// Way returns under which address a server is reached by the other one; nil:
	// its own.
	Way func(addr string) string
	// Users, if given, is a file for users.d of both servers.
	Users string
}

// NewCluster starts a cluster of the test's own.
func NewCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	mustBeInMain(t)
	exe, err := LocalEngine()
	if err != nil {
		t.Fatalf("no ClickHouse for tests: %v", err)
	}
	c := &Cluster{Username: "everything", Password: rand.Text()}
	for range 2 {
		c.Shards = append(c.Shards, &Server{Addr: freeAddr(t), Username: c.Username, Password: c.Password})
	}
	ways := c.Addrs()
	if o.Way != nil {
		ways = []string{o.Way(ways[0]), o.Way(ways[1])}
	}
	for i := range c.Shards {
		c.start(t, exe, i, ways, o.Users)
	}
	return c
}

// start starts the server of a shard, on the port that all of the cluster know.
func (c *Cluster) start(t testing.TB, exe string, shard int, ways []string, users string) {
	t.Helper()
	dir, addr := t.TempDir(), c.Shards[shard].Addr
	ways = slices.Clone(ways)
	ways[shard] = addr // a server knows itself by its own port
	c.writeFiles(t, dir, ways, users)
	_, port, _ := strings.Cut(addr, ":")
	number, _ := strconv.Atoi(port)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{Dir: dir, Logger: logger(), LocalEngine: exe, TCPPort: number})
	if err != nil {
		t.Fatalf("no ClickHouse for tests: %v", err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	if engine.Addr() != addr {
		t.Fatalf("somebody else was quicker to take the port of %s", addr)
	}
}

// freeAddr lies where the engine looks for a port: below those of outgoing connections.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+mathrand.IntN(12000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("found no free port")
	return ""
}

// Addrs are the addresses of the shards.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, s := range c.Shards {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// writeFiles puts files beside those of the engine, which the server adds to them.
func (c *Cluster) writeFiles(t testing.TB, dir string, ways []string, users string) {
	t.Helper()
	var shards strings.Builder
	for _, way := range ways {
		host, port, _ := strings.Cut(way, ":")
		fmt.Fprintf(&shards, "<shard><replica><host>%s</host><port>%s</port><user>%s</user><password>%s</password></replica></shard>\n",
			host, port, c.Username, c.Password)
	}
	everything := fmt.Sprintf("<%[1]s><password_sha256_hex>%[2]x</password_sha256_hex><profile>default</profile><quota>default</quota>"+
		"<networks><ip>127.0.0.1</ip></networks><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants></%[1]s>",
		c.Username, sha256.Sum256([]byte(c.Password)))
	for name, text := range map[string]string{
		"config.d/cluster.xml": "<remote_servers><" + ClusterName + ">\n" + shards.String() + "</" + ClusterName + "></remote_servers>",
		"users.d/cluster.xml":  "<users>" + everything + "</users>",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("<clickhouse>\n"+text+"\n</clickhouse>\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if users == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "users.d", "users.xml"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
}
