// Package grafana tests what Grafana is given: the files are those that the
// package dashboards makes, they keep the conventions that every version of
// Grafana needs, every query of theirs runs on a real ClickHouse as the reader and
// finds what is there, and every metric exists. `go test ./test/grafana -update`
// writes the dashboards.
//
// It does not run Grafana: macros and variables are replaced here by the rules of
// the ClickHouse plugin.
package grafana
