// Package containers runs the integration tests once more, on Apache Kafka and
// ClickHouse in containers: `make test-containers`. What those tests find with
// the embedded broker and engine they must find with the servers of production.
// And it tries what only a real broker has: every way to log in, every reason for
// which it does not let one in, and the rights of docs/security.md, exactly.
//
// It needs a Docker engine. The images are apache/kafka and
// clickhouse/clickhouse-server, in the versions named in servers_test.go; they
// are pulled where they are not there.
package containers
