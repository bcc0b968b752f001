// Package chaos runs qunfa under load while its parts are killed, frozen, cut
// off, starved of disk and rebalanced, and compares what the database says in
// the end with the ledger of a simulated WeChat.
//
// The faults follow from a seed: `make chaos CHAOS_FOR=1h CHAOS_SEED=7
// CHAOS_WORLD=cluster` plans the same ones every time. What the machine does
// with them is chance. The runs need the build tag chaos; without it the tests
// of this package are those of the plan and of the checks themselves, each of
// which must be able to fail.
//
// There are two worlds. In the world "cluster" the programs ingest, sink and
// reconcile run as two processes each on three Apache Kafka brokers and a
// ClickHouse in containers, with proxies on every wire between them. In the
// world "embedded" `qunfa up` runs as one process, with its engine as a child.
package chaos
