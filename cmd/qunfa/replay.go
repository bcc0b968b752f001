package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/events"
)

// replayCmd computes the projection anew and swaps it in, beside running services.
type replayCmd struct {
	From    string `help:"What to compute it from: the events that are stored, or all of the topic, which is stored again first (for a database that lacks events)." enum:"events,topic" default:"events" placeholder:"events|topic"`
	Reparse bool   `help:"Read every callback anew from its raw text: a newer version may understand more of it."`
	Verify  bool   `help:"Compare the new projection with the old one, row by row, and print what differs." default:"true" negatable:""`
	DryRun  bool   `help:"Compare, and leave the old projection in use."`

	ownerFlags
}

// Run implements the command.
func (c *replayCmd) Run(g *globals) error {
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t)
}

func (c *replayCmd) run(g *globals, t *target) error {
	as := c.as(t)
	db, err := as.database()
	if err != nil {
		return err
	}
	defer db.Close()
	line := &progressLine{g: g}
	o := clickhouse.Rebuild{Who: whoami("replay"), Compare: c.Verify, DryRun: c.DryRun, Progress: line.show}
	if c.From == fromTopic {
		o.Import = func(ctx context.Context, store clickhouse.StoreRecords) error {
			return importTopic(ctx, as, db, line, store)
		}
	}
	if c.Reparse {
		o.Reread = app.Reparse
	}
	report, err := db.Rebuild(g.ctx, o)
	line.end()
	if err != nil {
		return c.explain(as.cfg, report, err)
	}
	if err := c.print(g, report); err != nil || !c.Verify {
		return err
	}
	return tellLost(g, db)
}

// tellLost looks for what no folding can bring back: records of events that are
// not stored. An import has brought them back if the topic still has them.
func tellLost(g *globals, db *clickhouse.DB) error {
	lost, err := db.LostEvents(g.ctx)
	if err != nil {
		return fmt.Errorf("whether events are lost is not known: %w", err)
	}
	for _, l := range lost {
		fmt.Fprintf(g.Stderr, "%d records of %s/%d (offsets %d to %d) are noted as events, and their events are not stored: run qunfa replay --from topic\n",
			l.Records, l.Topic, l.Partition, l.First, l.Last)
	}
	if len(lost) > 0 {
		return errSilent
	}
	return nil
}

const fromTopic = "topic"

func whoami(command string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed host"
	}
	return fmt.Sprintf("qunfa %s (process %d on %s)", command, os.Getpid(), host)
}

// explain says what an unsuccessful run has left.
func (c *replayCmd) explain(cfg *config.Config, report clickhouse.RebuildReport, err error) error {
	switch {
	case clickhouse.ClassOf(err) == clickhouse.ClassAuth:
		return explainOwner(cfg, err)
	case report.Swapped:
		return fmt.Errorf("%w\n(the new projection is in use)", err)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted: the old projection is in use, as before; run it again at any time")
	}
	return err
}

// importTopic hands on everything that the topic holds, up to where it ends now.
func importTopic(ctx context.Context, t *target, db *clickhouse.DB, line *progressLine, store clickhouse.StoreRecords) error {
	client, err := t.kafka()
	if err != nil {
		return err
	}
	defer client.Close()
	topic := t.cfg.Kafka.Topic
	log, err := app.LogOf(ctx, client, db, topic)
	if err != nil {
		return err
	}
	first, ends, err := bounds(ctx, client, topic)
	if err != nil {
		return diagnose(ctx, client, err)
	}
	for p, end := range ends {
		line.records += end - first[p]
	}
	b := &importBatch{store: store, log: log}
	err = client.Read(ctx, topic, first, ends, func(m events.Message) error { return b.add(ctx, m) })
	switch {
	case b.failed:
		return err // of the database
	case err != nil:
		return diagnose(ctx, client, err)
	}
	return b.flush(ctx)
}

// importBatch collects records to be stored together.
type importBatch struct {
	store clickhouse.StoreRecords
	log   string // the name under which they are stored

	records []events.Message
	bytes   int
	failed  bool
}

func (b *importBatch) add(ctx context.Context, m events.Message) error {
	m.Position.Topic = b.log
	b.records = append(b.records, m)
	if b.bytes += len(m.Value); len(b.records) >= 10_000 || b.bytes >= 16<<20 {
		return b.flush(ctx)
	}
	return nil
}

func (b *importBatch) flush(ctx context.Context) error {
	if len(b.records) == 0 {
		return nil
	}
	err := b.store(ctx, b.records)
	b.records, b.bytes, b.failed = nil, 0, err != nil
	return err
}

// progressLine shows how far it is: on a terminal as a line that changes,
// elsewhere as a line per step.
type progressLine struct {
	g       *globals
	records int64 // of the topic; 0: unknown
	step    string
	shown   time.Time
}

var stepWords = map[string]string{
	clickhouse.RebuildImport:  "storing the records of the topic",
	clickhouse.RebuildReread:  "reading callbacks anew",
	clickhouse.RebuildFold:    "folding events",
	clickhouse.RebuildCatchUp: "folding messages that got events meanwhile",
	clickhouse.RebuildCompare: "comparing months",
	clickhouse.RebuildSwap:    "swapping the tables",
	clickhouse.RebuildSettle:  "folding what came during the swap",
	clickhouse.RebuildClean:   "cleaning up",
}

func (p *progressLine) show(s clickhouse.RebuildProgress) {
	if s.Step == clickhouse.RebuildImport {
		s.Total = p.records
	}
	first := s.Step != p.step
	p.step = s.Step
	terminal := isTerminal(p.g.Stderr)
	if !first && (!terminal || time.Since(p.shown) < 200*time.Millisecond) {
		return
	}
	p.shown = time.Now()
	text := stepWords[s.Step]
	switch {
	case s.Total > 0:
		text += fmt.Sprintf(": %d of %d", s.Done, s.Total)
	case s.Done > 0:
		text += fmt.Sprintf(": %d", s.Done)
	}
	if terminal {
		fmt.Fprintf(p.g.Stderr, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(p.g.Stderr, text)
}

func (p *progressLine) end() {
	if p.step != "" && isTerminal(p.g.Stderr) {
		fmt.Fprint(p.g.Stderr, "\r\x1b[K")
	}
}

func (c *replayCmd) print(g *globals, r clickhouse.RebuildReport) error {
	switch g.format(formatJSON) {
	case formatJSON:
		return g.printJSON(c.json(r))
	case formatCSV:
		return usagef("a replay prints several tables: use --format table or json")
	}
	var b strings.Builder
	if c.From == fromTopic {
		fmt.Fprintf(&b, "stored %d records of the topic again: %d events, %d dead letters, %d of others\n", r.Imported.Records,
			r.Imported.Kinds[events.FateEvent], r.Imported.Kinds[events.FateDead], r.Imported.Kinds[events.FateForeign])
	}
	if c.Reparse {
		fmt.Fprintf(&b, "read %d callbacks anew: %d mean something else than was stored, and are revised\n", r.Reread.Read, r.Reread.Revised)
		if r.Reread.Failed > 0 {
			fmt.Fprintf(&b, "  %d could not be read and stay as they are; the first: %s\n", r.Reread.Failed, printable(r.Reread.Failure))
		}
	}
	fmt.Fprintf(&b, "folded %d events into %d messages", r.Events, r.Messages)
	if r.CaughtUp > 0 {
		fmt.Fprintf(&b, "; %d messages got events meanwhile and were folded again", r.CaughtUp)
	}
	b.WriteByte('\n')
	if err := printComparison(&b, r.Comparison); err != nil {
		return err
	}
	if r.Swapped {
		b.WriteString("the new projection is in use\n")
	} else {
		b.WriteString("a dry run: the old projection is in use, as before\n")
	}
	_, err := io.WriteString(g.Stdout, b.String())
	return err
}

func printComparison(b *strings.Builder, c *clickhouse.Comparison) error {
	if c == nil {
		return nil
	}
	t := &clickhouse.Result{Columns: []clickhouse.Column{{Name: "outcome", Type: "String"}}}
	for _, name := range []string{"messages", "total", "eligible", "filtered", "sent", "errors"} {
		t.Columns = append(t.Columns, clickhouse.Column{Name: name, Type: "Int64"}) // to the right, also what has changed
	}
	for _, o := range events.Outcomes() {
		was, is := figures(c.Before[o]), figures(c.After[o])
		row := []any{string(o)}
		for i := range was {
			row = append(row, change(was[i], is[i]))
		}
		t.Rows = append(t.Rows, row)
	}
	if err := writeTable(b, t); err != nil {
		return err
	}
	if c.Same() {
		b.WriteString("no row differs")
	} else {
		fmt.Fprintf(b, "rows that differ: %d gone, %d new, %d changed", c.OnlyBefore, c.OnlyAfter, c.Changed)
	}
	if c.Moving > 0 {
		fmt.Fprintf(b, " (%d that got events at this very time were not compared)", c.Moving)
	}
	b.WriteByte('\n')
	for _, d := range c.Examples {
		fmt.Fprintf(b, "  %s of %s: %s\n", printable(d.Key.String()), d.Day, kindOf(d))
	}
	return nil
}

func figures(t clickhouse.Totals) [6]string {
	of := func(n *int64) string {
		if n == nil {
			return null
		}
		return fmt.Sprint(*n)
	}
	return [6]string{fmt.Sprint(t.Messages), of(t.Total), of(t.Eligible), of(t.Filtered), of(t.Sent), of(t.Errors)}
}

func change(was, is string) string {
	if was == is {
		return is
	}
	return was + " → " + is
}

func kindOf(d clickhouse.Difference) string {
	switch {
	case !d.After:
		return "gone"
	case !d.Before:
		return "new"
	}
	return "changed"
}

func (c *replayCmd) json(r clickhouse.RebuildReport) ordered {
	o := ordered{{"swapped", r.Swapped}, {"events", r.Events}, {"messages", r.Messages}, {"caught_up", r.CaughtUp}}
	if c.From == fromTopic {
		o = append(o, member{"imported", ordered{{"records", r.Imported.Records}, {"kinds", r.Imported.Kinds}}})
	}
	if c.Reparse {
		o = append(o, member{"reparsed", ordered{{"read", r.Reread.Read}, {"revised", r.Reread.Revised}, {"failed", r.Reread.Failed}, {"failure", r.Reread.Failure}}})
	}
	if cmp := r.Comparison; cmp != nil {
		examples := []ordered{}
		for _, d := range cmp.Examples {
			examples = append(examples, ordered{{"appid", d.Key.AppID}, {"msg_id", d.Key.MsgID}, {"day", d.Day}, {"difference", kindOf(d)}})
		}
		outcomes := ordered{}
		for _, out := range events.Outcomes() {
			outcomes = append(outcomes, member{string(out), ordered{{"before", totalsJSON(cmp.Before[out])}, {"after", totalsJSON(cmp.After[out])}}})
		}
		o = append(o, member{"comparison", ordered{{"same", cmp.Same()}, {"gone", cmp.OnlyBefore}, {"new", cmp.OnlyAfter}, {"changed", cmp.Changed},
			{"not_compared", cmp.Moving}, {"examples", examples}, {"outcomes", outcomes}}})
	}
	return o
}

func totalsJSON(t clickhouse.Totals) ordered {
	return ordered{{"messages", t.Messages}, {"total", t.Total}, {"eligible", t.Eligible}, {"filtered", t.Filtered}, {"sent", t.Sent}, {"errors", t.Errors}}
}
