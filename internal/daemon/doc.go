// Package daemon is what every long-running process needs and none should
// write itself: a lifecycle with bounded shutdown ([Daemon]), HTTP servers that
// cannot be held open ([Server]), the admin listener ([Admin]), logging
// ([NewLogger]), signals and build information.
//
// It knows nothing of what the processes do.
package daemon
