package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/doctor"
	"qunfa/internal/events"
)

// doctorCmd looks for what is wrong, and says what to do about it.
type doctorCmd struct {
	Account      []string      `help:"Look at this account only; may be given more than once." placeholder:"APPID"`
	URL          string        `help:"Where WeChat calls: what stands before /callback/APPID, or all of it with {appid} in it. Default: ingest.public_url." name:"url" placeholder:"URL"`
	AllowPrivate bool          `help:"Take a private address of that host for good: it has another one outside."`
	Admin        []string      `help:"Admin address of a service; may be given more than once. Default: admin.listen, or that of the local stack." placeholder:"HOST:PORT"`
	Timeout      time.Duration `help:"Give each check so long." default:"30s"`
	Within       time.Duration `help:"Give all checks together so long." default:"3m"`
	readerFlags

	network doctor.Network // for tests
}

// doctorParallel is how many checks run at a time: enough that one that waits
// does not hold up the others, few enough not to be a load.
const doctorParallel = 8

// doctorReport is what doctor says to programs.
type doctorReport struct {
	Where    string                  `json:"where"`
	At       time.Time               `json:"at"`
	Version  string                  `json:"version"`
	Seconds  float64                 `json:"seconds"`
	Summary  map[doctor.Severity]int `json:"summary"`
	Findings []doctor.Finding        `json:"findings"`
}

// Run implements the command.
func (c *doctorCmd) Run(g *globals) error {
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t)
}

func (c *doctorCmd) run(g *globals, t *target) error {
	start := time.Now()
	findings, err := c.look(g, t)
	if err != nil {
		return err
	}
	if err := g.ctx.Err(); err != nil {
		return err
	}
	doctor.Redact(findings, doctor.Secrets(t.cfg))
	r := doctorReport{
		Where: t.where, At: start.In(t.cfg.Location()).Truncate(time.Second), Version: g.Version,
		Seconds: time.Since(start).Round(time.Millisecond).Seconds(), Summary: doctor.Count(findings), Findings: findings,
	}
	if err := r.print(g); err != nil {
		return err
	}
	if r.Summary[doctor.Failure] > 0 {
		return errSilent
	}
	return nil
}

// look connects to what the configuration names, and runs the checks.
func (c *doctorCmd) look(g *globals, t *target) ([]doctor.Finding, error) {
	cfg := doctor.Config{
		Settings: c.settings(t), Accounts: c.Account, PublicURL: c.URL, AllowPrivate: c.AllowPrivate,
		Embedded: t.local != nil, Admins: c.Admin, Network: c.network,
	}
	if len(t.cfg.Kafka.Brokers) > 0 {
		client, err := t.kafka()
		if err != nil {
			return nil, err
		}
		defer client.Close()
		cfg.Log = client
		cfg.DeadLetters = func(ctx context.Context) (map[string]int, error) { return openDeadLetters(ctx, t) }
	}
	if len(t.cfg.ClickHouse.Addr) > 0 {
		db, err := t.database()
		if err != nil {
			return nil, err
		}
		defer db.Close()
		reader, err := c.reader(t)
		if err != nil {
			return nil, err
		}
		defer reader.Close()
		cfg.Database, cfg.Reader = db, reader
	}
	d, err := doctor.New(cfg)
	if err != nil {
		return nil, &usageError{err}
	}
	defer d.Close()
	line := &doctorLine{g: g, terminal: isTerminal(g.Stderr)}
	defer line.clear()
	return doctor.Run(g.ctx, d.Checks(), doctor.Limits{Each: c.Timeout, All: c.Within, Parallel: doctorParallel}, line.show), nil
}

// settings are the configuration with what a local stack fills in by itself.
func (c *doctorCmd) settings(t *target) *config.Config {
	if t.local == nil {
		return t.cfg
	}
	cfg := *t.cfg
	cfg.Embedded.Dir = t.dir
	cfg.Ingest.SpoolDir = cmp.Or(cfg.Ingest.SpoolDir, filepath.Join(cfg.Embedded.Dir, "spool"))
	return &cfg
}

// openDeadLetters counts the dead letters that were neither replayed nor dropped.
func openDeadLetters(ctx context.Context, t *target) (map[string]int, error) {
	marks, err := readMarks(ctx, t)
	if err != nil {
		return nil, err
	}
	open := map[string]int{}
	err = eachDead(ctx, t, nil, func(d events.DeadLetter) error {
		if marks[placeOf(d.Position)].what == "" {
			open[d.Reason]++
		}
		return nil
	})
	return open, err
}

// doctorLine shows on a terminal which checks have ended.
type doctorLine struct {
	g        *globals
	terminal bool
}

func (l *doctorLine) show(p doctor.Progress) {
	if l.terminal {
		line := fmt.Sprintf("%d of %d checks: %s %s", p.Done, p.Total, p.Check.ID, p.Check.Subject)
		fmt.Fprintf(l.g.Stderr, "\r\x1b[K%s", text.Trim(printable(line), 78))
	}
}

func (l *doctorLine) clear() {
	if l.terminal {
		fmt.Fprint(l.g.Stderr, "\r\x1b[K")
	}
}

func (r *doctorReport) print(g *globals) error {
	switch g.format(formatJSON) {
	case formatJSON:
		return g.printJSON(r)
	case formatTable:
		_, err := io.WriteString(g.Stdout, r.text(cmp.Or(g.width(), 120)))
		return err
	}
	return g.printRows(r.rows())
}

func (r *doctorReport) rows() *clickhouse.Result {
	rows := &clickhouse.Result{Columns: textColumns("severity", "check", "subject", "found", "remedy", "doc", "checked")}
	for _, f := range r.Findings {
		rows.Rows = append(rows.Rows, []any{string(f.Severity), f.Check, f.Subject, f.Found, f.Remedy, f.Doc, f.Checked})
	}
	return rows
}

// severityWords are for people: what is bad stands out.
var severityWords = map[doctor.Severity]string{doctor.OK: "ok", doctor.Unchecked: "?", doctor.Warning: "WARN", doctor.Failure: "FAIL"}

// text is for people who were woken up: everything that was looked at, and at the
// end, where the terminal stands, what to do, the worst first.
func (r *doctorReport) text(width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Looked at %s, %s\n", r.Where, r.At.Format("2006-01-02 15:04:05 MST"))
	r.writeFindings(&b, width)
	r.writeToDo(&b, width)
	n := r.Summary
	fmt.Fprintf(&b, "\nfailed: %d, warnings: %d, not checked: %d, ok: %d; in %.1f s\n", n[doctor.Failure], n[doctor.Warning], n[doctor.Unchecked], n[doctor.OK], r.Seconds)
	return b.String()
}

// writeFindings writes a line for each finding, grouped by area and check.
func (r *doctorReport) writeFindings(b *strings.Builder, width int) {
	list := grouped(r.Findings)
	longest := 0
	for _, f := range list {
		longest = max(longest, len(f.Check))
	}
	area := ""
	for i := 0; i < len(list); {
		f := list[i]
		if f.Area != area {
			area = f.Area
			fmt.Fprintf(b, "\n%s\n", areaTitles[area])
		}
		n, said := alike(list[i:])
		writeWrapped(b, fmt.Sprintf("  %-4s  %-*s  ", severityWords[f.Severity], longest, f.Check), said, width)
		i += n
	}
}

var areaTitles = map[string]string{
	doctor.AreaConfig: "Configuration", doctor.AreaCallback: "Is the callback wired?", doctor.AreaAPI: "Does WeChat's API let us in?",
	doctor.AreaKafka: "Can Kafka take records?", doctor.AreaClickHouse: "Is ClickHouse complete?", doctor.AreaServices: "Services and their disks",
}

// most is how many accounts, say, that are well have lines of their own.
const most = 3

// alike says how many findings at the head of a list one line can tell, and
// tells it: many of the same check that are well, and all that could not be
// looked at for the same reason.
func alike(list []doctor.Finding) (n int, said string) {
	first := list[0]
	same := func(f doctor.Finding) bool {
		switch first.Severity {
		case doctor.OK:
			return f.Severity == doctor.OK && f.Check == first.Check
		case doctor.Unchecked:
			return f.Severity == doctor.Unchecked && f.Area == first.Area && f.Found == first.Found && f.Remedy == first.Remedy
		}
		return false
	}
	n = 1
	for n < len(list) && same(list[n]) {
		n++
	}
	switch {
	case first.Severity == doctor.OK && n > most:
		return n, fmt.Sprintf("%d of them, such as %s", n, found(first))
	case first.Severity == doctor.Unchecked && n > 1:
		return n, fmt.Sprintf("%s; so it is with %d more", found(first), n-1)
	}
	return 1, found(first)
}

// found is a finding in a line. Of what was not checked it says at once what would help.
func found(f doctor.Finding) string {
	said := f.Found
	if f.Subject != "" {
		said = f.Subject + ": " + said
	}
	if f.Severity == doctor.Unchecked && f.Remedy != "" {
		said += " (" + f.Remedy + ")"
	}
	return printable(said)
}

// grouped sorts findings by check, in the order in which the checks first come.
func grouped(findings []doctor.Finding) []doctor.Finding {
	order := map[string]int{}
	for _, f := range findings {
		if _, ok := order[f.Check]; !ok {
			order[f.Check] = len(order)
		}
	}
	list := slices.Clone(findings)
	slices.SortStableFunc(list, func(a, b doctor.Finding) int { return order[a.Check] - order[b.Check] })
	return list
}

// toDo is one thing to do, about one subject or several.
type toDo struct {
	doctor.Finding
	subjects []string
}

// requestID is what differs between two refusals of WeChat's that are the same.
var requestID = regexp.MustCompile(`rid: [0-9A-Za-z-]+`)

// toDos puts together what is the same but for its subject, the worst first.
func (r *doctorReport) toDos() []*toDo {
	var list []*toDo
	known := map[doctor.Finding]*toDo{}
	for _, s := range []doctor.Severity{doctor.Failure, doctor.Warning} {
		for _, f := range grouped(r.Findings) {
			if f.Severity != s {
				continue
			}
			key := doctor.Finding{Check: f.Check, Severity: s, Remedy: f.Remedy, Found: requestID.ReplaceAllString(f.Found, "")}
			if f.Subject != "" {
				key.Found = strings.ReplaceAll(key.Found, f.Subject, "")
			}
			if known[key] == nil {
				known[key] = &toDo{Finding: f}
				list = append(list, known[key])
			}
			known[key].subjects = append(known[key].subjects, f.Subject)
		}
	}
	return list
}

// about names the subjects, as far as people want to read them.
func (t *toDo) about() string {
	said := strings.Join(t.subjects[:min(most, len(t.subjects))], ", ")
	if more := len(t.subjects) - most; more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	return said
}

func (r *doctorReport) writeToDo(b *strings.Builder, width int) {
	list := r.toDos()
	if len(list) == 0 {
		b.WriteString("\nNothing to do: all that was looked at is as it should be.\n")
		return
	}
	b.WriteString("\nWhat to do\n")
	for i, f := range list {
		head := fmt.Sprintf("%3d. %s %s  %s", i+1, severityWords[f.Severity], f.Check, f.about())
		fmt.Fprintf(b, "%s\n", printable(strings.TrimRight(head, " ")))
		writeWrapped(b, "     found  ", printable(f.Found), width)
		writeWrapped(b, "     do     ", printable(f.Remedy), width)
		if f.Doc != "" {
			fmt.Fprintf(b, "     more   %s\n", f.Doc)
		}
	}
}

// writeWrapped writes text after a head, and its further lines below it.
func writeWrapped(b *strings.Builder, head, said string, width int) {
	indent := strings.Repeat(" ", text.StringWidthWithoutEscSequences(head))
	for i, line := range strings.Split(text.WrapSoft(said, max(30, width-len(indent)-1)), "\n") {
		if i > 0 {
			head = indent
		}
		fmt.Fprintf(b, "%s%s\n", head, strings.TrimRight(line, " "))
	}
}
