package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"qunfa/internal/events"
)

// The tables.
const (
	tableEvents     = "event_rows"
	tableRecords    = "record_rows"
	tableMessages   = "message_rows"
	tableErrorCodes = "error_code_rows"
	tableAccounts   = "account_rows"
	tableSettings   = "setting_rows"
	tableRebuilds   = "rebuild_rows"
	tableClients    = "client_rows"
	tableErasures   = "erasure_rows"
	tableMigrations = "schema_migrations"
)

// column is a column of an insert: its name, and a slice with a value per row.
type column struct {
	name   string
	values any
}

// col makes a column out of one thing about each row.
func col[R, T any](name string, rows []R, value func(*R) T) column {
	values := make([]T, len(rows))
	for i := range rows {
		values[i] = value(&rows[i])
	}
	return column{name, values}
}

// insert writes n rows and waits for the server to acknowledge them.
func (db *DB) insert(ctx context.Context, op, table string, n int, columns []column) error {
	if n == 0 {
		return nil
	}
	start := db.cfg.Clock()
	err := db.send(ctx, table, columns)
	if err == nil {
		db.metrics.rows.WithLabelValues(op).Add(float64(n))
	}
	return db.done(op, start, err)
}

func (db *DB) send(ctx context.Context, table string, columns []column) error {
	ctx, sent := whileSending(ctx)
	defer sent()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings()))
	batch, err := db.conn.PrepareBatch(ctx, insertSQL(table, columns))
	if err != nil {
		return err
	}
	defer batch.Close() // gives the connection back whatever happens; after Send it does nothing
	for i, c := range columns {
		if err := batch.Column(i).Append(c.values); err != nil {
			return &rowError{fmt.Errorf("column %s: %w", c.name, err)}
		}
	}
	return batch.Send()
}

// whileSending returns a context that ends with ctx only until sent is called.
// The driver watches the context of a batch for some time beyond its end, and
// closes the connection if it is canceled then: which is at work for somebody
// else by that time.
func whileSending(ctx context.Context) (sending context.Context, sent func()) {
	sending, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return sending, func() { stop() }
}

func insertSQL(table string, columns []column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quoteName(c.name)
	}
	return "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ")"
}

// InsertEvents stores events; copies of stored events collapse. Their Position,
// ReceivedAt and Body must be set, as they are after decoding.
func (db *DB) InsertEvents(ctx context.Context, evs []events.Event) error {
	type ev = events.Event
	return db.insert(ctx, opInsertEvents, tableEvents, len(evs), []column{
		col("appid", evs, func(e *ev) string { return e.Key.AppID }),
		col("msg_id", evs, func(e *ev) int64 { return e.Key.MsgID }),
		col("event_id", evs, func(e *ev) []byte { return e.ID[:] }),
		col("type", evs, func(e *ev) string { return string(e.Type) }),
		col("source", evs, func(e *ev) string { return e.Source }),
		col("at", evs, func(e *ev) time.Time { return storable(e.Time) }),
		col("received_at", evs, func(e *ev) time.Time { return storable(e.ReceivedAt) }),
		col("data", evs, func(e *ev) []byte { return e.Body }),
		col("raw", evs, raw),
		col("topic", evs, func(e *ev) string { return e.Position.Topic }),
		col("partition", evs, func(e *ev) int32 { return e.Position.Partition }),
		col("offset", evs, func(e *ev) int64 { return e.Position.Offset }),
	})
}

// raw returns the callback as WeChat sent it, which the body does not hold.
func raw(e *events.Event) string {
	if f, ok := e.Data.(*events.Finished); ok {
		return f.Raw
	}
	return ""
}

// InsertRecords stores what became of records of the log.
func (db *DB) InsertRecords(ctx context.Context, fates []events.Fate) error {
	return db.insert(ctx, opInsertRecords, tableRecords, len(fates), recordColumns(fates))
}

func recordColumns(fates []events.Fate) []column {
	type fate = events.Fate
	return []column{
		col("topic", fates, func(f *fate) string { return f.Topic }),
		col("partition", fates, func(f *fate) int32 { return f.Partition }),
		col("offset", fates, func(f *fate) int64 { return f.Offset }),
		col("from_offset", fates, func(f *fate) int64 { return f.First() }),
		col("kind", fates, func(f *fate) string { return f.Kind }),
		col("event_id", fates, func(f *fate) []byte { return f.EventID[:] }),
		col("reason", fates, func(f *fate) string { return f.Reason }),
		col("at", fates, func(f *fate) time.Time { return storable(f.At) }),
	}
}

// messageRow is a row of the messages table: a message, or the mark that it has
// left a day.
type messageRow struct {
	events.Row
	deleted uint8
}

// InsertMessages stores folded messages, and the days that they have left. Of
// two rows of one message and day the higher version wins, whichever comes last.
func (db *DB) InsertMessages(ctx context.Context, rows []events.Row, stones []events.Tombstone) error {
	return db.insertMessages(ctx, tableMessages, rows, stones)
}

func (db *DB) insertMessages(ctx context.Context, table string, rows []events.Row, stones []events.Tombstone) error {
	all := make([]messageRow, 0, len(rows)+len(stones))
	for _, r := range rows {
		all = append(all, messageRow{Row: r})
	}
	for _, t := range stones {
		all = append(all, messageRow{Row: events.Row{Key: t.Key, Day: t.Day, Version: t.Version}, deleted: 1})
	}
	columns := messageColumns(all)
	return db.insert(ctx, opInsertMessages, table, len(all), columns)
}

func messageColumns(rows []messageRow) []column {
	columns := identityColumns(rows)
	columns = append(columns, outcomeColumns(rows)...)
	columns = append(columns, submissionColumns(rows)...)
	columns = append(columns, pollColumns(rows)...)
	columns = append(columns, articleColumns(rows)...)
	return append(columns, firstColumns(rows)...)
}

func identityColumns(rows []messageRow) []column {
	type row = messageRow
	return []column{
		col("appid", rows, func(r *row) string { return r.Key.AppID }),
		col("msg_id", rows, func(r *row) int64 { return r.Key.MsgID }),
		col("day", rows, func(r *row) time.Time { return r.Day }),
		col("version", rows, func(r *row) uint64 { return r.Version }),
		col("is_deleted", rows, func(r *row) uint8 { return r.deleted }),
	}
}

func outcomeColumns(rows []messageRow) []column {
	type row = messageRow
	return []column{
		col("outcome", rows, func(r *row) string { return string(r.Outcome) }),
		col("status", rows, func(r *row) string { return r.Status }),
		col("decided_by", rows, func(r *row) string { return r.DecidedBy }),
		col("err_code", rows, func(r *row) *int64 { return r.ErrCode }),
		col("total", rows, func(r *row) *int64 { return r.Total }),
		col("eligible", rows, func(r *row) *int64 { return r.Eligible }),
		col("filtered", rows, func(r *row) *int64 { return r.Filtered }),
		col("sent", rows, func(r *row) *int64 { return r.Sent }),
		col("errors", rows, func(r *row) *int64 { return r.Errors }),
		col("finished_at", rows, func(r *row) *time.Time { return storableP(r.FinishedAt) }),
		col("received_at", rows, func(r *row) *time.Time { return storableP(r.ReceivedAt) }),
		col("deleted_at", rows, func(r *row) *time.Time { return storableP(r.DeletedAt) }),
		col("finals", rows, func(r *row) uint32 { return r.Finals }),
	}
}

func submissionColumns(rows []messageRow) []column {
	type row = messageRow
	return []column{
		col("submitted_at", rows, func(r *row) *time.Time { return storableP(r.SubmittedAt) }),
		col("msg_data_id", rows, func(r *row) *int64 { return r.MsgDataID }),
		col("audience_kind", rows, func(r *row) string { return r.AudienceKind }),
		col("tag_id", rows, func(r *row) *int64 { return r.TagID }),
		col("audience_size", rows, func(r *row) *int64 { return r.AudienceSize }),
		col("msg_type", rows, func(r *row) string { return r.MsgType }),
		col("label", rows, func(r *row) string { return r.Label }),
		col("campaign", rows, func(r *row) string { return r.Campaign }),
		col("clientmsgid", rows, func(r *row) string { return r.ClientMsgID }),
		col("recorder", rows, func(r *row) string { return r.Recorder }),
		col("chase", rows, func(r *row) bool { return r.Chase }),
		col("submissions", rows, func(r *row) uint32 { return r.Submissions }),
	}
}

func pollColumns(rows []messageRow) []column {
	type row = messageRow
	return []column{
		col("polls", rows, func(r *row) uint32 { return r.Polls }),
		col("last_poll_at", rows, func(r *row) *time.Time { return storableP(r.LastPollAt) }),
		col("last_poll_status", rows, func(r *row) string { return r.LastPollStatus }),
		col("last_poll_error", rows, func(r *row) *int64 { return r.LastPollError }),
		col("abandoned_at", rows, func(r *row) *time.Time { return storableP(r.AbandonedAt) }),
		col("abandoned_reason", rows, func(r *row) string { return r.AbandonedReason }),
		col("abandoned_detail", rows, func(r *row) string { return r.AbandonedDetail }),
	}
}

func articleColumns(rows []messageRow) []column {
	type row = messageRow
	type article = events.Article
	check := func(name string, value func(*events.ArticleCheck) *int64) column {
		return col("articles."+name, rows, func(r *row) []*int64 {
			return each(r.Articles, func(a *article) *int64 {
				if a.Check == nil {
					return nil
				}
				return value(a.Check)
			})
		})
	}
	type verdict = events.ArticleCheck
	return []column{
		col("check_state", rows, func(r *row) *int64 { return r.CheckState }),
		col("deleted_articles", rows, func(r *row) []int64 { return r.DeletedArticles }),
		col("articles.idx", rows, func(r *row) []int64 {
			return each(r.Articles, func(a *article) int64 { return a.Index })
		}),
		col("articles.url", rows, func(r *row) []string {
			return each(r.Articles, func(a *article) string { return a.URL })
		}),
		col("articles.checked", rows, func(r *row) []bool {
			return each(r.Articles, func(a *article) bool { return a.Check != nil })
		}),
		col("articles.original_article_url", rows, func(r *row) []string {
			return each(r.Articles, func(a *article) string {
				if a.Check == nil {
					return ""
				}
				return a.Check.OriginalArticleURL
			})
		}),
		check("user_declare_state", func(c *verdict) *int64 { return c.UserDeclareState }),
		check("audit_state", func(c *verdict) *int64 { return c.AuditState }),
		check("original_article_type", func(c *verdict) *int64 { return c.OriginalArticleType }),
		check("can_reprint", func(c *verdict) *int64 { return c.CanReprint }),
		check("need_replace_content", func(c *verdict) *int64 { return c.NeedReplaceContent }),
		check("need_show_reprint_source", func(c *verdict) *int64 { return c.NeedShowReprintSource }),
	}
}

func each[A, T any](list []A, value func(*A) T) []T {
	out := make([]T, len(list))
	for i := range list {
		out[i] = value(&list[i])
	}
	return out
}

func firstColumns(rows []messageRow) []column {
	return []column{
		col("first_received_at", rows, ofFirst(func(f *events.First) *time.Time { return storableP(&f.ReceivedAt) })),
		col("first_created_at", rows, ofFirst(func(f *events.First) *time.Time { return storableP(&f.CreatedAt) })),
		col("first_err_code", rows, ofFirst(func(f *events.First) *int64 { return f.ErrCode })),
		col("first_filtered", rows, ofFirst(func(f *events.First) *int64 { return f.Filtered })),
		col("first_sent", rows, ofFirst(func(f *events.First) *int64 { return f.Sent })),
		col("first_errors", rows, ofFirst(func(f *events.First) *int64 { return f.Errors })),
	}
}

func ofFirst[T any](value func(*events.First) *T) func(*messageRow) *T {
	return func(r *messageRow) *T {
		if r.First == nil {
			return nil
		}
		return value(r.First)
	}
}

// ClickHouse's DateTime, which the views show, covers these; a record's time is
// whatever its producer claimed and must not cost the batch.
var (
	earliest = time.Unix(0, 0).UTC()
	latest   = time.Date(2106, 1, 1, 0, 0, 0, 0, time.UTC)
)

func storable(t time.Time) time.Time {
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t
}

func storableP(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	s := storable(*t)
	return &s
}
