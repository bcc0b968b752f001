// Package events is the domain of qunfa: what can happen to a mass message
// (群发), how an occurrence is named, written to a log and read back, and what
// all occurrences of one message add up to.
//
// A message is one mass send of one account, keyed by [Key]: msg_id alone
// collides between accounts. Everything that happened to it is an [Event].
// Events are never changed; a correction is another event. [Fold] turns all
// events of a message into the one [Row] that people query.
//
// The package imports only the standard library, so that every service, tool
// and test can share it.
package events
