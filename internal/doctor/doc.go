// Package doctor looks for what keeps results of mass messages from being seen:
// a callback URL that WeChat cannot reach or is refused at, an API that does not
// let us in, a Kafka that does not take records, a ClickHouse in which something
// is missing.
//
// A [Check] looks at one thing and says what it found. Every [Finding] that is
// not as it should be says what to do about it, for somebody who was woken by an
// alert. The checks change nothing: they write no record and no row, ask WeChat
// for no new token, and send nothing on to the applications behind ingest.
//
// What a part is asked is also what `qunfa status` shows: [LogState],
// [DatabaseState], [MessagesState] and [ServiceState].
package doctor
