package cpu

import (
	"testing"
	"time"
)

func TestUsed(t *testing.T) {
	before := Used()
	deadline := time.Now().Add(time.Minute)
	for n := 0; Used() < before+2*tick; n++ {
		if time.Now().After(deadline) {
			t.Fatalf("%s after %d rounds of work: none of it is counted", Used()-before, n)
		}
	}
}
