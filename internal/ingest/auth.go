package ingest

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// minToken is the least length of a bearer token in characters: shorter ones can be guessed.
const minToken = 16

// bearer checks bearer tokens. It holds their hashes only.
type bearer struct{ hashes [][sha256.Size]byte }

// newBearer wants at least one token; errors name tokens by position from 0.
func newBearer(tokens []string) (*bearer, error) {
	if len(tokens) == 0 {
		return nil, errors.New("api_token is missing: the internal listener always wants one")
	}
	b := &bearer{}
	for i, t := range tokens {
		switch {
		case len(t) < minToken:
			return nil, fmt.Errorf("api token %d has %d characters: want at least %d", i, len(t), minToken)
		case strings.ContainsAny(t, " \t\r\n"):
			return nil, fmt.Errorf("api token %d has white space in it", i)
		}
		b.hashes = append(b.hashes, sha256.Sum256([]byte(t)))
	}
	return b, nil
}

// allows takes the same time for every token of the same length, right or
// wrong, and whichever it is.
func (b *bearer) allows(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, h := range b.hashes {
		found |= subtle.ConstantTimeCompare(h[:], given[:])
	}
	return found == 1 && strings.EqualFold(scheme, "Bearer")
}
