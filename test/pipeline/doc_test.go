// Package pipeline tests the services as they run in production: each in a
// process host of its own, several of a kind, over topics with several
// partitions and a database that they did not create. Only the wires are the
// test's, so that it can cut them.
//
// The broker and the ClickHouse are the embedded ones, or those that
// QUNFA_TEST_KAFKA and QUNFA_TEST_CLICKHOUSE name. What is compared with in the
// end is the ledger of the WeChat simulator, which shares no code with the
// services.
package pipeline
