package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// What callers tell apart with errors.Is.
var (
	// ErrOverloaded says that the queue of a producer is full. The record was
	// not queued; try later.
	ErrOverloaded = errors.New("kafka: the queue is full")
	// ErrTooLarge says that a record is larger than the topic takes. It will
	// never be taken; records queued beside it are not affected.
	ErrTooLarge = errors.New("kafka: the record is larger than the topic takes")
	// ErrRejected says that the broker refuses a record for what it is, while it
	// takes others. It will never be taken.
	ErrRejected = errors.New("kafka: the broker refuses the record")
	// ErrClosed says that the producer was closed before the record was acknowledged.
	ErrClosed = errors.New("kafka: closed")
	// ErrGenerationEnded says that the partitions of a generation are no longer
	// this member's: drop all state about them and return from the handler.
	ErrGenerationEnded = errors.New("kafka: the generation has ended")
	// ErrNotOwned says that an offset was given for a partition that the
	// generation does not own.
	ErrNotOwned = errors.New("kafka: the partition is not this member's")
	// ErrLogLost says that a partition ends before the offset to read next: the
	// topic was deleted and created anew, or lost its log. Nothing is skipped
	// silently, so somebody has to decide where to go on.
	ErrLogLost = errors.New("kafka: the partition ends before the offset to read next")
	// ErrNoTopic says that a topic does not exist, or that we may not see it.
	ErrNoTopic = errors.New("kafka: no such topic")
)

// Class is a closed set of causes, used as a metric label and to decide what
// to do about an error.
type Class string

// The classes.
const (
	ClassTimeout     Class = "timeout"     // no answer in time: it may have happened
	ClassUnreachable Class = "unreachable" // no connection, or a broken one
	ClassLeader      Class = "leader"      // the partition or group is moving between brokers
	ClassReplicas    Class = "replicas"    // too few replicas are in sync
	ClassTopic       Class = "topic"       // topic or partition does not exist
	ClassDenied      Class = "denied"      // authentication or authorization
	ClassTooLarge    Class = "too_large"   // batch or record over the limit
	ClassRejected    Class = "rejected"    // the broker refuses what is in the record
	ClassClock       Class = "clock"       // the record's time is too far from the broker's clock
	ClassOverloaded  Class = "overloaded"  // our queue is full
	ClassGeneration  Class = "generation"  // the partitions are somebody else's by now
	ClassRange       Class = "range"       // the offset is not in the log
	ClassOther       Class = "other"
)

// Classes lists every class.
func Classes() []Class {
	return []Class{ClassTimeout, ClassUnreachable, ClassLeader, ClassReplicas, ClassTopic, ClassDenied,
		ClassTooLarge, ClassRejected, ClassClock, ClassOverloaded, ClassGeneration, ClassRange, ClassOther}
}

// ClassOf tells the class of an error of this package or of kafka-go.
func ClassOf(err error) Class {
	if c, ok := classOfOurs(err); ok {
		return c
	}
	var code kafka.Error
	if errors.As(err, &code) {
		return classOfCode(code)
	}
	return classOfTransport(err)
}

func classOfOurs(err error) (Class, bool) {
	switch {
	case errors.Is(err, ErrOverloaded):
		return ClassOverloaded, true
	case errors.Is(err, ErrTooLarge):
		return ClassTooLarge, true
	case errors.Is(err, ErrRejected):
		return ClassRejected, true
	case errors.Is(err, ErrGenerationEnded), errors.Is(err, kafka.ErrGenerationEnded), errors.Is(err, ErrNotOwned):
		return ClassGeneration, true
	case errors.Is(err, ErrLogLost):
		return ClassRange, true
	case errors.Is(err, ErrNoTopic), errors.Is(err, protocol.ErrNoTopic), errors.Is(err, protocol.ErrNoPartition):
		return ClassTopic, true
	case errors.Is(err, protocol.ErrNoLeader):
		return ClassLeader, true
	}
	return "", false
}

func classOfCode(code kafka.Error) Class {
	switch code {
	case kafka.RequestTimedOut:
		return ClassTimeout
	case kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable,
		kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.NotController,
		kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.OffsetNotAvailable, kafka.PreferredLeaderNotAvailable,
		kafka.KafkaStorageError: // its disk fails or is full: another broker has to take over, or somebody to make room
		return ClassLeader
	case kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend:
		return ClassReplicas
	case kafka.UnknownTopicOrPartition, kafka.InvalidTopic:
		return ClassTopic
	case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed,
		kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState:
		return ClassDenied
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge:
		return ClassTooLarge
	case kafka.InvalidTimestamp:
		return ClassClock
	case kafka.InvalidRecord, kafka.InvalidMessage, kafka.PolicyViolation:
		return ClassRejected
	case kafka.IllegalGeneration, kafka.UnknownMemberId, kafka.RebalanceInProgress, kafka.FencedInstanceID:
		return ClassGeneration
	case kafka.OffsetOutOfRange:
		return ClassRange
	}
	return ClassOther
}

func classOfTransport(err error) Class {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return ClassDenied
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return ClassTimeout
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return ClassTimeout
	}
	var op *net.OpError
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, io.ErrNoProgress, errUnreachable} {
		if errors.Is(err, broken) {
			return ClassUnreachable
		}
	}
	if errors.As(err, &op) {
		return ClassUnreachable
	}
	return ClassOther
}

// errUnreachable marks what our own dial functions return.
var errUnreachable = errors.New("broker unreachable")

// wrap adds what was being done to an error.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
