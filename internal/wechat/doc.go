// Package wechat speaks the two protocols that WeChat Official Accounts use
// for mass messages (群发).
//
// The callback side: [Verifier] decides whether a push comes from WeChat, in
// the plain, the compatible and the safe mode, and opens it; [ParsePush] reads
// the head of any push and [ParseMassSendJobFinish] reads everything of the one
// this project exists for.
//
// The API side: [Client] asks WeChat what became of a message and how much
// quota is left, with tokens from a [TokenSource]; [ClassOf] says what an error
// code asks of the caller. Deciding when to ask, and how often, is the caller's.
//
// Everything that arrives here comes from the Internet, so documents are bounded
// in size, depth and number of elements before anything is kept of them, and no
// error, log line or metric ever holds a token, a key or a secret.
//
// The package imports nothing else of this project.
package wechat
