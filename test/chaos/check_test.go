package chaos

import (
	"strings"
	"testing"

	"qunfa/internal/clickhouse"
	"qunfa/internal/wechat/wechattest"
)

func num(n int64) *int64 { return &n }

// taken is a message whose callback came.
func taken(id int64) wechattest.Entry {
	return wechattest.Entry{
		Receipt: wechattest.Receipt{AppID: "wx1", MsgID: id}, Plan: wechattest.Success(), Taken: true,
		Counts: wechattest.Counts{Total: 100, Filter: 90, Sent: 85, Error: 5},
		Expectation: wechattest.Expectation{
			Outcome: "sent", DecidedBy: "callback", Total: num(100), Eligible: num(90), Filtered: num(10), Sent: num(85), Errors: num(5),
		},
	}
}

// polled is a message of which WeChat says no more than that it was sent.
func polled(id int64) wechattest.Entry {
	return wechattest.Entry{
		Receipt: wechattest.Receipt{AppID: "wx1", MsgID: id}, Plan: wechattest.Success().Never(),
		Counts:      wechattest.Counts{Total: 100, Filter: 90, Sent: 85, Error: 5},
		Expectation: wechattest.Expectation{Outcome: "sent", DecidedBy: "poll"},
	}
}

// stored is a row as the database returns it.
func stored(id int64, change ...func([]any)) row {
	columns := []any{"wx1", id, "sent", "callback", nil, int64(100), int64(90), int64(10), int64(85), int64(5), uint64(1), true}
	for _, c := range change {
		c(columns)
	}
	return readRow(columns)
}

func byPoll(c []any) {
	c[3], c[10] = "poll", uint64(0)
	for i := 5; i < 10; i++ {
		c[i] = nil
	}
}

func set(i int, v any) func([]any) { return func(c []any) { c[i] = v } }

func TestCompare(t *testing.T) {
	uncertain := polled(1)
	uncertain.Uncertain = true
	unseen := polled(1)
	unseen.Outcome, unseen.DecidedBy = wechattest.OutcomeUnseen, ""
	all := map[string]bool{"wx1/1": true}
	for name, c := range map[string]struct {
		entry    wechattest.Entry
		rows     []row
		accepted map[string]bool
		lost     string
		doubled  string
		differs  string
		pending  string
	}{
		"equal":                        {entry: taken(1), rows: []row{stored(1)}, accepted: all},
		"equal, by poll":               {entry: polled(1), rows: []row{stored(1, byPoll)}, accepted: all},
		"callback lost":                {entry: taken(1), lost: "answered with success and is not there"},
		"callback lost, found by poll": {entry: taken(1), rows: []row{stored(1, byPoll)}, accepted: all, lost: "answered with success and is not there"},
		"record lost":                  {entry: polled(1), accepted: all, lost: "its record was accepted"},
		"record lost, callback there":  {entry: taken(1), rows: []row{stored(1, set(11, false))}, accepted: all, lost: "its record was accepted"},
		"neither there":                {entry: polled(1), differs: "is not there"},
		"row twice":                    {entry: taken(1), rows: []row{stored(1), stored(1)}, doubled: "stands there twice"},
		"callback twice":               {entry: taken(1), rows: []row{stored(1, set(10, uint64(2)))}, doubled: "2 different callbacks"},
		"another total":                {entry: taken(1), rows: []row{stored(1, set(5, int64(101)))}, differs: "total 101"},
		"unknown instead of 0":         {entry: taken(1), rows: []row{stored(1, set(9, nil))}, differs: "errors <nil>"},
		"another outcome":              {entry: polled(1), rows: []row{stored(1, byPoll, set(2, "missing"))}, differs: "missing by poll"},
		"another code":                 {entry: taken(1), rows: []row{stored(1, set(4, int64(20001)))}, differs: "err 20001"},
		"pending":                      {entry: polled(1), rows: []row{stored(1, byPoll, set(2, "pending"))}, differs: "pending by", pending: "wx1/1"},
		"never sent":                   {entry: taken(1), rows: []row{stored(1), stored(2)}, differs: "wx1/2 is there, but was never sent"},
		"uncertain, not taken":         {entry: uncertain, rows: []row{stored(1, byPoll)}},
		"uncertain, taken":             {entry: uncertain, rows: []row{stored(1)}},
		"uncertain, taken wrongly":     {entry: uncertain, rows: []row{stored(1, set(8, int64(84)))}, differs: "sent 84"},
		"unseen":                       {entry: unseen},
		"seen though nobody can":       {entry: unseen, rows: []row{stored(1)}, differs: "wx1/1"},
	} {
		f := compare(c.rows, truth{[]wechattest.Entry{c.entry}, c.accepted})
		for what, pair := range map[string][2]string{
			"lost": {strings.Join(f.lost, "\n"), c.lost}, "doubled": {strings.Join(f.doubled, "\n"), c.doubled},
			"different": {strings.Join(f.different, "\n"), c.differs}, "pending": {strings.Join(f.pending, "\n"), c.pending},
		} {
			if got, want := pair[0], pair[1]; (got == "") != (want == "") || !strings.Contains(got, want) {
				t.Errorf("%s: %s %q, want %q", name, what, got, want)
			}
		}
	}
}

func TestOtherChecksCanFail(t *testing.T) {
	empty := checkCoverage("u", nil, nil)
	whole := clickhouse.Coverage{Topic: "t", Last: 9, Records: 10}
	gap, late, foreign := whole, whole, whole
	gap.Records, late.First, foreign.Topic = 9, 1, "u"
	ends := map[int32]int64{0: 10}
	calm := map[string]usage{"sink": {50, 20}}
	for name, c := range map[string]struct {
		check check
		wrong string
	}{
		"events":               {checkEvents(5, 5, nil), ""},
		"events doubled":       {checkEvents(6, 5, nil), "6 events have 5 ids"},
		"events repeated":      {checkEvents(5, 5, []string{"wx1/1"}), "wx1/1"},
		"coverage":             {checkCoverage("t", []clickhouse.Coverage{whole}, ends), ""},
		"coverage, gap":        {checkCoverage("t", []clickhouse.Coverage{gap}, ends), "9 records from 0 to 9"},
		"coverage, start":      {checkCoverage("t", []clickhouse.Coverage{late}, ends), "from 1 to 9"},
		"coverage, other log":  {checkCoverage("t", []clickhouse.Coverage{foreign}, ends), "u, partition 0"},
		"coverage, end":        {checkCoverage("t", []clickhouse.Coverage{whole}, map[int32]int64{0: 11}), "known up to 10, the log ends at 11"},
		"coverage, partition":  {checkCoverage("t", []clickhouse.Coverage{whole}, map[int32]int64{0: 10, 1: 1}), "partition 1: known up to 0"},
		"coverage, empty":      {checkCoverage("t", []clickhouse.Coverage{whole}, map[int32]int64{0: 10, 1: 0}), ""},
		"coverage of nothing":  {empty, ""},
		"lag":                  {checkLag(map[int32]int64{0: 10}, ends), ""},
		"lag, behind":          {checkLag(map[int32]int64{0: 9}, ends), "committed 9 of 10"},
		"lag, never committed": {checkLag(nil, ends), "committed 0 of 10"},
		"empty":                {checkEmpty("x", map[string]float64{"a": 0}), ""},
		"not empty":            {checkEmpty("x", map[string]float64{"a": 0, "b": 2}), "b: 2"},
		"empty of nothing":     {checkEmpty("x", nil), "nothing to look at"},
		"leaks":                {checkLeaks(calm, map[string]usage{"sink": {80, 50}}), ""},
		"leaks, goroutines":    {checkLeaks(calm, map[string]usage{"sink": {81, 20}}), "81 goroutines, 50 in calm"},
		"leaks, files":         {checkLeaks(calm, map[string]usage{"sink": {50, 51}}), "51 open files, 20 in calm"},
		"leaks, unknown":       {checkLeaks(calm, map[string]usage{"ingest": {1, 1}}), "calm level is not known"},
		"leaks of nothing":     {checkLeaks(calm, nil), "nothing to look at"},
	} {
		got := strings.Join(c.check.wrong, "\n")
		if (c.wrong == "") != (got == "") || !strings.Contains(got, c.wrong) {
			t.Errorf("%s: %q, want %q", name, got, c.wrong)
		}
	}
}

func TestWhatIsPastIsNotWaitedFor(t *testing.T) {
	if n := unsettled([]check{{name: "a"}, {name: "b", wrong: []string{"x", "y"}}, {name: "c", wrong: []string{"z"}, past: true}}); n != 2 {
		t.Errorf("%d things may come right, want 2", n)
	}
	if got := strings.Join(shorten([]string{"1", "2", "3"}, 2), " "); got != "1 2 and 1 more" {
		t.Errorf("shortened to %s", got)
	}
}
