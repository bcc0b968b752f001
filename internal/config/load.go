package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxFile bounds a configuration file. 100,000 accounts take about 30 MiB.
const maxFile = 256 << 20

// Loader reads configurations. The zero value reads the environment of the
// process.
type Loader struct {
	// LookupEnv replaces os.LookupEnv.
	LookupEnv func(string) (string, bool)
}

// Load reads and validates the file at path, with the files of accounts_dir.
// The error joins every [*Problem]. Warnings are returned even with an error.
func Load(path string) (*Config, []Warning, error) { return Loader{}.Load(path) }

// Load is [Load] with the loader's environment.
func (l Loader) Load(path string) (*Config, []Warning, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	return l.Parse(path, data)
}

// Parse is Load of a file that has been read. The path is for messages, and
// its directory is where relative paths count from.
func (l Loader) Parse(path string, data []byte) (*Config, []Warning, error) {
	c := defaults()
	c.origin = &origin{marks: map[string]mark{}}
	d := l.decoder(path, data, c.origin)
	if n := d.parse(data); n != nil {
		d.decode("", n, reflect.ValueOf(c).Elem())
	}
	c.derive()
	c.absolute(d)
	c.own = len(c.Accounts)
	extra := l.accountsDir(c.AccountsDir, c.origin, &d.problems, nil)
	c.Accounts = inherit(append(c.Accounts, extra.accounts...), c.Platforms)
	warnings := append(d.warnings, extra.warnings...)
	if err := d.err(); err != nil {
		return nil, warnings, err
	}
	if err := c.Validate(); err != nil {
		return nil, warnings, err
	}
	warnings = append(warnings, c.Warnings()...)
	c.origin.forgetAccounts()
	c.kept = extra.kept
	return c, warnings, nil
}

func (l Loader) decoder(path string, data []byte, o *origin) *decoder {
	lookup := l.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	return &decoder{
		src:     newSource(path, data),
		dir:     filepath.Dir(path),
		lookup:  lookup,
		origin:  o,
		anchors: map[string]ast.Node{},
	}
}

// derive fills in what follows from other values.
func (c *Config) derive() {
	if c.Kafka.DeadTopic == "" {
		c.Kafka.DeadTopic = deadTopicOf(c.Kafka.Topic)
	}
	if c.Kafka.MinInsyncReplicas == 0 {
		c.Kafka.MinInsyncReplicas = max(1, c.Kafka.ReplicationFactor-1)
	}
	if c.Reconcile.Instance == "" {
		c.Reconcile.Instance = hostName()
	}
	for _, t := range []*TLS{&c.Kafka.TLS, &c.ClickHouse.TLS} {
		t.Enabled = t.Enabled || t.CAFile != "" || t.CertFile != "" || t.KeyFile != "" || t.ServerName != ""
	}
}

// absolute makes the names of files count from the configuration's directory.
func (c *Config) absolute(d *decoder) {
	for _, p := range []*string{
		&c.Kafka.TLS.CAFile, &c.Kafka.TLS.CertFile, &c.Kafka.TLS.KeyFile,
		&c.ClickHouse.TLS.CAFile, &c.ClickHouse.TLS.CertFile, &c.ClickHouse.TLS.KeyFile,
		&c.Ingest.SpoolDir, &c.Embedded.Dir, &c.AccountsDir,
	} {
		*p = d.abs(*p)
	}
}

func deadTopicOf(topic string) string { return topic + ".dead" }

func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "reconcile"
	}
	return name
}

// readFile reads a configuration file and drops a byte order mark, which
// editors on Windows write.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Problem{Kind: ErrFile, Message: fmt.Sprintf("cannot read the file: %v", withoutName(err)), Place: Place{File: path}}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &Problem{Kind: ErrFile, Message: fmt.Sprintf("cannot read the file: %v", withoutName(err)), Place: Place{File: path}}
	}
	if len(data) > maxFile {
		return nil, &Problem{Kind: ErrFile, Message: fmt.Sprintf("larger than %d MiB", maxFile>>20), Place: Place{File: path}}
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}

// isLoopback says whether only this machine can connect to an address.
func isLoopback(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}
