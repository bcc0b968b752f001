// Package schemas embeds the schemas of the project's two interfaces: the JSON
// Schemas of the events in Kafka, and the SQL of the ClickHouse database.
package schemas

import "embed"

// Events holds one JSON Schema per event type and version, with its examples,
// under events/.
//
//go:embed events
var Events embed.FS

// ClickHouse holds, under clickhouse/, the numbered migrations of the tables
// (migrations/), the views (views/), which are applied anew by every migrate,
// and the contents of the table of error codes (data/).
//
//go:embed clickhouse
var ClickHouse embed.FS
