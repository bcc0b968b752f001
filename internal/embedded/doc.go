// Package embedded provides what qunfa needs from the outside, a Kafka broker
// and a ClickHouse server, on one machine without servers or containers. It is
// for evaluation, for one machine, and for tests; only cmd/qunfa and tests
// import it.
//
// [StartEngine] runs a real ClickHouse: a clickhouse binary on PATH if there
// is one that is new enough, else the library libchdb, which [Installer] gets
// from its npm package, in a child process (cmd/localengine). Either is
// supervised: it is restarted on the same ports when it crashes, and it ends
// when this process ends, however that happens.
//
// [StartBroker] runs franz-go's kfake in this process, on disk or in memory.
// Its listener is in memory too, so clients need [Broker.Dial].
//
// Both speak their real protocols, so that the code which uses them is the
// code which runs against clusters. What they cannot do is TLS, SASL, failover
// and replication.
//
// Two variables of the environment are honoured: QUNFA_CACHE_DIR replaces the
// directory for downloads, which is qunfa in the user's cache directory;
// QUNFA_LOCALENGINE names the localengine executable, which is otherwise
// looked for beside the running executable and on PATH.
package embedded
