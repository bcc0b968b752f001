// Package wechattest is a simulator of WeChat's side of mass sending (群发), for
// the demo and for tests: the API that takes sends and answers mass/get, the
// pushes that report what became of them, and a [Ledger] of the truth to
// compare against.
//
// It writes the sending side, encryption, signatures, XML and JSON included, by
// itself and imports nothing of this module. Were it to share code with the
// receiving side, one misreading of WeChat's documentation would be made twice
// and cancel itself out.
//
// # Determinism
//
// Everything that is drawn (message ids, counts, article URLs, keys, tokens,
// nonces) depends on the seed, the account and the ordinal of the call for that
// account, never on time or on the interleaving of accounts. The same seed and
// the same calls give the same ids, counts and payloads; only timestamps follow
// the clock.
//
// # Time
//
// Delays are written in WeChat's time (an administrator has 30 minutes to
// confirm) and divided by [Config.Scale], so that a demo plays them in seconds.
// Limits of the network, such as the 5 s that a callback may take, are never
// scaled: they bound real machines. Dates in payloads are those of the clock.
package wechattest
