// Package dashboards makes the dashboards in grafana/dashboards, so that six
// files of classic Grafana JSON agree in everything that they share. What it
// makes is committed; `go test ./test/grafana -update` writes it anew, and the
// same test fails if the files differ from what is made here.
//
// The ClickHouse dashboards ask the views and nothing else. They group by the
// view's day, which is a day of the database's time zone, whatever the time zone
// of the browser is; and they keep NULL apart from 0 all the way to the screen.
package dashboards
