package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"qunfa/internal/clickhouse"
)

// deploySecretsCmd makes the passwords of a deployment, so that none has a
// default. The init service of docker-compose.yml runs it; people need not.
//
// Every directory below Dir is a volume of its own, mounted where it is needed
// and nowhere else. A secret that is there stays. The file of ClickHouse's users
// is written each time: it follows from the passwords and from the version.
type deploySecretsCmd struct {
	Dir      string   `arg:"" help:"Directory that holds the volumes." type:"existingdir"`
	Database string   `help:"Database of the grants." default:"qunfa"`
	Own      []string `help:"Directories to hand to the services, for their files." placeholder:"DIR" type:"existingdir"`

	ServiceUID    int `help:"User of the services." name:"service-uid" default:"65532"`
	GrafanaUID    int `help:"User of Grafana." name:"grafana-uid" default:"472"`
	ClickHouseGID int `help:"Group of ClickHouse." name:"clickhouse-gid" default:"101"`
}

// Users of ClickHouse in a deployment, besides the administrator.
const (
	deployOwner  = "qunfa_owner"
	deployWriter = "qunfa_writer"
	deployReader = "qunfa_reader"
)

// usersFileName is the file in users.d. ClickHouse merges the files in the order of names.
const usersFileName = "qunfa.xml"

// Run implements the command.
func (c *deploySecretsCmd) Run(g *globals) error {
	passwords := map[string]string{}
	for _, s := range []struct {
		name, file string
		uid        int
	}{
		{deployOwner, "owner/clickhouse.password", c.ServiceUID},
		{deployWriter, "services/clickhouse.password", c.ServiceUID},
		{deployReader, "reader/clickhouse.password", c.ServiceUID},
		{"", "services/api_token", c.ServiceUID},
		{"", "clickhouse/admin.password", os.Getuid()},
		{"", "grafana/admin.password", c.GrafanaUID},
	} {
		secret, err := keepSecret(filepath.Join(c.Dir, s.file), rand.Text(), s.uid)
		if err != nil {
			return err
		}
		passwords[s.name] = secret
	}
	// Grafana asks as the reader, with a copy that it may read.
	if err := replaceFile(filepath.Join(c.Dir, "grafana/clickhouse.password"), []byte(passwords[deployReader]+"\n"), 0o400, c.GrafanaUID, -1); err != nil {
		return err
	}
	if err := c.writeUsers(passwords); err != nil {
		return err
	}
	for _, dir := range append(c.Own, filepath.Join(c.Dir, "owner"), filepath.Join(c.Dir, "services"), filepath.Join(c.Dir, "reader")) {
		if err := handOver(dir, c.ServiceUID); err != nil {
			return err
		}
	}
	if err := handOver(filepath.Join(c.Dir, "grafana"), c.GrafanaUID); err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, "secrets and ClickHouse's users are in their volumes")
	return nil
}

// writeUsers writes what ClickHouse knows of the users: hashes and grants.
func (c *deploySecretsCmd) writeUsers(passwords map[string]string) error {
	var users []clickhouse.User
	for _, u := range []struct {
		name string
		role clickhouse.Role
	}{{deployOwner, clickhouse.RoleOwner}, {deployWriter, clickhouse.RoleWriter}, {deployReader, clickhouse.RoleReader}} {
		sum := sha256.Sum256([]byte(passwords[u.name]))
		users = append(users, clickhouse.User{Name: u.name, Role: u.role, PasswordSHA256: hex.EncodeToString(sum[:])})
	}
	xml, err := clickhouse.UsersXML(c.Database, users)
	if err != nil {
		return &usageError{err}
	}
	return replaceFile(filepath.Join(c.Dir, "users.d", usersFileName), []byte(xml), 0o640, -1, c.ClickHouseGID)
}

// keepSecret returns the secret of a file; a file that is not there gets the new one.
func keepSecret(path, fresh string, uid int) (string, error) {
	old, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(old)) > 0 {
		return string(bytes.TrimSpace(old)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return fresh, replaceFile(path, []byte(fresh+"\n"), 0o400, uid, -1)
}

// replaceFile writes a whole file under its final mode and owner, and only then
// under its name. The directory is made if need be.
func replaceFile(path string, content []byte, mode fs.FileMode, uid, gid int) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// A name without the file's ending: ClickHouse would read a temporary *.xml.
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Chown(uid, gid), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), removeIfThere(f.Name()))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// handOver gives a directory, not what is in it, to one user alone.
func handOver(dir string, uid int) error {
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return os.Chown(dir, uid, -1)
}
