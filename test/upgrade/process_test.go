package upgrade

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"qunfa/test/internal/proc"
)

// graceful is how long a process may take to end after SIGTERM: docs/operations.md
// says so.
const graceful = 30 * time.Second

// process is a running service.
type process struct {
	*proc.Process
	t     *testing.T
	name  string
	log   *proc.Log
	admin string // URL of its admin listener

	callbacks, records string // URLs, of an ingest
}

// start runs a service of a release until stop, or the end of the test.
func (w *world) start(r release, service string) *process {
	w.t.Helper()
	p := &process{t: w.t, name: service + " of " + r.name, log: new(proc.Log)}
	var err error
	p.Process, err = proc.Start(proc.Command{Path: filepath.Join(r.bin, service), Args: []string{"--config", w.config}, Log: p.log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		p.Kill()
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", p.name, p.log)
		}
	})
	w.until(p.name+" listens", func() string {
		p.mustRun()
		p.admin = p.find(`metrics=(http://\S+)/metrics`)
		if service == "ingest" {
			p.callbacks, p.records = p.find(`callbacks=(\S+)`), p.find(`record_api=(\S+)`)
		}
		if p.admin == "" || service == "ingest" && p.callbacks == "" {
			return "it says: " + p.log.String()
		}
		return ""
	})
	return p
}

// ready waits until the service can do its work.
func (w *world) ready(ps ...*process) {
	w.t.Helper()
	for _, p := range ps {
		w.until(p.name+" is ready", func() string {
			p.mustRun()
			if page := p.page("/readyz"); !strings.HasPrefix(page, "ready") {
				return page
			}
			return ""
		})
	}
}

// mustRun fails the test if the process has ended by itself.
func (p *process) mustRun() {
	p.t.Helper()
	if p.Ended() {
		p.t.Fatalf("%s has ended: %v\n%s", p.name, p.Err(), p.log)
	}
}

// stop ends the process in order, and in time.
func (p *process) stop() {
	p.t.Helper()
	p.mustRun()
	err := p.Stop(graceful)
	if !p.Ended() {
		p.t.Fatalf("%s does not stop: %v\n%s", p.name, err, p.log)
	}
	if err != nil {
		p.t.Errorf("%s stopped with %v:\n%s", p.name, err, p.log)
	}
}

// page fetches a page of the admin listener.
func (p *process) page(path string) string {
	p.t.Helper()
	resp, err := http.Get(p.admin + path)
	if err != nil {
		p.t.Fatalf("%s of %s: %v", path, p.name, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s of %s: %v", path, p.name, err)
	}
	return string(b)
}

// lacks says which texts a page does not have yet.
func (p *process) lacks(path string, texts ...string) string {
	p.t.Helper()
	p.mustRun()
	page := p.page(path)
	for _, text := range texts {
		if !strings.Contains(page, text) {
			return fmt.Sprintf("%s has no %q:\n%s", path, text, page)
		}
	}
	return ""
}

// neverPaused checks that a sink has written without a pause since its start.
func (p *process) neverPaused() {
	p.t.Helper()
	for line := range strings.Lines(p.page("/metrics")) {
		if strings.HasPrefix(line, "qunfa_sink_failures_total{") && !strings.HasSuffix(line, " 0\n") {
			p.t.Errorf("%s failed to write: %s", p.name, line)
		}
	}
	if said := p.log.String(); strings.Contains(said, "cannot write") {
		p.t.Errorf("%s paused:\n%s", p.name, said)
	}
}

// find returns what the group of an expression matched in the output, or "".
func (p *process) find(expression string) string {
	m := regexp.MustCompile(expression).FindStringSubmatch(p.log.String())
	if m == nil {
		return ""
	}
	return m[1]
}

// until polls until missing returns nothing: it says what is not right yet.
func (w *world) until(what string, missing func() string) {
	w.t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		why := missing()
		if why == "" {
			return
		}
		select {
		case <-tick.C:
		case <-over.C:
			w.t.Fatalf("after %s still not: %s\n%s", patience, what, why)
		}
	}
}
