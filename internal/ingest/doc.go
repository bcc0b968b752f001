// Package ingest is where WeChat's callbacks come in and become events in the log.
//
// The public listener answers WeChat. A push must carry a valid signature and,
// in the encrypted modes, open with the account's keys; then a MASSSENDJOBFINISH
// becomes an event, and `success` is answered only after the log has it for
// good. If the log cannot take it the answer is 503, upon which WeChat repeats
// the push. One that is authentic but cannot be understood goes to the dead
// letters as it is, since repeating it would not help.
//
// An account has one callback URL, so every push also goes on, byte for byte,
// to the upstream application that had the URL before: ours after the durable
// ack and without waiting, others with upstream's answer going back to WeChat.
//
// The internal listener takes submissions: what was sent, told by whoever sent
// it. It always wants a bearer token.
//
// Nothing here logs, counts or returns a token, a key, a query string or a body.
package ingest
