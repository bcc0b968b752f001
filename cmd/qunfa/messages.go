package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// messagesCmd lists messages, or shows one.
type messagesCmd struct {
	AppID string `arg:"" optional:"" name:"appid" help:"Account of the message to show."`
	MsgID int64  `arg:"" optional:"" name:"msgid" help:"Its number."`

	Account  string `help:"List those of this account only: an appid." name:"appid" placeholder:"APPID"`
	Outcome  string `help:"Only those with this outcome: pending, sent, failed, rejected, unknown, deleted or missing." placeholder:"OUTCOME"`
	Campaign string `help:"Only those of this campaign." placeholder:"NAME"`
	Since    string `help:"Only those from this time on: 24h, 7d, 2026-03-01 or 2026-03-01T08:00:00+08:00." placeholder:"TIME"`
	Limit    int    `help:"At most so many, the latest ones." default:"20"`
	Raw      bool   `help:"With APPID MSGID: also the callbacks as WeChat sent them. They may hold an openid."`
	readerFlags
}

// Run implements the command.
func (c *messagesCmd) Run(g *globals) error {
	if (c.AppID == "") != (c.MsgID == 0) {
		return usagef("a message is known by its account and its number: qunfa messages APPID MSGID")
	}
	t, err := g.target()
	if err != nil {
		return err
	}
	filter, err := c.filter(time.Now().In(t.cfg.Location()))
	if err != nil {
		return err
	}
	db, err := c.reader(t)
	if err != nil {
		return err
	}
	defer db.Close()
	if c.AppID != "" {
		return c.show(g, db)
	}
	r, err := db.Query(g.ctx, filter.sql, filter.args...)
	if err != nil {
		return explainAccess(err)
	}
	return g.printMessages(r)
}

// printMessages writes a list as a table even if it is wider than the terminal:
// it leaves out what can be asked for.
func (g *globals) printMessages(r *clickhouse.Result) error {
	if g.format(formatCSV) != formatTable {
		return g.printRows(r)
	}
	if len(r.Rows) == 0 {
		fmt.Fprintln(g.Stdout, "no such message is known")
		return nil
	}
	if err := writeTable(g.Stdout, fitting(r, g.width())); err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, "NULL is unknown, not zero: `qunfa messages APPID MSGID` says why. eligible: left after filtering; sent and errors are of these.")
	return nil
}

// fitting drops columns, the least needed first, until a table fits; 0 is any width.
func fitting(r *clickhouse.Result, width int) *clickhouse.Result {
	for _, name := range []string{"by", "account", "status", "filtered", "label"} {
		if width == 0 || text.LongestLineLen(renderTable(r, columnWidth)) <= width {
			break
		}
		r = without(r, name)
	}
	return r
}

func without(r *clickhouse.Result, name string) *clickhouse.Result {
	at := slices.IndexFunc(r.Columns, func(c clickhouse.Column) bool { return c.Name == name })
	if at < 0 {
		return r
	}
	out := &clickhouse.Result{Columns: slices.Delete(slices.Clone(r.Columns), at, at+1)}
	for _, row := range r.Rows {
		out.Rows = append(out.Rows, slices.Delete(slices.Clone(row), at, at+1))
	}
	return out
}

// messageFilter is a question with its arguments.
type messageFilter struct {
	sql  string
	args []any
}

const messageColumns = "coalesce(submitted_at, finished_at, last_poll_at, abandoned_at, deleted_at) AS time," +
	" appid, account, msg_id, label, outcome, decided_by AS by," +
	" multiIf(err_code IS NOT NULL, concat(status, ' ', err_reason_zh, ' / ', err_reason_en), outcome = 'missing', abandoned_reason, status) AS status," +
	" total, eligible, filtered, sent, errors"

func (c *messagesCmd) filter(now time.Time) (messageFilter, error) {
	var f messageFilter
	var where []string
	add := func(condition string, args ...any) {
		where, f.args = append(where, condition), append(f.args, args...)
	}
	if c.Account != "" {
		add("appid = ?", c.Account)
	}
	if c.Outcome != "" {
		if !slices.Contains(events.Outcomes(), events.Outcome(c.Outcome)) {
			return f, usagef("--outcome %q: want one of %v", c.Outcome, events.Outcomes())
		}
		add("outcome = ?", c.Outcome)
	}
	if c.Campaign != "" {
		add("campaign = ?", c.Campaign)
	}
	if c.Since != "" {
		at, err := parseSince(c.Since, now)
		if err != nil {
			return f, err
		}
		// The day lets ClickHouse skip months; a day is in the zone of the database, so one more is read.
		add("day >= toDate(?) AND time >= toDateTime(?)", at.AddDate(0, 0, -1).UTC().Format(time.DateOnly), at.Unix())
	}
	if c.Limit < 1 {
		return f, usagef("--limit %d: want 1 or more", c.Limit)
	}
	f.sql = "SELECT " + messageColumns + " FROM messages"
	if len(where) > 0 {
		f.sql += " WHERE " + strings.Join(where, " AND ")
	}
	f.sql += " ORDER BY time DESC, appid, msg_id DESC LIMIT " + strconv.Itoa(c.Limit)
	return f, nil
}

var days = regexp.MustCompile(`^(\d{1,5})d$`)

// parseSince reads a time, or how long ago it is.
func parseSince(s string, now time.Time) (time.Time, error) {
	if m := days.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1]) // at most five digits
		return now.AddDate(0, 0, -n), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05"} {
		if at, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usagef("--since %q: want 24h, 7d, 2026-03-01 or 2026-03-01T08:00:00+08:00", s)
}

// detail is everything that is known of one message.
type detail struct {
	message  *clickhouse.Result // one row
	notes    []string
	articles *clickhouse.Result
	events   *clickhouse.Result
}

func (c *messagesCmd) show(g *globals, db *clickhouse.DB) error {
	ask := func(sql string) (*clickhouse.Result, error) {
		r, err := db.Query(g.ctx, sql, c.AppID, c.MsgID)
		return r, explainAccess(err)
	}
	var d detail
	var err error
	if d.message, err = ask("SELECT * FROM messages WHERE appid = ? AND msg_id = ?"); err != nil {
		return err
	}
	if len(d.message.Rows) == 0 {
		return fmt.Errorf("no message %d of account %s is known: neither was its send recorded nor has its callback come", c.MsgID, c.AppID)
	}
	d.notes = notesOn(rowOf(d.message, 0))
	if d.articles, err = ask("SELECT article_idx, url, deleted, audit, original_article_url FROM articles WHERE appid = ? AND msg_id = ? ORDER BY article_idx"); err != nil {
		return err
	}
	columns := "at, received_at, type, data, source, event_id"
	if c.Raw {
		columns += ", raw"
	}
	if d.events, err = ask("SELECT " + columns + " FROM events WHERE appid = ? AND msg_id = ? ORDER BY at, event_id"); err != nil {
		return err
	}
	return d.print(g)
}

func (d detail) print(g *globals) error {
	switch g.format(formatJSON) {
	case formatJSON:
		return g.printJSON(ordered{
			{"message", object(d.message.Columns, d.message.Rows[0])},
			{"notes", d.notes},
			{"articles", objects(d.articles)},
			{"events", timelineJSON(d.events)},
		})
	case formatCSV:
		return writeCSV(g.Stdout, d.message, g.BOM)
	}
	shown := compact(d.message)
	for i, c := range shown.Columns {
		fmt.Fprintf(g.Stdout, "%-18s %s\n", c.Name, cell(shown.Rows[0][i], c.Type))
	}
	for _, n := range d.notes {
		fmt.Fprintf(g.Stdout, "- %s\n", n)
	}
	if len(d.articles.Rows) > 0 {
		fmt.Fprintln(g.Stdout, "\nArticles")
		if err := writeTable(g.Stdout, d.articles); err != nil {
			return err
		}
	}
	fmt.Fprintln(g.Stdout, "\nWhat happened")
	if err := writeTable(g.Stdout, timeline(d.events)); err != nil {
		return err
	}
	for n := range d.events.Rows {
		if e := rowOf(d.events, n); e.text("raw") != "" {
			fmt.Fprintf(g.Stdout, "\nThe callback %s\n%s\n", e.text("event_id"), shownBytes([]byte(e.text("raw"))))
		}
	}
	return nil
}

func objects(r *clickhouse.Result) []ordered {
	list := []ordered{}
	for _, row := range r.Rows {
		list = append(list, object(r.Columns, row))
	}
	return list
}

// counts are shown even if they are unknown: that is an answer, too.
var countColumns = []string{"total", "eligible", "filtered", "sent", "errors"}

// compact leaves out of one message what says nothing, and what is shown below.
func compact(r *clickhouse.Result) *clickhouse.Result {
	out := &clickhouse.Result{Rows: [][]any{nil}}
	for i, c := range r.Columns {
		v := r.Rows[0][i]
		if slices.Contains(countColumns, c.Name) && v == nil {
			v = "unknown"
		}
		if c.Name == "articles" || v == nil || v == "" || plainText(v, c.Type) == "[]" {
			continue
		}
		out.Columns = append(out.Columns, c)
		out.Rows[0] = append(out.Rows[0], v)
	}
	return out
}

// fields is a row by the names of its columns.
type fields map[string]any

func rowOf(r *clickhouse.Result, n int) fields {
	f := fields{}
	for i, c := range r.Columns {
		f[c.Name] = r.Rows[n][i]
	}
	return f
}

func (f fields) text(name string) string { s, _ := f[name].(string); return s }
func (f fields) yes(name string) bool    { b, _ := f[name].(bool); return b }
func (f fields) number(name string) int64 {
	switch n := f[name].(type) {
	case int64:
		return n
	case uint64:
		return int64(n)
	}
	return 0
}

// notesOn says what is not known of a message, and why.
func notesOn(m fields) []string {
	notes := []string{}
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if note := outcomeNote(m); note != "" {
		add("%s", note)
	}
	if note := countsNote(m); note != "" {
		add("%s", note)
	}
	if m.text("outcome") == string(events.OutcomeRejected) && m.text("err_category") == "unknown" {
		add("why it was rejected is unknown: WeChat does not document %s", m.text("status"))
	}
	if !m.yes("recorded") {
		add("nobody recorded the send: label, campaign, audience and the time of submission are unknown")
	}
	return notes
}

func outcomeNote(m fields) string {
	asked := askedNote(m)
	switch events.Outcome(m.text("outcome")) {
	case events.OutcomePending:
		if !m.yes("chased") {
			return "the outcome is unknown: the callback has not come, and WeChat is not asked about imported history"
		}
		return "the outcome is not known yet: the callback has not come, and " + asked
	case events.OutcomeMissing:
		return fmt.Sprintf("the outcome is unknown and nobody asks any more (%s: %s): the callback never came, and %s",
			m.text("abandoned_reason"), m.text("abandoned_detail"), asked)
	case events.OutcomeUnknown:
		return fmt.Sprintf("what the final status %q means is not known to this version", m.text("status"))
	case events.OutcomeDeleted:
		return "all that is known is that it was deleted: whom it had reached is unknown"
	case events.OutcomeFailed:
		if m.text("decided_by") == "poll" {
			return "SEND_FAIL may hide a rejection by review: only the callback, which has not come, would say"
		}
	}
	return ""
}

func askedNote(m fields) string {
	n := m.number("polls")
	if n == 0 {
		return "WeChat was not asked"
	}
	said := m.text("last_poll_status")
	if code := m["last_poll_error"]; said == "" && code != nil {
		said = fmt.Sprintf("error %v", code)
	}
	times := fmt.Sprintf("%d times", n)
	if n == 1 {
		times = "once"
	}
	if said == "" {
		said = "nothing that ends it"
	}
	return fmt.Sprintf("WeChat was asked %s and said at last: %s", times, said)
}

func countsNote(m fields) string {
	var missing []string
	for _, name := range countColumns {
		if m[name] == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	list := strings.Join(missing, ", ")
	switch {
	case m.text("decided_by") == "poll":
		return fmt.Sprintf("counts unknown (%s): only WeChat's poll says what became of it, and a poll tells no counts", list)
	case m.text("outcome") == string(events.OutcomeRejected):
		return fmt.Sprintf("counts unknown (%s): WeChat reports zeros with err(num), whatever the audience was", list)
	case m.text("decided_by") == "callback":
		return fmt.Sprintf("counts unknown (%s): the callback did not say, or what it said contradicts itself", list)
	}
	return fmt.Sprintf("counts unknown (%s): only the callback tells them", list)
}

// timeline is the events of a message in words.
func timeline(r *clickhouse.Result) *clickhouse.Result {
	out := &clickhouse.Result{Columns: []clickhouse.Column{
		{Name: "at", Type: "DateTime64(3)"}, {Name: "received", Type: "DateTime64(3)"}, {Name: "event", Type: "String"}, {Name: "what", Type: "String"}, {Name: "from", Type: "String"},
	}}
	for n := range r.Rows {
		e := rowOf(r, n)
		out.Rows = append(out.Rows, []any{e["at"], e["received_at"], shortType(e.text("type")), summarize(e.text("type"), []byte(e.text("data"))), e.text("source")})
	}
	return out
}

// timelineJSON keeps the data of the events as JSON rather than as text that holds JSON.
func timelineJSON(r *clickhouse.Result) []ordered {
	list := objects(r)
	for _, o := range list {
		for i, m := range o {
			if data, ok := m.value.(string); ok && m.name == "data" && json.Valid([]byte(data)) {
				o[i].value = json.RawMessage(data)
			}
		}
	}
	return list
}

func shortType(typ string) string {
	return strings.TrimSuffix(strings.TrimPrefix(typ, "qunfa.mass."), ".v1")
}

// summarize says what an event says, in a line.
func summarize(typ string, data []byte) string {
	text, err := summaryOf(events.Type(typ), data)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	return text
}

func summaryOf(typ events.Type, data []byte) (string, error) {
	switch typ {
	case events.TypeSubmitted:
		return read(data, func(d events.Submitted) string {
			return join("recorded by "+d.Recorder, audienceText(d.Audience), named("label", d.Label), named("campaign", d.Campaign), when(!d.Chase, "history: never polled"))
		})
	case events.TypeFinished:
		return read(data, func(d events.Finished) string {
			if d.StatusKind == events.StatusRejected && sum(d.TotalCount, d.FilterCount, d.SentCount, d.ErrorCount) == 0 {
				return join(d.Status, "no counts: WeChat reports zeros")
			}
			return join(d.Status, count("total", d.TotalCount), count("eligible", d.FilterCount), count("sent", d.SentCount), count("errors", d.ErrorCount))
		})
	case events.TypePolled:
		return read(data, func(d events.Polled) string {
			if d.Error != nil {
				return join(fmt.Sprintf("attempt %d", d.Attempt), fmt.Sprintf("error %d", d.Error.Code), d.Error.Message)
			}
			return join(fmt.Sprintf("attempt %d", d.Attempt), d.Status)
		})
	case events.TypeDeleted:
		return read(data, func(d events.Deleted) string {
			if d.ArticleIdx == 0 {
				return "all of it"
			}
			return fmt.Sprintf("article %d", d.ArticleIdx)
		})
	case events.TypeAbandoned:
		return read(data, func(d events.Abandoned) string { return join(d.Reason, d.Detail, fmt.Sprintf("%d polls", d.Polls)) })
	}
	return string(data), nil
}

func read[T any](data []byte, text func(T) string) (string, error) {
	var d T
	if err := json.Unmarshal(data, &d); err != nil {
		return "", err
	}
	return text(d), nil
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

func when(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}

func named(name, value string) string { return when(value != "", name+" "+value) }

func count(name string, n *int64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("%s %d", name, *n)
}

func sum(numbers ...*int64) int64 {
	var s int64
	for _, n := range numbers {
		if n != nil {
			s += *n
		}
	}
	return s
}

func audienceText(a events.Audience) string {
	text := a.Kind
	switch a.Kind {
	case "":
	case events.AudienceAll:
		text = "to all"
	case events.AudienceTag:
		text = "to a tag"
		if a.TagID != nil {
			text = fmt.Sprintf("to tag %d", *a.TagID)
		}
	default:
		text = "to a list"
	}
	if a.Size != nil {
		text = strings.TrimSpace(fmt.Sprintf("%s (%d people)", text, *a.Size))
	}
	return text
}
