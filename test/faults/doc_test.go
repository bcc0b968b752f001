// Package faults makes every fault of the table in docs/operations.md and
// checks what the table says of it: what the services log, what their metrics
// and /readyz show, that nothing is lost or counted twice meanwhile, and that
// the services go on by themselves as soon as the fault is repaired.
//
// The table is read, not repeated: a test looks for what stands between
// backquotes in the row that names it.
package faults
