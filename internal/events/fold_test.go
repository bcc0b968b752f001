package events_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	. "qunfa/internal/events"
)

var shanghai = func() *time.Location {
	loc, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		panic(err)
	}
	return loc
}()

var key = Key{"wx1", 1000000003}

// build makes events of data in the order of the log, one second apart.
func build(t testing.TB, data ...Data) []Event {
	t.Helper()
	var evs []Event
	for i, d := range data {
		e, err := New("test", d)
		if err != nil {
			t.Fatal(err)
		}
		e.ReceivedAt = e.Time.Add(time.Second)
		e.Position = Position{"qunfa.events", 0, int64(i)}
		evs = append(evs, e)
	}
	return evs
}

func submitted(when string) *Submitted {
	return &Submitted{AppID: key.AppID, MsgID: key.MsgID, SubmittedAt: at(when), Recorder: "api", Chase: true}
}

func finished(when, status string, counts ...int64) *Finished {
	d := &Finished{AppID: key.AppID, MsgID: key.MsgID, CreateTime: at(when).Unix(), Status: status}
	for i, p := range []**int64{&d.TotalCount, &d.FilterCount, &d.SentCount, &d.ErrorCount} {
		if i < len(counts) {
			*p = num(counts[i])
		}
	}
	return d
}

func polled(when, status string) *Polled {
	d := &Polled{AppID: key.AppID, MsgID: key.MsgID, PolledAt: at(when), Attempt: 1, Status: status, Instance: "r1"}
	if status == "" {
		d.Error = &APIError{Code: 40059}
	}
	return d
}

func abandoned(when string) *Abandoned {
	return &Abandoned{AppID: key.AppID, MsgID: key.MsgID, AbandonedAt: at(when), Reason: ReasonNoAnswer, Instance: "r1"}
}

func deleted(when string, article int64) *Deleted {
	return &Deleted{AppID: key.AppID, MsgID: key.MsgID, ArticleIdx: article, DeletedAt: at(when)}
}

func TestFoldOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		data    []Data
		outcome Outcome
		by      string
		status  string
	}{
		"only submitted":        {[]Data{submitted("2026-03-01T10:00:00Z")}, OutcomePending, "", ""},
		"sent":                  {[]Data{submitted("2026-03-01T10:00:00Z"), finished("2026-03-01T10:05:00Z", "send success", 9, 8, 8, 0)}, OutcomeSent, DecidedByCallback, "send success"},
		"callback alone":        {[]Data{finished("2026-03-01T10:05:00Z", "send fail", 9, 8, 0, 8)}, OutcomeFailed, DecidedByCallback, "send fail"},
		"rejected":              {[]Data{finished("2026-03-01T10:05:00Z", "err(20013)", 0, 0, 0, 0)}, OutcomeRejected, DecidedByCallback, "err(20013)"},
		"a status never seen":   {[]Data{finished("2026-03-01T10:05:00Z", "send maybe", 9, 8, 8, 0)}, OutcomeUnknown, DecidedByCallback, "send maybe"},
		"poll says sent":        {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", PollSuccess)}, OutcomeSent, DecidedByPoll, PollSuccess},
		"poll says failed":      {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", PollFail)}, OutcomeFailed, DecidedByPoll, PollFail},
		"poll says sending":     {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", PollSending)}, OutcomePending, "", ""},
		"poll says the unknown": {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", "SEND_PAUSED")}, OutcomePending, "", ""},
		"poll failed":           {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", "")}, OutcomePending, "", ""},
		"poll says deleted":     {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", PollDelete)}, OutcomeDeleted, DecidedByPoll, PollDelete},
		"deleted after a sent poll": {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", PollSuccess), polled("2026-03-01T11:45:00Z", PollDelete)},
			OutcomeSent, DecidedByPoll, PollSuccess},
		"missing":               {[]Data{submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", PollSending), abandoned("2026-03-04T10:00:00Z")}, OutcomeMissing, DecidedByAbandoned, ""},
		"late callback":         {[]Data{submitted("2026-03-01T10:00:00Z"), abandoned("2026-03-04T10:00:00Z"), finished("2026-03-01T10:05:00Z", "send success", 9, 8, 8, 0)}, OutcomeSent, DecidedByCallback, "send success"},
		"callback against poll": {[]Data{polled("2026-03-01T10:45:00Z", PollDelete), finished("2026-03-01T10:05:00Z", "send success", 8, 0, 0, 0)}, OutcomeSent, DecidedByCallback, "send success"},
		"the later final wins":  {[]Data{finished("2026-03-01T10:06:00Z", "send success", 9, 8, 8, 0), finished("2026-03-01T10:05:00Z", "send fail", 9, 8, 0, 8)}, OutcomeSent, DecidedByCallback, "send success"},
		"deletion alone":        {[]Data{deleted("2026-03-02T10:00:00Z", 0)}, OutcomeDeleted, DecidedByDeleted, ""},
		"submitted and deleted": {[]Data{submitted("2026-03-01T10:00:00Z"), deleted("2026-03-02T10:00:00Z", 0)}, OutcomePending, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := Fold(build(t, c.data...), shanghai)
			if r.Outcome != c.outcome || r.DecidedBy != c.by || r.Status != c.status {
				t.Errorf("outcome %q by %q, status %q; want %q by %q, status %q", r.Outcome, r.DecidedBy, r.Status, c.outcome, c.by, c.status)
			}
			if r.Version != uint64(len(c.data)) {
				t.Errorf("version %d of %d events", r.Version, len(c.data))
			}
		})
	}
}

func TestFoldCounts(t *testing.T) {
	type people struct{ Total, Eligible, Filtered, Sent, Errors *int64 }
	for name, c := range map[string]struct {
		final *Finished
		want  people
	}{
		"all known":            {finished("2026-03-01T10:05:00Z", "send success", 100, 80, 75, 5), people{num(100), num(80), num(20), num(75), num(5)}},
		"none addressed left":  {finished("2026-03-01T10:05:00Z", "send success", 8, 0, 0, 0), people{num(8), num(0), num(8), num(0), num(0)}},
		"rejected: no counts":  {finished("2026-03-01T10:05:00Z", "err(10001)", 0, 0, 0, 0), people{nil, nil, nil, num(0), num(0)}},
		"rejected with counts": {finished("2026-03-01T10:05:00Z", "err(10001)", 10, 9, 0, 0), people{num(10), num(9), num(1), num(0), num(0)}},
		"absent is not zero":   {finished("2026-03-01T10:05:00Z", "send success", 10), people{Total: num(10)}},
		"more left than there were": {finished("2026-03-01T10:05:00Z", "send success", 10, 11, 11, 0),
			people{num(10), num(11), nil, num(11), num(0)}},
		"negative is no number of people": {finished("2026-03-01T10:05:00Z", "send success", -1, 5, 5, 0), people{nil, num(5), nil, num(5), num(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := Fold(build(t, c.final), shanghai)
			if diff := cmp.Diff(people{r.Total, r.Eligible, r.Filtered, r.Sent, r.Errors}, c.want); diff != "" {
				t.Errorf("(-got, +want):\n%s", diff)
			}
		})
	}
}

func TestFoldDayMovesWithoutDoubling(t *testing.T) {
	// 17:00 UTC is the next day in Shanghai.
	evs := build(t,
		finished("2026-03-02T17:00:00Z", "send success", 9, 8, 8, 0),
		polled("2026-03-05T01:00:00Z", PollSuccess),
		submitted("2026-02-28T17:30:00Z"),
	)
	day := func(s string) time.Time { return at(s + "T00:00:00Z") }
	r, stones := Fold(evs[:1], shanghai)
	if !r.Day.Equal(day("2026-03-03")) || len(stones) != 0 {
		t.Errorf("a callback alone stands on %s with %d tombstones", r.Day, len(stones))
	}
	r, stones = Fold(evs, shanghai)
	if !r.Day.Equal(day("2026-03-01")) {
		t.Errorf("day %s, want that of the submission", r.Day)
	}
	want := []Tombstone{{key, day("2026-03-03"), 3}, {key, day("2026-03-05"), 3}}
	if diff := cmp.Diff(stones, want); diff != "" {
		t.Errorf("tombstones (-got, +want):\n%s", diff)
	}
}

func TestFoldMergesSubmissions(t *testing.T) {
	first := submitted("2026-03-01T10:00:00Z")
	first.Recorder, first.Chase, first.Audience = "gateway", false, Audience{Kind: AudienceAll}
	second := submitted("2026-03-01T10:00:01Z")
	second.Recorder, second.Label, second.Audience = "cms", "spring", Audience{Kind: AudienceTag, TagID: num(2), Size: num(40)}
	r, _ := Fold(build(t, second, first), shanghai)
	if r.Recorder != "gateway" || r.AudienceKind != AudienceAll || r.Label != "spring" || *r.AudienceSize != 40 || !r.Chase || r.Submissions != 2 {
		t.Errorf("merged to %+v", r)
	}
	if want := at("2026-03-01T10:00:00Z"); !r.SubmittedAt.Equal(want) {
		t.Errorf("submitted at %s, want %s", r.SubmittedAt, want)
	}
}

func TestFoldDeletionIsNoOutcome(t *testing.T) {
	r, _ := Fold(build(t, finished("2026-03-01T10:05:00Z", "send success", 9, 8, 8, 0), deleted("2026-03-03T10:00:00Z", 2), deleted("2026-03-02T10:00:00Z", 1)), shanghai)
	if r.Outcome != OutcomeSent || !r.DeletedAt.Equal(at("2026-03-02T10:00:00Z")) || !slices.Equal(r.DeletedArticles, []int64{1, 2}) {
		t.Errorf("outcome %s, deleted at %v, articles %v", r.Outcome, r.DeletedAt, r.DeletedArticles)
	}
}

func TestFoldFirstReceivedFinalStays(t *testing.T) {
	evs := build(t, finished("2026-03-01T10:06:00Z", "send success", 9, 8, 8, 0))
	before, _ := Fold(evs, shanghai)
	correction := build(t, finished("2026-03-01T10:07:00Z", "send success", 9, 8, 7, 1), submitted("2026-03-01T10:00:00Z"))
	for i := range correction {
		correction[i].ReceivedAt = evs[0].ReceivedAt.Add(time.Minute)
		correction[i].Position.Offset += 10
	}
	after, _ := Fold(append(evs, correction...), shanghai)
	if diff := cmp.Diff(after.First, before.First); diff != "" {
		t.Errorf("a correction moved what metrics count (-got, +want):\n%s", diff)
	}
	if *after.Sent != 7 {
		t.Errorf("sent %d, want the corrected 7", *after.Sent)
	}
}

func TestFoldJoinsArticles(t *testing.T) {
	d := finished("2026-03-01T10:05:00Z", "send success", 9, 8, 8, 0)
	d.ArticleURLs = []Link{{2, "u2"}, {1, "u1"}}
	d.Copyright = &Copyright{CheckState: num(2), Articles: []ArticleCheck{{Index: 2, AuditState: num(11)}, {Index: 3, AuditState: num(2)}}}
	r, _ := Fold(build(t, d), shanghai)
	want := []Article{
		{Index: 1, URL: "u1"},
		{Index: 2, URL: "u2", Check: &ArticleCheck{Index: 2, AuditState: num(11)}},
		{Index: 3, Check: &ArticleCheck{Index: 3, AuditState: num(2)}},
	}
	if diff := cmp.Diff(r.Articles, want); diff != "" {
		t.Errorf("articles (-got, +want):\n%s", diff)
	}
	if *r.CheckState != 2 {
		t.Errorf("check state %d", *r.CheckState)
	}
}

func TestFoldOfNothing(t *testing.T) {
	if r, stones := Fold(nil, shanghai); !cmp.Equal(r, Row{}) || stones != nil {
		t.Errorf("folded nothing to %+v and %v", r, stones)
	}
}

// history draws the events of one message, with times close enough to collide.
// Their ids differ: of two copies a later writer never sees the second alone,
// since both are in one partition and the first is stored before.
func history(t *rapid.T) []Event {
	minute := func(label string) time.Time {
		return at("2026-02-27T15:50:00Z").Add(time.Duration(rapid.IntRange(0, 6000).Draw(t, label)) * time.Minute)
	}
	count := rapid.Custom(func(t *rapid.T) *int64 {
		if rapid.Bool().Draw(t, "absent") {
			return nil
		}
		return num(rapid.Int64Range(-1, 20).Draw(t, "count"))
	})
	one := rapid.Custom(func(t *rapid.T) Data {
		when := minute("when")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return &Submitted{AppID: key.AppID, MsgID: key.MsgID, SubmittedAt: when, Recorder: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "recorder"),
				Chase: rapid.Bool().Draw(t, "chase"), Label: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "label"), MsgDataID: count.Draw(t, "data id")}
		case 1:
			return &Finished{AppID: key.AppID, MsgID: key.MsgID, CreateTime: when.Unix(),
				Status:     rapid.SampledFrom([]string{"send success", "send fail", "err(10001)", "err(20431)", "odd"}).Draw(t, "status"),
				TotalCount: count.Draw(t, "total"), FilterCount: count.Draw(t, "filter"), SentCount: count.Draw(t, "sent"), ErrorCount: count.Draw(t, "errors")}
		case 2:
			return &Polled{AppID: key.AppID, MsgID: key.MsgID, PolledAt: when, Attempt: 1, Instance: rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "instance"),
				Status: rapid.SampledFrom([]string{PollSuccess, PollSending, PollFail, PollDelete, "NEW"}).Draw(t, "status")}
		case 3:
			return &Deleted{AppID: key.AppID, MsgID: key.MsgID, ArticleIdx: rapid.Int64Range(0, 3).Draw(t, "article"), DeletedAt: when}
		default:
			return &Abandoned{AppID: key.AppID, MsgID: key.MsgID, AbandonedAt: when, Reason: ReasonNoAnswer, Instance: "r1"}
		}
	})
	var evs []Event
	seen := map[ID]bool{}
	for i, d := range rapid.SliceOfN(one, 1, 8).Draw(t, "data") {
		e, err := New("test", d)
		if err != nil {
			t.Fatal(err)
		}
		if seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		e.ReceivedAt = minute("received")
		e.Position.Offset = int64(i)
		evs = append(evs, e)
	}
	return evs
}

func TestFoldDependsOnTheSetAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		evs := history(t)
		want, wantStones := Fold(evs, shanghai)

		// Copies come later in the log, as redeliveries and replays do.
		shuffled := slices.Clone(evs)
		for i, n := range rapid.SliceOfN(rapid.IntRange(0, len(evs)-1), 0, 6).Draw(t, "copies") {
			e := evs[n]
			e.Position.Offset = int64(100 + i)
			e.ReceivedAt = e.ReceivedAt.Add(time.Duration(i-3) * time.Hour)
			shuffled = append(shuffled, e)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got, gotStones := Fold(shuffled, shanghai)
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("order or copies changed the row (-got, +want):\n%s", diff)
		}
		if !sameDays(gotStones, wantStones) {
			t.Fatalf("tombstones %v, want %v", gotStones, wantStones)
		}
	})
}

func sameDays(a, b []Tombstone) bool {
	order := func(x, y Tombstone) int { return x.Day.Compare(y.Day) }
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}

// Whatever prefix of the events a writer saw, the rows and tombstones that it
// wrote are outdone by those of a writer who saw all: exactly one row remains.
func TestFoldOfMoreEventsOutdoesFewer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		evs := history(t)
		type cell struct {
			version uint64
			row     *Row
		}
		table := map[time.Time]cell{} // by day, as ReplacingMergeTree(version, is_deleted) keeps it
		put := func(day time.Time, c cell) {
			if old, ok := table[day]; !ok || c.version >= old.version {
				table[day] = c
			}
		}
		subsets := rapid.SliceOfN(rapid.SliceOfN(rapid.Bool(), len(evs), len(evs)), 0, 5).Draw(t, "writers")
		all := make([]bool, len(evs))
		for i := range all {
			all[i] = true
		}
		subsets = append(subsets, all)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		rng.Shuffle(len(subsets), func(i, j int) { subsets[i], subsets[j] = subsets[j], subsets[i] })
		for _, in := range subsets {
			var seen []Event
			for i, e := range evs {
				if in[i] {
					seen = append(seen, e)
				}
			}
			if len(seen) == 0 {
				continue
			}
			r, stones := Fold(seen, shanghai)
			put(r.Day, cell{r.Version, &r})
			for _, s := range stones {
				put(s.Day, cell{version: s.Version})
			}
		}
		want, _ := Fold(evs, shanghai)
		var live []Row
		for _, c := range table {
			if c.row != nil {
				live = append(live, *c.row)
			}
		}
		if diff := cmp.Diff(live, []Row{want}); diff != "" {
			t.Fatalf("live rows (-got, +want):\n%s", diff)
		}
	})
}

func BenchmarkFold(b *testing.B) {
	evs := build(b, submitted("2026-03-01T10:00:00Z"), polled("2026-03-01T10:45:00Z", PollSending), finished("2026-03-01T10:50:00Z", "send success", 9, 8, 8, 0))
	b.ReportAllocs()
	for b.Loop() {
		Fold(evs, shanghai)
	}
}
