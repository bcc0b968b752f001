//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qunfa/internal/wechat/wechattest"
	"qunfa/test/internal/proc"
)

// stage is what both worlds stand on.
type stage struct {
	t     *testing.T
	seed  uint64
	dir   string // of everything; kept if the run fails
	sim   *wechattest.Simulator
	front *balancer
	http  *http.Client
	wires *wires
	ctx   context.Context // ends when somebody wants no more faults

	mu      sync.Mutex
	began   time.Time
	finds   []string // what went wrong beside the checks
	skipped []string // faults that could not be made on this machine
}

func newStage(t *testing.T, seed uint64) *stage {
	dir, err := os.MkdirTemp("", "qunfa-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, seed: seed, dir: dir, began: time.Now(), http: &http.Client{Transport: &http.Transport{}, Timeout: 6 * time.Second}}
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		if t.Failed() {
			s.say("the logs are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.wires = newWires(t)
	s.listen()
	return s
}

// listen lets the first Ctrl-C end the faults, so that what was done so far is
// judged; the second ends everything, and leaves it lying about.
func (s *stage) listen() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	s.ctx = ctx
	context.AfterFunc(ctx, restore)
	s.t.Cleanup(restore)
}

// say prints a line with the time since the start.
func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Printf("%7.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// find notes that something went wrong.
func (s *stage) find(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	s.say("FOUND  %s", what)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finds = append(s.finds, what)
}

// until polls until missing returns nothing: it says what is not right yet.
func (s *stage) until(what string, patience time.Duration, missing func() string) {
	s.t.Helper()
	if why := s.await(context.Background(), patience, missing); why != "" {
		s.t.Fatalf("after %s still not: %s\n%s", patience, what, why)
	}
}

// await is the same, and returns what is not right in the end.
func (s *stage) await(ctx context.Context, patience time.Duration, missing func() string) (why string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if why = missing(); why == "" {
			return ""
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return why
		}
	}
}

// pause waits. How long something lasts is part of the plan.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// port returns a port that is free and stays so for who comes back to it: it is
// not among those that the system gives to whoever asks for any.
func (s *stage) port() int {
	s.t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for nextPort = max(nextPort, 20000+os.Getpid()*13%9000); ; {
		nextPort++
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(nextPort))
		if err == nil {
			_ = l.Close()
			return nextPort
		}
		if nextPort > 32000 {
			s.t.Fatalf("no free port: %v", err)
		}
	}
}

var (
	portsMu  sync.Mutex
	nextPort int
)

func (s *stage) address() string { return "127.0.0.1:" + strconv.Itoa(s.port()) }

// service is a program of ours that is put in trouble.
type service struct {
	*stage
	name  string
	kind  string // ingest, sink, reconcile or up
	admin string
	front string // where it takes callbacks, if it does
	cmd   proc.Command

	mu      sync.Mutex
	process *proc.Process
	ending  map[*proc.Process]bool // runs that we want to end
}

// run starts the program.
func (v *service) run() error {
	log, err := os.OpenFile(v.logFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cmd.Log, v.cmd.Apart = log, true
	if v.process, err = proc.Start(v.cmd); err != nil {
		return err
	}
	go v.watch(v.process, log)
	return nil
}

func (v *service) logFile() string { return filepath.Join(v.dir, v.name+".log") }

// watch notices when the program ends although nobody wants it to.
func (v *service) watch(p *proc.Process, log *os.File) {
	<-p.Done()
	_ = log.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.ending[p] {
		v.find("%s ended by itself: %v\n%s", v.name, p.Err(), tail(v.logFile(), 5))
	}
}

// current is the run of now, marked as one that may end.
func (v *service) current(ending bool) *proc.Process {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ending {
		if v.ending == nil {
			v.ending = map[*proc.Process]bool{}
		}
		v.ending[v.process] = true
	}
	return v.process
}

// up waits until the program answers.
func (v *service) up() error {
	why := v.await(context.Background(), 2*time.Minute, func() string {
		status, body, err := v.get("/healthz")
		if err != nil || status != http.StatusOK {
			return fmt.Sprint(status, body, err)
		}
		return ""
	})
	if why != "" {
		return fmt.Errorf("%s does not come up: %s\n%s", v.name, why, tail(v.logFile(), 5))
	}
	return nil
}

// excused notes that the service cannot answer callbacks until over is called.
func (v *service) excused() (over func()) {
	if v.front == "" {
		return func() {}
	}
	return v.stage.front.excuse(v.front, false)
}

// termPatience is how long a program may take to stop: docs/operations.md.
const termPatience = 35 * time.Second

// again starts the program after it was ended, and waits until it answers.
func (v *service) again(over func()) func() error {
	return func() error {
		defer over()
		if err := v.run(); err != nil {
			return err
		}
		return v.up()
	}
}

// trouble kills, stops or freezes the program.
func (v *service) trouble(what string) (undo func() error, err error) {
	over := v.excused()
	switch what {
	case "kill":
		v.current(true).Kill()
		return v.again(over), nil
	case "stop":
		began := time.Now()
		if err := v.current(true).Stop(termPatience); err != nil {
			v.find("%s, after SIGTERM for %s: %v\n%s", v.name, time.Since(began).Round(time.Second), err, tail(v.logFile(), 5))
			v.current(true).Kill()
		}
		return v.again(over), nil
	case "freeze":
		p := v.current(false)
		if err := p.Signal(stopSignal); err != nil {
			return nil, err
		}
		return func() error {
			defer over()
			return p.Signal(contSignal)
		}, nil
	}
	over()
	return nil, fmt.Errorf("nobody knows how to %s %s", what, v.name)
}

// join lets the program run for a while.
func (v *service) join() (undo func() error, err error) {
	if err := v.run(); err != nil {
		return nil, err
	}
	return func() error {
		if err := v.current(true).Stop(termPatience); err != nil {
			return fmt.Errorf("%s leaves: %w\n%s", v.name, err, tail(v.logFile(), 5))
		}
		return nil
	}, nil
}

// end stops the program at the end of the run.
func (v *service) end() {
	if p := v.current(true); p != nil {
		p.Kill()
	}
}

// get fetches a page of the admin listener.
func (v *service) get(path string) (status int, body string, err error) {
	return fetch(v.http, "http://"+v.admin+path)
}

// metric adds up the series of a family.
func (v *service) metric(family string) (float64, error) {
	_, body, err := v.get("/metrics")
	if err != nil {
		return 0, err
	}
	var total float64
	found := false
	for l := range strings.Lines(body) {
		if !strings.HasPrefix(l, family+"{") && !strings.HasPrefix(l, family+" ") {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(l[strings.LastIndexByte(strings.TrimSpace(l), ' '):]), 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", l, err)
		}
		total, found = total+n, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", v.name, family)
	}
	return total, nil
}

func (v *service) usage() (usage, error) {
	goroutines, err := v.metric("go_goroutines")
	if err != nil {
		return usage{}, err
	}
	files, err := v.metric("process_open_fds")
	return usage{goroutines, files}, err
}

// tail is the end of a log.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
