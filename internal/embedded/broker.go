package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// brokerAddr is the only broker. The name resolves nowhere, so that a client
// which was not given Broker.Dial fails, rather than finds a Kafka of somebody
// else on localhost:9092.
const brokerAddr = "broker.embedded.invalid:9092"

// segmentBytes is the size of a file of the log: what is trimmed, and read
// again after a crash, is whole files.
const segmentBytes = "8388608"

// Broker is a Kafka broker in this process.
//
// It is franz-go's kfake, which calls itself a fake for tests. It keeps what
// it acknowledged when the process is killed or the power fails, under the
// rules that this type enforces: no port, a sync before every answer, one
// broker, one process per directory, nothing deleted by age. One of its
// partitions is enough, and fastest: syncs happen one after the other.
type Broker struct {
	config   BrokerConfig
	logger   *slog.Logger
	lock     *dirLock // nil in memory
	listener *memoryListener
	cluster  *kfake.Cluster
	client   *kgo.Client // our own
	metrics  *brokerMetrics

	full      atomic.Bool // see Full
	stop      context.CancelFunc
	watching  sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// StartBroker starts a broker. It refuses a directory that is in use, with
// [ErrInUse], and a log that lost its end, with [ErrLogTruncated].
func StartBroker(ctx context.Context, config BrokerConfig) (*Broker, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	var lock *dirLock
	if config.Dir != "" {
		if lock, err = lockDir(config.Dir, "broker.lock", "embedded broker"); err != nil {
			return nil, err
		}
	}
	b, err := newBroker(ctx, config, lock)
	if err != nil && lock != nil {
		err = errors.Join(err, lock.Close())
	}
	return b, err
}

// newBroker is StartBroker under the lock.
func newBroker(ctx context.Context, config BrokerConfig, lock *dirLock) (*Broker, error) {
	b := &Broker{
		config: config, logger: config.Logger, lock: lock, metrics: newBrokerMetrics(),
		listener: newMemoryListener(brokerAddr),
	}
	b.metrics.capBytes.Set(float64(config.MaxLogBytes))
	err := b.metrics.register(config.Registerer)
	if err != nil {
		return nil, err
	}
	b.cluster, err = kfake.NewCluster(b.options()...)
	if err != nil {
		b.metrics.unregister(config.Registerer)
		return nil, fmt.Errorf("cannot start the embedded broker on its log in %s: %w", config.Dir, err)
	}
	b.client, err = kgo.NewClient(kgo.SeedBrokers(brokerAddr), kgo.Dialer(b.Dial), kgo.ClientID("qunfa-embedded"))
	if err == nil {
		err = b.checkCommitted(ctx)
	}
	if err != nil {
		b.closeCluster()
		return nil, err
	}
	watching, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.watching.Go(func() { b.watchSize(watching) })
	return b, nil
}

func (b *Broker) options() []kfake.Opt {
	options := []kfake.Opt{
		kfake.ListenFn(func(string, string) (net.Listener, error) { return b.listener, nil }),
		kfake.NumBrokers(1),
		kfake.DefaultNumPartitions(1),
		kfake.ClusterID("qunfa-embedded"),
		kfake.WithLogger(brokerLog{b.logger, b.metrics}),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes": segmentBytes,
			// Nothing goes by age or size: a partition that was emptied would
			// begin again at offset 0, and groups would skip what follows.
			"log.retention.ms":    "-1",
			"log.retention.bytes": "-1",
			// Nor do the offsets of a group that has not run for a week: ten
			// years, in minutes.
			"offsets.retention.minutes": "5256000",
		}),
	}
	if b.config.Dir != "" {
		options = append(options, kfake.DataDir(b.logDir()), kfake.SyncWrites())
	}
	return options
}

func (b *Broker) logDir() string { return filepath.Join(b.config.Dir, "log") }

// Addr is the address to give to clients. It is good for Dial alone.
func (b *Broker) Addr() string { return brokerAddr }

// Dial connects to the broker, for the dialers of Kafka clients.
func (b *Broker) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return b.listener.DialContext(ctx, network, address)
}

// LogBytes is the size of the log in bytes, of all topics. After a crash as
// much memory is needed to read it again.
func (b *Broker) LogBytes(ctx context.Context) (int64, error) {
	if b.config.Dir == "" {
		return b.partitionBytes(ctx)
	}
	return logFileBytes(b.logDir())
}

// logFileBytes adds up the segments below a directory. Segments are trimmed
// meanwhile, so it passes over what is gone.
func logFileBytes(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".dat") {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// Full says that the log is over its cap and holds too much that is stored
// nowhere else to be trimmed: better to refuse new records until the sink has
// caught up. It changes at most every BrokerConfig.WatchInterval.
func (b *Broker) Full() bool { return b.full.Load() }

// Warnings is how many warnings and errors the broker has logged. More than a
// few mean that it does not keep its promises: see the log.
func (b *Broker) Warnings() uint64 { return b.metrics.warnCount.Load() }

// Close stops the broker and lets go of the directory. Clients should be
// closed before; their later requests fail. Further calls return what the
// first did.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		// Our own requests first: the broker answers none after its end, and
		// they would wait for ever.
		b.stop()
		b.watching.Wait()
		b.closeCluster()
		if b.lock != nil {
			b.closeErr = b.lock.Close()
		}
	})
	return b.closeErr
}

func (b *Broker) closeCluster() {
	if b.client != nil {
		b.client.Close()
	}
	b.cluster.Close()
	b.metrics.unregister(b.config.Registerer)
}

// brokerLog passes on what the broker logs. It reports no request as failed
// that went wrong on its side of the disk, so its warnings are counted and can
// be alerted on.
type brokerLog struct {
	logger  *slog.Logger
	metrics *brokerMetrics
}

// Logf is called by kfake.
func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	var to slog.Level
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	default: // its information is about single requests
		to = slog.LevelDebug
	}
	if to >= slog.LevelWarn {
		l.metrics.warned()
	}
	ctx := context.Background()
	if l.logger.Enabled(ctx, to) {
		l.logger.Log(ctx, to, "embedded broker: "+fmt.Sprintf(format, args...))
	}
}
