-- +goose NO TRANSACTION
-- +goose Up
-- One folded row per message; version is the number of distinct events in it, so a stale writer never wins. A message
-- whose day moves leaves tombstones (is_deleted) on its other days. The sorting key holds the day, so a message has one
-- live row and lives in one partition, and FINAL need not merge across partitions. Partitions that no longer change are
-- merged into one part, which is what makes reading years of them fast; tombstones stay, or a late stale row would rise again.
CREATE TABLE IF NOT EXISTS message_rows
(
    appid            String                   COMMENT 'The account.',
    msg_id           Int64                    COMMENT 'The message; counted by WeChat per account.',
    day              Date                     COMMENT 'Date of the first submission, else first final event, else first poll, in the time zone of the database.',
    version          UInt64                   COMMENT 'Number of distinct events folded into this row.',
    is_deleted       UInt8                    COMMENT '1: the message has no row on this day any more.',
    outcome          LowCardinality(String)   COMMENT 'pending, sent, failed, rejected, unknown, deleted or missing.',
    status           LowCardinality(String)   COMMENT 'Raw status of the event that decided the outcome.',
    decided_by       LowCardinality(String)   COMMENT 'callback, poll, abandoned, deleted, or empty.',
    err_code         Nullable(Int64)          COMMENT 'num of err(num) of the deciding callback.',
    total            Nullable(Int64)          COMMENT 'People addressed.',
    eligible         Nullable(Int64)          COMMENT 'People left after filtering: FilterCount.',
    filtered         Nullable(Int64)          COMMENT 'total - eligible.',
    sent             Nullable(Int64)          COMMENT 'Eligible people reached.',
    errors           Nullable(Int64)          COMMENT 'Eligible people not reached.',
    submitted_at     Nullable(DateTime64(3, 'UTC')) COMMENT 'First submission.',
    finished_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'CreateTime of the deciding callback.',
    received_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'When the deciding callback reached us.',
    deleted_at       Nullable(DateTime64(3, 'UTC')) COMMENT 'When the message or an article of it was deleted.',
    msg_data_id      Nullable(Int64)          COMMENT 'Links to the article statistics of WeChat.',
    audience_kind    LowCardinality(String)   COMMENT 'all, tag, openids, or empty if unknown.',
    tag_id           Nullable(Int64)          COMMENT 'For audience tag.',
    audience_size    Nullable(Int64)          COMMENT 'People addressed, by the sender.',
    msg_type         LowCardinality(String)   COMMENT 'mpnews, text, voice, images, mpvideo, wxcard.',
    label            String                   COMMENT 'What a person calls this message.',
    campaign         String                   COMMENT 'What a person calls one send of several messages.',
    clientmsgid      String                   COMMENT 'The idempotency key of the send.',
    recorder         LowCardinality(String)   COMMENT 'Who recorded the submission.',
    chase            Bool                     COMMENT 'Some submission wants it polled.',
    finals           UInt32                   COMMENT 'Distinct callbacks.',
    submissions      UInt32                   COMMENT 'Distinct submissions.',
    polls            UInt32                   COMMENT 'Polls of mass/get.',
    last_poll_at     Nullable(DateTime64(3, 'UTC')) COMMENT 'Latest poll.',
    last_poll_status LowCardinality(String)   COMMENT 'Raw status of the latest poll; empty after an error.',
    last_poll_error  Nullable(Int64)          COMMENT 'errcode of the latest poll if it failed.',
    abandoned_at     Nullable(DateTime64(3, 'UTC')) COMMENT 'When polling ended without an answer.',
    abandoned_reason LowCardinality(String)   COMMENT 'no_answer, never_polled, no_credentials, not_chased.',
    abandoned_detail String                   COMMENT 'The same in words.',
    check_state      Nullable(Int64)          COMMENT 'CheckState of the originality check.',
    articles Nested
    (
        idx                      Int64,
        url                      String,
        checked                  Bool,
        user_declare_state       Nullable(Int64),
        audit_state              Nullable(Int64),
        original_article_url     String,
        original_article_type    Nullable(Int64),
        can_reprint              Nullable(Int64),
        need_replace_content     Nullable(Int64),
        need_show_reprint_source Nullable(Int64)
    )                                         COMMENT 'What is known of each article; idx counts from 1.',
    deleted_articles Array(Int64)             COMMENT 'Numbers of deleted articles; 0 is the whole message.',
    first_received_at Nullable(DateTime64(3, 'UTC')) COMMENT 'When the first received callback reached us.',
    first_created_at  Nullable(DateTime64(3, 'UTC')) COMMENT 'CreateTime of the first received callback.',
    first_err_code    Nullable(Int64)         COMMENT 'Of the first received callback.',
    first_filtered    Nullable(Int64)         COMMENT 'Of the first received callback.',
    first_sent        Nullable(Int64)         COMMENT 'Of the first received callback.',
    first_errors      Nullable(Int64)         COMMENT 'Of the first received callback.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(day)
ORDER BY (appid, day, msg_id)
SETTINGS min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'One folded row per message. Read the view messages instead.';
