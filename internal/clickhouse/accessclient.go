package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// viewClients lists the accounts of every client. The row policies read it, with
// the rights of the client, who therefore sees of it what is its own.
const viewClients = "client_accounts"

// commonViews say nothing of any account, so everybody may read all of them.
// Every other view has a column appid, by which its rows are told apart.
var commonViews = []string{"error_codes", "settings"}

// clientColumns are the columns that a client may read, for views of which it
// may not read all: offsets of the log count what everybody's accounts do.
var clientColumns = map[string][]string{
	"events": {"appid", "account", "msg_id", "at", "received_at", "type", "data", "raw", "event_id", "source"},
}

func clientGrants(database string) ([]string, error) {
	views, err := Views()
	if err != nil {
		return nil, err
	}
	var grants []string
	for _, v := range views {
		what := "SELECT"
		if columns := clientColumns[v]; columns != nil {
			what += "(" + strings.Join(columns, ", ") + ")"
		}
		grants = append(grants, "GRANT "+what+" ON "+quoteName(database)+"."+v)
	}
	return grants, nil
}

// policy says which rows of a view a user sees.
type policy struct{ view, filter string }

// policies are those of a client. They name it, rather than ask for
// currentUser(): that is what the client of the native protocol says it is,
// when it says that it passes on another server's query.
func (u User) policies(database string) ([]policy, error) {
	if u.Role != RoleClient {
		return nil, nil
	}
	views, err := Views()
	if err != nil {
		return nil, err
	}
	own := "appid IN (SELECT appid FROM " + quoteName(database) + "." + viewClients + " WHERE client = " + quoteText(u.Name) + ")"
	var all []policy
	for _, v := range views {
		switch {
		case slices.Contains(commonViews, v):
		case v == viewClients:
			all = append(all, policy{v, "client = " + quoteText(u.Name)})
		default:
			all = append(all, policy{v, own})
		}
	}
	return all, nil
}

func (p policy) sql(database, user string) string {
	return "CREATE ROW POLICY OR REPLACE " + quoteName(user) + " ON " + quoteName(database) + "." + p.view +
		" FOR SELECT USING " + p.filter + " TO " + quoteName(user)
}

// writePoliciesXML writes them where users.xml has them: the database's name is
// that of an element, which not every name can be.
func writePoliciesXML(b *strings.Builder, database string, policies []policy) error {
	if len(policies) == 0 {
		return nil
	}
	if !userName.MatchString(database) {
		return fmt.Errorf("database %q: a file can limit the rows of a database only if its name is of letters, digits, '_', '-' and '.'", database)
	}
	fmt.Fprintf(b, "      <databases>\n        <%s>\n", database)
	for _, p := range policies {
		fmt.Fprintf(b, "          <%s><filter>%s</filter></%s>\n", p.view, escapeXML(p.filter), p.view)
	}
	fmt.Fprintf(b, "        </%s>\n      </databases>\n", database)
	return nil
}

// Client is a database user who sees some accounts alone; see [RoleClient].
type Client struct {
	Name   string   // of the user
	AppIDs []string // of its accounts
}

// SetClients stores which accounts the clients see, in place of what was stored:
// a client, or an account of one, that is not among them any more sees, or is
// seen, no longer. It returns how many pairs of client and account it gave and
// took. It needs the rights of whoever migrates; no user has to be changed for it.
func (db *DB) SetClients(ctx context.Context, clients []Client) (given, taken int, err error) {
	start := db.cfg.Clock()
	given, taken, err = db.setClients(ctx, clients)
	return given, taken, db.done(opMigrate, start, err)
}

// clientRow is a row of the table of clients. The version is counted rather than
// taken from a clock: one that goes backwards must not give back what was taken.
type clientRow struct {
	client, appid string
	removed       bool
	version       uint64
}

func (db *DB) setClients(ctx context.Context, clients []Client) (given, taken int, err error) {
	type pair struct{ client, appid string }
	want := map[pair]bool{}
	for _, c := range clients {
		if err := checkUser(c.Name); err != nil {
			return 0, 0, err
		}
		for _, a := range c.AppIDs {
			if a == "" {
				return 0, 0, errors.New("client " + c.Name + ": an appid is empty")
			}
			want[pair{c.Name, a}] = true
		}
	}
	have := map[pair]clientRow{}
	err = db.each(ctx, "SELECT client, appid, removed, version FROM "+tableClients+" FINAL", nil, func(rows driver.Rows) error {
		var r clientRow
		err := rows.Scan(&r.client, &r.appid, &r.removed, &r.version)
		have[pair{r.client, r.appid}] = r
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	var changed []clientRow
	for p := range want {
		if old, ok := have[p]; !ok || old.removed {
			given++
			changed = append(changed, clientRow{p.client, p.appid, false, old.version + 1})
		}
	}
	for p, old := range have {
		if !want[p] && !old.removed {
			taken++
			changed = append(changed, clientRow{p.client, p.appid, true, old.version + 1})
		}
	}
	if len(changed) == 0 {
		return 0, 0, nil
	}
	return given, taken, db.send(ctx, tableClients, []column{
		col("client", changed, func(r *clientRow) string { return r.client }),
		col("appid", changed, func(r *clientRow) string { return r.appid }),
		col("removed", changed, func(r *clientRow) bool { return r.removed }),
		col("version", changed, func(r *clientRow) uint64 { return r.version }),
	})
}
