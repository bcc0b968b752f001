package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"qunfa/internal/app"
)

// What a topic is told apart by is tested where it is made anew: see test/faults.
func TestTopicAdopt(t *testing.T) {
	s := newStack(t)
	adopt := func(force bool) (string, error) {
		var out bytes.Buffer
		err := app.AdoptTopic(t.Context(), s.target.cfg, s.target.opts, force, func(line string) { out.WriteString(line + "\n") })
		return out.String(), err
	}
	if out, err := adopt(true); err == nil || !strings.Contains(err.Error(), "nothing is stored") {
		t.Errorf("an empty database: %s, %v", out, err)
	}
	s.write(t, history()...) // into the database alone: the topic is empty, as if it were another
	out, err := adopt(false)
	if err != nil || !strings.Contains(out, s.target.cfg.Kafka.Topic+"#2") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := adopt(false); err == nil || errors.Is(err, app.ErrNothingToAdopt) {
		t.Errorf("nothing of the new topic is stored: %s, %v", out, err)
	}
	got := runWith(t, "", "topic", "adopt", "--config", s.yaml)
	if got.code != app.ExitUsage || !strings.Contains(got.stderr, "kafka.brokers") {
		t.Errorf("without Kafka: %+v", got)
	}
}
