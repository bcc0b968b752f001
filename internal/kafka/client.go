package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// nudgeInterval is the least time between two nudges.
const nudgeInterval = 250 * time.Millisecond

// Client holds the connections to a cluster. Producers, groups and admin calls
// share them. It is safe for concurrent use.
type Client struct {
	cfg       Config
	log       *slog.Logger
	transport *kafka.Transport
	kc        *kafka.Client

	mu     sync.Mutex
	nudged time.Time
	minISR map[string]int // topic -> min.insync.replicas, once known
}

// NewClient checks the configuration. Nothing is dialled before it is needed.
func NewClient(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, log: cfg.Logger, minISR: map[string]int{}}
	c.transport = c.newTransport()
	c.kc = c.newKafkaClient(c.transport)
	return c, nil
}

// Close closes the connections. Close what uses the client first.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Brokers returns the bootstrap addresses.
func (c *Client) Brokers() []string { return append([]string(nil), c.cfg.Brokers...) }

func (c *Client) newTransport() *kafka.Transport {
	return &kafka.Transport{
		Dial:           c.dial,
		DialTimeout:    c.cfg.DialTimeout,
		MetadataTTL:    c.cfg.MetadataTTL,
		MetadataTopics: c.cfg.Topics,
		ClientID:       c.cfg.ClientID,
		TLS:            c.cfg.TLS,
		SASL:           c.cfg.SASL,
	}
}

func (c *Client) newKafkaClient(t *kafka.Transport) *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(c.cfg.Brokers...), Timeout: c.cfg.Timeout, Transport: t}
}

// live returns a client whose first request asks the cluster anew. The shared
// one answers Metadata from a cache that no outage ever empties, and reports a
// missing topic when it is the connection that fails.
func (c *Client) live() (*kafka.Client, func()) {
	t := c.newTransport()
	return c.newKafkaClient(t), t.CloseIdleConnections
}

// dialer is for the connections that kafka-go does not manage in a transport.
func (c *Client) dialer(dial dialFunc) *kafka.Dialer {
	return &kafka.Dialer{
		ClientID:      c.cfg.ClientID,
		DialFunc:      dial,
		Timeout:       c.cfg.DialTimeout,
		TLS:           c.cfg.TLS,
		SASLMechanism: c.cfg.SASL,
	}
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.cfg.Dial(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return newBoundedConn(conn)
}

// nudge makes the next request look for leaders anew. Without it a moved leader
// is found when the metadata expires, and every pooled connection to a broker
// that was restarted costs one more error. Requests on their way are not touched.
func (c *Client) nudge() {
	c.mu.Lock()
	now := time.Now()
	due := now.Sub(c.nudged) >= nudgeInterval
	if due {
		c.nudged = now
	}
	c.mu.Unlock()
	if due {
		c.transport.CloseIdleConnections()
	}
}

// retry runs an idempotent request until it succeeds, fails for a reason that
// time does not heal, or ctx ends; at most four times, over more than the
// interval between two nudges.
func (c *Client) retry(ctx context.Context, request func(context.Context) error) error {
	var err error
	for attempt := range 4 {
		if attempt > 0 && !sleep(ctx, time.Duration(attempt)*100*time.Millisecond) {
			return err
		}
		if err = request(ctx); err == nil || !transient(err) {
			return err
		}
		c.nudge()
	}
	return err
}

// Passing tells whether an error may go away by itself, once a broker has
// started or a leader was elected. A quarrel about certificates does not.
func Passing(err error) bool { return transient(err) && explainTLS(err) == "" }

// transient tells whether an error may go away by itself within seconds.
func transient(err error) bool {
	switch ClassOf(err) {
	case ClassTimeout, ClassUnreachable, ClassLeader, ClassReplicas:
		return true
	}
	return false
}

// sleep waits and tells whether it did so to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
