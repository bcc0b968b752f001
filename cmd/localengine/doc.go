// Command localengine is a ClickHouse server for one machine. It loads the
// library libchdb with purego, without cgo, and makes it listen with the
// native protocol and, when asked, HTTP.
//
// It is started by internal/embedded and not meant to be used by hand. The
// library runs inside a process of its own for two reasons: a fault in it must
// not take qunfa along, and loading it needs a dynamic binary, while qunfa and
// the services stay static.
//
// The library was made to run clickhouse-local, a command that a person starts
// in a terminal, and several of its habits have to be worked around before it
// is a server: see the comments in terminal.go, statements.go and datadir.go.
// How it talks with its parent is described in package engineproto.
package main
