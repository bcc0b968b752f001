// Package embeddedtest gives tests a real ClickHouse and a Kafka broker.
//
// A package that uses them has
//
//	func TestMain(m *testing.M) { embeddedtest.Main(m) }
//
// and its tests call [ClickHouse] and [Kafka]. Both are started when a test
// first asks, shared by all tests of the process, and stopped by [Main], which
// also looks for goroutines that were left behind. Tests keep apart by using
// names of their own: [Server.Database], [Brokers.Topic].
//
// QUNFA_TEST_CLICKHOUSE and QUNFA_TEST_KAFKA make the same tests run against
// other servers; CONTRIBUTING.md says how, with TLS and a login, too. Nothing here skips a test: what cannot be provided fails it, and the
// message says which part is missing.
package embeddedtest
