package clickhouse

import (
	"context"
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Class says what can be done about a failed statement.
type Class string

// The classes of errors.
const (
	ClassRetry    Class = "retry"    // unavailable, overloaded, or the outcome is unknown: do it again
	ClassAuth     Class = "auth"     // user, password or grants: pause until it is repaired
	ClassMissing  Class = "missing"  // no such database or table: pause, run migrate
	ClassSchema   Class = "schema"   // the tables are not those that this version knows: pause, run migrate
	ClassFull     Class = "full"     // no room on the server's disk: pause until there is
	ClassRow      Class = "row"      // some row cannot be stored: find it, and set it aside
	ClassCanceled Class = "canceled" // the caller gave up
)

// Classes lists every class.
func Classes() []Class {
	return []Class{ClassRetry, ClassAuth, ClassMissing, ClassSchema, ClassFull, ClassRow, ClassCanceled}
}

// Error is a failed statement.
type Error struct {
	Op    string // what was being done
	Code  int32  // ClickHouse's error code; 0 if the server did not answer
	class Class
	err   error
}

func (e *Error) Error() string { return fmt.Sprintf("clickhouse: %s: %v", e.Op, e.err) }

// Unwrap returns what ClickHouse, the client or the network reported.
func (e *Error) Unwrap() error { return e.err }

// Class says what can be done about it.
func (e *Error) Class() Class { return e.class }

// ClassOf classifies any error that the package returned. What it does not know
// is to be retried: every statement here is safe to repeat.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.class
	}
	class, _ := classify(err)
	return class
}

func classify(err error) (Class, int32) {
	if x, ok := errors.AsType[*clickhouse.Exception](err); ok {
		return classOfCode(x.Code), x.Code
	}
	if errors.Is(err, context.Canceled) {
		return ClassCanceled, 0
	}
	if errors.Is(err, ErrSchema) {
		return ClassSchema, 0
	}
	if _, ok := errors.AsType[*rowError](err); ok {
		return ClassRow, 0
	}
	return ClassRetry, 0
}

// classOfCode sorts ClickHouse's error codes (src/Common/ErrorCodes.cpp). An
// unknown one is retried: pausing for ever over something transient would be
// as bad as dropping a row over it.
func classOfCode(code int32) Class {
	switch code {
	case 164, 192, 194, 497, 516: // read-only, unknown user, wrong password, access denied, authentication failed
		return ClassAuth
	case 60, 81: // unknown table, unknown database
		return ClassMissing
	case 10, 16, 33, 47, 131: // unknown or missing columns: the tables are of another version
		return ClassSchema
	case 243: // cannot reserve space
		return ClassFull
	case 6, 26, 27, 38, 41, 53, 70, 72, 117, 321, 349, 691: // cannot parse or convert a value
		return ClassRow
	}
	return ClassRetry
}

// rowError says that a row cannot be written, found before anything was sent.
type rowError struct{ err error }

func (e *rowError) Error() string { return e.err.Error() }
func (e *rowError) Unwrap() error { return e.err }

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	class, code := classify(err)
	return &Error{Op: op, Code: code, class: class, err: err}
}
