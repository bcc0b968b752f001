// Package submission reads what a sender tells us about its mass sends: JSON,
// JSON lines or CSV in, events out. The record API and `qunfa record` share
// it, so that the same record has the same event id by either road.
//
// A record is flat. Its fields, by the same names in JSON and in a CSV header:
//
//	appid         the account; needed unless [Options.AppID] gives one
//	msg_id        what WeChat answered to the send; needed
//	msg_data_id   likewise; links to article statistics
//	submitted_at  RFC 3339, or Unix seconds; default now
//	audience      all, tag or openids
//	tag_id        for an audience of one tag
//	audience_size people addressed, where known
//	msg_type      mpnews, text, voice, images, mpvideo, wxcard
//	label         what a person calls this message
//	campaign      what a person calls one send of several messages
//	clientmsgid   as given to WeChat
//	recorder      who tells us; default [Options.Recorder]
//	chase         false for history that WeChat is never to be asked about
//
// In JSON the audience may also be an object, {"kind", "tag_id", "size"}.
// Numbers may be quoted: JavaScript rounds integers above 2^53. null and an
// empty CSV cell mean that the field is not given. Any other name is refused,
// with the nearest known one, since a typing error would lose what it named.
//
// A record that cannot be used costs only itself: it comes out as an [Item]
// with an error, and the next one follows.
package submission
