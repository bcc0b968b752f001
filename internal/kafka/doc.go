// Package kafka is qunfa's adapter to Apache Kafka, on segmentio/kafka-go.
//
// A [Client] holds the connections. A [Producer] writes records with acks=all
// and answers each caller when the broker has answered: records that arrive
// while a request is on its way share the next one (group commit), so latency
// is one round trip when idle and throughput grows with load. A [Group] is a
// member of a consumer group and hands its handler one [Generation] after the
// other: a set of partitions that is this member's until the generation ends.
//
// Delivery is at least once in both directions. A produce that timed out may be
// in the log, and its retry adds a copy; a generation that ended before its
// commit is read again by its successor. Events have deterministic ids, so
// whoever stores them drops copies.
//
// The package exists because neither kafka-go's Writer nor its Reader can keep
// these promises: the Writer waits for batches to fill and cannot be cancelled,
// the Reader hides generations and commits for partitions it has lost.
package kafka
