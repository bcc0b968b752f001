package kafka

import (
	"regexp"
	"strconv"
	"time"
)

// restamp changes the times of records that the broker refuses because they are
// too far ahead of its clock, and tells whether it did. Such a time is that of a
// clock which was wrong when the record came, so nothing true is lost; refusing
// the record instead would lose it for good. The broker says up to which time it
// takes records (measured on Apache Kafka 4.3); of one that does not, ours is
// believed, which helps once our own clock is right again.
func (l *lane) restamp(batch []*pending, bad map[int]error, err error) bool {
	if ClassOf(err) != ClassClock {
		return false
	}
	now, changed := time.Now(), 0
	var most time.Duration
	for i, w := range batch {
		why, named := bad[i]
		if len(bad) > 0 && !named {
			continue
		}
		latest, stated := latestTime(why)
		if !stated {
			latest = now
		}
		if ahead := w.rec.Time.Sub(latest); ahead > 0 {
			w.rec.Time = latest
			changed++
			most = max(most, ahead)
		}
	}
	if changed > 0 {
		l.p.sampler.Warn("the broker refuses the times of records: they are stored with the latest that it takes; a clock is wrong, here or there",
			"topic", l.p.cfg.Topic, "records", changed, "too_far_ahead", most.Round(time.Second), "error", err)
	}
	return changed > 0
}

// acceptedTimes is how a broker says which times it takes, in milliseconds.
var acceptedTimes = regexp.MustCompile(`within \[-?\d+, (\d+)\]`)

// latestTime reads what a broker says of a record.
func latestTime(err error) (time.Time, bool) {
	if err == nil {
		return time.Time{}, false
	}
	m := acceptedTimes.FindStringSubmatch(err.Error())
	if m == nil {
		return time.Time{}, false
	}
	ms, err := strconv.ParseInt(m[1], 10, 64)
	return time.UnixMilli(ms).UTC(), err == nil
}
