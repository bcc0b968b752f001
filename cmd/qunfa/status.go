package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/daemon"
	"qunfa/internal/doctor"
	"qunfa/internal/events"
	"qunfa/internal/kafka"
)

// statusCmd shows the whole pipeline. Each part that cannot be asked says so
// and costs only itself.
type statusCmd struct {
	Admin []string `help:"Admin addresses of the services. Default: admin.listen, or that of the local stack." placeholder:"HOST:PORT"`
	readerFlags
}

// report is the pipeline as it is. What is not known is null, never 0.
type report struct {
	Where    string                `json:"where"`
	At       time.Time             `json:"at"`
	Version  string                `json:"version"`
	Services []doctor.ServiceState `json:"services"`
	Kafka    doctor.LogState       `json:"kafka"`
	Database doctor.DatabaseState  `json:"clickhouse"`
	Messages doctor.MessagesState  `json:"messages"`
	Accounts accountsState         `json:"accounts"`
}

// accountsState says, per account, whether missing callbacks can be seen at all.
type accountsState struct {
	Note  string `json:"note"`
	Rows  []any  `json:"rows"`
	Error string `json:"error,omitempty"`
	table *clickhouse.Result
}

// statusTimeout bounds each part.
const statusTimeout = 10 * time.Second

// Run implements the command.
func (c *statusCmd) Run(g *globals) error {
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t)
}

func (c *statusCmd) run(g *globals, t *target) error {
	r := report{Where: t.where, At: time.Now().In(t.cfg.Location()).Truncate(time.Second), Version: g.Version}
	for _, part := range []func(context.Context, *target, *report){c.services, c.kafka, c.database, c.messages} {
		ctx, cancel := context.WithTimeout(g.ctx, statusTimeout)
		part(ctx, t, &r)
		cancel()
	}
	if err := r.print(g); err != nil {
		return err
	}
	if !r.healthy() {
		return errSilent
	}
	return nil
}

// healthy is false if something could not be asked, or says that it does not work.
func (r *report) healthy() bool {
	bad := r.Kafka.Error != "" || r.Database.Error != "" || r.Messages.Error != "" || r.Accounts.Error != "" || r.Database.Schema != "ok"
	for _, s := range r.Services {
		bad = bad || s.Error != "" || s.Status == daemon.StatusNotReady
	}
	for _, c := range r.Database.Coverage {
		bad = bad || c.Missing != 0
	}
	return !bad
}

func (c *statusCmd) services(ctx context.Context, t *target, r *report) {
	addresses := c.Admin
	if len(addresses) == 0 {
		addresses = []string{t.cfg.Admin.Listen}
	}
	client := &http.Client{Timeout: statusTimeout}
	defer client.CloseIdleConnections()
	for _, a := range addresses {
		r.Services = append(r.Services, doctor.AskService(ctx, client, a))
	}
}

func (c *statusCmd) kafka(ctx context.Context, t *target, r *report) {
	r.Kafka = doctor.NewLogState(t.cfg.Kafka.Topic, t.cfg.Kafka.DeadTopic)
	client, err := t.kafka()
	if err != nil {
		r.Kafka.Error = err.Error()
		return
	}
	defer client.Close()
	err = r.Kafka.Ask(ctx, client, t.cfg.Sink.Group)
	if err == nil {
		err = countDead(ctx, client, &r.Kafka)
	}
	if err != nil {
		r.Kafka.Error = diagnose(context.WithoutCancel(ctx), client, err).Error()
	}
}

// maxCounted bounds the records of the dead-letter topic that are read to count
// the letters among them.
const maxCounted = 100_000

// countDead reads the topic: what in it is a letter, and which is done with, is
// known to its records alone.
func countDead(ctx context.Context, client *kafka.Client, k *doctor.LogState) error {
	first, ends, err := bounds(ctx, client, k.DeadTopic)
	if err != nil {
		return err
	}
	var records int64
	for p, end := range ends {
		records += end - first[p]
	}
	if records > maxCounted {
		return nil // not counted, which is null
	}
	var letters []place
	marks := map[place]done{}
	err = client.Read(ctx, k.DeadTopic, first, ends, func(m events.Message) error {
		if isMark(m.Record) {
			note(marks, m)
		} else {
			letters = append(letters, placeOf(m.Position))
		}
		return nil
	})
	if err != nil {
		return err
	}
	all, open := int64(len(letters)), int64(0)
	for _, at := range letters {
		if marks[at].what == "" {
			open++
		}
	}
	k.DeadLetters, k.OpenLetters = &all, &open
	return nil
}

func (c *statusCmd) database(ctx context.Context, t *target, r *report) {
	r.Database = doctor.DatabaseState{Database: t.cfg.ClickHouse.Database, Coverage: []doctor.CoverageState{}}
	db, err := t.database()
	if err != nil {
		r.Database.Error = err.Error()
		return
	}
	defer db.Close()
	if err := r.Database.Ask(ctx, db); err != nil {
		r.Database.Error = err.Error()
	}
}

func (c *statusCmd) messages(ctx context.Context, t *target, r *report) {
	db, err := c.reader(t)
	if err != nil {
		r.Messages.Error, r.Accounts.Error = err.Error(), err.Error()
		return
	}
	defer db.Close()
	if err := r.Messages.Ask(ctx, db); err != nil {
		r.Messages.Error = explainAccess(err).Error()
	}
	if r.Accounts, err = askAccounts(ctx, db); err != nil {
		r.Accounts.Error = explainAccess(err).Error()
	}
}

// recordingNote stands beside every figure about missing callbacks.
const recordingNote = "A callback that never comes can be seen only if the send was recorded (record API or `qunfa record`):" +
	" of sends that nobody recorded, missing callbacks cannot be seen, so no figure here means that there are none."

func askAccounts(ctx context.Context, db *clickhouse.DB) (accountsState, error) {
	s := accountsState{Note: recordingNote, Rows: []any{}}
	r, err := db.Query(ctx, "SELECT appid, account, callbacks, callbacks_unrecorded, unrecorded_share, recorded, missing_callbacks, recording, note FROM accounts ORDER BY account, appid")
	if err != nil {
		return s, err
	}
	s.table = r
	for _, o := range objects(r) {
		s.Rows = append(s.Rows, o)
	}
	return s, nil
}

func (r *report) print(g *globals) error {
	switch f := g.format(formatJSON); f {
	case formatJSON:
		return g.printJSON(r)
	case formatCSV:
		return usagef("status has several tables: use --format table or json")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n", r.Where, r.At.Format(time.DateTime))
	r.printServices(&b)
	for _, part := range []func(*strings.Builder) error{r.printKafka, r.printDatabase, r.printMessages, r.printAccounts} {
		if err := part(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(g.Stdout, b.String())
	return err
}

func title(b *strings.Builder, text string, err string) bool {
	fmt.Fprintf(b, "\n%s\n", text)
	if err != "" {
		fmt.Fprintf(b, "  not known: %s\n", printable(err))
	}
	return err == ""
}

func (r *report) printServices(b *strings.Builder) {
	fmt.Fprintf(b, "\nServices\n")
	for _, s := range r.Services {
		if s.Error != "" {
			fmt.Fprintf(b, "  %s %s\n", s.Address, printable(s.Error))
			continue
		}
		fmt.Fprintf(b, "  %s %s\n", s.Address, strings.ReplaceAll(string(s.Status), "_", " "))
		for _, c := range s.Checks {
			fmt.Fprintf(b, "    %s\n", printable(c.String()))
		}
	}
}

func (r *report) printKafka(b *strings.Builder) error {
	k := r.Kafka
	if !title(b, "Log: Kafka topic "+k.Topic, k.Error) && len(k.Partitions) == 0 {
		return nil
	}
	t := &clickhouse.Result{Columns: []clickhouse.Column{{Name: "partition", Type: "Int32"}, {Name: "first", Type: "Int64"}, {Name: "end", Type: "Int64"}, {Name: "committed by the sink", Type: "Nullable(Int64)"}, {Name: "lag", Type: "Int64"}}}
	for _, p := range k.Partitions {
		t.Rows = append(t.Rows, []any{p.Partition, p.First, p.End, number(p.Committed), p.Lag})
	}
	if err := writeTable(b, t); err != nil {
		return err
	}
	fmt.Fprintf(b, "  not yet in ClickHouse: %s; dead letters in %s: %s", known(k.Lag), k.DeadTopic, known(k.DeadLetters))
	if k.DeadLetters == nil || *k.DeadLetters > 0 {
		fmt.Fprintf(b, ", open: %s (`qunfa dead list` shows them)", known(k.OpenLetters))
	}
	b.WriteByte('\n')
	return nil
}

func number(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

func known(n *int64) string {
	if n == nil {
		return "not known"
	}
	return fmt.Sprint(*n)
}

func (r *report) printDatabase(b *strings.Builder) error {
	d := r.Database
	if !title(b, "Database "+d.Database, d.Error) && d.Version == "" {
		return nil
	}
	fmt.Fprintf(b, "  ClickHouse %s, schema: %s\n", d.Version, d.Schema)
	if d.Schema != "ok" {
		return nil
	}
	if len(d.Coverage) == 0 {
		fmt.Fprintln(b, "  nothing of the log has been stored yet")
		return nil
	}
	t := &clickhouse.Result{Columns: []clickhouse.Column{{Name: "partition", Type: "String"}, {Name: "offsets", Type: "String"}, {Name: "records", Type: "Int64"}}}
	kinds := []string{events.FateEvent, events.FateDead, events.FateForeign, events.FateTrimmed}
	for _, k := range []string{events.FateExpired, events.FateErased} { // most databases know of none
		if slices.ContainsFunc(d.Coverage, func(c doctor.CoverageState) bool { return c.Kinds[k] > 0 }) {
			kinds = append(kinds, k)
		}
	}
	for _, k := range kinds {
		t.Columns = append(t.Columns, clickhouse.Column{Name: k, Type: "Int64"})
	}
	t.Columns = append(t.Columns, clickhouse.Column{Name: "unaccounted for", Type: "Int64"})
	for _, c := range d.Coverage {
		row := []any{fmt.Sprintf("%s/%d", c.Topic, c.Partition), fmt.Sprintf("%d to %d", c.First, c.Last), c.Records}
		for _, k := range kinds {
			row = append(row, c.Kinds[k])
		}
		t.Rows = append(t.Rows, append(row, c.Missing))
	}
	return writeTable(b, t)
}

func (r *report) printMessages(b *strings.Builder) error {
	m := r.Messages
	if !title(b, "Messages by outcome", m.Error) {
		return nil
	}
	t := &clickhouse.Result{Rows: [][]any{nil}}
	for _, o := range events.Outcomes() {
		t.Columns = append(t.Columns, clickhouse.Column{Name: string(o), Type: "Int64"})
		t.Rows[0] = append(t.Rows[0], m.Outcomes[string(o)])
	}
	if err := writeTable(b, t); err != nil {
		return err
	}
	if m.OldestPending != nil {
		fmt.Fprintf(b, "  the oldest pending one was submitted %s, %s ago\n", m.OldestPending.Format(time.DateTime), r.At.Sub(*m.OldestPending).Truncate(time.Second))
	}
	return nil
}

func (r *report) printAccounts(b *strings.Builder) error {
	a := r.Accounts
	if !title(b, "Are sends recorded?", a.Error) {
		return nil
	}
	fmt.Fprintf(b, "  %s\n", a.Note)
	if len(a.table.Rows) == 0 {
		fmt.Fprintln(b, "  no account is known")
		return nil
	}
	return writeTable(b, recordingTable(a.table))
}

// recordingTable says in words what could be taken for a good 0.
func recordingTable(r *clickhouse.Result) *clickhouse.Result {
	t := &clickhouse.Result{Columns: []clickhouse.Column{
		{Name: "appid", Type: "String"}, {Name: "account", Type: "String"}, {Name: "callbacks", Type: "Int64"}, {Name: "without a recorded send", Type: "Float64"},
		{Name: "recorded", Type: "Int64"}, {Name: "missing callbacks", Type: "Int64"}, {Name: "which means", Type: "String"},
	}}
	for n := range r.Rows {
		a := rowOf(r, n)
		share := "no callback yet"
		if s, ok := a["unrecorded_share"].(float64); ok {
			share = fmt.Sprintf("%.1f%%", 100*s)
		}
		missing := "cannot be seen"
		if m, ok := a["missing_callbacks"].(int64); ok {
			missing = fmt.Sprint(m)
			if a.text("recording") != "all" {
				missing += " of the recorded"
			}
		}
		t.Rows = append(t.Rows, []any{a["appid"], a["account"], a["callbacks"], share, a["recorded"], missing, a["note"]})
	}
	return t
}
