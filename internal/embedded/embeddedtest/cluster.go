package embeddedtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
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
	// Links are how the servers reach each shard, also itself.
	Links []*Link
	// Username and Password are of a user of each of them who may do everything.
	Username, Password string
}

// NewCluster starts a cluster of the test's own. users are elements of
// users.xml for both servers, such as <ann><password>secret</password></ann>.
func NewCluster(t testing.TB, users ...string) *Cluster {
	t.Helper()
	mustBeInMain(t)
	exe, err := LocalEngine()
	if err != nil {
		t.Fatalf("no ClickHouse for tests: %v", err)
	}
	c := &Cluster{Links: []*Link{newLink(t), newLink(t)}, Username: "everything", Password: rand.Text()}
	for _, link := range c.Links {
		dir := t.TempDir()
		c.writeFiles(t, dir, users)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{Dir: dir, Logger: logger(), LocalEngine: exe})
		if err != nil {
			t.Fatalf("no ClickHouse for tests: %v", err)
		}
		t.Cleanup(func() {
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
		})
		link.leadTo(engine.Addr())
		c.Shards = append(c.Shards, &Server{Addr: engine.Addr(), Username: c.Username, Password: c.Password})
	}
	return c
}

// Addrs are the addresses of the shards, not by their links.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, s := range c.Shards {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// writeFiles puts files beside those of the engine, which the server adds to them.
func (c *Cluster) writeFiles(t testing.TB, dir string, users []string) {
	t.Helper()
	var shards strings.Builder
	for _, link := range c.Links {
		host, port, _ := strings.Cut(link.Addr(), ":")
		fmt.Fprintf(&shards, "<shard><replica><host>%s</host><port>%s</port><user>%s</user><password>%s</password></replica></shard>\n",
			host, port, c.Username, c.Password)
	}
	everything := fmt.Sprintf("<%[1]s><password_sha256_hex>%[2]x</password_sha256_hex><profile>default</profile><quota>default</quota>"+
		"<networks><ip>127.0.0.1</ip></networks><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants></%[1]s>",
		c.Username, sha256.Sum256([]byte(c.Password)))
	for name, text := range map[string]string{
		"config.d/cluster.xml": "<remote_servers><" + ClusterName + ">\n" + shards.String() + "</" + ClusterName + "></remote_servers>",
		"users.d/cluster.xml":  "<users>" + everything + strings.Join(users, "\n") + "</users>",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("<clickhouse>\n"+text+"\n</clickhouse>\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
