package clickhouse

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
)

// A Role is what a database user may do. Roles are written as grants without
// the user, as ClickHouse's users.xml takes them; [UsersSQL] adds the user.
type Role string

// The roles.
const (
	// RoleOwner migrates: it creates the database, its tables and views. The
	// views read with the rights of the user who created them, so that user must
	// stay, and keep its rights.
	RoleOwner Role = "owner"
	// RoleWriter is for the services: it inserts and reads rows, and can change
	// or drop nothing.
	RoleWriter Role = "writer"
	// RoleReader is for people and Grafana: it reads the views, and nothing else.
	RoleReader Role = "reader"
)

// Roles lists every role.
func Roles() []Role { return []Role{RoleOwner, RoleWriter, RoleReader} }

// userName is what can name a user both in SQL and as an element of users.xml.
var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func checkUser(name string) error {
	if !userName.MatchString(name) {
		return fmt.Errorf("user name %q: want letters, digits, '_', '-' and '.', beginning with a letter", name)
	}
	return nil
}

// Grants returns what a user of the role needs in the database. What the
// statements name need not exist yet.
func Grants(role Role, database, user string) ([]string, error) {
	if err := checkName("database", database); err != nil {
		return nil, err
	}
	if err := checkUser(user); err != nil {
		return nil, err
	}
	switch role {
	case RoleOwner:
		return ownerGrants(database, user), nil
	case RoleWriter:
		return writerGrants(database), nil
	case RoleReader:
		return readerGrants(database)
	}
	return nil, fmt.Errorf("role %q: want owner, writer or reader", role)
}

func ownerGrants(database, user string) []string {
	return []string{
		"GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, ALTER, SELECT, INSERT, SHOW ON " + quoteName(database) + ".*",
		"GRANT TABLE ENGINE ON MergeTree",
		"GRANT TABLE ENGINE ON ReplacingMergeTree",
		"GRANT SET DEFINER ON " + quoteName(user),
	}
}

func writerGrants(database string) []string {
	var grants []string
	for _, table := range []string{tableEvents, tableRecords, tableMessages, tableAccounts, tableRebuilds} {
		grants = append(grants, "GRANT SELECT, INSERT ON "+quoteName(database)+"."+table)
	}
	for _, table := range []string{tableSettings, tableMigrations} {
		grants = append(grants, "GRANT SELECT ON "+quoteName(database)+"."+table)
	}
	return grants
}

func readerGrants(database string) ([]string, error) {
	views, err := Views()
	if err != nil {
		return nil, err
	}
	var grants []string
	for _, v := range views {
		grants = append(grants, "GRANT SELECT ON "+quoteName(database)+"."+v)
	}
	return grants, nil
}

// User is a database user to create.
type User struct {
	Name string
	Role Role
	// PasswordSHA256 is the lower-case hexadecimal SHA-256 of the password, so
	// that what is generated holds no password.
	PasswordSHA256 string
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (u User) validate() error {
	if !sha256Hex.MatchString(u.PasswordSHA256) {
		return fmt.Errorf("user %q: the password's SHA-256 must be 64 lower-case hexadecimal digits", u.Name)
	}
	return checkUser(u.Name)
}

// readerLimits keeps one reader's question from starving everybody else's.
// readonly=2 lets clients set what they set for themselves, within the maxima.
var readerLimits = []struct {
	name  string
	value int64
	max   int64 // 0: the value is fixed
}{
	{"readonly", 2, 0},
	{"max_execution_time", 60, 300},
	{"max_memory_usage", 4 << 30, 4 << 30},
	{"max_concurrent_queries_for_user", 50, 0},
}

// UsersSQL returns statements that create the users for the database, for
// servers that manage users in SQL. They can be run again.
func UsersSQL(database string, users []User) ([]string, error) {
	var statements []string
	for _, u := range users {
		grants, err := u.grants(database)
		if err != nil {
			return nil, err
		}
		statements = append(statements, "CREATE USER IF NOT EXISTS "+quoteName(u.Name)+
			" IDENTIFIED WITH sha256_hash BY "+quoteText(u.PasswordSHA256)+u.settingsSQL())
		for _, g := range grants {
			statements = append(statements, g+" TO "+quoteName(u.Name))
		}
	}
	return statements, nil
}

func (u User) grants(database string) ([]string, error) {
	if err := u.validate(); err != nil {
		return nil, err
	}
	return Grants(u.Role, database, u.Name)
}

func (u User) settingsSQL() string {
	if u.Role != RoleReader {
		return ""
	}
	var settings []string
	for _, l := range readerLimits {
		bound := fmt.Sprintf("MAX %d", l.max)
		if l.max == 0 {
			bound = "READONLY"
		}
		settings = append(settings, fmt.Sprintf("%s = %d %s", l.name, l.value, bound))
	}
	return " SETTINGS " + strings.Join(settings, ", ")
}

// UsersXML returns the same as [UsersSQL] as a file for the server's users.d
// directory, for servers that manage users in files.
func UsersXML(database string, users []User) (string, error) {
	var b strings.Builder
	b.WriteString("<clickhouse>\n  <profiles>\n    <qunfa_reader>\n")
	for _, l := range readerLimits {
		fmt.Fprintf(&b, "      <%s>%d</%s>\n", l.name, l.value, l.name)
	}
	b.WriteString("      <constraints>\n")
	for _, l := range readerLimits {
		bound := fmt.Sprintf("<max>%d</max>", l.max)
		if l.max == 0 {
			bound = "<readonly/>"
		}
		fmt.Fprintf(&b, "        <%s>%s</%s>\n", l.name, bound, l.name)
	}
	b.WriteString("      </constraints>\n    </qunfa_reader>\n    <qunfa_service/>\n  </profiles>\n  <users>\n")
	for _, u := range users {
		grants, err := u.grants(database)
		if err != nil {
			return "", err
		}
		u.writeXML(&b, grants)
	}
	b.WriteString("  </users>\n</clickhouse>\n")
	return b.String(), nil
}

// writeXML leaves out which addresses the user may come from: the server's own
// configuration should say so, and by default it is any.
func (u User) writeXML(b *strings.Builder, grants []string) {
	profile := "qunfa_service"
	if u.Role == RoleReader {
		profile = "qunfa_reader"
	}
	fmt.Fprintf(b, "    <%s>\n      <password_sha256_hex>%s</password_sha256_hex>\n      <profile>%s</profile>\n      <quota>default</quota>\n      <networks><ip>::/0</ip></networks>\n      <grants>\n",
		u.Name, u.PasswordSHA256, profile)
	for _, g := range grants {
		b.WriteString("        <query>")
		_ = xml.EscapeText(b, []byte(g)) // a strings.Builder does not fail
		b.WriteString("</query>\n")
	}
	fmt.Fprintf(b, "      </grants>\n    </%s>\n", u.Name)
}
