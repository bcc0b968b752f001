package clickhouse_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
)

// accessServer returns a server with one user per role, each with its name as
// password, made as operators make them; and the database. A server that was
// named for the tests gets them in SQL; the local engine manages users in files.
func accessServer(t *testing.T) (addr, database string, names map[clickhouse.Role]string) {
	t.Helper()
	names = map[clickhouse.Role]string{}
	if os.Getenv("QUNFA_TEST_CLICKHOUSE") == "" {
		return accessEngine(t, names), "access", names
	}
	server := embeddedtest.ClickHouse(t)
	database = server.Database(t)
	admin := open(t, clickhouse.Config{Addr: []string{server.Addr}, Username: server.Username, Password: server.Password, Database: "default"})
	statements, err := clickhouse.UsersSQL(database, users(database, names))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(statements, "CREATE DATABASE IF NOT EXISTS other", "CREATE TABLE IF NOT EXISTS other.secret (a Int64) ENGINE = MergeTree ORDER BY a") {
		_, err := admin.Query(t.Context(), s)
		if e, ok := errors.AsType[*clickhouse.Error](err); ok && e.Code == 514 { // no place for users but files
			return accessEngine(t, names), "access", names
		}
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	t.Cleanup(func() { dropUsers(t, names) })
	return server.Addr, database, names
}

func dropUsers(t *testing.T, names map[clickhouse.Role]string) {
	server := embeddedtest.ClickHouse(t)
	admin := open(t, clickhouse.Config{Addr: []string{server.Addr}, Username: server.Username, Password: server.Password, Database: "default"})
	for _, name := range names {
		if _, err := admin.Query(context.Background(), "DROP USER "+name); err != nil {
			t.Error(err)
		}
	}
}

func users(prefix string, names map[clickhouse.Role]string) []clickhouse.User {
	var users []clickhouse.User
	for _, role := range clickhouse.Roles() {
		names[role] = prefix + "_" + string(role)
		hash := sha256.Sum256([]byte(names[role]))
		users = append(users, clickhouse.User{Name: names[role], Role: role, PasswordSHA256: hex.EncodeToString(hash[:])})
	}
	return users
}

// accessEngine starts an engine of its own, which reads its users from a file.
func accessEngine(t *testing.T, names map[clickhouse.Role]string) (addr string) {
	t.Helper()
	file, err := clickhouse.UsersXML("access", users("access", names))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "users.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "users.d", "qunfa.xml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		t.Fatal(err)
	}
	engine, err := embedded.StartEngine(t.Context(), embedded.EngineConfig{Dir: dir, LocalEngine: exe, Databases: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	other := open(t, clickhouse.Config{Addr: []string{engine.Addr()}, Username: engine.Username(), Password: engine.Password(), Database: "default"})
	query(t, other, "CREATE DATABASE other")
	query(t, other, "CREATE TABLE other.secret (a Int64) ENGINE = MergeTree ORDER BY a")
	return engine.Addr()
}

func TestAccess(t *testing.T) {
	t.Parallel()
	addr, database, names := accessServer(t)
	as := func(role clickhouse.Role) *clickhouse.DB {
		return open(t, clickhouse.Config{Addr: []string{addr}, Database: database, Username: names[role], Password: names[role]})
	}
	owner := as(clickhouse.RoleOwner)
	if err := owner.Migrate(t.Context(), nil); err != nil {
		t.Fatalf("the owner cannot migrate: %v", err)
	}
	if got := steps(t, owner)["migration"]; got != 0 {
		t.Errorf("the second migrate of the owner repeated %d migrations", got)
	}
	t.Run("writer", func(t *testing.T) { testWriter(t, as(clickhouse.RoleWriter)) })
	t.Run("reader", func(t *testing.T) { testReader(t, as(clickhouse.RoleReader)) })
	t.Run("client", func(t *testing.T) {
		testClient(t, owner, as(clickhouse.RoleWriter), as(clickhouse.RoleClient), names[clickhouse.RoleClient])
	})
	t.Run("owner", func(t *testing.T) { testOwner(t, owner) })
}

// testOwner does what is for the owner alone.
func testOwner(t *testing.T, db *clickhouse.DB) {
	now := time.Now()
	if err := db.Erase(t.Context(), clickhouse.Erasure{AppID: "wx1", Scope: clickhouse.EraseAll, Before: now, Who: "test"}, nil); err != nil {
		t.Errorf("the owner cannot erase: %v", err)
	}
	if err := db.Expire(t.Context(), clickhouse.Expiry{Before: now, RawBefore: now, Who: "test"}, nil); err != nil {
		t.Errorf("the owner cannot let anything expire: %v", err)
	}
	if n := one(t, db, "SELECT count() FROM event_rows"); n != uint64(0) {
		t.Errorf("%v events are left", n)
	}
}

func testWriter(t *testing.T, db *clickhouse.DB) {
	if err := db.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	f := newFixture(t, db)
	f.write(f.submitted("wx1", 1, "2026-11-20T10:00:00+08:00", nil), f.finished("wx1", 1, "2026-11-20T10:01:00+08:00", "send success", 100, 90, 88, 2))
	if err := db.UpsertAccounts(t.Context(), []clickhouse.Account{{AppID: "wx1", OriginalID: "gh_1", Name: "一号"}}); err != nil {
		t.Error(err)
	}
	if _, err := db.Ends(t.Context(), f.topic); err != nil {
		t.Error(err)
	}
	if kept, _, err := db.LeaveOut(t.Context(), []events.Event{f.polled("wx1", 1, "2026-11-20T11:00:00+08:00", "SEND_SUCCESS")}); err != nil || len(kept) != 1 {
		t.Errorf("what to leave out: %v, %v", kept, err)
	}
	if _, err := db.Pending(t.Context(), f.now, events.Key{}, 10); err != nil {
		t.Error(err)
	}
	if _, err := db.Delivery(t.Context(), f.now, []string{"wx1"}); err != nil {
		t.Error(err)
	}
	if _, err := db.Coverage(t.Context()); err != nil {
		t.Error(err)
	}
	refused(t, db,
		"DROP TABLE event_rows", "TRUNCATE TABLE message_rows", "ALTER TABLE event_rows ADD COLUMN x Int64",
		"ALTER TABLE event_rows DELETE WHERE 1", "DROP DATABASE "+db.Database(), "CREATE TABLE x (a Int64) ENGINE = MergeTree ORDER BY a",
		"INSERT INTO setting_rows (name, value) VALUES ('time_zone', 'UTC')", "SELECT count() FROM messages",
		"INSERT INTO client_rows (client, appid) VALUES ('x', 'wx1')", "INSERT INTO erasure_rows (appid) VALUES ('wx1')",
		"SELECT count() FROM other.secret",
	)
}

func testReader(t *testing.T, db *clickhouse.DB) {
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		if _, err := db.Query(t.Context(), "SELECT * FROM "+v+" LIMIT 10"); err != nil {
			t.Errorf("the reader cannot read %s: %v", v, err)
		}
	}
	if got := one(t, db, "SELECT total FROM messages WHERE msg_id = 1 SETTINGS max_execution_time = 5"); got != int64(100) {
		t.Errorf("total = %v, want 100", got)
	}
	for _, table := range []string{"event_rows", "record_rows", "message_rows", "error_code_rows", "account_rows", "setting_rows", "client_rows", "rebuild_rows", "schema_migrations"} {
		refused(t, db, "SELECT count() FROM "+table, "INSERT INTO "+table+" SELECT * FROM "+table)
	}
	for _, s := range []string{
		"SELECT 1 SETTINGS max_execution_time = 0", "SELECT 1 SETTINGS max_execution_time = 301", "SELECT 1 SETTINGS max_memory_usage = 0",
		"SELECT 1 SETTINGS max_rows_to_read = 0", "SELECT 1 SETTINGS max_result_rows = 0", "SELECT 1 SETTINGS max_concurrent_queries_for_user = 0", "SELECT 1 SETTINGS readonly = 0",
	} {
		bounded(t, db, s)
	}
	refused(t, db, "DROP VIEW messages", "CREATE TABLE x (a Int64) ENGINE = MergeTree ORDER BY a", "SELECT count() FROM other.secret",
		"SELECT * FROM file('/etc/passwd', 'LineAsString')", "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')")
	visible := query(t, db, "SELECT DISTINCT table FROM system.columns WHERE database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema') ORDER BY table")
	var names []string
	for _, r := range visible {
		names = append(names, r[0].(string))
	}
	if d := cmp.Diff(views, names); d != "" {
		t.Errorf("tables whose columns and comments the reader can see (-want +got):\n%s", d)
	}
}

// bounded checks that the user may not change a setting so far.
func bounded(t *testing.T, db *clickhouse.DB, statement string) {
	t.Helper()
	_, err := db.Query(t.Context(), statement)
	if e, ok := errors.AsType[*clickhouse.Error](err); !ok || (e.Code != 452 && e.Code != 164) { // constraint violated; readonly
		t.Errorf("%s: %v, want that the setting is bounded", statement, err)
	}
}

// refused checks that the user may not run the statements.
func refused(t *testing.T, db *clickhouse.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := db.Query(t.Context(), s)
		e, ok := errors.AsType[*clickhouse.Error](err)
		if !ok || (e.Code != 497 && e.Code != 164) { // access denied; readonly
			t.Errorf("%s: %v, want that it is not allowed", s, err)
		}
	}
}

func TestUsersGolden(t *testing.T) {
	var list []clickhouse.User
	for _, role := range clickhouse.Roles() {
		list = append(list, clickhouse.User{Name: "qunfa_" + string(role), Role: role, PasswordSHA256: strings.Repeat("0", 64)})
	}
	sql, err := clickhouse.UsersSQL("qunfa", list)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "users.sql", strings.Join(sql, ";\n")+";\n")
	xml, err := clickhouse.UsersXML("qunfa", list)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "users.xml", xml)
}

// The local engine cannot run these statements, but it can read them.
func TestUsersSQLParses(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	statements, err := clickhouse.UsersSQL("a`b", users("x", map[clickhouse.Role]string{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		query(t, db, "SELECT formatQuery(?)", s)
	}
}

func TestUsersRefuseNames(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	for _, u := range []clickhouse.User{
		{Name: "a b", Role: clickhouse.RoleReader, PasswordSHA256: zeros},
		{Name: "<x/>", Role: clickhouse.RoleReader, PasswordSHA256: zeros},
		{Name: "", Role: clickhouse.RoleReader, PasswordSHA256: zeros},
		{Name: "a", Role: "admin", PasswordSHA256: zeros},
		{Name: "a", Role: clickhouse.RoleReader, PasswordSHA256: "secret"},
	} {
		_, sqlErr := clickhouse.UsersSQL("qunfa", []clickhouse.User{u})
		_, xmlErr := clickhouse.UsersXML("qunfa", []clickhouse.User{u})
		if sqlErr == nil || xmlErr == nil {
			t.Errorf("%+v was accepted", u)
		}
		if s := fmt.Sprint(sqlErr, xmlErr); strings.Contains(s, "secret") {
			t.Errorf("the error repeats the password: %s", s)
		}
	}
}
