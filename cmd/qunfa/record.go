package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"qunfa/internal/ingest/submission"
)

// recordCmd tells the record API what was sent.
type recordCmd struct {
	Files []string `arg:"" optional:"" help:"Files of JSON lines, JSON or CSV; - is standard input. Without any, the flags describe one message."`
	Input string   `help:"How the files are written: auto, jsonl, json or csv." enum:"auto,jsonl,json,csv" default:"auto" placeholder:"FORMAT"`

	AppID        string `help:"The account. With files: of records that name none." name:"appid" placeholder:"APPID"`
	MsgID        string `help:"msg_id of WeChat's answer to the send." name:"msg-id" placeholder:"N"`
	MsgDataID    string `help:"msg_data_id of that answer." name:"msg-data-id" placeholder:"N"`
	SubmittedAt  string `help:"When it was sent: 2026-03-01T08:00:00+08:00, or Unix seconds. Default: now." placeholder:"TIME"`
	Audience     string `help:"To whom: all, tag or openids." placeholder:"KIND"`
	TagID        string `help:"Which tag." name:"tag-id" placeholder:"N"`
	AudienceSize string `help:"How many people, where known." placeholder:"N"`
	MsgType      string `help:"mpnews, text, voice, images, mpvideo or wxcard." placeholder:"TYPE"`
	Label        string `help:"What you call this message." placeholder:"TEXT"`
	Campaign     string `help:"What you call one send of several messages." placeholder:"TEXT"`
	ClientMsgID  string `help:"clientmsgid of the send." name:"clientmsgid" placeholder:"TEXT"`
	Recorder     string `help:"Who tells it. With files: of records that do not say. Default: api." placeholder:"NAME"`

	History  bool          `help:"It is history: never ask WeChat about records that do not say \"chase\"."`
	DryRun   bool          `help:"Check everything, record nothing."`
	API      string        `help:"Record API. Default: ingest.internal of the configuration, or that of the local stack." name:"api" placeholder:"HOST:PORT"`
	RetryFor time.Duration `help:"How long to repeat what the API cannot take at the moment." default:"1m"`
}

// maxShownErrors bounds the lines about records that cannot be used; the number says the rest.
const maxShownErrors = 100

// Run implements the command.
func (c *recordCmd) Run(g *globals) error {
	inputs, err := c.inputs(g)
	if err != nil {
		return err
	}
	t, err := c.destination(g)
	if err != nil {
		return err
	}
	if t.api != nil {
		defer t.api.http.CloseIdleConnections()
	}
	r := &recorder{g: g, api: t.api, dry: c.DryRun, total: tally{Errors: []itemError{}}}
	for _, in := range inputs {
		if err := r.take(in, submission.Format(c.Input), c.options(t)); err != nil {
			r.summary()
			return err
		}
	}
	return r.finish()
}

// destination is where records go, and the zone of their times.
type destination struct {
	api      *recordAPI
	location *time.Location
}

// destination needs no server if nothing is to be recorded.
func (c *recordCmd) destination(g *globals) (destination, error) {
	cfg, err := g.loadConfig()
	if err != nil {
		return destination{}, err
	}
	if c.DryRun {
		return destination{location: cfg.Location()}, nil
	}
	if g.Data != "" || cfg.Ingest.APIToken.IsZero() {
		t, err := g.target()
		if err != nil {
			return destination{}, err
		}
		cfg = t.cfg
	}
	if cfg.Ingest.APIToken.IsZero() {
		return destination{}, usagef("the record API wants a token: give ingest.api_token in %s", g.Config)
	}
	address := c.API
	if address == "" {
		address = cfg.Ingest.Internal
	}
	return destination{newRecordAPI(address, cfg.Ingest.APIToken.Reveal(), c.RetryFor), cfg.Location()}, nil
}

func (c *recordCmd) options(d destination) submission.Options {
	return submission.Options{
		Source: "qunfa/record", AppID: c.AppID, Recorder: c.Recorder, NoChase: c.History,
		Now: time.Now().UTC(), Location: d.location,
	}
}

// input is something to read records from.
type input struct {
	name string // for messages; empty for the flags
	open func() (io.ReadCloser, error)
	pipe bool // records are sent on as they come
}

func (c *recordCmd) inputs(g *globals) ([]input, error) {
	one, err := c.fromFlags()
	if err != nil {
		return nil, err
	}
	if len(c.Files) == 0 {
		if one == nil {
			return nil, usagef("what was sent? Give --appid and --msg-id, or a file of records, or - for standard input.\nThe fields of a record: %s",
				strings.Join(submission.Fields(), ", "))
		}
		return []input{{open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(one)), nil }}}, nil
	}
	if one != nil {
		return nil, usagef("with files, only --appid, --recorder and --history apply to the records")
	}
	var list []input
	for _, name := range c.Files {
		if name == "-" {
			list = append(list, input{"standard input", func() (io.ReadCloser, error) { return io.NopCloser(g.Stdin), nil }, true})
			continue
		}
		list = append(list, input{name, func() (io.ReadCloser, error) { return os.Open(name) }, false})
	}
	return list, nil
}

// fromFlags writes the flags as a record, so that they are checked like any other.
func (c *recordCmd) fromFlags() ([]byte, error) {
	record := map[string]string{
		"msg_id": c.MsgID, "msg_data_id": c.MsgDataID, "submitted_at": c.SubmittedAt, "audience": c.Audience, "tag_id": c.TagID,
		"audience_size": c.AudienceSize, "msg_type": c.MsgType, "label": c.Label, "campaign": c.Campaign, "clientmsgid": c.ClientMsgID,
	}
	for name, value := range record {
		if value == "" {
			delete(record, name)
		}
	}
	if len(record) == 0 {
		return nil, nil
	}
	return json.Marshal(record)
}

// recorder sends what it reads, in chunks, and counts.
type recorder struct {
	g     *globals
	api   *recordAPI
	dry   bool
	total tally

	name  string
	batch []pendingRecord
	bytes int
	shown time.Time // when progress was shown last
}

// tally is what became of the records.
type tally struct {
	Accepted int         `json:"accepted"`
	Rejected int         `json:"rejected"`
	DryRun   bool        `json:"dry_run,omitempty"`
	Errors   []itemError `json:"errors"`
}

// itemError is a record that cannot be used.
type itemError struct {
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"` // from 1; 0 where lines do not count
	Index int    `json:"index"`          // from 0
	AppID string `json:"appid,omitempty"`
	MsgID int64  `json:"msg_id,omitempty"`
	Error string `json:"error"`
}

func (e itemError) String() string {
	where := e.File
	switch {
	case e.File != "" && e.Line > 0:
		where += fmt.Sprintf(":%d", e.Line)
	case e.File != "":
		where += fmt.Sprintf(": record %d", e.Index+1)
	}
	if e.MsgID != 0 && e.AppID != "" {
		where = strings.TrimPrefix(fmt.Sprintf("%s: %s/%d", where, e.AppID, e.MsgID), ": ")
	}
	return strings.TrimPrefix(where+": "+e.Error, ": ")
}

// pendingRecord is a good record that waits to be sent.
type pendingRecord struct {
	item submission.Item
	json []byte
}

// Limits of a call: of the API's 1000 records, and well below its 4 MiB.
const (
	maxChunk      = 1000
	maxChunkBytes = 1 << 20
)

// take reads one input to its end.
func (r *recorder) take(in input, format submission.Format, o submission.Options) error {
	r.name = in.name
	before := len(r.total.Errors)
	defer func() { // what the API rejects comes later than what is refused here
		slices.SortStableFunc(r.total.Errors[before:], func(a, b itemError) int { return cmp.Compare(a.Index, b.Index) })
	}()
	f, err := in.open()
	if err != nil {
		return err
	}
	defer f.Close()
	var source io.Reader = f
	if in.pipe {
		source = &flushReader{f, r.flush}
	}
	for it, err := range submission.Parse(format, source, o) {
		if err != nil {
			return errors.Join(r.flush(), fmt.Errorf("%s: %w; what came before it was recorded", r.inputName(), err))
		}
		if err := r.add(it); err != nil {
			return err
		}
	}
	return r.flush()
}

func (r *recorder) inputName() string {
	if r.name == "" {
		return "the flags"
	}
	return r.name
}

// flushReader sends on what was read before it waits for more: who pipes in
// records one by one wants them recorded one by one.
type flushReader struct {
	io.Reader
	flush func() error
}

func (f *flushReader) Read(p []byte) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.Reader.Read(p)
}

func (r *recorder) add(it submission.Item) error {
	if it.Err != nil {
		r.reject(it, it.Err.Error())
		return nil
	}
	b, err := wireRecord(it.Event)
	if err != nil {
		return err
	}
	if len(r.batch) == maxChunk || r.bytes+len(b) > maxChunkBytes {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.batch = append(r.batch, pendingRecord{it, b})
	r.bytes += len(b) + 1
	return nil
}

// flush sends what waits.
func (r *recorder) flush() error {
	batch := r.batch
	r.batch, r.bytes = nil, 0
	switch {
	case len(batch) == 0:
		return nil
	case r.dry:
		r.total.Accepted += len(batch)
	default:
		records := make([][]byte, len(batch))
		for i, p := range batch {
			records[i] = p.json
		}
		errs, err := r.api.send(r.g.ctx, records)
		if err != nil {
			return err
		}
		for i, text := range errs {
			if text == "" {
				r.total.Accepted++
				continue
			}
			r.reject(batch[i].item, text)
		}
	}
	r.progress()
	return nil
}

func (r *recorder) reject(it submission.Item, text string) {
	r.total.Rejected++
	if r.total.Rejected > maxShownErrors {
		return
	}
	e := itemError{r.name, it.Line, it.Index, it.Key.AppID, it.Key.MsgID, text}
	r.total.Errors = append(r.total.Errors, e)
	r.clearProgress()
	fmt.Fprintln(r.g.Stderr, printable(e.String()))
}

// progress is shown to people, and only of what takes longer than a moment.
func (r *recorder) progress() {
	now := time.Now()
	if r.shown.IsZero() {
		r.shown = now
	}
	if isTerminal(r.g.Stderr) && now.Sub(r.shown) > time.Second {
		r.shown = now
		fmt.Fprintf(r.g.Stderr, "\r\x1b[K%d recorded, %d rejected …", r.total.Accepted, r.total.Rejected)
	}
}

func (r *recorder) clearProgress() {
	if isTerminal(r.g.Stderr) {
		fmt.Fprint(r.g.Stderr, "\r\x1b[K")
	}
}

// finish prints the summary, and fails if anything was rejected.
func (r *recorder) finish() error {
	r.summary()
	if r.total.Rejected > 0 {
		return errSilent
	}
	return nil
}

func (r *recorder) summary() {
	r.clearProgress()
	r.total.DryRun = r.dry
	if r.g.Format == formatJSON {
		_ = r.g.printJSON(r.total) // the exit code says the same
		return
	}
	if hidden := r.total.Rejected - len(r.total.Errors); hidden > 0 {
		fmt.Fprintf(r.g.Stderr, "… and %d more\n", hidden)
	}
	what := "recorded"
	if r.dry {
		what = "would be recorded (--dry-run)"
	}
	fmt.Fprintf(r.g.Stdout, "%d %s, %d rejected\n", r.total.Accepted, what, r.total.Rejected)
}
