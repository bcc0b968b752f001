package kafka

import (
	"errors"

	"github.com/segmentio/kafka-go"
)

// doubtful tells when it is worth finding out whether an answer that nobody
// knows (an unknown server error, say) is about the records or about the broker:
// if it persists, and from then on now and again.
func doubtful(err error, attempt int) bool {
	var code kafka.Error
	return attempt%4 == 3 && ClassOf(err) == ClassOther && errors.As(err, &code)
}

// sieve finds the records of a batch that do not go through while others do.
// What goes through may overtake a record that does not.
type sieve struct {
	lane      *lane
	partition int32
	taken     bool // something went through
	misses    int  // attempts in a row that did not
}

// maxMisses is after how many a broker that takes nothing is not asked further.
const maxMisses = 32

// sift makes one attempt with each half of a batch, and so on with the halves of
// what does not go through. It returns what is left: single records, each of
// which failed alone, unless there were too many misses.
func (s *sieve) sift(batch []*pending) (rest []*pending) {
	if len(batch) == 1 || s.misses >= maxMisses {
		return batch
	}
	half := len(batch) / 2
	for _, part := range [][]*pending{batch[:half:half], batch[half:]} {
		if !s.try(part) {
			rest = append(rest, s.sift(part)...)
		}
	}
	return rest
}

func (s *sieve) try(batch []*pending) bool {
	base, _, err := s.lane.produce(s.partition, batch)
	if err != nil {
		s.misses++
		return false
	}
	s.lane.acked(batch, base)
	s.taken, s.misses = true, 0
	return true
}
