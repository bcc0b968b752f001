package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/config"
)

// Connection says how to reach a stack that runs: what other commands need. It
// is a file in the stack's directory, for its owner only, since it holds passwords.
type Connection struct {
	PID        int        `json:"pid"`
	Started    time.Time  `json:"started"`
	ClickHouse ClickHouse `json:"clickhouse"`

	// KafkaSocket is a Unix socket that speaks Kafka's protocol. The embedded
	// broker must never listen on TCP: whoever can reach it can end it.
	KafkaSocket string `json:"kafka_socket"`
	Topic       string `json:"topic"`
	DeadTopic   string `json:"dead_topic"`
	SinkGroup   string `json:"sink_group"`

	Ingest    string `json:"ingest"`     // host:port that WeChat calls
	RecordAPI string `json:"record_api"` // host:port
	APIToken  string `json:"api_token"`
	Admin     string `json:"admin"` // host:port of metrics and health
}

// ClickHouse is how to reach the local engine.
type ClickHouse struct {
	Addr           string `json:"addr"`                // native protocol
	HTTPAddr       string `json:"http_addr,omitempty"` // and the query page at /play
	Database       string `json:"database"`
	Username       string `json:"username"`
	Password       string `json:"password"`
	ReaderUsername string `json:"reader_username"` // may read the views, nothing else
	ReaderPassword string `json:"reader_password"`
}

// ErrNotRunning says that no stack runs in a directory.
var ErrNotRunning = errors.New("nothing is running there")

const connectionFile = "connection.json"

// ReadConnection reads how to reach the stack in a directory.
func ReadConnection(dir string) (*Connection, error) {
	b, err := os.ReadFile(filepath.Join(dir, connectionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotRunning)
	}
	if err != nil {
		return nil, err
	}
	var c Connection
	if err := json.Unmarshal(b, &c); err != nil {
		// The error may quote the file, which holds passwords.
		return nil, fmt.Errorf("%s cannot be read: it is damaged, or of another version; stop qunfa up and start it again", filepath.Join(dir, connectionFile))
	}
	// The file of a stack that was killed stays behind.
	if err := syscall.Kill(c.PID, 0); c.PID <= 0 || errors.Is(err, syscall.ESRCH) {
		return nil, fmt.Errorf("%s: %w: process %d has ended without cleaning up", dir, ErrNotRunning, c.PID)
	}
	return &c, nil
}

func (c *Connection) write(dir string) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, connectionFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// brokerName stands for the embedded broker where an address is needed: whatever
// address is dialled, the socket is what answers.
const brokerName = "embedded:9092"

// Apply returns a copy of a configuration, and options, that reach the stack.
func (c *Connection) Apply(cfg *config.Config) (*config.Config, app.Options) {
	out := *cfg
	out.Kafka.Brokers = []string{brokerName}
	out.Kafka.TLS, out.Kafka.SASL = config.TLS{}, config.SASL{}
	out.Kafka.Topic, out.Kafka.DeadTopic = c.Topic, c.DeadTopic
	out.Sink.Group = c.SinkGroup
	out.ClickHouse = config.ClickHouse{
		Addr: []string{c.ClickHouse.Addr}, Database: c.ClickHouse.Database,
		Username: c.ClickHouse.Username, Password: config.NewSecret(c.ClickHouse.Password),
	}
	out.Ingest.Listen, out.Ingest.Internal = c.Ingest, c.RecordAPI
	out.Ingest.APIToken = config.NewSecret(c.APIToken)
	out.Admin.Listen = c.Admin
	return &out, app.Options{Embedded: true, KafkaDial: c.dial}
}

func (c *Connection) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", c.KafkaSocket)
}
