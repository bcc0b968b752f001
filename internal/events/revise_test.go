package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"qunfa/internal/events"
)

const storedBody = `{"appid":"wx1","msg_id":7,"create_time":1790000000,"status":"send success","status_kind":"sent","sent_count":5,"mode":"safe","format":"xml","of_a_later_version":{"a":[1]}}`

func read() *events.Finished {
	sent := int64(5)
	return &events.Finished{AppID: "wx1", MsgID: 7, CreateTime: 1790000000, Status: "send success", StatusKind: "sent", SentCount: &sent, Mode: "safe", Format: "xml", Raw: "<xml/>"}
}

func TestReviseKeepsWhatIsTheSame(t *testing.T) {
	body, changed, err := events.Revise(events.Stored{Body: []byte(storedBody)}, read())
	if err != nil || changed || string(body) != storedBody {
		t.Errorf("changed %t, %v:\n%s", changed, err, body)
	}
}

func TestReviseReplacesWhatIsKnown(t *testing.T) {
	again := read()
	again.SentCount, again.Status = nil, "send fail"
	again.ArticleURLs = []events.Link{{Index: 1, URL: "http://mp.weixin.qq.com/s?a=1&b=<2>"}}
	stored := events.Stored{ID: events.ID{1}, Type: events.TypeFinished, Body: []byte(storedBody), Revision: 3}
	body, changed, err := events.Revise(stored, again)
	if err != nil || !changed {
		t.Fatalf("changed %t, %v", changed, err)
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"appid": "wx1", "msg_id": 7.0, "create_time": 1790000000.0, "status": "send fail", "status_kind": "sent", "mode": "safe", "format": "xml",
		"of_a_later_version": map[string]any{"a": []any{1.0}}, "article_urls": []any{map[string]any{"article_idx": 1.0, "url": "http://mp.weixin.qq.com/s?a=1&b=<2>"}},
	}
	if d := cmp.Diff(want, members); d != "" {
		t.Errorf("members (-want +got):\n%s", d)
	}
	stored.Body = body
	if _, changed, err := events.Revise(stored, again); changed || err != nil {
		t.Errorf("done again it changes something: %v", err)
	}
	if e, err := events.DecodeStored(stored); err != nil || e.ID != stored.ID || e.Revision != 3 {
		t.Errorf("event %+v, %v", e, err)
	}
}

func TestReviseRefusesAnotherMessage(t *testing.T) {
	for name, change := range map[string]func(*events.Finished){
		"another message": func(f *events.Finished) { f.MsgID++ },
		"another account": func(f *events.Finished) { f.AppID = "wx2" },
		"no time":         func(f *events.Finished) { f.CreateTime = 0 },
	} {
		again := read()
		change(again)
		if _, changed, err := events.Revise(events.Stored{Body: []byte(storedBody)}, again); err == nil || changed || !strings.Contains(err.Error(), "stored event") {
			t.Errorf("%s: changed %t, %v", name, changed, err)
		}
	}
}

// A writer that has not seen a revision yet has the lower version, however many
// events it has seen.
func TestRevisionWins(t *testing.T) {
	event := func(sent int64, at int64) events.Event {
		f := read()
		f.SentCount, f.CreateTime = &sent, at
		e, err := events.New("test", f)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first, second := event(5, 1790000000), event(6, 1790000001)
	revised := event(9, 1790000000)
	revised.ID, revised.Revision, revised.Position.Offset = first.ID, 1, 100
	stale, _ := events.Fold([]events.Event{first, second}, time.UTC)
	fresh, _ := events.Fold([]events.Event{first, revised}, time.UTC)
	if *fresh.Sent != 9 || fresh.Version <= stale.Version || fresh.Version&(1<<events.EventBits-1) != 1 {
		t.Errorf("sent %d, version %d against %d", *fresh.Sent, fresh.Version, stale.Version)
	}
	if both, _ := events.Fold([]events.Event{second, revised, first}, time.UTC); both.Version != fresh.Version+1 {
		t.Errorf("version %d of two events, %d of one", both.Version, fresh.Version)
	}
}
