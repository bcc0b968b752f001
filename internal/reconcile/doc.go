// Package reconcile asks WeChat about every recorded message (群发) whose
// callback never came, so that each one ends: by callback, by poll, or as
// missing with the reason.
//
// # What it promises
//
// A recorded message leaves the outcome pending within [Schedule.Deadline] of
// its submission, or within [Schedule.Grace] more where WeChat could not be
// asked in time; [Schedule.Next] has the exact rule and its bounds. An account
// without credentials and imported history are never polled and end at the
// deadline. What ended a message is an event like any other, so a callback that
// comes later still wins.
//
// # How
//
// A replica works on the accounts whose partitions it owns, in rounds. A round
// notes where the log ends, waits until the sink has committed that far, and
// only then asks the projection what is pending: its own earlier polls are in
// the answer, so nothing is polled twice, and a sink that lags or stands still
// makes the round be skipped instead of causing a storm of polls or a message
// being called missing while its callback waits in the log.
//
// The schedule lives in the events alone: when to ask next is a pure function of
// what the projection says about a message ([Schedule.Next]). Restarts and other
// replicas therefore neither forget nor double anything. What is kept in memory
// (rate limits, quotas, circuit breakers) only makes us slower to ask.
//
// # What a poll cannot know
//
// WeChat's mass/get answers with a status and nothing else: the counts of a
// message whose callback was lost stay unknown, and SEND_FAIL may hide a
// rejection by review, since only the callback says err(num). A successful
// poll can be followed by DELETE, which is a later fact and no contradiction.
package reconcile
