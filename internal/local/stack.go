package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/embedded"
	"qunfa/internal/kafka"
)

// Options say how to run a stack.
type Options struct {
	Logger   *slog.Logger
	Progress func(string)                                      // told in a few words what is being done; may be nil
	Install  func(context.Context) error                       // gets the engine if it is not there; may be nil
	FreePort bool                                              // replace ports that are busy instead of failing
	Wrap     func(app.Options) app.Options                     // lets tests change what services get
	Engine   func(embedded.EngineConfig) embedded.EngineConfig // the same for the engine
}

// Stack is an embedded broker, a local ClickHouse and all services.
type Stack struct {
	Dir    string
	Config *config.Config // as it runs: with addresses filled in
	Broker *embedded.Broker
	Engine *embedded.Engine
	Host   *app.Host
	Conn   *Connection

	registry *prometheus.Registry
	db       *clickhouse.DB
	kafk     *kafka.Client
	undo     []func() error // last in, first out
}

// ReaderUsername is the user for people's queries.
const ReaderUsername = embedded.ReaderUsername

// Start starts the broker and ClickHouse in embedded.dir of the configuration,
// creates what is missing in them and makes the services, which begin to work
// in [Stack.Run]. After an error nothing is left running.
func Start(ctx context.Context, cfg *config.Config, o Options) (_ *Stack, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	own := *cfg
	s := &Stack{Config: &own, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.Dir, err = filepath.Abs(cfg.Embedded.Dir); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context, Options) error{
		s.lockDir, s.startEngine, s.startBroker, s.migrate, s.choosePorts, s.token, s.startServices,
	} {
		if err := step(ctx, o); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Stack) onClose(undo func() error) { s.undo = append(s.undo, undo) }

// lockDir makes sure that nothing else runs in the directory.
func (s *Stack) lockDir(context.Context, Options) error {
	f, err := LockDir(s.Dir)
	if err != nil {
		return err
	}
	s.onClose(f.Close)
	return nil
}

// LockDir claims a directory for one stack, until the file is closed.
func LockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "qunfa.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use: another qunfa is running there; stop it, or choose another directory", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

func (s *Stack) startEngine(ctx context.Context, o Options) error {
	if o.Install != nil {
		if err := o.Install(ctx); err != nil {
			return err
		}
	}
	o.Progress("starting ClickHouse")
	grants, err := readerGrants(s.Config.ClickHouse.Database)
	if err != nil {
		return err
	}
	ec := embedded.EngineConfig{
		Dir: filepath.Join(s.Dir, "clickhouse"), Logger: o.Logger.With("service", "clickhouse"), Registerer: s.registry,
		HTTP: s.Config.Embedded.HTTP, TCPPort: s.Config.Embedded.TCPPort, HTTPPort: s.Config.Embedded.HTTPPort,
		Databases: []string{s.Config.ClickHouse.Database}, ReaderGrants: grants, ReaderTimeZone: s.Config.TimeZone, MaxMemory: int64(s.Config.Embedded.MaxMemory),
	}
	if o.Engine != nil {
		ec = o.Engine(ec)
	}
	if s.Engine, err = embedded.StartEngine(ctx, ec); err != nil {
		return fmt.Errorf("local ClickHouse: %w", err)
	}
	s.onClose(s.Engine.Close)
	s.Config.ClickHouse.Addr = []string{s.Engine.Addr()}
	s.Config.ClickHouse.TLS = config.TLS{}
	s.Config.ClickHouse.Username = s.Engine.Username()
	s.Config.ClickHouse.Password = config.NewSecret(s.Engine.Password())
	return nil
}

// readerGrants drops the user, whom the engine's configuration names itself.
func readerGrants(database string) ([]string, error) {
	return clickhouse.Grants(clickhouse.RoleReader, database, embedded.ReaderUsername)
}

func (s *Stack) startBroker(ctx context.Context, o Options) (err error) {
	o.Progress("starting the broker")
	s.Broker, err = embedded.StartBroker(ctx, embedded.BrokerConfig{
		Dir: filepath.Join(s.Dir, "kafka"), Logger: o.Logger.With("service", "broker"), Registerer: s.registry,
		MaxLogBytes: int64(s.Config.Embedded.MaxLog), Stored: s.stored,
	})
	if err != nil {
		return fmt.Errorf("embedded broker: %w", err)
	}
	s.onClose(s.Broker.Close)
	s.Config.Kafka.Brokers = []string{s.Broker.Addr()}
	s.Config.Kafka.TLS, s.Config.Kafka.SASL = config.TLS{}, config.SASL{}
	// One partition: what the broker syncs to its file it syncs one by one.
	s.Config.Kafka.Partitions, s.Config.Kafka.ReplicationFactor, s.Config.Kafka.MinInsyncReplicas = 1, 1, 1
	return nil
}

func (s *Stack) options(o Options) app.Options {
	opts := app.Options{Logger: o.Logger, Registry: s.registry, Embedded: true, KafkaDial: s.Broker.Dial, Admit: AdmitUntilFull(s.Broker)}
	if o.Wrap != nil {
		opts = o.Wrap(opts)
	}
	return opts
}

// AdmitUntilFull refuses events while the broker's log is at its limit and ClickHouse
// does not hold what is in it: WeChat repeats its callbacks, a full disk would not end.
func AdmitUntilFull(b *embedded.Broker) func() error {
	return func() error {
		if b.Full() {
			return errors.New("the embedded log is full, and ClickHouse does not hold yet what is in it")
		}
		return nil
	}
}

func (s *Stack) migrate(ctx context.Context, o Options) (err error) {
	o.Progress("preparing topics and tables")
	opts := s.options(o)
	if err := app.Migrate(ctx, s.Config, opts, func(string) {}); err != nil {
		return err
	}
	if s.db, err = app.OpenClickHouse(s.Config, app.Options{Logger: o.Logger}); err != nil {
		return err
	}
	s.onClose(s.db.Close)
	if s.kafk, err = app.NewKafka(s.Config, opts); err != nil {
		return err
	}
	s.onClose(func() error { s.kafk.Close(); return nil })
	return nil
}

// stored says what of the broker's log can be trimmed: what ClickHouse holds
// and the sink has committed.
func (s *Stack) stored(ctx context.Context) (map[string]map[int32]int64, error) {
	topic := s.Config.Kafka.Topic
	if s.db == nil || s.kafk == nil {
		return nil, errors.New("not known yet")
	}
	ends, err := s.db.CurrentEnds(ctx, topic)
	if err != nil {
		return nil, err
	}
	committed, err := s.kafk.CommittedOffsets(ctx, s.Config.Sink.Group, topic)
	if err != nil {
		return nil, err
	}
	stored := map[int32]int64{}
	for p, end := range ends {
		if c := committed[p]; c > 0 {
			stored[p] = min(end, c)
		}
	}
	return map[string]map[int32]int64{topic: stored}, nil
}

// choosePorts replaces busy ports by free ones, if that is wanted.
func (s *Stack) choosePorts(_ context.Context, o Options) error {
	if !o.FreePort {
		return nil
	}
	for name, addr := range map[string]*string{
		"ingest.listen": &s.Config.Ingest.Listen, "ingest.internal": &s.Config.Ingest.Internal, "admin.listen": &s.Config.Admin.Listen,
	} {
		l, err := net.Listen("tcp", *addr)
		if err == nil {
			if err := l.Close(); err != nil {
				return err
			}
			continue
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s: %w", name, err)
		}
		host, port, err := net.SplitHostPort(*addr)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*addr = net.JoinHostPort(host, "0")
		o.Progress(fmt.Sprintf("port %s is busy: %s takes a free one", port, name))
	}
	return nil
}

// token makes a token for the record API if the configuration has none.
func (s *Stack) token(context.Context, Options) error {
	if !s.Config.Ingest.APIToken.IsZero() {
		return nil
	}
	path := filepath.Join(s.Dir, "api_token")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = []byte(rand.Text() + "\n")
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return err
	}
	s.Config.Ingest.APIToken = config.NewSecret(strings.TrimSpace(string(b)))
	return nil
}

func (s *Stack) startServices(_ context.Context, o Options) (err error) {
	o.Progress("starting ingest, sink and reconcile")
	if s.Config.Ingest.SpoolDir == "" {
		s.Config.Ingest.SpoolDir = filepath.Join(s.Dir, "spool")
	}
	if s.Host, err = app.NewHost(s.Config, s.options(o), app.Services()...); err != nil {
		return err
	}
	stopHost := s.Host.Stop
	s.onClose(func() error { return stopHost() })
	socket, err := listenSocket(s.Dir, func(ctx context.Context) (net.Conn, error) { return s.Broker.Dial(ctx, "tcp", s.Broker.Addr()) })
	if err != nil {
		return err
	}
	s.onClose(func() error { socket.close(); return nil })
	s.Host.Add("socket", socket.Run)
	s.Host.Add("engine", s.watchEngine)
	s.Conn = s.connection(socket.path)
	if err := s.Conn.write(s.Dir); err != nil {
		return err
	}
	s.onClose(func() error { return os.Remove(filepath.Join(s.Dir, connectionFile)) })
	return nil
}

// watchEngine ends the stack when the engine cannot be started again.
func (s *Stack) watchEngine(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.Engine.Exited():
		return fmt.Errorf("local ClickHouse: %w", err)
	}
}

func (s *Stack) connection(socket string) *Connection {
	return &Connection{
		PID:     os.Getpid(),
		Started: time.Now().UTC().Truncate(time.Second),
		ClickHouse: ClickHouse{
			Addr: s.Engine.Addr(), HTTPAddr: s.Engine.HTTPAddr(), Database: s.Config.ClickHouse.Database,
			Username: s.Engine.Username(), Password: s.Engine.Password(),
			ReaderUsername: s.Engine.ReaderUsername(), ReaderPassword: s.Engine.ReaderPassword(),
		},
		KafkaSocket: socket,
		Topic:       s.Config.Kafka.Topic,
		DeadTopic:   s.Config.Kafka.DeadTopic,
		SinkGroup:   s.Config.Sink.Group,
		Ingest:      s.Host.Ingest().Addr(),
		RecordAPI:   s.Host.Ingest().InternalAddr(),
		APIToken:    s.Config.Ingest.APIToken.Reveal(),
		Admin:       s.Host.AdminAddr(),
	}
}

// Run runs the services until ctx ends or one fails, then stops everything.
func (s *Stack) Run(ctx context.Context) error {
	return errors.Join(s.Host.Run(ctx), s.close())
}

// Close stops a stack that is not run.
func (s *Stack) Close() error { return s.close() }

func (s *Stack) close() error {
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	s.undo = nil
	return errors.Join(errs...)
}
