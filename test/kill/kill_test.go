package kill

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/config"
)

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	given := os.Getenv(name)
	if given == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(given, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// The ways to kill. In the first rounds each has its turn; then chance decides.
const (
	killProcess  = iota // qunfa up, with everything in it
	killEngine          // ClickHouse, which qunfa up has to start again
	killStarting        // qunfa up before it is up
	ways
)

func TestKill(t *testing.T) {
	rounds := fromEnv(t, "QUNFA_KILL_ROUNDS", 6)
	seed := fromEnv(t, "QUNFA_KILL_SEED", uint64(time.Now().UnixNano()))
	t.Logf("QUNFA_KILL_SEED=%d", seed)
	chance := rand.New(rand.NewPCG(seed, 1))

	program := build(t, accountsYAML)
	s := startSender(t)
	r := program.start()
	r.takes(s)
	for round := range rounds {
		way := int(round) % ways
		if round >= 2*ways {
			way = chance.IntN(ways)
		}
		r = r.round(s, way, chance)
	}
	r.takesMore(s, 200)
	s.stop()
	t.Logf("%d callbacks, %d acknowledged, %d attempts failed", len(s.sent), s.acked, s.failed)
	if s.failed == 0 {
		t.Error("no attempt failed: nothing was killed under load")
	}
	r.check(s)
	r.stop()

	// What was stopped in order comes back as well.
	r = program.start()
	r.takes(s)
	r.check(s)
	r.stop()
}

// takes waits until the process is up, and sends the load there.
func (r *process) takes(s *sender) {
	r.t.Helper()
	r.until("it is up", func() string {
		c := r.connection()
		if c == nil {
			return "no connection.json of this process"
		}
		s.target.Store(&c.Ingest)
		return ""
	})
}

// takesMore waits until the process has acknowledged some callbacks.
func (r *process) takesMore(s *sender, n int) {
	r.t.Helper()
	before := s.acknowledged()
	r.until(fmt.Sprintf("%d more callbacks are acknowledged", n), func() string {
		if have := s.acknowledged() - before; have < n {
			return fmt.Sprintf("%d are", have)
		}
		return ""
	})
}

// round kills something, and starts again what does not do so by itself.
func (r *process) round(s *sender, way int, chance *rand.Rand) *process {
	r.t.Helper()
	r.takesMore(s, 30+chance.IntN(400))
	if way == killEngine {
		if !r.killEngine() {
			r.t.Errorf("there was no engine to kill:\n%s", r.log)
		}
		r.takesMore(s, 100) // ingest does not need it
		return r
	}
	r.mustRun()
	r.Kill()
	next := r.program.start()
	if way == killStarting {
		pause := time.NewTimer(time.Duration(chance.Int64N(int64(1500 * time.Millisecond)))) // the moment is the point
		select {
		case <-pause.C:
		case <-next.Done(): // mustRun says so
		}
		next.mustRun()
		next.Kill()
		next = r.program.start()
	}
	next.takes(s)
	return next
}

// check compares the database with the ledger of the sender.
func (r *process) check(s *sender) {
	r.t.Helper()
	r.until("everything acknowledged is in SQL, once", func() string {
		out, err := r.run("query", "--data", r.dir, "--limit", "0", "--format", "csv",
			"SELECT appid, msg_id, outcome, err_code, total, eligible, sent, errors, callbacks FROM messages")
		if err != nil {
			return err.Error()
		}
		return s.compare(out)
	})
	cfg, options := r.connection().Apply(config.Default())
	db, err := app.OpenClickHouse(cfg, options)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	coverage, err := db.Coverage(r.t.Context())
	if err != nil || len(coverage) != 1 || coverage[0].First != 0 || coverage[0].Missing() != 0 {
		r.t.Errorf("not every record of the log is accounted for: %+v, %v", coverage, err)
	}
	counted, err := db.Query(r.t.Context(), "SELECT toInt64(count()), toInt64(uniqExact(event_id)), toInt64(uniqExact(appid, msg_id)) FROM events")
	if err != nil {
		r.t.Fatal(err)
	}
	if n := counted.Rows[0]; n[0] != n[1] || n[0] != n[2] {
		r.t.Errorf("%v events, %v ids, %v messages: want one event a message", n[0], n[1], n[2])
	}
}

// compare says what is wrong with the rows of the database, or nothing.
func (s *sender) compare(out string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := map[int64]bool{}
	var wrong []string
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, l := range lines[1:] {
		l = strings.TrimSpace(l)
		n, err := strconv.ParseInt(strings.Split(l, ",")[1], 10, 64)
		if err != nil {
			return fmt.Sprintf("%s: %v", l, err)
		}
		_, sent := s.sent[n]
		switch {
		case have[n]:
			wrong = append(wrong, "twice: "+l)
		case !sent:
			wrong = append(wrong, "never sent: "+l)
		case l != callback{n}.row():
			wrong = append(wrong, fmt.Sprintf("is %s, want %s", l, callback{n}.row()))
		}
		have[n] = true
	}
	for n, acked := range s.sent {
		if acked && !have[n] {
			wrong = append(wrong, fmt.Sprintf("acknowledged, but not there: %d", n))
		}
	}
	if len(wrong) > 10 {
		wrong = append(wrong[:10], fmt.Sprintf("and %d more", len(wrong)-10))
	}
	return strings.Join(wrong, "\n")
}

// until polls until missing returns nothing: it says what is not right yet.
func (r *process) until(what string, missing func() string) {
	r.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		r.mustRun()
		why := missing()
		if why == "" {
			return
		}
		select {
		case <-tick.C:
		case <-over.C:
			r.t.Fatalf("after %s still not: %s\n%s\n%s", patience, what, why, r.log)
		}
	}
}
