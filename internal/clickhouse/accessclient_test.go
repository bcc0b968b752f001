package clickhouse_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// clientWorld writes something of every kind for three accounts.
func clientWorld(f *fixture) {
	var evs []events.Event
	for i := range int64(60) {
		appid, id, day := fmt.Sprintf("wxc%d", i%3+1), 100+i, fmt.Sprintf("2026-11-%02dT", 1+i%20)
		evs = append(evs, f.submitted(appid, id, day+"10:00:00+08:00", func(s *events.Submitted) {
			s.Campaign, s.Label = fmt.Sprintf("活动%d", i%4), "secret of "+appid
		}))
		switch i % 5 {
		case 0, 1:
			evs = append(evs, f.finished(appid, id, day+"10:01:00+08:00", "send success", 100+i, 90, 80, 10))
		case 2:
			evs = append(evs, f.finished(appid, id, day+"10:02:00+08:00", "err(20013)", 0, 0, 0, 0))
		case 3:
			evs = append(evs, f.polled(appid, id, day+"11:00:00+08:00", "SEND_SUCCESS"))
		}
	}
	for i := range evs {
		if d, ok := evs[i].Data.(*events.Finished); ok && d.ErrCode == nil {
			d.ArticleURLs = []events.Link{{Index: 1, URL: "http://mp.weixin.qq.com/s/" + d.AppID}}
		}
	}
	f.write(evs...)
	var accounts []clickhouse.Account
	for i := range 4 { // of the last nothing is known but its name
		accounts = append(accounts, clickhouse.Account{AppID: fmt.Sprintf("wxc%d", i+1), OriginalID: fmt.Sprintf("gh_%d", i+1), Name: fmt.Sprintf("%d号", i+1)})
	}
	if err := f.db.UpsertAccounts(f.t.Context(), accounts); err != nil {
		f.t.Fatal(err)
	}
}

// clientColumns returns what a client may select of a view, less what moves by itself.
func clientColumns(t *testing.T, owner *clickhouse.DB, view string) (columns []string) {
	t.Helper()
	for _, c := range query(t, owner, "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = ? ORDER BY position", view) {
		name := c[0].(string)
		if name == "age_seconds" || view == "events" && slices.Contains([]string{"topic", "partition", "offset"}, name) {
			continue
		}
		columns = append(columns, "`"+name+"`")
	}
	return columns
}

func testClient(t *testing.T, owner, writer, db *clickhouse.DB, name string) {
	f := newFixture(t, writer)
	f.offset = 10_000
	clientWorld(f)
	set := func(clients ...clickhouse.Client) {
		t.Helper()
		if _, _, err := owner.SetClients(t.Context(), clients); err != nil {
			t.Fatal(err)
		}
	}
	other := clickhouse.Client{Name: "somebody_else", AppIDs: []string{"wxc3"}}
	for _, own := range [][]string{{}, {"wxc1"}, {"wxc1", "wxc4"}, {"wxc2"}, {}} {
		set(clickhouse.Client{Name: name, AppIDs: own}, other)
		seesExactly(t, owner, db, name, own)
	}
	set(clickhouse.Client{Name: name, AppIDs: []string{"wxc1"}}, other)
	t.Run("questions", func(t *testing.T) { guessesNothing(t, owner, db) })
	t.Run("rights", func(t *testing.T) { mayNothingElse(t, owner, db) })
	set(other)
	seesExactly(t, owner, db, name, nil)
}

// seesExactly compares every view with what is true of these accounts.
func seesExactly(t *testing.T, owner, db *clickhouse.DB, name string, own []string) {
	t.Helper()
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		columns := clientColumns(t, owner, v)
		sql := "SELECT " + strings.Join(columns, ", ") + " FROM " + v
		where := " WHERE has(['" + strings.Join(own, "', '") + "'], appid)"
		switch {
		case v == "client_accounts":
			where = " WHERE client = '" + name + "'"
		case !slices.Contains(columns, "`appid`"): // of no account
			where = ""
		}
		want, got := query(t, owner, sql+where+" ORDER BY ALL"), query(t, db, sql+" ORDER BY ALL")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s of %v (-true +seen):\n%s", v, own, d)
		}
		if n := one(t, db, "SELECT count() FROM "+v); n != uint64(len(want)) {
			t.Errorf("%s: %v rows are counted of %v, want %d", v, n, own, len(want))
		}
		if where != "" && slices.Contains(own, "wxc1") && len(want) == 0 {
			t.Errorf("%s: nothing is there to be seen", v)
		}
	}
}

// guessesNothing tries to learn of another account without reading its rows:
// through errors that a condition on a hidden row would raise, and through what
// the server tells about its work.
func guessesNothing(t *testing.T, owner, db *clickhouse.DB) {
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		if !slices.Contains(clientColumns(t, owner, v), "`appid`") || v == "client_accounts" {
			continue
		}
		for _, ask := range []string{
			"SELECT count() FROM %s WHERE throwIf(appid != 'wxc1') = 0",
			"SELECT count() FROM %s WHERE intDiv(1, appid = 'wxc1') = 1",
			"SELECT count() FROM %s WHERE toInt64(if(appid != 'wxc1', 'bad', '1')) = 1",
			"SELECT sum(intDiv(1, appid = 'wxc1')) FROM %s",
			"SELECT appid, count() FROM %s GROUP BY appid HAVING throwIf(appid != 'wxc1') = 0",
			"SELECT count() FROM (SELECT appid, row_number() OVER (ORDER BY throwIf(appid != 'wxc1')) AS n FROM %s)",
			"SELECT count() FROM %s AS v LEFT JOIN (SELECT 1 AS one) AS o ON throwIf(v.appid != 'wxc1') = o.one",
			"SELECT count() FROM merge(currentDatabase(), '^%s$') WHERE throwIf(appid != 'wxc1') = 0",
		} {
			_, err := db.Query(t.Context(), fmt.Sprintf(ask, v))
			// Not allowed to ask; or not able to, as merge is of a view with a policy.
			if e, ok := errors.AsType[*clickhouse.Error](err); ok && (e.Code == 497 || e.Code == 49 && strings.Contains(ask, "merge(")) {
				continue
			}
			if err != nil {
				t.Errorf("%s: a condition was tried on a row of another account: %v", v, err)
			}
		}
		estimate := func(appid string) [][]any {
			rows := query(t, db, "EXPLAIN ESTIMATE SELECT appid FROM "+v+" WHERE appid = '"+appid+"'")
			slices.SortFunc(rows, func(a, b []any) int { return strings.Compare(fmt.Sprint(a...), fmt.Sprint(b...)) })
			return rows
		}
		if d := cmp.Diff(estimate("wxc25"), estimate("wxc3")); d != "" {
			t.Errorf("%s: an account that is there is told from one that is not (-not there +there):\n%s", v, d)
		}
	}
}

// rowsOf returns the table that has the rows: in a cluster that is a local one.
func rowsOf(t *testing.T, owner *clickhouse.DB, table string) string {
	t.Helper()
	return one(t, owner, "SELECT max(name) FROM system.tables WHERE database = currentDatabase() AND name IN (?, ?)", table, table+"_local").(string)
}

func mayNothingElse(t *testing.T, owner, db *clickhouse.DB) {
	for _, table := range []string{"event_rows", "record_rows", "message_rows", "error_code_rows", "account_rows", "setting_rows", "client_rows", "rebuild_rows", "schema_migrations"} {
		refused(t, db, "SELECT count() FROM "+table, "INSERT INTO "+table+" SELECT * FROM "+table)
	}
	refused(t, db,
		"SELECT offset FROM events", "SELECT * FROM events", "SELECT max(partition) FROM merge(currentDatabase(), '^events$')",
		"INSERT INTO messages SELECT * FROM messages", "CREATE TABLE x (a Int64) ENGINE = MergeTree ORDER BY a", "CREATE TEMPORARY TABLE x (a Int64)", "DROP VIEW messages",
		"SELECT count() FROM loop(currentDatabase(), 'messages')", "SELECT count() FROM mergeTreeIndex(currentDatabase(), '"+rowsOf(t, owner, "message_rows")+"')",
		"SELECT * FROM file('/etc/passwd', 'LineAsString')", "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
		"SELECT * FROM remote('127.0.0.1:9000', currentDatabase(), 'message_rows', 'default', '')", "SELECT * FROM executable('x', 'TSV', 'x Int8')",
		"SELECT count() FROM system.parts", "SELECT count() FROM system.processes", "SELECT count() FROM system.row_policies", "SELECT count() FROM system.users",
		"SHOW CREATE TABLE event_rows", "SHOW USERS", "SHOW ROW POLICIES", "KILL QUERY WHERE 1", "GRANT SELECT ON *.* TO CURRENT_USER", "SELECT count() FROM other.secret",
		"ALTER TABLE message_rows DELETE WHERE 1", "SYSTEM FLUSH LOGS", "CREATE ROW POLICY x ON messages USING 1 TO ALL",
	)
	for _, s := range []string{
		"enable_analyzer = 0", "allow_experimental_analyzer = 0", "compatibility = '22.3'", "short_circuit_function_evaluation = 'disable'", "query_plan_merge_filters = 0",
		"readonly = 0", "readonly = 2", "max_execution_time = 0", "max_execution_time = 301", "max_memory_usage = 0", "max_rows_to_read = 0",
		"max_result_rows = 0", "max_result_rows = 1000001", "max_concurrent_queries_for_user = 0", "log_queries = 0",
	} {
		bounded(t, db, "SELECT 1 SETTINGS "+s)
	}
	if got := one(t, db, "SELECT count() FROM messages SETTINGS max_execution_time = 5, session_timezone = 'UTC', limit = 10"); got != uint64(20) {
		t.Errorf("with settings that are a client's own: %v messages, want 20", got)
	}
	visible := query(t, db, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name LIKE '%_rows'")
	if visible[0][0] != uint64(0) {
		t.Errorf("%v tables are listed", visible[0][0])
	}
}

// A view without an account would be open to every client, so it has to be
// meant to be.
func TestEveryViewIsOfAnAccountOrCommon(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	views, err := clickhouse.Views()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		common := v == "error_codes" || v == "settings"
		if has := slices.Contains(clientColumns(t, db, v), "`appid`"); has == common {
			t.Errorf("view %s: it has appid: %v, it is common: %v", v, has, common)
		}
	}
}

func TestSetClients(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	set := func(clients ...clickhouse.Client) string {
		t.Helper()
		given, taken, err := db.SetClients(t.Context(), clients)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("+%d -%d: %v", given, taken, query(t, db, "SELECT client, appid FROM client_accounts ORDER BY ALL"))
	}
	a := clickhouse.Client{Name: "a", AppIDs: []string{"wx1", "wx2"}}
	for _, step := range []struct {
		clients []clickhouse.Client
		want    string
	}{
		{nil, "+0 -0: []"},
		{[]clickhouse.Client{a}, "+2 -0: [[a wx1] [a wx2]]"},
		{[]clickhouse.Client{a}, "+0 -0: [[a wx1] [a wx2]]"},
		{[]clickhouse.Client{{Name: "a", AppIDs: []string{"wx2", "wx3"}}, {Name: "b", AppIDs: []string{"wx1"}}}, "+2 -1: [[a wx2] [a wx3] [b wx1]]"},
		{[]clickhouse.Client{a}, "+1 -2: [[a wx1] [a wx2]]"},
		{nil, "+0 -2: []"},
	} {
		if got := set(step.clients...); got != step.want {
			t.Errorf("after %v: %s, want %s", step.clients, got, step.want)
		}
	}
	for _, bad := range []clickhouse.Client{{Name: "a b", AppIDs: []string{"wx1"}}, {Name: "a", AppIDs: []string{""}}} {
		if _, _, err := db.SetClients(t.Context(), []clickhouse.Client{bad}); err == nil {
			t.Errorf("%+v was stored", bad)
		}
	}
}
