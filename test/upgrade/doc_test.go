// Package upgrade proves that an installation is upgraded while it runs.
//
// Older programs are built from the history of this repository: for every
// change of the migrations, the programs as they were just before it (by default
// the oldest and the newest of them; QUNFA_EVERY_RELEASE=1: all). They run as
// processes, take callbacks and write them, while the database is migrated under
// them by today's qunfa, and until today's services have replaced them.
//
// Where there is no history (an archive, a shallow clone) that cannot be tested,
// and the test says so; with QUNFA_NEED_HISTORY=1 it fails instead.
package upgrade
