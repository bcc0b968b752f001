package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
)

// deadReplayCmd sends dead letters on their way again. An event keeps its id, so
// one that arrives twice counts once.
type deadReplayCmd struct {
	deadPick
	DryRun bool `help:"Say what would be replayed, and change nothing."`
}

// deadDropCmd gives dead letters up.
type deadDropCmd struct {
	deadPick
	Yes bool `help:"Do it. Without, it only says how many would be dropped."`
}

// deadPick says which letters are meant.
type deadPick struct {
	Positions []string `arg:"" optional:"" help:"Where they are in the dead-letter topic, as list shows it: PARTITION/OFFSET."`
	Reason    string   `help:"All open ones with this reason: undecodable, uninsertable or unparsable." placeholder:"REASON"`
	All       bool     `help:"All open ones."`
}

// picked is what was picked.
type picked struct {
	places map[place]bool // nil: not by position
	reason string         // empty: any
}

func (c deadPick) pick() (picked, error) {
	ways := 0
	for _, given := range []bool{len(c.Positions) > 0, c.Reason != "", c.All} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return picked{}, usagef("which dead letters? Give positions, --reason or --all (`qunfa dead list` shows what there is)")
	}
	if c.Reason != "" && !slices.Contains(events.DeadReasons(), c.Reason) {
		return picked{}, usagef("--reason %q: want one of %s", c.Reason, strings.Join(events.DeadReasons(), ", "))
	}
	p := picked{reason: c.Reason}
	for _, s := range c.Positions {
		at, err := parsePosition(s)
		if err != nil {
			return picked{}, err
		}
		if p.places == nil {
			p.places = map[place]bool{}
		}
		p.places[placeOf(at)] = true
	}
	return p, nil
}

// has reports whether a letter is meant. One that is done with is meant only if
// it is named.
func (p picked) has(d events.DeadLetter, isDone bool) bool {
	if p.places != nil {
		return p.places[placeOf(d.Position)]
	}
	return !isDone && d.Reason != reasonForeign && (p.reason == "" || p.reason == d.Reason)
}

// Run implements the command.
func (c *deadReplayCmd) Run(g *globals) error {
	p, err := c.pick()
	if err != nil {
		return err
	}
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t, p)
}

func (c *deadReplayCmd) run(g *globals, t *target, p picked) error {
	return work(g, t, p, letterReplayed, c.DryRun)
}

// Run implements the command.
func (c *deadDropCmd) Run(g *globals) error {
	p, err := c.pick()
	if err != nil {
		return err
	}
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t, p)
}

func (c *deadDropCmd) run(g *globals, t *target, p picked) error {
	if err := work(g, t, p, letterDropped, !c.Yes); err != nil || c.Yes {
		return err
	}
	return usagef("nothing was dropped: repeat it with --yes if that is what you want")
}

// work does the same with every picked letter, in chunks: what was done is
// marked after each, so that an interruption costs one chunk's repetition.
func work(g *globals, t *target, p picked, what string, dry bool) error {
	w := &deadWork{g: g, picked: p, what: what, dry: dry, report: deadReport{DryRun: dry, Errors: []deadError{}}}
	if err := w.connect(t); err != nil {
		return err
	}
	err := w.all(t)
	if closeErr := w.close(); err == nil {
		err = closeErr
	}
	w.summary()
	switch {
	case err != nil:
		return err
	case w.report.Refused > 0:
		return errSilent
	}
	return nil
}

// deadWork is a replay, or a drop, on its way.
type deadWork struct {
	g      *globals
	picked picked
	what   string
	dry    bool
	client *kafka.Client
	events *kafka.Producer
	dead   *kafka.Producer

	marks  map[place]done
	chunk  []deadItem
	bytes  int
	report deadReport
	shown  time.Time // when progress was shown last
}

// deadItem is a letter that is to be dealt with, and the record to send, if any.
type deadItem struct {
	at     place
	record events.Record
}

// deadReport is what became of the letters.
type deadReport struct {
	Replayed int         `json:"replayed"`
	Dropped  int         `json:"dropped"`
	Refused  int         `json:"refused"` // they stay open
	DryRun   bool        `json:"dry_run,omitempty"`
	Errors   []deadError `json:"errors"`
}

// deadError says why a letter stays open.
type deadError struct {
	Position string `json:"position"`
	Error    string `json:"error"`
}

// Limits of a chunk.
const (
	deadChunk      = 500
	deadChunkBytes = 4 << 20
)

func (w *deadWork) connect(t *target) (err error) {
	if w.client, err = t.kafka(); err != nil {
		return err
	}
	if w.dry {
		return nil
	}
	if w.events, err = app.NewProducer(w.client, t.cfg.Kafka.Topic, t.opts); err == nil {
		w.dead, err = app.NewDeadProducer(w.client, t.cfg.Kafka.DeadTopic, t.opts)
	}
	if err != nil {
		return errors.Join(err, w.close())
	}
	return nil
}

// close waits for nothing: what was sent was waited for.
func (w *deadWork) close() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.g.ctx), 5*time.Second)
	defer cancel()
	var errs []error
	for _, p := range []*kafka.Producer{w.events, w.dead} {
		if p != nil {
			errs = append(errs, p.Close(ctx))
		}
	}
	w.client.Close()
	return errors.Join(errs...)
}

// all reads the topic twice: what is done with is known only at its end.
func (w *deadWork) all(t *target) error {
	var err error
	if w.marks, err = readMarks(w.g.ctx, t); err != nil {
		return err
	}
	found := map[place]bool{}
	err = eachDead(w.g.ctx, t, nil, func(d events.DeadLetter) error {
		at := placeOf(d.Position)
		_, isDone := w.marks[at]
		if !w.picked.has(d, isDone) {
			return nil
		}
		if w.picked.places != nil {
			found[at] = true
		}
		return w.take(w.g.ctx, d)
	})
	if err == nil {
		err = w.flush(w.g.ctx)
	}
	if err == nil {
		w.missing(found)
	}
	return err
}

// missing refuses positions at which there is no dead letter.
func (w *deadWork) missing(found map[place]bool) {
	var gone []place
	for at := range w.picked.places {
		if !found[at] {
			gone = append(gone, at)
		}
	}
	sortPlaces(gone)
	for _, at := range gone {
		w.refuse(at, errors.New("there is no dead letter here"))
	}
}

// take prepares a letter and does a chunk if one is full.
func (w *deadWork) take(ctx context.Context, d events.DeadLetter) error {
	item := deadItem{at: placeOf(d.Position)}
	if w.what == letterReplayed {
		var err error
		if item.record, err = replayable(d); err != nil {
			w.refuse(item.at, err)
			return nil
		}
	}
	w.chunk = append(w.chunk, item)
	w.bytes += len(item.record.Value)
	if len(w.chunk) >= deadChunk || w.bytes >= deadChunkBytes {
		return w.flush(ctx)
	}
	return nil
}

// replayable makes the record to send. What would only die again stays where it is.
func replayable(d events.DeadLetter) (events.Record, error) {
	switch d.Reason {
	case events.DeadUndecodable:
		if _, err := events.Decode(events.Message{Record: d.Record}); err != nil {
			return events.Record{}, fmt.Errorf("still cannot be decoded: %w", err)
		}
		return d.Record, nil
	case events.DeadUninsertable: // only the database knows whether it takes it now
		return d.Record, nil
	case events.DeadUnparsable:
		r, err := app.Reread(d)
		if err != nil {
			return r, fmt.Errorf("still cannot be read: %w", err)
		}
		return r, nil
	}
	return events.Record{}, errors.New(cmp.Or(d.Error, "not a dead letter that can be replayed"))
}

// flush sends a chunk, and then marks it.
func (w *deadWork) flush(ctx context.Context) error {
	chunk := w.chunk
	w.chunk, w.bytes = nil, 0
	if !w.dry && w.what == letterReplayed {
		var err error
		if chunk, err = w.send(ctx, chunk); err != nil {
			return err
		}
	}
	if len(chunk) == 0 {
		return nil
	}
	if !w.dry {
		if err := w.mark(ctx, chunk); err != nil {
			return err
		}
	}
	if w.what == letterReplayed {
		w.report.Replayed += len(chunk)
	} else {
		w.report.Dropped += len(chunk)
	}
	w.progress()
	return nil
}

// send returns the letters whose records are in the log. If Kafka refuses any,
// each is sent by itself to see which: copies do no harm.
func (w *deadWork) send(ctx context.Context, chunk []deadItem) (sent []deadItem, err error) {
	ctx, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	records := make([]events.Record, len(chunk))
	for i := range chunk {
		records[i] = chunk[i].record
	}
	err = w.events.ProduceAll(ctx, records)
	if err == nil {
		return chunk, nil
	}
	if !refusedRecord(err) {
		return nil, w.failed(err)
	}
	for _, item := range chunk {
		switch _, err := w.events.Produce(ctx, item.record); {
		case err == nil:
			sent = append(sent, item)
		case refusedRecord(err):
			w.refuse(item.at, err)
		default:
			return nil, w.failed(err)
		}
	}
	return sent, nil
}

// sendPatience is for a chunk: a producer tries again through almost anything.
const sendPatience = 15 * time.Second

func (w *deadWork) failed(err error) error {
	return diagnose(w.g.ctx, w.client, fmt.Errorf("send to the topic of events: %w", err))
}

func refusedRecord(err error) bool {
	return errors.Is(err, kafka.ErrTooLarge) || errors.Is(err, kafka.ErrRejected)
}

// mark says what was done with letters, also when a signal has come meanwhile:
// they are sent, so better say so.
func (w *deadWork) mark(ctx context.Context, chunk []deadItem) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	places := make([]place, len(chunk))
	for i, item := range chunk {
		places[i] = item.at
	}
	sortPlaces(places)
	r, err := encodeMark(w.what, places, time.Now())
	if err != nil {
		return err
	}
	if _, err := w.dead.Produce(ctx, r); err != nil {
		err = fmt.Errorf("mark %d letters as %s (they are, but list shows them as open): %w", len(chunk), w.what, err)
		return diagnose(w.g.ctx, w.client, err)
	}
	return nil
}

func (w *deadWork) refuse(at place, err error) {
	w.report.Refused++
	if w.report.Refused > maxShownErrors {
		return
	}
	e := deadError{at.String(), err.Error()}
	w.report.Errors = append(w.report.Errors, e)
	w.clearProgress()
	fmt.Fprintln(w.g.Stderr, printable(e.Position+": "+e.Error))
}

// progress is shown to people, and only of what takes longer than a moment.
func (w *deadWork) progress() {
	now := time.Now()
	if w.shown.IsZero() {
		w.shown = now
	}
	if isTerminal(w.g.Stderr) && now.Sub(w.shown) > time.Second {
		w.shown = now
		fmt.Fprintf(w.g.Stderr, "\r\x1b[K%d %s, %d stay open …", w.report.Replayed+w.report.Dropped, w.what, w.report.Refused)
	}
}

func (w *deadWork) clearProgress() {
	if isTerminal(w.g.Stderr) {
		fmt.Fprint(w.g.Stderr, "\r\x1b[K")
	}
}

func (w *deadWork) summary() {
	w.clearProgress()
	if w.g.Format == formatJSON {
		_ = w.g.printJSON(w.report) // the exit code says the same
		return
	}
	if hidden := w.report.Refused - len(w.report.Errors); hidden > 0 {
		fmt.Fprintf(w.g.Stderr, "… and %d more\n", hidden)
	}
	what := w.what
	if w.dry {
		what = "would be " + what
	}
	fmt.Fprintf(w.g.Stdout, "%d %s", w.report.Replayed+w.report.Dropped, what)
	if w.report.Refused > 0 {
		fmt.Fprintf(w.g.Stdout, ", %d stay open", w.report.Refused)
	}
	fmt.Fprintln(w.g.Stdout)
}
