package embedded

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// Names below the directory of an engine.
const (
	engineLockFile  = "engine.lock"
	credentialsFile = "credentials.json"
	configFile      = "config.xml"
	usersFile       = "users.xml"
	dataDir         = "data"
)

// host is where the engine listens.
const host = "127.0.0.1"

//go:embed server/config.xml server/users.xml
var serverFiles embed.FS

// serverTemplates are ClickHouse's two configuration files. Everything that is
// put into them goes through escapeXML.
var serverTemplates = template.Must(template.New("").ParseFS(serverFiles, "server/*.xml"))

// credentials are the passwords of the two users. They are made once per
// directory, so that what people wrote into their tools stays right.
type credentials struct {
	Password       string `json:"password"`
	ReaderPassword string `json:"reader_password"`
}

// loadCredentials reads the passwords of a directory, or makes them.
func loadCredentials(dir string) (credentials, error) {
	path := filepath.Join(dir, credentialsFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return createCredentials(path)
	}
	if err != nil {
		return credentials{}, fmt.Errorf("cannot read the passwords of the local ClickHouse: %w", err)
	}
	var c credentials
	if err := json.Unmarshal(data, &c); err != nil || c.Password == "" || c.ReaderPassword == "" {
		return credentials{}, fmt.Errorf("%s is damaged: remove it to get new passwords", path)
	}
	return c, nil
}

func createCredentials(path string) (credentials, error) {
	c := credentials{Password: rand.Text(), ReaderPassword: rand.Text()}
	data, err := json.Marshal(c)
	if err != nil {
		return credentials{}, err
	}
	return c, writePrivate(path, append(data, '\n'))
}

// serverSettings is what the templates are filled with.
type serverSettings struct {
	DataDir, UsersFile                   string
	Host                                 string
	TCPPort, HTTPPort                    int
	MaxMemory, QueryMemory, ReaderMemory int64 // bytes
	PasswordSHA256, ReaderPasswordSHA256 string
	OwnerGrants, ReaderGrants            []string
	ReaderTimeZone                       string
}

func newServerSettings(c EngineConfig, creds credentials, p ports) serverSettings {
	return serverSettings{
		DataDir:              escapeXML(filepath.Join(c.Dir, dataDir)),
		UsersFile:            usersFile, // relative to config.xml
		Host:                 host,
		TCPPort:              p.tcp,
		HTTPPort:             p.http,
		MaxMemory:            c.MaxMemory,
		QueryMemory:          c.MaxMemory / 4 * 3,
		ReaderMemory:         c.MaxMemory / 2,
		PasswordSHA256:       hexSHA256(creds.Password),
		ReaderPasswordSHA256: hexSHA256(creds.ReaderPassword),
		OwnerGrants:          escapeAll(ownerGrants(c)),
		ReaderGrants:         escapeAll(readerGrants(c)),
		ReaderTimeZone:       escapeXML(c.ReaderTimeZone),
	}
}

// ownerGrants is what the user qunfa may do: everything in its databases, and
// beyond them what migrations and status need.
func ownerGrants(c EngineConfig) []string {
	if c.AllDatabases {
		return []string{"GRANT ALL ON *.* WITH GRANT OPTION"}
	}
	grants := []string{
		// Views that run with the owner's rights, so that readers need no
		// grant on tables.
		"GRANT SET DEFINER ON " + Username,
		"GRANT SELECT ON system.*",
		"GRANT SHOW ON *.*",
		// External tables of a query are temporary ones.
		"GRANT CREATE TEMPORARY TABLE ON *.*",
		// The kinds of tables are not what is restricted; those that reach
		// outside need rights of their own, which are not given.
		"GRANT TABLE ENGINE ON *",
		"GRANT KILL QUERY ON *.*",
		"GRANT SYSTEM FLUSH LOGS ON *.*",
	}
	for _, name := range c.Databases {
		grants = append(grants, "GRANT ALL ON "+name+".*")
	}
	return grants
}

// readerGrants never is empty: a user without a list of grants has all rights.
func readerGrants(c EngineConfig) []string {
	return append([]string{"GRANT SELECT ON system.one"}, c.ReaderGrants...)
}

// writeServerFiles writes the configuration of an engine.
func writeServerFiles(c EngineConfig, creds credentials, p ports) error {
	settings := newServerSettings(c, creds, p)
	for _, name := range []string{configFile, usersFile} {
		var out bytes.Buffer
		if err := serverTemplates.ExecuteTemplate(&out, name, settings); err != nil {
			return fmt.Errorf("cannot write %s: %w", name, err)
		}
		if err := writePrivate(filepath.Join(c.Dir, name), out.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func escapeXML(s string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(s)) // a Builder takes everything
	return out.String()
}

func escapeAll(list []string) []string {
	escaped := make([]string, len(list))
	for i, s := range list {
		escaped[i] = escapeXML(s)
	}
	return escaped
}
