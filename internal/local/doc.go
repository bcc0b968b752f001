// Package local runs everything on one machine: an embedded broker, a local
// ClickHouse and all services in one process. Their protocols are the real
// ones, so the code under `qunfa up` is the code of production.
package local
