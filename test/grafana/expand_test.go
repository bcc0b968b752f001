package grafana

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// choices are values of variables; a variable that is missing stands for All.
type choices map[string][]string

// timeRange is what the time picker says, and the step of the panel.
type timeRange struct {
	from, to time.Time
	interval time.Duration
}

// Macros that every version of the plugin from 4.0 on knows.
var allowedMacros = []string{
	"timeFilter", "timeFilter_ms", "timeInterval", "timeInterval_ms", "interval_s", "fromTime", "fromTime_ms", "toTime", "toTime_ms", "conditionalAll",
}

var anyMacro = regexp.MustCompile(`\$__(\w+)`)

// expand does to a query what the plugin does: its front end resolves
// $__conditionalAll and variables, its backend the other macros.
func expand(sql string, chosen choices, r timeRange) (string, error) {
	for _, m := range anyMacro.FindAllStringSubmatch(sql, -1) {
		if !slices.Contains(allowedMacros, m[1]) {
			return "", fmt.Errorf("the macro %s is not in every version of the plugin", m[0])
		}
	}
	if at := quotedVariable.FindString(sql); at != "" {
		return "", fmt.Errorf("%s: a variable in quotes of its own breaks with several values", at)
	}
	sql, err := conditionalAll(sql, chosen)
	if err != nil {
		return "", err
	}
	sql, err = variables(sql, chosen)
	if err != nil {
		return "", err
	}
	sql = backend(sql, r)
	if strings.Contains(sql, "$") {
		return "", fmt.Errorf("something is left: %s", sql)
	}
	return sql, nil
}

var quotedVariable = regexp.MustCompile(`'\$\{?\w+[^']*'`)

// conditionalAll replaces $__conditionalAll(condition, $variable) by 1=1 if the
// variable is All or empty, the last first, as the plugin does.
func conditionalAll(sql string, chosen choices) (string, error) {
	const macro = "$__conditionalAll"
	for {
		at := strings.LastIndex(sql, macro+"(")
		if at < 0 {
			return sql, nil
		}
		args, end := arguments(sql, at+len(macro))
		if len(args) != 2 {
			return "", fmt.Errorf("%s with %d arguments", macro, len(args))
		}
		name, ok := strings.CutPrefix(strings.TrimSpace(args[1]), "$")
		if !ok || strings.ContainsAny(name, "{}:") {
			return "", fmt.Errorf("%s: the second argument is %q, want a bare variable", macro, args[1])
		}
		condition := args[0]
		if values := chosen[name]; len(values) == 0 || slices.Equal(values, []string{""}) {
			condition = "1=1"
		}
		sql = sql[:at] + condition + sql[end:]
	}
}

// arguments splits what stands in the brackets that open at a position. Like the
// plugin it knows nothing of quotes.
func arguments(sql string, open int) (args []string, end int) {
	depth, last := 0, open+1
	for i := open; i < len(sql); i++ {
		switch sql[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return append(args, sql[last:i]), i + 1
			}
		case ',':
			if depth == 1 {
				args, last = append(args, sql[last:i]), i+1
			}
		}
	}
	return nil, len(sql)
}

var variableInSQL = regexp.MustCompile(`\$\{(\w+)(:\w+)?\}|\$([a-z]\w*)`)

// variables puts values in. Only the format singlequote is safe for what a person chose.
func variables(sql string, chosen choices) (string, error) {
	var failed error
	out := variableInSQL.ReplaceAllStringFunc(sql, func(use string) string {
		m := variableInSQL.FindStringSubmatch(use)
		if m[2] != ":singlequote" {
			failed = fmt.Errorf("%s: want the format singlequote", use)
		}
		var quoted []string
		for _, v := range chosen[m[1]] {
			quoted = append(quoted, "'"+strings.ReplaceAll(v, "'", `\'`)+"'")
		}
		if quoted == nil {
			quoted = []string{"''"} // a choice among nothing
		}
		return strings.Join(quoted, ",")
	})
	return out, failed
}

var (
	timeFilter   = regexp.MustCompile(`\$__timeFilter\(([^()]*)\)`)
	timeInterval = regexp.MustCompile(`\$__timeInterval\(([^()]*)\)`)
)

func backend(sql string, r timeRange) string {
	from, to := fmt.Sprintf("toDateTime(%d)", r.from.Unix()), fmt.Sprintf("toDateTime(%d)", r.to.Unix())
	seconds := fmt.Sprint(int(max(r.interval, time.Second).Seconds()))
	sql = timeFilter.ReplaceAllString(sql, "$1 >= "+from+" AND $1 <= "+to)
	sql = timeInterval.ReplaceAllString(sql, "toStartOfInterval(toDateTime($1), INTERVAL "+seconds+" second)")
	return strings.NewReplacer("$__fromTime", from, "$__toTime", to, "$__interval_s", seconds).Replace(sql)
}

func TestExpand(t *testing.T) {
	r := timeRange{time.Unix(100, 0), time.Unix(200, 0), time.Minute}
	const sql = "a WHERE $__timeFilter(m.t) AND $__conditionalAll(if(x = '', 'none', x) IN (${app:singlequote}), $app) AND t > $__fromTime LIMIT $__interval_s"
	for _, c := range []struct {
		app  []string
		want string
	}{
		{nil, "a WHERE m.t >= toDateTime(100) AND m.t <= toDateTime(200) AND 1=1 AND t > toDateTime(100) LIMIT 60"},
		{[]string{"it's", "b"}, `a WHERE m.t >= toDateTime(100) AND m.t <= toDateTime(200) AND if(x = '', 'none', x) IN ('it\'s','b') AND t > toDateTime(100) LIMIT 60`},
	} {
		if got, err := expand(sql, choices{"app": c.app}, r); got != c.want || err != nil {
			t.Errorf("%v:\n have %s %v\n want %s", c.app, got, err, c.want)
		}
	}
	for _, bad := range []string{
		"$__timeGroup(t, 5m)", "$__dateFilter(day)", "x = '$app'", "x = '${app}'", "x IN (${app})", "x = $app", "x IN (${app:csv})",
		"$__conditionalAll(x, ${app:singlequote})", "$__conditionalAll(x)", "$1",
	} {
		if got, err := expand(bad, choices{"app": {"a"}}, r); err == nil {
			t.Errorf("%s was accepted: %s", bad, got)
		}
	}
}
