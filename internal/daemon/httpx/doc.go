// Package httpx lets HTTP handlers return errors. One place turns an error into
// the status, a log line and a count; what the client reads never contains the
// cause.
package httpx
