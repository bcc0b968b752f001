package main

import (
	"cmp"
	"context"
	"crypto/rand"
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

func (l *deadList) add(d events.DeadLetter) {
	if _, isDone := l.marks[placeOf(d.Position)]; isDone && !l.all || l.reason != "" && d.Reason != l.reason {
		return
	}
	l.byReason[d.Reason]++
	d.Value = nil // only its description is listed
	l.letters = append(l.letters, d)
	if l.limit > 0 && len(l.letters) > 2*l.limit {
		l.cut()
	}
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
			row = append(row, cmp.Or(l.marks[placeOf(d.Position)].what, letterOpen))
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
	if err := eachDead(g.ctx, t, &at, func(d events.DeadLetter) { found = &d }); err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("there is no dead letter at %s of %s: `qunfa dead list` shows which there are", c.Position, t.cfg.Kafka.DeadTopic)
	}
	if g.format(formatTable) == formatJSON {
		return g.printJSON(letterJSON(*found))
	}
	printLetter(g, *found)
	return nil
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

func printLetter(g *globals, d events.DeadLetter) {
	line := func(name, value string) { fmt.Fprintf(g.Stdout, "%-10s %s\n", name, printable(value)) }
	line("position", d.Position.String())
	line("time", d.Time.Format(time.RFC3339))
	line("account", string(d.Key))
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

func letterJSON(d events.DeadLetter) ordered {
	headers := []ordered{}
	for _, h := range d.Headers {
		headers = append(headers, ordered{{"key", h.Key}, {"value", string(h.Value)}})
	}
	o := ordered{
		{"partition", d.Position.Partition}, {"offset", d.Position.Offset}, {"time", d.Time}, {"account", string(d.Key)},
		{"reason", d.Reason}, {"error", d.Error}, {"from", d.From}, {"headers", headers},
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
func eachDead(ctx context.Context, t *target, only *events.Position, fn func(events.DeadLetter)) error {
	zone := t.cfg.Location()
	return eachDeadRecord(ctx, t, only, func(m events.Message) {
		if isMark(m.Record) {
			return
		}
		d, err := events.DecodeDeadLetter(m)
		if err != nil { // somebody else's record is shown as what it is
			d = events.DeadLetter{Record: m.Record, Position: m.Position, Reason: reasonForeign, Error: "not a dead letter of qunfa"}
		}
		d.Time = d.Time.In(zone)
		fn(d)
	})
}

// eachDeadRecord is eachDead for everything that is in the topic.
func eachDeadRecord(ctx context.Context, t *target, only *events.Position, fn func(events.Message)) error {
	client, err := t.kafka()
	if err != nil {
		return err
	}
	defer client.Close()
	err = readTopic(ctx, client, t, t.cfg.Kafka.DeadTopic, only, fn)
	if errors.Is(err, kafka.ErrNoTopic) {
		return fmt.Errorf("the topic %s does not exist: `qunfa migrate` creates it", t.cfg.Kafka.DeadTopic)
	}
	return client.Diagnose(ctx, err)
}

// reasonForeign is shown for records that are no dead letters.
const reasonForeign = "foreign"

// readTopic calls fn for every record that the topic has at the beginning, or
// for the one at a position.
//
// It reads as a member of a consumer group of its own that commits nothing, and
// so leaves nothing behind: the package kafka reads in no other way.
func readTopic(ctx context.Context, client *kafka.Client, t *target, topic string, only *events.Position, fn func(events.Message)) error {
	todo, err := stretches(ctx, client, topic, only)
	if err != nil || len(todo) == 0 {
		return err
	}
	group, err := kafka.NewGroup(client, kafka.GroupConfig{GroupID: "qunfa-dead-" + rand.Text(), Topic: topic}, t.opts.Logger, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = group.Run(ctx, func(ctx context.Context, g *kafka.Generation) error {
		err := readGeneration(ctx, g, todo, fn)
		if err == nil {
			cancel() // all was read; else the next generation goes on
		}
		return err
	})
	if err == nil && len(todo) > 0 {
		err = context.Cause(ctx)
	}
	return err
}

// stretch is a part of a partition that is still to be read.
type stretch struct{ next, end int64 }

func stretches(ctx context.Context, client *kafka.Client, topic string, only *events.Position) (map[int32]stretch, error) {
	first, err := client.FirstOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := client.EndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	todo := map[int32]stretch{}
	for p, end := range ends {
		s := stretch{first[p], end}
		if only != nil {
			if p != only.Partition || only.Offset < s.next || only.Offset >= s.end {
				continue
			}
			s = stretch{only.Offset, only.Offset + 1}
		}
		if s.next < s.end {
			todo[p] = s
		}
	}
	return todo, nil
}

// readGeneration reads until nothing is left to do. A partition that is done,
// or of no interest, is passed over.
func readGeneration(ctx context.Context, g *kafka.Generation, todo map[int32]stretch, fn func(events.Message)) error {
	start := map[int32]int64{}
	for p, s := range todo {
		start[p] = s.next
	}
	if err := g.Begin(start); err != nil {
		return err
	}
	for len(todo) > 0 {
		batch, err := g.Poll(ctx, 1000, 4<<20)
		if err != nil {
			return err
		}
		for _, m := range batch {
			s, ok := todo[m.Partition]
			if !ok || m.Offset < s.next {
				continue
			}
			if m.Offset < s.end {
				fn(m)
			}
			if s.next = m.Offset + 1; s.next >= s.end {
				delete(todo, m.Partition)
				continue
			}
			todo[m.Partition] = s
		}
		for _, gone := range g.Trimmed() {
			if s, ok := todo[gone.Partition]; ok && gone.To >= s.end {
				delete(todo, gone.Partition)
			}
		}
	}
	return nil
}
