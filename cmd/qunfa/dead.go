package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
)

// deadCmd looks at the dead-letter topic: records that could not be used are
// kept there with their bytes and the reason.
type deadCmd struct {
	List   deadListCmd   `cmd:"" help:"List those that are open, by reason."`
	Show   deadShowCmd   `cmd:"" help:"Show one with its headers and bytes."`
	Replay deadReplayCmd `cmd:"" help:"Send them on their way again, once what was wrong is repaired."`
	Drop   deadDropCmd   `cmd:"" help:"Give them up: list shows them no more. Their bytes stay in the topic."`
}

type deadListCmd struct {
	Reason string `help:"Only those with this reason: undecodable, uninsertable or unparsable." placeholder:"REASON"`
	All    bool   `help:"List also those that were replayed or dropped, and say so."`
	Limit  int    `help:"List at most so many, the latest ones; all are counted. 0: all." default:"100"`
}

type deadShowCmd struct {
	Position string `arg:"" help:"Where it is in the dead-letter topic, as list shows it: PARTITION/OFFSET."`
}

// Run implements the command.
func (c *deadListCmd) Run(g *globals) error {
	if c.Reason != "" && !slices.Contains(events.DeadReasons(), c.Reason) {
		return usagef("--reason %q: want one of %s", c.Reason, strings.Join(events.DeadReasons(), ", "))
	}
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t)
}

func (c *deadListCmd) run(g *globals, t *target) error {
	marks, err := readMarks(g.ctx, t)
	if err != nil {
		return err
	}
	list := deadList{reason: c.Reason, limit: c.Limit, all: c.All, marks: marks, byReason: map[string]int{}}
	if err := eachDead(g.ctx, t, nil, list.add); err != nil {
		return err
	}
	return list.print(g, t.cfg.Kafka.DeadTopic)
}

// deadList counts all letters and keeps the latest.
type deadList struct {
	reason   string
	limit    int
	all      bool
	marks    map[place]done
	byReason map[string]int
	letters  []events.DeadLetter
}

func (l *deadList) add(d events.DeadLetter) error {
	if _, isDone := l.marks[placeOf(d.Position)]; isDone && !l.all || l.reason != "" && d.Reason != l.reason {
		return nil
	}
	l.byReason[d.Reason]++
	d.Value = nil // only its description is listed
	l.letters = append(l.letters, d)
	if l.limit > 0 && len(l.letters) > 2*l.limit {
		l.cut()
	}
	return nil
}

func (l *deadList) cut() {
	slices.SortStableFunc(l.letters, func(a, b events.DeadLetter) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Position.Partition, b.Position.Partition), cmp.Compare(a.Position.Offset, b.Position.Offset))
	})
	if extra := len(l.letters) - l.limit; l.limit > 0 && extra > 0 {
		l.letters = slices.Clone(l.letters[extra:])
	}
}

func (l *deadList) print(g *globals, topic string) error {
	l.cut()
	r := &clickhouse.Result{Columns: []clickhouse.Column{
		{Name: "position", Type: "String"}, {Name: "time", Type: "DateTime"}, {Name: "account", Type: "String"}, {Name: "reason", Type: "String"},
		{Name: "error", Type: "String"}, {Name: "from", Type: "String"}, {Name: "origin", Type: "Nullable(String)"},
	}}
	if l.all {
		r.Columns = append(r.Columns, clickhouse.Column{Name: "state", Type: "String"})
	}
	for _, d := range l.letters {
		var origin any
		if d.Origin != nil {
			origin = d.Origin.String()
		}
		at := fmt.Sprintf("%d/%d", d.Position.Partition, d.Position.Offset)
		row := []any{at, d.Time, string(d.Key), d.Reason, d.Error, d.From, origin}
		if l.all {
			row = append(row, stateOf(l.marks, d))
		}
		r.Rows = append(r.Rows, row)
	}
	if g.format(formatCSV) != formatTable {
		return g.printRows(r)
	}
	if len(l.letters) == 0 {
		fmt.Fprintf(g.Stdout, "no dead letters in %s\n", topic)
		return nil
	}
	for _, reason := range slices.Sorted(maps.Keys(l.byReason)) {
		fmt.Fprintf(g.Stdout, "%6d  %s\n", l.byReason[reason], reason)
	}
	if err := writeTable(g.Stdout, r); err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, "`qunfa dead show POSITION` shows the bytes of one, `qunfa dead replay` sends them again.")
	return nil
}

// Run implements the command.
func (c *deadShowCmd) Run(g *globals) error {
	at, err := parsePosition(c.Position)
	if err != nil {
		return err
	}
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t, at)
}

func (c *deadShowCmd) run(g *globals, t *target, at events.Position) error {
	var found *events.DeadLetter
	err := eachDead(g.ctx, t, &at, func(d events.DeadLetter) error {
		found = &d
		return nil
	})
	if err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("there is no dead letter at %s of %s: `qunfa dead list` shows which there are", c.Position, t.cfg.Kafka.DeadTopic)
	}
	marks, err := readMarks(g.ctx, t)
	if err != nil {
		return err
	}
	state := stateOf(marks, *found)
	if g.format(formatTable) == formatJSON {
		return g.printJSON(letterJSON(*found, state))
	}
	printLetter(g, *found, state)
	return nil
}

// stateOf says what was done with a letter.
func stateOf(marks map[place]done, d events.DeadLetter) string {
	return cmp.Or(marks[placeOf(d.Position)].what, letterOpen)
}

func parsePosition(s string) (events.Position, error) {
	p, o, ok := strings.Cut(s, "/")
	n, err1 := strconv.ParseInt(p, 10, 32)
	offset, err2 := strconv.ParseInt(o, 10, 64)
	if !ok || err1 != nil || err2 != nil || n < 0 || offset < 0 {
		return events.Position{}, usagef("position %q: want PARTITION/OFFSET, such as 0/17", s)
	}
	return events.Position{Partition: int32(n), Offset: offset}, nil
}

func printLetter(g *globals, d events.DeadLetter, state string) {
	line := func(name, value string) { fmt.Fprintf(g.Stdout, "%-10s %s\n", name, printable(value)) }
	line("position", d.Position.String())
	line("time", d.Time.Format(time.RFC3339))
	line("account", string(d.Key))
	line("state", state)
	line("reason", d.Reason)
	line("error", d.Error)
	line("from", d.From)
	if d.Origin != nil {
		line("origin", d.Origin.String())
	}
	for _, h := range d.Headers {
		line("header", h.Key+": "+string(h.Value))
	}
	fmt.Fprintf(g.Stdout, "%d bytes:\n%s\n", len(d.Value), shownBytes(d.Value))
}

// shownBytes is text as it is, and everything else as hexadecimal digits.
func shownBytes(b []byte) string {
	text := string(b)
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return notShown(r) && r != '\n' && r != '\t' && r != '\r' }) {
		return strings.TrimSuffix(hex.Dump(b), "\n")
	}
	return strings.ReplaceAll(text, "\r", "")
}

func letterJSON(d events.DeadLetter, state string) ordered {
	headers := []ordered{}
	for _, h := range d.Headers {
		headers = append(headers, ordered{{"key", h.Key}, {"value", string(h.Value)}})
	}
	o := ordered{
		{"partition", d.Position.Partition}, {"offset", d.Position.Offset}, {"time", d.Time}, {"account", string(d.Key)},
		{"state", state}, {"reason", d.Reason}, {"error", d.Error}, {"from", d.From}, {"headers", headers},
	}
	if d.Origin != nil {
		o = append(o, member{"origin", ordered{{"topic", d.Origin.Topic}, {"partition", d.Origin.Partition}, {"offset", d.Origin.Offset}}})
	}
	if utf8.Valid(d.Value) {
		return append(o, member{"value", string(d.Value)})
	}
	return append(o, member{"value_base64", d.Value})
}

// eachDead calls fn for every dead letter, or for the one at a position.
func eachDead(ctx context.Context, t *target, only *events.Position, fn func(events.DeadLetter) error) error {
	zone := t.cfg.Location()
	return eachDeadRecord(ctx, t, only, func(m events.Message) error {
		if isMark(m.Record) {
			return nil
		}
		d, err := events.DecodeDeadLetter(m)
		if err != nil { // somebody else's record is shown as what it is
			d = events.DeadLetter{Record: m.Record, Position: m.Position, Reason: reasonForeign, Error: "not a dead letter of qunfa"}
		}
		d.Time = d.Time.In(zone)
		return fn(d)
	})
}

// eachDeadRecord is eachDead for everything that is in the topic.
func eachDeadRecord(ctx context.Context, t *target, only *events.Position, fn func(events.Message) error) error {
	client, err := t.kafka()
	if err != nil {
		return err
	}
	defer client.Close()
	err = readDead(ctx, client, t.cfg.Kafka.DeadTopic, only, fn)
	if errors.Is(err, kafka.ErrNoTopic) {
		if err = diagnose(ctx, client, err); errors.Is(err, kafka.ErrNoTopic) {
			return fmt.Errorf("the topic %s does not exist, or this user may not see it: `qunfa migrate` creates it", t.cfg.Kafka.DeadTopic)
		}
		return err
	}
	return diagnose(ctx, client, err)
}

// diagnose says what to do about an error of Kafka. Errors of other things stay as they are.
func diagnose(ctx context.Context, client *kafka.Client, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, kafkaPatience)
	defer cancel()
	return client.Diagnose(ctx, err)
}

// kafkaPatience is for what Kafka answers in milliseconds, if it answers.
const kafkaPatience = 5 * time.Second

// reasonForeign is shown for records that are no dead letters.
const reasonForeign = "foreign"

func readDead(ctx context.Context, client *kafka.Client, topic string, only *events.Position, fn func(events.Message) error) error {
	from, until, err := bounds(ctx, client, topic)
	if err != nil {
		return err
	}
	if only != nil {
		p, o := only.Partition, only.Offset
		if o < from[p] || o >= until[p] {
			return nil
		}
		from, until = map[int32]int64{p: o}, map[int32]int64{p: o + 1}
	}
	return client.Read(ctx, topic, from, until, fn)
}

// bounds returns what of a topic there is, by partition: the first offset, and
// the one after the last.
func bounds(ctx context.Context, client *kafka.Client, topic string) (first, ends map[int32]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, kafkaPatience)
	defer cancel()
	if first, err = client.FirstOffsets(ctx, topic); err != nil {
		return nil, nil, err
	}
	ends, err = client.EndOffsets(ctx, topic)
	return first, ends, err
}
