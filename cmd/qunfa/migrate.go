package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
)

// migrateCmd prepares the servers that the configuration names. A local stack
// prepares itself.
type migrateCmd struct {
	Grants   bool   `help:"Change nothing; print the SQL that makes the users: the writer for the services, the reader for people, and those of clickhouse.clients, who see their accounts alone." xor:"print"`
	UsersXML bool   `help:"The same as a file for users.d, for servers that manage users in files." name:"users-xml" xor:"print"`
	Writer   string `help:"Name of the writer. Default: clickhouse.username." placeholder:"NAME"`
	Reader   string `help:"Name of the reader." default:"qunfa_reader"`

	WriterPassword string `help:"Password of the writer. Default: clickhouse.password, else a new one." env:"QUNFA_WRITER_PASSWORD" placeholder:"PASSWORD"`
	ReaderPassword string `help:"Password of the reader. Default: a new one." env:"QUNFA_READER_PASSWORD" placeholder:"PASSWORD"`
}

// Run implements the command.
func (c *migrateCmd) Run(g *globals) error {
	if c.Grants || c.UsersXML {
		cfg, err := g.loadConfig()
		if err != nil {
			return err
		}
		return c.printUsers(g, cfg)
	}
	cfg, opts, err := c.servers(g)
	if err != nil {
		return err
	}
	if len(cfg.Kafka.Brokers) == 0 {
		fmt.Fprintln(g.Stdout, "no kafka.brokers in the configuration: the topics are left alone")
	}
	if err := app.Migrate(g.ctx, cfg, opts, func(line string) { fmt.Fprintln(g.Stdout, line) }); err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, "everything is there")
	return nil
}

// servers are those of the configuration alone, unless --data is given.
func (c *migrateCmd) servers(g *globals) (*config.Config, app.Options, error) {
	if g.Data != "" {
		t, err := g.target()
		if err != nil {
			return nil, app.Options{}, err
		}
		return t.cfg, t.opts, nil
	}
	cfg, err := g.requireConfig()
	if err != nil {
		return nil, app.Options{}, err
	}
	if err := cfg.ValidateFor(config.ServiceMigrate); err != nil {
		return nil, app.Options{}, &usageError{err}
	}
	opts, err := g.options()
	return cfg, opts, err
}

// printUsers prints statements or a file. Passwords that had to be made up go
// to standard error, once: what is printed holds their hashes alone.
func (c *migrateCmd) printUsers(g *globals, cfg *config.Config) error {
	writer := c.Writer
	if writer == "" {
		writer = cfg.ClickHouse.Username
	}
	writerPassword := c.WriterPassword
	if writerPassword == "" {
		writerPassword = cfg.ClickHouse.Password.Reveal()
	}
	users := []clickhouse.User{
		{Name: writer, Role: clickhouse.RoleWriter, PasswordSHA256: c.hash(g, writer, writerPassword)},
		{Name: c.Reader, Role: clickhouse.RoleReader, PasswordSHA256: c.hash(g, c.Reader, c.ReaderPassword)},
	}
	for _, k := range cfg.ClickHouse.Clients {
		users = append(users, clickhouse.User{Name: k.Name, Role: clickhouse.RoleClient, PasswordSHA256: c.hash(g, k.Name, k.Password.Reveal())})
	}
	for i := range users {
		users[i].InCluster = cfg.ClickHouse.Cluster.Name != ""
	}
	if err := distinct(users); err != nil {
		return err
	}
	if c.UsersXML {
		xml, err := clickhouse.UsersXML(cfg.ClickHouse.Database, users)
		if err != nil {
			return &usageError{err}
		}
		_, err = fmt.Fprint(g.Stdout, xml)
		return err
	}
	statements, err := clickhouse.UsersSQL(cfg.ClickHouse.Database, users)
	if err != nil {
		return &usageError{err}
	}
	for _, s := range statements {
		fmt.Fprintln(g.Stdout, s+";")
	}
	return nil
}

// distinct refuses one name for two users: it would get the rights of both.
func distinct(users []clickhouse.User) error {
	seen := map[string]clickhouse.Role{}
	for _, u := range users {
		if role, ok := seen[u.Name]; ok {
			return usagef("the %s and a %s cannot both be the user %s", role, u.Role, u.Name)
		}
		seen[u.Name] = u.Role
	}
	return nil
}

func (c *migrateCmd) hash(g *globals, user, password string) string {
	if password == "" {
		password = rand.Text()
		fmt.Fprintf(g.Stderr, "the password of %s is %s (shown only here; what is printed holds its hash)\n", user, password)
	}
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}
