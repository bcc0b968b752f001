package app

import "testing"

// offsets are those of partitions 0 and 1.
func offsets(zero, one int64) map[int32]int64 { return map[int32]int64{0: zero, 1: one} }

func TestCatchUp(t *testing.T) {
	type look struct {
		what          string
		ends, visible map[int32]int64
		want          int64
	}
	for name, looks := range map[string][]look{
		"all is there": {
			{"at first", offsets(10, 20), offsets(10, 20), 0},
			{"a burst", offsets(100, 20), offsets(10, 20), 0},
			{"and more of it", offsets(300, 500), offsets(100, 20), 0},
		},
		"a first catch-up": {
			{"nothing committed", offsets(10, 5), offsets(-1, -1), 15},
			{"half, while more comes", offsets(12, 9), offsets(6, 1), 8},
			{"what was there at first", offsets(14, 11), offsets(10, 5), 0},
			{"what came since is a burst", offsets(16, 11), offsets(10, 7), 0},
		},
		"an empty log": {
			{"no partition has a record", map[int32]int64{}, offsets(-1, -1), 0},
			{"the first record", map[int32]int64{0: 1}, offsets(-1, -1), 0},
		},
		"a database that is dropped": {
			{"before", offsets(10, 10), offsets(10, 10), 0},
			{"after", offsets(11, 10), offsets(0, 0), 21},
			{"the sink is on its way", offsets(11, 10), offsets(11, 4), 6},
			{"dropped once more", offsets(12, 10), offsets(3, 0), 19},
			{"at last", offsets(13, 10), offsets(12, 10), 0},
		},
		"a long outage of the sink": {
			{"before", offsets(10, 0), offsets(10, 0), 0},
			{"far behind", offsets(10+maxLag, 1), offsets(10, 0), maxLag + 1},
			{"less far, but not there", offsets(20+maxLag, 1), offsets(maxLag, 1), 10},
			{"there", offsets(30+maxLag, 1), offsets(10+maxLag, 1), 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c catchUp
			for _, l := range looks {
				if got := c.missing(l.ends, l.visible); got != l.want {
					t.Errorf("%s: %d records are missing, want %d", l.what, got, l.want)
				}
			}
		})
	}
}
