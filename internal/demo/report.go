package demo

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// section is one table of the report: a question and the query that answers it.
type section struct {
	title string
	sql   string
	empty string // said instead of an empty table
}

// The queries use the views alone, so they can be copied.
func sections() []section {
	return []section{
		{"Delivery by account (people; unknown: messages of which WeChat told no counts)", `
SELECT account, count() AS messages, sum(m.total) AS total, sum(m.eligible) AS eligible, sum(m.filtered) AS filtered,
       sum(m.sent) AS sent, sum(m.errors) AS errors, countIf(m.total IS NULL) AS unknown
FROM messages AS m GROUP BY account ORDER BY account`, "no messages"},
		{"Outcomes", `
SELECT outcome, count() AS messages, countIf(decided_by = 'callback') AS by_callback, countIf(decided_by = 'poll') AS by_poll
FROM messages GROUP BY outcome ORDER BY messages DESC`, "no messages"},
		{"Audit failures", `
SELECT err_code, category, reason_zh AS reason, reason_en AS in_english, count() AS messages
FROM audit_failures GROUP BY ALL ORDER BY messages DESC, err_code`, "none"},
		{"Found by polling alone: the callback never came", `
SELECT account, toString(msg_id) AS msg_id, label, outcome, status, polls, 'unknown' AS counts
FROM messages WHERE decided_by = 'poll' ORDER BY account, msg_id`, "none"},
		{"Missing: nobody could find out (today's; imported history is never asked about)", `
SELECT account, toString(msg_id) AS msg_id, label, polls, abandoned_reason AS reason, abandoned_detail AS detail
FROM messages WHERE outcome = 'missing' AND abandoned_reason != 'not_chased' ORDER BY account, msg_id`, "none"},
		{"Are all sends recorded? Callbacks that never came can be seen for recorded sends alone", `
SELECT account, recorded, callbacks, callbacks_unrecorded AS unrecorded, round(100 * unrecorded_share, 1) AS percent, recording, note
FROM accounts ORDER BY account`, "no accounts"},
	}
}

// Report prints what the database says, and how it compares with the ledger.
func (d *Demo) Report(ctx context.Context) error {
	for _, s := range sections() {
		r, err := d.reader.Query(ctx, s.sql)
		if err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		fmt.Fprintf(d.o.Out, "\n%s\n", s.title)
		if len(r.Rows) == 0 {
			fmt.Fprintf(d.o.Out, "  %s\n", s.empty)
			continue
		}
		t := newTable(d.o.Out)
		header := table.Row{}
		for _, c := range r.Columns {
			header = append(header, strings.ReplaceAll(c.Name, "_", " "))
		}
		t.AppendHeader(header)
		for _, row := range r.Rows {
			t.AppendRow(cells(row))
		}
		t.Render()
	}
	return nil
}

func newTable(out io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Options.SeparateRows = false
	return t
}

func cells(row []any) table.Row {
	out := make(table.Row, len(row))
	for i, v := range row {
		switch n := v.(type) {
		case nil:
			out[i] = "unknown"
		case float64:
			if math.IsNaN(n) {
				out[i] = "unknown"
			} else {
				out[i] = fmt.Sprintf("%.1f", n)
			}
		default:
			out[i] = v
		}
	}
	return out
}

// Verdict prints the comparison with the ledger and reports whether all is well.
func (d *Demo) Verdict(ctx context.Context) (bool, error) {
	c, err := d.Compare(ctx)
	if err != nil {
		return false, err
	}
	others := len(d.Sim.Ledger().Others)
	if got := int(d.upstream.pushes.Load()); got < others {
		c.differ("the application behind the callback URL got %d pushes, the ledger has %d that are not about mass messages", got, others)
	}
	fmt.Fprintln(d.o.Out)
	if len(c.Differences) == 0 {
		fmt.Fprintf(d.o.Out, "The ledger of the simulated WeChat: %d messages, %d figures compared, no difference.\n", c.Messages, c.Figures)
		return true, nil
	}
	fmt.Fprintf(d.o.Out, "The ledger of the simulated WeChat: %d messages, %d figures compared, %d DIFFERENCES:\n", c.Messages, c.Figures, len(c.Differences))
	for i, diff := range c.Differences {
		if i == 20 {
			fmt.Fprintf(d.o.Out, "  … and %d more\n", len(c.Differences)-i)
			break
		}
		fmt.Fprintf(d.o.Out, "  %s\n", diff)
	}
	return false, nil
}

// Explain says before the start how the demo differs from life.
func Explain(out io.Writer, seed uint64, dir string) {
	fmt.Fprintf(out, `qunfa demo: a simulated WeChat (seed %d), everything else is real.
Time is short: WeChat's own delays pass %d times faster than in life, and polling begins %s after
a send instead of 45 minutes, repeats every %s, and gives up after %s instead of 72 hours.
Everything is kept in %s, which is emptied at every start.

`, seed, Scale, firstPoll, nextPolls, giveUp, dir)
}

// WhereToLook says what to do while the services go on running.
func (d *Demo) WhereToLook(program string) {
	c := d.Stack.Conn
	dir := d.o.Dir
	fmt.Fprintf(d.o.Out, `
The services go on running. Ctrl-C stops them. In another terminal:

  %[1]s query --data %[2]s "SELECT * FROM messages ORDER BY day DESC LIMIT 5"
  %[1]s messages --data %[2]s --outcome rejected
  %[1]s status --data %[2]s
`, program, dir)
	if c.ClickHouse.HTTPAddr != "" {
		fmt.Fprintf(d.o.Out, "\n  SQL in the browser  http://%s/play  (user %s, password %s)\n", c.ClickHouse.HTTPAddr, c.ClickHouse.ReaderUsername, c.ClickHouse.ReaderPassword)
	}
	fmt.Fprintf(d.o.Out, `  delivery metrics    http://%[1]s/metrics/delivery
  service metrics     http://%[1]s/metrics
  readiness           http://%[1]s/readyz
  callbacks           http://%[2]s/callback/{appid}
  record API          http://%[3]s/v1/submissions
  files               %[4]s
`, c.Admin, c.Ingest, c.RecordAPI, dir)
}

// Wait returns when ctx ends or the stack stops by itself.
func (d *Demo) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.done:
		d.done <- err // for Close
		return err
	}
}

// Elapsed is how long the demo has been going on.
func (d *Demo) Elapsed() time.Duration { return time.Since(d.say.began).Round(time.Second) }
