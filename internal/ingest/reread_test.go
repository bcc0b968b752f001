package ingest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

const rereadable = `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[o1]]></FromUserName><CreateTime>1772366405</CreateTime>
<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[MASSSENDJOBFINISH]]></Event><MsgID>7</MsgID><Status><![CDATA[send success]]></Status>
<TotalCount>9</TotalCount><FilterCount>8</FilterCount><SentCount>8</SentCount><ErrorCount>0</ErrorCount></xml>`

// A callback that an earlier version could not read becomes the event that this
// version would have made of it when it came.
func TestReread(t *testing.T) {
	received := time.Date(2026, 3, 1, 12, 0, 7, 0, time.UTC)
	push := wechat.Push{Mode: "safe", Format: wechat.FormatXML, Body: []byte(rereadable)}
	d := deadOf(t, push, received)
	record, err := Reread(d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := events.Decode(events.Message{Record: record})
	if err != nil {
		t.Fatal(err)
	}
	m, err := wechat.ParseMassSendJobFinish(push.Format, push.Body)
	if err != nil {
		t.Fatal(err)
	}
	want, err := events.New("qunfa/ingest", finished("wx1", push, m))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID || got.Source != "qunfa/ingest" || !got.ReceivedAt.Equal(received) {
		t.Errorf("event %s of %s received at %s; want %s of qunfa/ingest at %s", got.ID, got.Source, got.ReceivedAt, want.ID, received)
	}
	if diff := cmp.Diff(got.Data, want.Data); diff != "" {
		t.Errorf("data (-got, +want):\n%s", diff)
	}
}

func TestRereadRefuses(t *testing.T) {
	good := wechat.Push{Mode: "safe", Format: wechat.FormatXML, Body: []byte(rereadable)}
	for name, c := range map[string]struct {
		change func(*events.DeadLetter)
		says   string
	}{
		"what is still unparsable": {func(d *events.DeadLetter) { d.Value = []byte(strings.Replace(rereadable, "1772366405", "today", 1)) }, "CreateTime"},
		"another push": {func(d *events.DeadLetter) {
			d.Value = []byte(strings.Replace(rereadable, "MASSSENDJOBFINISH", "subscribe", 1))
		}, "not about the end"},
		"another reason":    {func(d *events.DeadLetter) { d.Reason = events.DeadUndecodable }, "undecodable"},
		"an unknown format": {func(d *events.DeadLetter) { d.Headers = nil }, HeaderCallbackFormat},
	} {
		t.Run(name, func(t *testing.T) {
			d := deadOf(t, good, time.Unix(1772366407, 0))
			c.change(&d)
			if _, err := Reread(d); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func deadOf(t *testing.T, p wechat.Push, received time.Time) events.DeadLetter {
	t.Helper()
	d, err := events.DecodeDeadLetter(events.Message{Record: deadLetter("qunfa/ingest", "wx1", p, errors.New("unreadable then"), received)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
