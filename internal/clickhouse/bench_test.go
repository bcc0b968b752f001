package clickhouse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/segmentio/kafka-go/compress"

	"qunfa/internal/clickhouse"
	"qunfa/internal/embedded/embeddedtest"
	"qunfa/internal/events"
	"qunfa/test/cpu"
)

// store is a database for benchmarks, with a connection for what [clickhouse.DB] never does.
type store struct {
	*clickhouse.DB
	conn   driver.Conn
	loc    *time.Location
	ctx    context.Context
	offset int64
}

func newStore(b *testing.B) *store {
	b.Helper()
	server := embeddedtest.ClickHouse(b)
	cfg := clickhouse.Config{Addr: []string{server.Addr}, Username: server.Username, Password: server.Password,
		Database: server.Database(b), TimeZone: "Asia/Shanghai"}
	db, err := clickhouse.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	opts := server.Options(cfg.Database)
	opts.ReadTimeout = 10 * time.Minute
	conn, err := chgo.Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	s := &store{DB: db, conn: conn, ctx: b.Context()}
	if err := db.Migrate(s.ctx, nil); err != nil {
		b.Fatal(err)
	}
	if s.loc, err = db.Location(s.ctx); err != nil {
		b.Fatal(err)
	}
	return s
}

func (s *store) exec(b *testing.B, sql string) {
	b.Helper()
	if err := s.conn.Exec(s.ctx, sql); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
}

// synthetic is the two records of message i of 1,000 accounts: a recorded send of two articles, and a
// callback in safe mode like those that were seen in the wild.
func synthetic(b *testing.B, i int) (records [2]events.Record) {
	b.Helper()
	appid, id := fmt.Sprintf("wx%016x", 0x9e3779b97f4a7c15*uint64(i%1000+1)), int64(3147483648+i/1000)
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(i) * 26 * time.Second)
	draw := rand.New(rand.NewPCG(uint64(i), 1)) // the same message each time
	total := draw.Int64N(500_000)
	eligible, sent := total-total/50, total-total/40
	failed, zero, size, data := eligible-sent, int64(0), total, 2247483648+draw.Int64N(1_000_000_000)
	links := []events.Link{{Index: 1, URL: "http://mp.weixin.qq.com/s/" + letters(draw, 22)}, {Index: 2, URL: "http://mp.weixin.qq.com/s/" + letters(draw, 22)}}
	openid := "ov7hP6" + letters(draw, 22)
	raw := fmt.Sprintf("<xml><ToUserName><![CDATA[gh_%012x]]></ToUserName>\n<FromUserName><![CDATA[%s]]></FromUserName>\n<CreateTime>%d</CreateTime>\n"+
		"<MsgType><![CDATA[event]]></MsgType>\n<Event><![CDATA[MASSSENDJOBFINISH]]></Event>\n<MsgID>%d</MsgID>\n<Status><![CDATA[send success]]></Status>\n"+
		"<TotalCount>%d</TotalCount>\n<FilterCount>%d</FilterCount>\n<SentCount>%d</SentCount>\n<ErrorCount>%d</ErrorCount>\n"+
		"<CopyrightCheckResult><Count>0</Count>\n<ResultList></ResultList>\n<CheckState>0</CheckState>\n</CopyrightCheckResult>\n"+
		"<ArticleUrlResult><Count>2</Count>\n<ResultList><item><ArticleIdx>1</ArticleIdx>\n<ArticleUrl><![CDATA[%s]]></ArticleUrl>\n</item>\n"+
		"<item><ArticleIdx>2</ArticleIdx>\n<ArticleUrl><![CDATA[%s]]></ArticleUrl>\n</item>\n</ResultList>\n</ArticleUrlResult>\n</xml>",
		i%1000, openid, at.Unix()+200, id, total, eligible, sent, failed, links[0].URL, links[1].URL)
	for n, d := range []events.Data{
		&events.Submitted{AppID: appid, MsgID: id, SubmittedAt: at, Recorder: "api", Chase: true, MsgDataID: &data, MsgType: "mpnews",
			Audience: events.Audience{Kind: events.AudienceAll, Size: &size}, Label: fmt.Sprintf("日报 %d", i/1000), ClientMsgID: letters(draw, 32)},
		&events.Finished{AppID: appid, MsgID: id, OriginalID: fmt.Sprintf("gh_%012x", i%1000), FromUser: openid, CreateTime: at.Unix() + 200,
			Status: "send success", StatusKind: events.StatusSent, TotalCount: &total, FilterCount: &eligible, SentCount: &sent, ErrorCount: &failed,
			Copyright: &events.Copyright{Count: &zero, CheckState: &zero}, ArticleURLs: links, Mode: "safe", Format: "xml", Raw: raw},
	} {
		e, err := events.New("qunfa/ingest", d)
		if err != nil {
			b.Fatal(err)
		}
		e.ReceivedAt = e.Time.Add(time.Second)
		if records[n], err = events.Encode(e); err != nil {
			b.Fatal(err)
		}
	}
	return records
}

// letters is what ids and links are made of: nothing that compression would find.
func letters(draw *rand.Rand, n int) string {
	const all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	text := make([]byte, n)
	for i := range text {
		text[i] = all[draw.IntN(len(all))]
	}
	return string(text)
}

// recordBytes is what a record is in the log: its parts, a length of one or two bytes for
// each, and what a record has besides.
func recordBytes(r events.Record) []byte {
	all := make([]byte, 10+1, 2048)
	all = append(append(append(all, r.Key...), 0, 0), r.Value...)
	for _, h := range r.Headers {
		all = append(append(append(append(all, 0), h.Key...), 0), h.Value...)
	}
	return all
}

// batch is the events of messages from up to but without to, as they are read from Kafka,
// and their bytes there.
func (s *store) batch(b *testing.B, from, to int) (evs []events.Event, log []byte) {
	b.Helper()
	for i := from; i < to; i++ {
		for _, r := range synthetic(b, i) {
			e, err := events.Decode(events.Message{Record: r, Position: events.Position{Topic: "qunfa.events", Partition: int32(i % 12), Offset: s.offset}})
			must(b, err)
			s.offset++
			evs, log = append(evs, e), append(log, recordBytes(r)...)
		}
	}
	return evs, log
}

// zstd is what the bytes of a batch take if the topic is compressed.
func zstd(b *testing.B, log []byte) int {
	b.Helper()
	var out bytes.Buffer
	w := compress.Zstd.Codec().NewWriter(&out)
	_, err := w.Write(log)
	must(b, errors.Join(err, w.Close()))
	return out.Len()
}

// write does with a batch what the sink does.
func (s *store) write(b *testing.B, evs []events.Event, readBack bool) {
	b.Helper()
	var fates []events.Fate
	byKey := map[events.Key][]events.Event{}
	for _, e := range evs {
		fates = append(fates, events.Fate{Position: e.Position, EventID: e.ID, Kind: events.FateEvent, At: e.ReceivedAt})
		byKey[e.Key] = append(byKey[e.Key], e)
	}
	must(b, s.InsertEvents(s.ctx, evs))
	if readBack {
		history, err := s.History(s.ctx, keysOf(evs))
		must(b, err)
		clear(byKey)
		for _, e := range history {
			byKey[e.Key] = append(byKey[e.Key], e)
		}
	}
	var rows []events.Row
	var stones []events.Tombstone
	for _, list := range byKey {
		row, more := events.Fold(list, s.loc)
		rows, stones = append(rows, row), append(stones, more...)
	}
	must(b, s.InsertMessages(s.ctx, rows, stones))
	must(b, s.InsertRecords(s.ctx, fates))
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStorage stores b.N messages of two events each, and tells the bytes that they
// take in Kafka, as they are and compressed, and in ClickHouse's tables, after all merges.
// docs/scaling.md has the figures of -benchtime 500000x.
func BenchmarkStorage(b *testing.B) {
	s := newStore(b)
	const most = 5000
	kafka, compressed, sampled := 0, 0, 0
	b.ResetTimer()
	end := cpu.Start(b, "event")
	for from := 0; from < b.N; from += most {
		evs, log := s.batch(b, from, min(from+most, b.N))
		kafka += len(log)
		few, sample := s.batch(b, from, min(from+10, b.N)) // as many as one request has in the evening
		compressed, sampled = compressed+zstd(b, sample), sampled+len(few)
		s.write(b, evs, false)
	}
	end(2 * b.N)
	b.StopTimer()
	b.ReportMetric(float64(kafka)/float64(2*b.N), "kafka-B/event")
	b.ReportMetric(float64(compressed)/float64(sampled), "kafka-zstd-B/event")
	for _, table := range []struct {
		name, unit string
		rows       int
	}{{"event_rows", "event_rows-B/event", 2 * b.N}, {"record_rows", "record_rows-B/event", 2 * b.N}, {"message_rows", "message_rows-B/message", b.N}} {
		s.exec(b, "OPTIMIZE TABLE "+table.name+" FINAL")
		var size uint64
		row := s.conn.QueryRow(s.ctx, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() AND table = $1", table.name)
		must(b, row.Scan(&size))
		b.ReportMetric(float64(size)/float64(table.rows), table.unit)
	}
}

// BenchmarkBatch writes batches as the sink does, read-back and fold included, beside
// 100,000 messages that are there already.
func BenchmarkBatch(b *testing.B) {
	s := newStore(b)
	next := 0
	for ; next < 100_000; next += 5000 {
		evs, _ := s.batch(b, next, next+5000)
		s.write(b, evs, false)
	}
	for _, size := range []int{2, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) {
			end := cpu.Start(b, "event")
			for b.Loop() {
				evs, _ := s.batch(b, next, next+size/2)
				next += size / 2
				s.write(b, evs, true)
			}
			end(b.N * size)
		})
	}
}

// BenchmarkQueries asks what dashboards, metrics and reconcile ask, over as many messages
// as QUNFA_BENCH_MESSAGES says (100,000), of 1,000 accounts and 400 days, of which one in
// a thousand is pending.
func BenchmarkQueries(b *testing.B) {
	n := 100_000
	if given := os.Getenv("QUNFA_BENCH_MESSAGES"); given != "" {
		var err error
		n, err = strconv.Atoi(given)
		must(b, err)
	}
	s := newStore(b)
	s.fill(b, n)
	today := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	for _, q := range []struct{ name, sql string }{
		{"30-days", "SELECT sum(sent) FROM delivery_daily WHERE day > '2026-10-26'"},
		{"400-days", "SELECT sum(sent) FROM delivery_daily"},
		{"account-400-days", "SELECT count(), sum(sent) FROM messages WHERE appid = 'wx0000000000000123'"},
		{"message", "SELECT * FROM messages WHERE appid = 'wx0000000000000123' AND msg_id = 3147483658"},
		{"latest", "SELECT account, msg_id, outcome FROM messages WHERE day > '2026-11-24' ORDER BY submitted_at DESC LIMIT 50"},
		{"failures-30-days", "SELECT err_code, count() FROM audit_failures WHERE day > '2026-10-26' GROUP BY err_code"},
	} {
		b.Run(q.name, func(b *testing.B) {
			end := cpu.Start(b, "query")
			for b.Loop() {
				_, err := s.Query(s.ctx, q.sql)
				must(b, err)
			}
			end(b.N)
		})
	}
	b.Run("metrics-delivery", func(b *testing.B) {
		var accounts []string
		for i := range 500 {
			accounts = append(accounts, fmt.Sprintf("wx%016x", i))
		}
		end := cpu.Start(b, "query")
		for b.Loop() {
			_, err := s.Delivery(s.ctx, today, accounts)
			must(b, err)
		}
		end(b.N)
	})
	b.Run("pending", func(b *testing.B) {
		end := cpu.Start(b, "query")
		for b.Loop() {
			_, err := s.Pending(s.ctx, today, events.Key{}, 10_000)
			must(b, err)
		}
		end(b.N)
	})
}

// fill makes rows in the database itself, month by month: a client would take too long.
func (s *store) fill(b *testing.B, n int) {
	b.Helper()
	const days = 400
	perDay := max(1, n/days)
	for first := 0; first < days; first += 30 {
		count := min(30, days-first) * perDay
		s.exec(b, fmt.Sprintf(`INSERT INTO message_rows (appid, msg_id, day, version, outcome, status, decided_by, err_code, total, eligible, filtered, sent, errors,
  submitted_at, finished_at, received_at, audience_kind, audience_size, msg_type, label, clientmsgid, recorder, chase, finals, submissions,
  articles.idx, articles.url, articles.checked, articles.user_declare_state, articles.audit_state, articles.original_article_url, articles.original_article_type,
  articles.can_reprint, articles.need_replace_content, articles.need_show_reprint_source,
  first_received_at, first_created_at, first_err_code, first_filtered, first_sent, first_errors)
SELECT 'wx' || leftPad(lower(hex(number %% 1000)), 16, '0') AS a, 3147483648 + intDiv(i, 1000), toDate('2026-11-25') - %[1]d - intDiv(number, %[2]d) AS d, 2,
  multiIf(i %% 1000 = 0, 'pending', i %% 97 = 0, 'rejected', 'sent') AS o, multiIf(o = 'sent', 'send success', o = 'rejected', 'err(20001)', ''), if(o = 'pending', '', 'callback'),
  if(o = 'rejected', 20001, NULL) AS e, if(o = 'sent', cityHash64(i) %% 500000, NULL) AS total, total - intDiv(total, 50) AS el, intDiv(total, 50) AS fi, total - intDiv(total, 40) AS se, el - se AS er,
  toDateTime64(d, 3, 'UTC') + toIntervalSecond(cityHash64(i, 1) %% 86400) AS at, if(o = 'pending', NULL, at + toIntervalSecond(200)) AS f, if(o = 'pending', NULL, at + toIntervalSecond(201)),
  'all', total, 'mpnews', '日报', lower(hex(cityHash64(i, 2))), 'api', true, o != 'pending', 1,
  [1], ['http://mp.weixin.qq.com/s/' || base64URLEncode(reinterpretAsString(sipHash128(i)))], [true], [0], [11], [''], [NULL], [NULL], [NULL], [NULL],
  if(o = 'pending', NULL, at + toIntervalSecond(201)), f, e, fi, se, er
FROM (SELECT number, number + %[3]d AS i FROM numbers(%[4]d))`, first, perDay, first*perDay, count))
	}
	s.exec(b, "OPTIMIZE TABLE message_rows FINAL")
}
