//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"qunfa/internal/clickhouse"
	"qunfa/internal/kafka"
)

// world is where faults are made.
type world interface {
	// moves lists the faults there can be.
	moves() []move
	// trouble makes one, and says what it was made of if that was not clear
	// before. undo ends it.
	trouble(move) (on string, undo func() error, err error)
	// running lists the services that must be well in the end.
	running() []*service
	// rows are the messages in the database.
	rows(context.Context) ([]row, error)
	// checks compares everything that is stored but the messages.
	checks(context.Context) ([]check, error)
}

// setting reads an environment variable.
func setting(name, otherwise string) string {
	if given := os.Getenv(name); given != "" {
		return given
	}
	return otherwise
}

// settings of a run.
type settings struct {
	seed  uint64
	lasts time.Duration
	rate  float64 // messages a second
}

func readSettings(t *testing.T) settings {
	t.Helper()
	var s settings
	var errs [3]error
	s.seed, errs[0] = strconv.ParseUint(setting("CHAOS_SEED", strconv.FormatInt(time.Now().Unix(), 10)), 10, 64)
	s.lasts, errs[1] = time.ParseDuration(setting("CHAOS_FOR", "5m"))
	s.rate, errs[2] = strconv.ParseFloat(setting("CHAOS_RATE", "20"), 64)
	for _, err := range errs {
		if err != nil {
			t.Fatalf("CHAOS_SEED, CHAOS_FOR or CHAOS_RATE: %v", err)
		}
	}
	return s
}

// The times around the faults.
const (
	calmBefore = 12 * time.Second // load alone, to learn what is normal
	settleIn   = 6 * time.Minute  // bounds the wait for everything to come right
)

// play runs the faults on a world under load, and passes judgement.
func play(s *stage, w world, l *load, set settings) {
	calm := learnCalm(s, w)
	faults := plan(set.seed, w.moves(), set.lasts)
	s.say("%d faults in %s; the load goes on", len(faults), set.lasts)
	ctx, stop := context.WithCancel(context.Background())
	var talking sync.WaitGroup
	talking.Go(func() { l.talk(ctx) })
	made := makeAll(s, w, faults)
	if rest := set.lasts - time.Since(made.began); rest > 0 {
		pause(s.ctx, rest)
	}
	s.say("the faults are over; the load stops")
	l.finish()
	stop()
	talking.Wait()
	checks := settle(s, w, l, calm)
	verdict(s, made, checks, l)
}

// learnCalm measures what the services hold while all is well.
func learnCalm(s *stage, w world) map[string]usage {
	s.say("%s of calm", calmBefore)
	calm := map[string]usage{}
	over := time.Now().Add(calmBefore)
	for time.Now().Before(over) {
		for _, v := range w.running() {
			u, err := v.usage()
			if err != nil {
				s.t.Fatal(err)
			}
			calm[v.name] = usage{max(calm[v.name].goroutines, u.goroutines), max(calm[v.name].files, u.files)}
		}
		pause(context.Background(), time.Second)
	}
	return calm
}

// talk tells how far the load is.
func (l *load) talk(ctx context.Context) {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.say("       %s", l.progress())
		}
	}
}

// made is what became of the plan.
type made struct {
	began  time.Time
	mu     sync.Mutex
	counts map[string]int // by move
	failed []string
}

// makeAll makes all faults at their times and waits until they are healed.
func makeAll(s *stage, w world, faults []fault) *made {
	m := &made{began: time.Now(), counts: map[string]int{}}
	groups := map[string]*sync.Mutex{}
	for _, f := range faults {
		if groups[f.group] == nil {
			groups[f.group] = &sync.Mutex{}
		}
	}
	var wg sync.WaitGroup
	for _, f := range faults {
		pause(s.ctx, f.at-time.Since(m.began))
		if s.ctx.Err() != nil {
			s.say("no more faults")
			break
		}
		wg.Go(func() {
			// The one before may take longer than planned.
			groups[f.group].Lock()
			defer groups[f.group].Unlock()
			m.make(s, w, f)
		})
	}
	wg.Wait()
	return m
}

func (m *made) make(s *stage, w world, f fault) {
	on, undo, err := w.trouble(f.move)
	if on != "" {
		on = " (" + on + ")"
	}
	if errors.Is(err, errLeftOut) {
		s.say("FAULT  %s%s: %v", f, on, err)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.skipped = append(s.skipped, f.move.String())
		return
	}
	if err != nil {
		s.say("FAULT  %s%s: not made: %v", f, on, err)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.failed = append(m.failed, fmt.Sprintf("%s: %v", f.move, err))
		if undo != nil {
			_ = undo() // what was done of it
		}
		return
	}
	s.say("FAULT  %s%s", f, on)
	pause(s.ctx, f.lasts)
	if err := undo(); err != nil {
		s.find("%s%s is not healed: %v", f.move, on, err)
	}
	s.say("healed %s%s", f.move, on)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[f.what+" "+f.group]++
}

// settle waits until everything is right, or until it has waited long enough.
func settle(s *stage, w world, l *load, calm map[string]usage) []check {
	began := time.Now()
	over := began.Add(settleIn)
	spoke := began
	for {
		checks := judge(s, w, l, calm)
		if unsettled(checks) == 0 || time.Now().After(over) {
			s.say("settled after %s", time.Since(began).Round(time.Second))
			return checks
		}
		if time.Since(spoke) > 10*time.Second {
			spoke = time.Now()
			sayUnsettled(s, checks)
		}
		pause(context.Background(), 2*time.Second)
	}
}

func sayUnsettled(s *stage, checks []check) {
	for _, c := range checks {
		if len(c.wrong) > 0 && !c.past {
			s.say("       %s: %d not right yet, such as %.150s", c.name, len(c.wrong), c.wrong[0])
		}
	}
}

// judge makes every check once.
func judge(s *stage, w world, l *load, calm map[string]usage) []check {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var checks []check
	rows, err := w.rows(ctx)
	if err != nil {
		checks = append(checks, check{name: "the messages can be read", wrong: []string{err.Error()}})
	} else {
		checks = compare(rows, l.truth()).checks()
	}
	stored, err := w.checks(ctx)
	if err != nil {
		stored = append(stored, check{name: "what is stored can be read", wrong: []string{err.Error()}})
	}
	late, detail := s.front.judge()
	return slices.Concat(checks, stored, []check{{"every callback answered in time", detail, late, true}}, serviceChecks(w, calm))
}

// checks are the lines of the verdict.
func (f found) checks() []check {
	return []check{
		{name: "nothing lost", detail: fmt.Sprintf("%d callbacks answered with success, %d records accepted", f.callbacks, f.submissions), wrong: f.lost},
		{name: "nothing doubled", detail: fmt.Sprintf("%d messages", f.messages), wrong: f.doubled},
		{name: "every figure as in the ledger", wrong: f.different,
			detail: fmt.Sprintf("8 figures of %d messages; %d came although their answer was cut off", f.messages, f.uncertain)},
		{name: "nothing pending", wrong: f.pending},
	}
}

// serviceChecks look at what the services say of themselves.
func serviceChecks(w world, calm map[string]usage) []check {
	now := map[string]usage{}
	ready := check{name: "every service ready"}
	waiting := map[string]float64{}
	for _, v := range w.running() {
		if why := v.unready(); why != "" {
			ready.wrong = append(ready.wrong, why)
			continue
		}
		u, err := v.usage()
		if err != nil {
			ready.wrong = append(ready.wrong, err.Error())
			continue
		}
		now[v.name] = u
		if v.front == "" {
			continue
		}
		for _, family := range []string{"qunfa_spool_records", "qunfa_spool_damaged_files", "qunfa_spool_set_aside_records"} {
			n, err := v.metric(family)
			if err != nil {
				ready.wrong = append(ready.wrong, err.Error())
			}
			waiting[v.name+" "+family] = n
		}
	}
	return []check{ready, checkEmpty("spools empty, none damaged", waiting), checkLeaks(calm, now)}
}

// rowSQL gives the columns that readRow takes.
const rowSQL = "SELECT appid, msg_id, outcome, decided_by, err_code, total, eligible, filtered, sent, errors, callbacks, recorded FROM messages"

// storedRows reads all messages.
func storedRows(ctx context.Context, db *clickhouse.DB) ([]row, error) {
	r, err := db.Query(ctx, rowSQL)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, columns := range r.Rows {
		rows = append(rows, readRow(columns))
	}
	return rows, nil
}

// storedChecks compares the database with the log.
func storedChecks(ctx context.Context, client *kafka.Client, db *clickhouse.DB, topic, dead, group string) ([]check, error) {
	ends, err := client.EndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	committed, err := client.CommittedOffsets(ctx, group, topic)
	if err != nil {
		return nil, err
	}
	coverage, err := db.Coverage(ctx)
	if err != nil {
		return nil, err
	}
	events, err := db.Query(ctx, "SELECT count(), uniqExact(event_id) FROM events")
	if err != nil {
		return nil, err
	}
	again, err := db.Query(ctx, `SELECT appid, msg_id, type, count() FROM events
WHERE type IN ('qunfa.mass.finished.v1', 'qunfa.mass.submitted.v1', 'qunfa.mass.abandoned.v1') GROUP BY ALL HAVING count() > 1`)
	if err != nil {
		return nil, err
	}
	var repeated []string
	for _, r := range again.Rows {
		repeated = append(repeated, strings.Trim(fmt.Sprint(r), "[]"))
	}
	letters, err := client.EndOffsets(ctx, dead)
	if err != nil {
		return nil, err
	}
	unplanned := map[string]float64{}
	for p, n := range letters {
		unplanned[fmt.Sprintf("partition %d", p)] = float64(n)
	}
	n := events.Rows[0]
	return []check{
		checkEvents(number(n[0]), number(n[1]), repeated),
		checkCoverage(topic, coverage, ends),
		checkLag(committed, ends),
		checkEmpty("no dead letters", unplanned),
	}, nil
}

// verdict prints what was done and found, and fails the test if it must.
func verdict(s *stage, m *made, checks []check, l *load) {
	var kinds []string
	total := 0
	for k, n := range m.counts {
		kinds = append(kinds, fmt.Sprintf("%s ×%d", k, n))
		total += n
	}
	slices.Sort(kinds)
	checks = append(checks, check{name: "faults made", detail: fmt.Sprintf("%d: %s", total, strings.Join(kinds, ", ")), wrong: m.failed})
	s.mu.Lock()
	if len(s.skipped) > 0 {
		checks[len(checks)-1].detail += fmt.Sprintf("; %d left out: %s", len(s.skipped), strings.Join(shorten(s.skipped, 5), ", "))
	}
	checks = append(checks, check{name: "nothing else went wrong", wrong: s.finds})
	s.mu.Unlock()
	fmt.Printf("\nSeed %d. %s.\n", s.seed, l.progress())
	t := table.NewWriter()
	t.SetOutputMirror(os.Stdout)
	t.SetStyle(table.StyleLight)
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: 110}})
	t.AppendHeader(table.Row{"", "check", "of"})
	for _, c := range checks {
		mark, detail := "ok", c.detail
		if len(c.wrong) > 0 {
			mark = "WRONG"
			detail += "\n" + strings.Join(shorten(c.wrong, 10), "\n")
			s.t.Errorf("%s: %d wrong", c.name, len(c.wrong))
		}
		t.AppendRow(table.Row{mark, c.name, strings.TrimSpace(detail)})
	}
	t.Render()
}

func TestCluster(t *testing.T) {
	set := readSettings(t)
	s := newStage(t, set.seed)
	s.say("world cluster, CHAOS_SEED=%d CHAOS_FOR=%s CHAOS_RATE=%g", set.seed, set.lasts, set.rate)
	c := startCluster(s)
	play(s, c, s.startLoad(set.rate, c.apis...), set)
}
