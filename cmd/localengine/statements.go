//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"qunfa/internal/embedded/engineproto"
)

// The statements that make a server of clickhouse-local. %s is the kind of
// listeners, %d the descriptor of the pipe on which it reports to us.
const (
	listenSQL = "SYSTEM START LISTEN %s; " +
		"SELECT 'listening' INTO OUTFILE '/proc/self/fd/%d' APPEND FORMAT TSVRaw;"
	triedSQL = "SELECT 'tried' INTO OUTFILE '/proc/self/fd/%d' APPEND FORMAT TSVRaw;"
	stopSQL  = "SYSTEM STOP LISTEN %s;"
)

// script is the three files of statements that the engine runs one after the
// other, all of them pipes. An error ends a file, not the session: that is why
// the first reports success after it bound the ports, and the second that the
// first is over. The third stays empty until the server is to stop; it is what
// keeps the engine running, without a query that shows up as running for days
// and needs a right of its own.
type script struct {
	listeners string
	files     []*os.File // read by the engine
	stopFile  *os.File   // our end of the third
	report    *bufio.Reader
	reportEnd *os.File // the engine's end; kept open, so a read never ends early
}

func newScript(withHTTP bool) (*script, error) {
	s := &script{listeners: "TCP"}
	if withHTTP {
		s.listeners = "QUERIES DEFAULT" // both ports or none
	}
	report, reportEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.report, s.reportEnd = bufio.NewReader(report), reportEnd
	for _, text := range []string{
		fmt.Sprintf(listenSQL, s.listeners, reportEnd.Fd()),
		fmt.Sprintf(triedSQL, reportEnd.Fd()),
	} {
		w, err := s.addFile()
		if err != nil {
			return nil, err
		}
		if _, err := w.WriteString(text); err != nil { // fits in the pipe
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	s.stopFile, err = s.addFile()
	return s, err
}

func (s *script) addFile() (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, r)
	return w, nil
}

// listening waits until the engine has tried to bind the ports and says
// whether it did.
func (s *script) listening() bool {
	line, err := s.report.ReadString('\n')
	return err == nil && line == "listening\n"
}

// stop lets the engine close its ports, wait a little for running queries, and
// return. Ending those needs more rights than this session should have.
func (s *script) stop() error {
	_, err := fmt.Fprintf(s.stopFile, stopSQL, s.listeners)
	return errors.Join(err, s.stopFile.Close())
}

// serve runs the engine until ctx ends. Whatever it was that made the engine
// return before that is an error.
func serve(ctx context.Context, lib *library, opts options, report *os.File) error {
	s, err := newScript(opts.httpPort != 0)
	if err != nil {
		return fmt.Errorf("cannot make pipes for the engine: %w", err)
	}
	failed := make(chan error, 1) // only the first matters
	go func() {
		if err := announce(s, lib, report); err != nil {
			failed <- err
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- runEngine(lib, opts, s) }()

	select {
	case err := <-ended:
		return err
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	if err := s.stop(); err != nil {
		return fmt.Errorf("cannot tell the engine to stop: %w", err)
	}
	<-ended // it was asked to, so how it ended says nothing
	return nil
}

// announce tells the parent that the ports are open.
func announce(s *script, lib *library, report *os.File) error {
	if !s.listening() {
		// The ports were free a moment ago, so it is rather the users file;
		// ClickHouse's own words are already on standard error.
		return because(engineproto.ExitPort, errors.New("the engine does not listen"))
	}
	_, err := fmt.Fprintln(report, engineproto.Ready, lib.version())
	return err
}

// runEngine returns when the engine has ended, always with an error.
func runEngine(lib *library, opts options, s *script) error {
	message, err := lib.runCommandLine(opts.arguments(s.files))
	runtime.KeepAlive(s) // the engine knows its pipes by number only
	if err != nil {
		return err
	}
	if message == "" {
		message = "its reasons are above, if it gave any"
	}
	return fmt.Errorf("the engine ended unasked: %s", message)
}
