package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"qunfa/internal/embedded/engineproto"
)

// Engine is a local ClickHouse that is running, or being restarted.
type Engine struct {
	config  EngineConfig
	logger  *slog.Logger
	program program
	metrics *engineMetrics
	lock    *dirLock
	ports   ports
	creds   credentials
	conn    driver.Conn // as qunfa, for health

	closing   context.Context // ends when Close begins
	close     context.CancelFunc
	closeOnce sync.Once
	closeErr  error
	exited    chan error
	done      chan struct{} // closed when the supervisor has ended

	mu      sync.Mutex
	current *process
}

const (
	// startTimeout is for one start until the first answer. A start takes a
	// fraction of a second, and longer where many tables are loaded from a
	// cold disk.
	startTimeout = 2 * time.Minute
	// portAttempts is how often other ports are tried.
	portAttempts = 5
	// killAttempts is how often an engine is started that is killed before it answers.
	killAttempts = 3
)

// StartEngine starts a ClickHouse in a directory and returns when it answers.
// It installs the library first if that is what is needed; ctx ends that and
// the start, and has no influence later. Errors: [ErrInUse] when the directory
// has an engine already, those of [Installer.Install], or what the engine said.
func StartEngine(ctx context.Context, config EngineConfig) (*Engine, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(config.Dir, engineLockFile, "local ClickHouse")
	if err != nil {
		return nil, err
	}
	e, err := newEngine(ctx, config, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return e, nil
}

// newEngine is StartEngine under the lock.
func newEngine(ctx context.Context, config EngineConfig, lock *dirLock) (*Engine, error) {
	program, err := chooseProgram(ctx, config)
	if err != nil {
		return nil, err
	}
	creds, err := loadCredentials(config.Dir)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		config: config, logger: config.Logger, program: program, metrics: newEngineMetrics(),
		lock: lock, creds: creds,
		exited: make(chan error, 1), done: make(chan struct{}),
	}
	if err := e.metrics.register(config.Registerer); err != nil {
		return nil, err
	}
	if err := e.firstStart(ctx); err != nil {
		e.metrics.unregister(config.Registerer)
		return nil, err
	}
	e.closing, e.close = context.WithCancel(context.Background())
	go e.supervise()
	return e, nil
}

// firstStart starts the engine on ports that it finds, and looks at the data.
func (e *Engine) firstStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := time.Now()
	for attempt := 1; ; attempt++ {
		if err := e.configure(); err != nil {
			return err
		}
		err := e.start(ctx)
		if err == nil {
			break
		}
		_ = e.conn.Close() // of a port that was given up
		if !e.tryAgain(ctx, err, attempt) {
			return err
		}
	}
	e.logger.Info("local ClickHouse started", "engine", e.program.String(), "addr", e.Addr(),
		"http", e.HTTPAddr(), "dir", e.config.Dir, "pid", e.Pid(), "took", time.Since(began).Round(time.Millisecond))
	e.warnOfReplacedPorts()
	e.warnOfDetachedParts(ctx)
	return nil
}

// configure chooses ports and writes the files for them.
func (e *Engine) configure() (err error) {
	if e.ports, err = choosePorts(e.config); err != nil {
		return err
	}
	if err := writeServerFiles(e.config, e.creds, e.ports); err != nil {
		return err
	}
	e.conn, err = clickhouse.Open(&clickhouse.Options{
		Addr:         []string{e.Addr()},
		Auth:         clickhouse.Auth{Username: Username, Password: e.creds.Password},
		DialTimeout:  5 * time.Second,
		MaxOpenConns: 1,
		MaxIdleConns: 1,
	})
	return err
}

// tryAgain says whether a first start that failed may work the next time, and
// waits for that.
func (e *Engine) tryAgain(ctx context.Context, err error, attempt int) bool {
	exit, ok := errors.AsType[*exitError](err)
	if !ok || !e.program.announces() {
		return false
	}
	switch exit.code {
	case engineproto.ExitPort: // somebody was quicker
		return attempt < portAttempts
	case engineproto.ExitDirectory:
		// We hold the lock, so this is the engine of a process that was
		// killed a moment ago. It is stopping.
		return sleep(ctx, 200*time.Millisecond) && attempt < int(e.config.StopTimeout/(200*time.Millisecond))
	case killed: // for want of memory, say: later it would be started again, too
		return sleep(ctx, firstPause) && attempt < killAttempts
	default:
		return false
	}
}

// start runs the program once and returns when it answers.
func (e *Engine) start(ctx context.Context) error {
	proc, err := startProcess(e.program, e.config, e.ports)
	if err != nil {
		return err
	}
	e.setCurrent(proc)
	if err := e.awaitAnswer(ctx, proc); err != nil {
		select {
		case <-proc.done:
			return err
		default:
			return errors.Join(err, proc.stop(e.config.StopTimeout))
		}
	}
	e.metrics.up.Set(1)
	return nil
}

// awaitAnswer returns when a process answers a query. The password makes sure
// that it is the one we started, and nobody else's on the same port.
func (e *Engine) awaitAnswer(ctx context.Context, proc *process) error {
	if proc.program.announces() {
		select {
		case <-proc.ready:
		case <-proc.done:
			return proc.endedEarly()
		case <-ctx.Done():
			return notStarted(ctx, proc)
		}
	}
	for {
		err := e.conn.Ping(ctx)
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[*clickhouse.Exception](err); ok {
			return fmt.Errorf("the local ClickHouse refuses us: %w", err)
		}
		select {
		case <-proc.done:
			return proc.endedEarly()
		case <-ctx.Done():
			return notStarted(ctx, proc)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func notStarted(ctx context.Context, proc *process) error {
	return fmt.Errorf("the local ClickHouse does not answer: %w: %s", ctx.Err(), proc.log.last())
}

// endedEarly is why a process that ended before it answered did so.
func (p *process) endedEarly() error {
	if p.exit == nil {
		return errors.New("the local ClickHouse was stopped by somebody while it started")
	}
	return p.exit
}

func (e *Engine) warnOfReplacedPorts() {
	replaced := func(name string, wished, got int) {
		if wished != 0 && got != 0 && wished != got {
			e.logger.Warn("port in use, the local ClickHouse got another", "interface", name, "wished", wished, "port", got)
		}
	}
	replaced("native", e.config.TCPPort, e.ports.tcp)
	replaced("http", e.config.HTTPPort, e.ports.http)
}

// warnOfDetachedParts speaks for ClickHouse, which sets parts aside that it
// finds damaged and goes on without them and without a word. What the log
// still has can be replayed.
func (e *Engine) warnOfDetachedParts(ctx context.Context) {
	rows, err := e.conn.Query(ctx, `SELECT database, table, coalesce(reason, ''), count() FROM system.detached_parts
		WHERE reason NOT IN ('', 'ignored', 'covered-by-broken') GROUP BY 1, 2, 3`)
	if err != nil {
		e.logger.Warn("cannot look for damaged parts", "err", err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var database, table, reason string
		var count uint64
		if err := rows.Scan(&database, &table, &reason, &count); err != nil {
			e.logger.Warn("cannot look for damaged parts", "err", err)
			return
		}
		e.logger.Warn("ClickHouse has set aside parts of a table that it cannot read; their rows are missing until they are replayed",
			"database", database, "table", table, "reason", reason, "parts", count)
	}
	if err := rows.Err(); err != nil {
		e.logger.Warn("cannot look for damaged parts", "err", err)
	}
}

// Addr is host:port of the native protocol.
func (e *Engine) Addr() string { return address(e.ports.tcp) }

// HTTPAddr is host:port of HTTP, or empty.
func (e *Engine) HTTPAddr() string {
	if e.ports.http == 0 {
		return ""
	}
	return address(e.ports.http)
}

// Username and Password are those of the user that owns the databases.
func (e *Engine) Username() string { return Username }

// Password is the password of Username.
func (e *Engine) Password() string { return e.creds.Password }

// ReaderUsername is the user that may do what EngineConfig.ReaderGrants says.
func (e *Engine) ReaderUsername() string { return ReaderUsername }

// ReaderPassword is the password of ReaderUsername.
func (e *Engine) ReaderPassword() string { return e.creds.ReaderPassword }

// Program says what runs, with its version.
func (e *Engine) Program() string { return e.program.String() }

// Pid is the process id of the engine as it runs now, for tests that kill it.
func (e *Engine) Pid() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current.cmd.Process.Pid
}

// Exited gets a value when the engine has ended for good, an error if it can
// not be restarted and nil after Close, and is closed then.
func (e *Engine) Exited() <-chan error { return e.exited }

// Close stops the engine, waits until it has ended and lets go of the
// directory. It kills an engine that does not stop in time; that is an error,
// though nothing is lost. Further calls return what the first did.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.killQueries()
		e.close()
		connErr := e.conn.Close() // now: the engine waits for idle connections
		<-e.done
		e.metrics.unregister(e.config.Registerer)
		e.closeErr = errors.Join(e.closeErr, connErr, e.lock.Close())
	})
	return e.closeErr
}

// killQueries ends what still runs, for which the engine would wait. Inserts
// are safe to interrupt: who did not get an answer does it again.
func (e *Engine) killQueries() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := e.conn.Exec(ctx, "KILL QUERY WHERE query_id != queryID() ASYNC"); err != nil {
		e.logger.Debug("cannot end running queries of the local ClickHouse", "err", err)
	}
}

func (e *Engine) setCurrent(p *process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = p
}

// sleep waits, and says whether it was not interrupted.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
