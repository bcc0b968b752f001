// Package app makes services out of a configuration: it gives ingest, sink and
// reconcile the Kafka and the ClickHouse that they only know as interfaces. The
// programs, `qunfa up` and the end-to-end tests all use the same types, so what
// is tested is what runs.
package app
