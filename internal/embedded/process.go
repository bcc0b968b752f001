package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"qunfa/internal/embedded/engineproto"
)

// process is one run of a program.
type process struct {
	program program
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	log     *engineLog

	ready chan struct{} // closed when it announced itself
	done  chan struct{} // closed when it ended; then exit is set
	exit  error         // an *exitError, or nil after a clean end
}

// killed is the exit code of a process that a signal has ended.
const killed engineproto.ExitCode = -1

// exitError is how an engine ended.
type exitError struct {
	code    engineproto.ExitCode // or killed
	state   string               // the code or the signal in words
	message string               // the last it said
}

func (e *exitError) Error() string {
	text := "the local ClickHouse ended by itself (" + e.state + ")"
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

// startProcess starts a program and returns at once.
func startProcess(p program, c EngineConfig, ports ports) (*process, error) {
	cmd := p.command(c, ports)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	proc := &process{
		program: p, cmd: cmd, stdin: stdin, log: newEngineLog(c.Logger),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	started := make(chan error)
	go func() {
		// A child that is to end with its parent ends with the thread that
		// started it, so this goroutine keeps its thread until the child is
		// gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			proc.wait(stdout, stderr)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start the local ClickHouse: %w", err)
	}
	return proc, nil
}

// wait reads what the child says until it ends.
func (p *process) wait(stdout, stderr io.Reader) {
	var readers sync.WaitGroup
	readers.Go(func() { p.readOutput(stdout) })
	readers.Go(func() { p.log.read(stderr) })
	readers.Wait() // before Wait, which closes the pipes
	err := p.cmd.Wait()
	_ = p.stdin.Close() // nobody is at the other end
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		p.exit = p.describe(e)
	} else if err != nil {
		p.exit = err
	}
	close(p.done)
}

func (p *process) describe(e *exec.ExitError) *exitError {
	code := engineproto.ExitCode(e.ExitCode())
	state := e.ProcessState.String()
	if p.program.announces() && code >= 0 {
		state = code.String()
	}
	return &exitError{code: code, state: state, message: p.log.last()}
}

func (p *process) readOutput(stdout io.Reader) {
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); err == nil && strings.HasPrefix(line, engineproto.Ready) {
		close(p.ready)
	}
	_, _ = io.Copy(io.Discard, lines) // to the end, or the child would block
}

// stop asks the child to end and kills it when it does not within the timeout.
func (p *process) stop(timeout time.Duration) error {
	// Either it is asked or it has ended by itself; both is fine.
	_ = p.program.stop(p.cmd, p.stdin)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill() // fails only if it has ended meanwhile
	<-p.done
	return fmt.Errorf("the local ClickHouse did not stop within %s and was killed", timeout)
}
