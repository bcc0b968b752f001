package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/segmentio/kafka-go"
)

// Diagnosis is an error together with what to do about it.
type Diagnosis struct {
	Advice string // a sentence for whoever operates the service
	Err    error  // the cause
}

func (d *Diagnosis) Error() string { return d.Advice + " (" + d.Err.Error() + ")" }
func (d *Diagnosis) Unwrap() error { return d.Err }

// Diagnose finds out what is really wrong after err and says what to do about
// it. While a connection has never succeeded kafka-go reports a missing topic or
// a missing controller whatever the cause; a fresh connection tells the truth.
// It returns nil if err is nil, and err itself if there is nothing to add.
func (c *Client) Diagnose(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if advice := explain(err, c.cfg.TLS != nil, c.cfg.SASL != nil); advice != "" && !ambiguous(err) {
		return &Diagnosis{advice, err}
	}
	if cause := c.probe(ctx); cause != nil {
		err = cause
	}
	if advice := explain(err, c.cfg.TLS != nil, c.cfg.SASL != nil); advice != "" {
		return &Diagnosis{advice, err}
	}
	return err
}

// told is an error for a line of the log, with what to do about it where that is certain.
func (c *Client) told(err error) []any {
	args := []any{"error", err}
	if advice := explain(err, c.cfg.TLS != nil, c.cfg.SASL != nil); advice != "" && !ambiguous(err) {
		args = append(args, "advice", advice)
	}
	return args
}

// Reach tells whether a broker answers and lets us in. It asks over a connection
// of its own, so that what it returns is the true cause.
func (c *Client) Reach(ctx context.Context) error {
	kc, done := c.live()
	defer done()
	return reach(ctx, kc)
}

func reach(ctx context.Context, kc *kafka.Client) error {
	res, err := kc.ApiVersions(ctx, &kafka.ApiVersionsRequest{})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return err
	}
	// Brokers answer ApiVersions before anybody has logged in.
	_, err = kc.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}})
	return err
}

// ambiguous marks errors that kafka-go also uses for "no connection".
func ambiguous(err error) bool {
	switch ClassOf(err) {
	case ClassTopic, ClassTimeout, ClassLeader:
		return true
	}
	return false
}

// probe asks a fresh connection, then the configured topics, for their live state.
func (c *Client) probe(ctx context.Context) error {
	kc, done := c.live()
	defer done()
	if err := reach(ctx, kc); err != nil {
		return err
	}
	for _, topic := range c.cfg.Topics {
		// ListOffsets tells "not allowed" ([29]) from "does not exist"; Metadata does not.
		if _, err := askOffsets(ctx, kc, topic, []int{0}, kafka.LastOffset); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
	}
	return nil
}

// explain says what to do about an error, or nothing. The table was measured
// against Apache Kafka 3.9 and 4.3: see the tests.
func explain(err error, usesTLS, usesSASL bool) string {
	var code kafka.Error
	if errors.As(err, &code) {
		if advice := explainCode(code); advice != "" {
			return advice
		}
	}
	if advice := explainTLS(err); advice != "" {
		return advice
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && !dns.IsTimeout:
		return "the broker's host name " + strconv.Quote(dns.Name) + " is not known here: check kafka.brokers, the broker's advertised.listeners and the name service"
	case strings.Contains(err.Error(), "expecting TLS"):
		return "the broker's port speaks TLS: configure tls for kafka"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at the broker's address: check host and port, and whether the broker runs"
	case hungUp(err):
		return explainEOF(usesTLS, usesSASL)
	case errors.Is(err, ErrNoTopic), ClassOf(err) == ClassTopic:
		return "the topic does not exist, or this user may not see it: create it with qunfa migrate, or allow Describe, Read and Write on it"
	case ClassOf(err) == ClassTimeout:
		return "the broker did not answer in time: check that its address is reachable from here and that its advertised listeners are, too"
	case errors.Is(err, errUnreachable):
		return "the broker could not be reached: check its address, the name service and the network"
	}
	return ""
}

// hungUp tells whether the broker closed the connection instead of answering.
func hungUp(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func explainCode(code kafka.Error) string {
	switch code {
	case kafka.SASLAuthenticationFailed:
		return "the broker refuses the user name or password: check kafka.sasl"
	case kafka.UnsupportedSASLMechanism:
		return "the broker does not offer this SASL mechanism: check kafka.sasl.mechanism against the broker's sasl.enabled.mechanisms"
	case kafka.IllegalSASLState:
		return "the broker's port does not use SASL: remove kafka.sasl or use the port that does"
	case kafka.TopicAuthorizationFailed:
		return "this user may not use the topic: allow Read and Write on it, or what of these its service needs (docs/security.md); qunfa migrate needs Create, Describe and DescribeConfigs"
	case kafka.GroupAuthorizationFailed:
		return "this user may not use the consumer group: allow Read on the group to its members, and Describe on the sink's to reconcile and to operators (docs/security.md)"
	case kafka.ClusterAuthorizationFailed:
		return "this user may not administer the cluster: create the topics by hand or allow Create"
	case kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend:
		return "too few replicas are in sync: bring the missing brokers back; nothing is lost meanwhile"
	case kafka.KafkaStorageError:
		return "the broker cannot write to its disk: it is full or broken; make room there"
	case kafka.InvalidSessionTimeout:
		return "the session timeout is outside what the broker allows: see its group.min.session.timeout.ms"
	case kafka.InvalidReplicationFactor:
		return "the replication factor is larger than the number of brokers"
	case kafka.InvalidTimestamp:
		return "a record's time is too far ahead of the broker's clock: set the clock of this machine or the broker's, " +
			"and let the topic take any time (kafka-configs --alter --add-config message.timestamp.after.max.ms=" + anyTime + ")"
	case kafka.MessageSizeTooLarge:
		return "a record is larger than the topic's max.message.bytes"
	case kafka.BrokerNotAvailable:
		return "no broker could be reached: check the addresses"
	}
	return ""
}

func explainTLS(err error) string {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		cert    *tls.CertificateVerificationError
		alert   tls.AlertError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &name):
		return "the broker's certificate is for another name: use that name in kafka.brokers or set kafka.tls.server_name"
	case errors.As(err, &unknown):
		return "the broker's certificate is signed by an unknown authority: set kafka.tls.ca_file"
	case errors.As(err, &cert):
		return "the broker's certificate is not valid: check its dates and kafka.tls.ca_file"
	case errors.As(err, &record):
		return "the broker's port does not speak TLS: remove kafka.tls or use the port that does"
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls"):
		return "the broker refuses our certificate: check kafka.tls.cert_file and key_file against the authorities it trusts"
	}
	return ""
}

func explainEOF(usesTLS, usesSASL bool) string {
	switch {
	case usesTLS && usesSASL:
		return "the broker closed the connection at once: does its port speak TLS?"
	case usesTLS:
		return "the broker closed the connection at once: does its port speak TLS, and does it need SASL?"
	case usesSASL:
		return "the broker closed the connection at once: does its port need TLS?"
	}
	return "the broker closed the connection at once: does its port need TLS or SASL?"
}
