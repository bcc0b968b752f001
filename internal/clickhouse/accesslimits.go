package clickhouse

import (
	"fmt"
	"strings"
)

// limit is a setting of a profile, and how far its users may change it.
type limit struct {
	name  string
	value int64 // 0: the server's
	// max is up to where a user may raise it. Down to 1: to many settings 0
	// means that there is no limit. 0: the value is fixed.
	max int64
	// own lets users of a read-only profile set it for themselves; those of
	// readonly=2 may set everything that is not bounded here.
	own bool
}

// profile is a settings profile.
type profile struct {
	name   string
	limits []limit
}

// readerProfile keeps one reader's question from starving everybody else's.
// readonly=2 lets clients of the server set what they set for themselves.
var readerProfile = profile{"qunfa_reader", []limit{
	{name: "readonly", value: 2},
	{name: "max_execution_time", value: 60, max: 300},
	{name: "max_memory_usage", value: 4 << 30, max: 4 << 30},
	{name: "max_rows_to_read", value: 2e9, max: 2e9},
	{name: "max_result_rows", value: 1e6, max: 1e7},
	{name: "max_concurrent_queries_for_user", value: 50},
}}

// clientProfile is for those who must not learn of others. What a policy hides
// can be found out about if conditions are tried on it before it is hidden, as
// the old analyzer does. So nothing that bears on how a query is run may be
// changed: only what clients of the server set without being asked.
var clientProfile = profile{"qunfa_client", []limit{
	{name: "readonly", value: 1},
	{name: "enable_analyzer", value: 1},
	{name: "max_execution_time", value: 60, max: 300, own: true},
	{name: "max_memory_usage", value: 2 << 30},
	{name: "max_rows_to_read", value: 5e8},
	{name: "max_result_rows", value: 1e6, max: 1e6, own: true},
	{name: "max_concurrent_queries_for_user", value: 10},
	{name: "limit", own: true},
	{name: "offset", own: true},
	{name: "session_timezone", own: true},
}}

func profileOf(role Role) (profile, bool) {
	switch role {
	case RoleReader:
		return readerProfile, true
	case RoleClient:
		return clientProfile, true
	}
	return profile{}, false
}

// profilesOf returns the profiles that the users have, each once.
func profilesOf(users []User) []profile {
	var all []profile
	seen := map[string]bool{}
	for _, u := range users {
		if p, ok := profileOf(u.Role); ok && !seen[p.name] {
			seen[p.name] = true
			all = append(all, p)
		}
	}
	return all
}

func (p profile) sql() string {
	parts := make([]string, len(p.limits))
	for i, l := range p.limits {
		parts[i] = l.sql()
	}
	return "CREATE SETTINGS PROFILE OR REPLACE " + quoteName(p.name) + " SETTINGS " + strings.Join(parts, ", ")
}

func (l limit) sql() string {
	s := l.name
	if l.value != 0 {
		s += fmt.Sprintf(" = %d", l.value)
	}
	if l.max != 0 {
		s += fmt.Sprintf(" MIN 1 MAX %d", l.max)
	}
	switch {
	case l.own:
		s += " CHANGEABLE_IN_READONLY"
	case l.max == 0:
		s += " READONLY"
	}
	return s
}

func (p profile) writeXML(b *strings.Builder) {
	fmt.Fprintf(b, "    <%s>\n", p.name)
	for _, l := range p.limits {
		if l.value != 0 {
			fmt.Fprintf(b, "      <%s>%d</%s>\n", l.name, l.value, l.name)
		}
	}
	b.WriteString("      <constraints>\n")
	for _, l := range p.limits {
		fmt.Fprintf(b, "        <%s>%s</%s>\n", l.name, l.xml(), l.name)
	}
	fmt.Fprintf(b, "      </constraints>\n    </%s>\n", p.name)
}

func (l limit) xml() string {
	s := ""
	if l.max != 0 {
		s = fmt.Sprintf("<min>1</min><max>%d</max>", l.max)
	}
	switch {
	case l.own:
		s += "<changeable_in_readonly/>"
	case l.max == 0:
		s += "<readonly/>"
	}
	return s
}

// What each client may ask in an hour, in all: one that asks in a loop is
// stopped before others notice.
const (
	clientQuota   = "qunfa_client"
	clientQueries = 3600
	clientSeconds = 1800 // of running queries
)

func clientNames(users []User) []string {
	var names []string
	for _, u := range users {
		if u.Role == RoleClient {
			names = append(names, quoteName(u.Name))
		}
	}
	return names
}

func quotaSQL(users []User) []string {
	names := clientNames(users)
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("CREATE QUOTA OR REPLACE %s KEYED BY user_name FOR INTERVAL 1 hour MAX queries = %d, execution_time = %d TO %s",
		quoteName(clientQuota), clientQueries, clientSeconds, strings.Join(names, ", "))}
}

func writeQuotaXML(b *strings.Builder, users []User) {
	if len(clientNames(users)) == 0 {
		return
	}
	fmt.Fprintf(b, "  <quotas>\n    <%s><interval><duration>3600</duration><queries>%d</queries><execution_time>%d</execution_time></interval></%s>\n  </quotas>\n",
		clientQuota, clientQueries, clientSeconds, clientQuota)
}
