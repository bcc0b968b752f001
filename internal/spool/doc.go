// Package spool keeps events on the local disk while the log cannot take them.
//
// A [Spool] stands before the log and has the same method. While it is empty a
// record goes straight to the log. A record that the log does not take in its
// time is written to a file and fsynced, and only then is the caller told that
// it is safe. From then on every record queues up behind it, until
// [Spool.Run] has handed all of them to the log, in order, also after a restart.
//
// What it promises:
//
//   - Publish returns nil only for a record that the log has acknowledged, or
//     that is fsynced here.
//   - Nothing is dropped: a record leaves the file after the log has
//     acknowledged it. Between the two a crash repeats it; events carry
//     deterministic ids, so a copy is harmless.
//   - If one Publish of a key has returned before another begins, the first
//     record comes first in the log. (Copies may follow later.)
//   - The size is bounded: a full spool refuses with [ErrFull]. Age is not: an
//     old record is as good as a new one, so age is for alerts alone.
//   - A record that the log refuses for good, or that cannot be read back, is
//     set aside in the same file and holds nothing up. What the log refused is
//     offered again after each restart.
//   - A file that is damaged is renamed and kept, every record in it that is
//     whole is taken over, and work goes on.
package spool
