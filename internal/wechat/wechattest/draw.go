package wechattest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	urlSafe      = alphanumeric + "-_"
	hexDigits    = "0123456789abcdef"
	digits       = "0123456789"
)

// drawer gives pseudo-random values for one purpose. Every purpose has a drawer
// of its own, found by name: a value then depends on what it is for and never on
// what was drawn before it, which is what keeps concurrent runs alike.
type drawer struct{ *rand.Rand }

// draw returns the drawer of the purpose that the parts name.
func draw(seed uint64, parts ...any) drawer {
	h := sha256.New()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	h.Write(b[:])
	for _, p := range parts {
		fmt.Fprintf(h, "\x00%v", p)
	}
	return drawer{rand.New(rand.NewChaCha8([32]byte(h.Sum(nil))))}
}

func (d drawer) from(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[d.IntN(len(alphabet))]
	}
	return string(b)
}

func (d drawer) text(n int) string { return d.from(alphanumeric, n) }
func (d drawer) hex(n int) string  { return d.from(hexDigits, n) }

// openID is an openid: the letter o and 27 characters.
func (d drawer) openID() string { return "o" + d.from(urlSafe, 27) }

// rid is a request id as WeChat appends it to errmsg.
func (d drawer) rid() string { return d.hex(8) + "-" + d.hex(8) + "-" + d.hex(8) }

// between is uniform in [low, high].
func (d drawer) between(low, high int64) int64 {
	if high <= low {
		return low
	}
	return low + d.Int64N(high-low+1)
}

// share is a part of n between the fractions low and high.
func (d drawer) share(n int64, low, high float64) int64 {
	return int64(float64(n) * (low + (high-low)*d.Float64()))
}
