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
	// RoleClient is for whoever may see some accounts and no others: it reads
	// the views, of which row policies leave it the rows of its accounts. Which
	// these are stands in the database, under the user's name; see [DB.SetClients].
	RoleClient Role = "client"
)

// Roles lists every role.
func Roles() []Role { return []Role{RoleOwner, RoleWriter, RoleReader, RoleClient} }

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
	case RoleClient:
		return clientGrants(database)
	}
	return nil, fmt.Errorf("role %q: want owner, writer, reader or client", role)
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
	for _, table := range []string{tableSettings, tableErasures, tableMigrations} {
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
	// InCluster gives what else is needed in a [Cluster]. Every server of it must
	// get the users.
	InCluster bool
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (u User) validate() error {
	if !sha256Hex.MatchString(u.PasswordSHA256) {
		return fmt.Errorf("user %q: the password's SHA-256 must be 64 lower-case hexadecimal digits", u.Name)
	}
	return checkUser(u.Name)
}

func (u User) grants(database string) ([]string, error) {
	if err := u.validate(); err != nil {
		return nil, err
	}
	grants, err := Grants(u.Role, database, u.Name)
	if err == nil && u.InCluster {
		grants = append(grants, clusterGrants(u.Role, database)...)
	}
	return grants, err
}

// UsersSQL returns statements that create the users for the database, for
// servers that manage users in SQL. They can be run again. What limits a user
// comes before what the user is allowed, so that a run which breaks off leaves
// nobody with too much.
func UsersSQL(database string, users []User) ([]string, error) {
	var statements []string
	for _, p := range profilesOf(users) {
		statements = append(statements, p.sql())
	}
	for _, u := range users {
		grants, err := u.grants(database)
		if err != nil {
			return nil, err
		}
		statements = append(statements, "CREATE USER IF NOT EXISTS "+quoteName(u.Name)+
			" IDENTIFIED WITH sha256_hash BY "+quoteText(u.PasswordSHA256))
		if p, ok := profileOf(u.Role); ok {
			statements = append(statements, "ALTER USER "+quoteName(u.Name)+" SETTINGS PROFILE "+quoteText(p.name))
		}
		policies, err := u.policies(database)
		if err != nil {
			return nil, err
		}
		for _, p := range policies {
			statements = append(statements, p.sql(database, u.Name))
		}
		for _, g := range grants {
			statements = append(statements, g+" TO "+quoteName(u.Name))
		}
	}
	return append(statements, quotaSQL(users)...), nil
}

// UsersXML returns the same as [UsersSQL] as a file for the server's users.d
// directory, for servers that manage users in files.
func UsersXML(database string, users []User) (string, error) {
	var b strings.Builder
	b.WriteString("<clickhouse>\n  <profiles>\n")
	for _, p := range profilesOf(users) {
		p.writeXML(&b)
	}
	b.WriteString("    <qunfa_service/>\n  </profiles>\n")
	writeQuotaXML(&b, users)
	b.WriteString("  <users>\n")
	for _, u := range users {
		if err := u.writeXML(&b, database); err != nil {
			return "", err
		}
	}
	b.WriteString("  </users>\n</clickhouse>\n")
	return b.String(), nil
}

// writeXML leaves out which addresses the user may come from: the server's own
// configuration should say so, and by default it is any.
func (u User) writeXML(b *strings.Builder, database string) error {
	grants, err := u.grants(database)
	if err != nil {
		return err
	}
	policies, err := u.policies(database)
	if err != nil {
		return err
	}
	profile, quota := "qunfa_service", "default"
	if p, ok := profileOf(u.Role); ok {
		profile = p.name
	}
	if u.Role == RoleClient {
		quota = clientQuota
	}
	fmt.Fprintf(b, "    <%s>\n      <password_sha256_hex>%s</password_sha256_hex>\n      <profile>%s</profile>\n      <quota>%s</quota>\n      <networks><ip>::/0</ip></networks>\n      <grants>\n",
		u.Name, u.PasswordSHA256, profile, quota)
	for _, g := range grants {
		b.WriteString("        <query>" + escapeXML(g) + "</query>\n")
	}
	b.WriteString("      </grants>\n")
	if err := writePoliciesXML(b, database, policies); err != nil {
		return fmt.Errorf("user %q: %w", u.Name, err)
	}
	fmt.Fprintf(b, "    </%s>\n", u.Name)
	return nil
}

func escapeXML(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}
