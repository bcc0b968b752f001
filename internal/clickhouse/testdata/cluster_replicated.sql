CREATE DATABASE IF NOT EXISTS `qunfa` ON CLUSTER `main`;

CREATE TABLE IF NOT EXISTS `qunfa`.schema_migrations_local ON CLUSTER `main`
(
    version_id Int64,
    is_applied UInt8,
    date       Date DEFAULT now(),
    tstamp     DateTime DEFAULT now()
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/qunfa/schema_migrations', '{replica}')
ORDER BY version_id
COMMENT 'Which migrations were applied.';

CREATE TABLE IF NOT EXISTS `qunfa`.schema_migrations ON CLUSTER `main` AS `qunfa`.schema_migrations_local
ENGINE = Distributed('main', 'qunfa', 'schema_migrations_local', 0)
COMMENT 'Which migrations were applied.';

CREATE TABLE IF NOT EXISTS `qunfa`.event_rows_local ON CLUSTER `main`
(
    appid       String                            COMMENT 'The account.',
    msg_id      Int64                             COMMENT 'The message; counted by WeChat per account.',
    event_id    FixedString(16)                   COMMENT 'Hash of what happened; the same occurrence always has the same id.',
    type        LowCardinality(String)            COMMENT 'CloudEvents type, e.g. qunfa.mass.finished.v1.',
    source      LowCardinality(String)            COMMENT 'CloudEvents source: the service that observed it.',
    at          DateTime64(3, 'UTC') COMMENT 'When it happened, by the clock of whoever it happened to.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'Time of the Kafka record: when we learned of it.' CODEC(Delta, ZSTD(1)),
    data        String COMMENT 'The event as JSON, without raw.' CODEC(ZSTD(1)),
    raw         String COMMENT 'The callback as WeChat sent it, decrypted; empty for other events. May hold one openid.' CODEC(ZSTD(3)),
    topic       LowCardinality(String)            COMMENT 'Kafka topic of the record.',
    partition   Int32                             COMMENT 'Kafka partition of the record.',
    offset      Int64 COMMENT 'Kafka offset of the record.' CODEC(Delta, ZSTD(1)),
    ver         UInt64 MATERIALIZED bitNot(toUInt64(offset)) COMMENT 'Makes the first record of an event win.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/event_rows', '{replica}', ver)
ORDER BY (appid, msg_id, event_id)
SETTINGS index_granularity = 256, min_compress_block_size = 4096
COMMENT 'Every event of every message, once. Read the view events instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.event_rows ON CLUSTER `main` AS `qunfa`.event_rows_local
ENGINE = Distributed('main', 'qunfa', 'event_rows_local', cityHash64(appid))
COMMENT 'Every event of every message, once. Read the view events instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.record_rows_local ON CLUSTER `main`
(
    topic     LowCardinality(String)          COMMENT 'Kafka topic.',
    partition Int32                           COMMENT 'Kafka partition.',
    offset    Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    kind      LowCardinality(String)          COMMENT 'What became of the record: event, dead, foreign or trimmed.',
    event_id  FixedString(16)                 COMMENT 'The event, for kind event; zero bytes otherwise.',
    reason    String COMMENT 'Why it is no event, in words.' CODEC(ZSTD(1)),
    at        DateTime64(3, 'UTC') COMMENT 'Time of the Kafka record.' CODEC(Delta, ZSTD(1)),
    ver       UInt8 MATERIALIZED kind != 'trimmed' COMMENT 'Makes a handled record win over a trimmed one.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/record_rows', '{replica}', ver)
ORDER BY (topic, partition, offset)
COMMENT 'What became of every offset of the log; completeness is proved here.';

CREATE TABLE IF NOT EXISTS `qunfa`.record_rows ON CLUSTER `main` AS `qunfa`.record_rows_local
ENGINE = Distributed('main', 'qunfa', 'record_rows_local', cityHash64(topic, `partition`))
COMMENT 'What became of every offset of the log; completeness is proved here.';

CREATE TABLE IF NOT EXISTS `qunfa`.message_rows_local ON CLUSTER `main`
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/message_rows', '{replica}', version, is_deleted)
PARTITION BY toYYYYMM(day)
ORDER BY (appid, day, msg_id)
SETTINGS min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'One folded row per message. Read the view messages instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.message_rows ON CLUSTER `main` AS `qunfa`.message_rows_local
ENGINE = Distributed('main', 'qunfa', 'message_rows_local', cityHash64(appid))
COMMENT 'One folded row per message. Read the view messages instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.error_code_rows_local ON CLUSTER `main`
(
    code       Int64                      COMMENT 'num of err(num).',
    reason_zh  String                     COMMENT 'The reason in Chinese.',
    reason_en  String                     COMMENT 'The reason in English.',
    category   LowCardinality(String)     COMMENT 'review, originality, admin or unknown.',
    documented Bool                       COMMENT 'Whether WeChat documents the code.',
    updated_at DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC') COMMENT 'The latest row of a code wins.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/error_code_rows', '{replica}', updated_at)
ORDER BY code
COMMENT 'What the codes of err(num) mean. Filled by migrate. Read the view error_codes instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.error_code_rows ON CLUSTER `main` AS `qunfa`.error_code_rows_local
ENGINE = Distributed('main', 'qunfa', 'error_code_rows_local', 0)
COMMENT 'What the codes of err(num) mean. Filled by migrate. Read the view error_codes instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.account_rows_local ON CLUSTER `main`
(
    appid       String                    COMMENT 'The account.',
    original_id String                    COMMENT 'Its original id, gh_…, by which the callback body names it.',
    name        String                    COMMENT 'What people call it.',
    updated_at  DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC') COMMENT 'The latest row of an account wins.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/account_rows', '{replica}', updated_at)
ORDER BY appid
COMMENT 'The accounts of the configuration, also those that are no longer in it. Read the view accounts instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.account_rows ON CLUSTER `main` AS `qunfa`.account_rows_local
ENGINE = Distributed('main', 'qunfa', 'account_rows_local', 0)
COMMENT 'The accounts of the configuration, also those that are no longer in it. Read the view accounts instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.setting_rows_local ON CLUSTER `main`
(
    name   LowCardinality(String)        COMMENT 'Which setting.',
    value  String                        COMMENT 'Its value.',
    set_at DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC') COMMENT 'When it was set.'
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/qunfa/setting_rows', '{replica}')
ORDER BY (name, set_at)
COMMENT 'What was decided once for this database: time_zone.';

CREATE TABLE IF NOT EXISTS `qunfa`.setting_rows ON CLUSTER `main` AS `qunfa`.setting_rows_local
ENGINE = Distributed('main', 'qunfa', 'setting_rows_local', 0)
COMMENT 'What was decided once for this database: time_zone.';

ALTER TABLE `qunfa`.record_rows_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS from_offset Int64
    DEFAULT if(kind = 'trimmed', least(ifNull(toInt64OrNull(extract(reason, '^offsets (\\d+) to ')), offset), offset), offset)
    COMMENT 'First offset that the row stands for: offset itself, but for kind trimmed.'
    AFTER offset;

ALTER TABLE `qunfa`.record_rows ON CLUSTER `main` ADD COLUMN IF NOT EXISTS from_offset Int64
    DEFAULT if(kind = 'trimmed', least(ifNull(toInt64OrNull(extract(reason, '^offsets (\\d+) to ')), offset), offset), offset)
    COMMENT 'First offset that the row stands for: offset itself, but for kind trimmed.'
    AFTER offset;

ALTER TABLE `qunfa`.event_rows_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS revision UInt32 DEFAULT 0
    COMMENT 'How often raw was read anew; 0: data is as it was when the event came.';

ALTER TABLE `qunfa`.event_rows ON CLUSTER `main` ADD COLUMN IF NOT EXISTS revision UInt32 DEFAULT 0
    COMMENT 'How often raw was read anew; 0: data is as it was when the event came.';

ALTER TABLE `qunfa`.event_rows_local ON CLUSTER `main` MODIFY COLUMN ver UInt64 MATERIALIZED bitNot(toUInt64(offset) + 1);

ALTER TABLE `qunfa`.event_rows ON CLUSTER `main` MODIFY COLUMN ver UInt64 MATERIALIZED bitNot(toUInt64(offset) + 1);

ALTER TABLE `qunfa`.message_rows_local ON CLUSTER `main` COMMENT COLUMN version
    'Number of distinct events folded into this row, in the low 32 bits; above them, how often they were read anew.';

ALTER TABLE `qunfa`.message_rows ON CLUSTER `main` COMMENT COLUMN version
    'Number of distinct events folded into this row, in the low 32 bits; above them, how often they were read anew.';

CREATE TABLE IF NOT EXISTS `qunfa`.rebuild_rows_local ON CLUSTER `main`
(
    id         String                          COMMENT 'The rebuild.',
    seq        UInt64                          COMMENT 'Counts the rows of a rebuild; the last one is how it stands.',
    phase      LowCardinality(String)          COMMENT 'building, swapping, swapped, or ended without a swap.',
    who        String                          COMMENT 'Host and process.',
    started_at DateTime64(3, 'UTC')            COMMENT 'When it began.',
    seen_at    DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it last said that it lives.',
    since      String                          COMMENT 'For phase swapping: as JSON, up to where the log is in the new table for certain.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/rebuild_rows', '{replica}', seq)
ORDER BY id
COMMENT 'Rebuilds of message_rows, one row each.';

CREATE TABLE IF NOT EXISTS `qunfa`.rebuild_rows ON CLUSTER `main` AS `qunfa`.rebuild_rows_local
ENGINE = Distributed('main', 'qunfa', 'rebuild_rows_local', 0)
COMMENT 'Rebuilds of message_rows, one row each.';

ALTER TABLE `qunfa`.event_rows_local ON CLUSTER `main` MODIFY COLUMN ver UInt64 MATERIALIZED bitNot(toUInt64(offset) + 1);

ALTER TABLE `qunfa`.event_rows ON CLUSTER `main` MODIFY COLUMN ver UInt64 MATERIALIZED bitNot(toUInt64(offset) + 1);

ALTER TABLE `qunfa`.message_rows_local ON CLUSTER `main` COMMENT COLUMN version
    'Number of distinct events folded into this row, in the low 32 bits; above them, how often they were read anew.';

ALTER TABLE `qunfa`.message_rows ON CLUSTER `main` COMMENT COLUMN version
    'Number of distinct events folded into this row, in the low 32 bits; above them, how often they were read anew.';

CREATE TABLE IF NOT EXISTS `qunfa`.client_rows_local ON CLUSTER `main`
(
    client  String COMMENT 'The database user.',
    appid   String COMMENT 'An account that it may see.',
    removed Bool   COMMENT 'Whether it may not any more.',
    version UInt64 COMMENT 'Counts the changes of the pair; the last one holds.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/client_rows', '{replica}', version)
ORDER BY (client, appid)
COMMENT 'Which accounts the clients of clickhouse.clients see. Read the view client_accounts instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.client_rows ON CLUSTER `main` AS `qunfa`.client_rows_local
ENGINE = Distributed('main', 'qunfa', 'client_rows_local', 0)
COMMENT 'Which accounts the clients of clickhouse.clients see. Read the view client_accounts instead.';

CREATE TABLE IF NOT EXISTS `qunfa`.erasure_rows_local ON CLUSTER `main`
(
    appid  String                 COMMENT 'The account.',
    scope  LowCardinality(String) COMMENT 'all: its events; raw: the openids in them, raw and from_user.',
    before DateTime64(3, 'UTC')   COMMENT 'What happened, or came, before is erased. The latest time holds.',
    who    String                 COMMENT 'Who erased: host and process.',
    at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this was noted.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/qunfa/erasure_rows', '{replica}', before)
ORDER BY (appid, scope)
COMMENT 'The erasure list: accounts whose data were erased, and up to when.';

CREATE TABLE IF NOT EXISTS `qunfa`.erasure_rows ON CLUSTER `main` AS `qunfa`.erasure_rows_local
ENGINE = Distributed('main', 'qunfa', 'erasure_rows_local', 0)
COMMENT 'The erasure list: accounts whose data were erased, and up to when.';

ALTER TABLE `qunfa`.record_rows_local ON CLUSTER `main` MODIFY COLUMN ver UInt8
    MATERIALIZED multiIf(kind = 'trimmed', 0, kind IN ('erased', 'expired'), 2, 1)
    COMMENT 'Makes a handled record win over a trimmed one, and one that was taken out over both.';

ALTER TABLE `qunfa`.record_rows ON CLUSTER `main` MODIFY COLUMN ver UInt8
    MATERIALIZED multiIf(kind = 'trimmed', 0, kind IN ('erased', 'expired'), 2, 1)
    COMMENT 'Makes a handled record win over a trimmed one, and one that was taken out over both.';

ALTER TABLE `qunfa`.event_rows_local ON CLUSTER `main` MODIFY SETTING min_free_disk_bytes_to_perform_insert = 134217728;

ALTER TABLE `qunfa`.record_rows_local ON CLUSTER `main` MODIFY SETTING min_free_disk_bytes_to_perform_insert = 134217728;

ALTER TABLE `qunfa`.message_rows_local ON CLUSTER `main` MODIFY SETTING min_free_disk_bytes_to_perform_insert = 134217728;

-- The accounts that are configured or of which anything is known.
CREATE OR REPLACE VIEW `qunfa`.accounts ON CLUSTER `main`
(
    appid                String                 COMMENT 'The account.',
    account              String                 COMMENT 'Its name; its appid if the configuration does not name it.',
    original_id          String                 COMMENT 'Its original id, gh_…; empty if not configured.',
    configured           Bool                   COMMENT 'Whether the configuration has, or once had, the account.',
    messages             Int64                  COMMENT 'Messages known, by their recorded send or by their callback.',
    recorded             Int64                  COMMENT 'Of these, those whose send was recorded.',
    callbacks            Int64                  COMMENT 'Of these, those whose callback has come.',
    callbacks_unrecorded Int64                  COMMENT 'Callbacks of sends that nobody recorded: made in the console of WeChat, or by software that does not tell us.',
    unrecorded_share     Nullable(Float64)      COMMENT 'callbacks_unrecorded / callbacks, 0 to 1; NULL if no callback has come.',
    missing_callbacks    Nullable(Int64)        COMMENT 'Recorded messages whose callback has not come, as in the view missing_callbacks. NULL if no send was recorded: then nobody can know.',
    recording            LowCardinality(String) COMMENT 'Which sends are recorded, judged by the callbacks: all, some or none.',
    note                 String                 COMMENT 'What that means for missing_callbacks.',
    note_zh              String                 COMMENT 'The same in Chinese.',
    last_submitted_at    Nullable(DateTime('Asia/Shanghai')) COMMENT 'Latest recorded send.',
    last_callback_at     Nullable(DateTime('Asia/Shanghai')) COMMENT 'When the latest callback reached us.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT
    if(s.appid = '', a.appid, s.appid) AS appid,
    if(a.name = '', appid, a.name) AS account,
    a.original_id AS original_id,
    (a.appid != '')::Bool AS configured,
    s.messages AS messages,
    s.recorded AS recorded,
    s.callbacks AS callbacks,
    s.callbacks_unrecorded AS callbacks_unrecorded,
    s.unrecorded_share AS unrecorded_share,
    s.missing_callbacks AS missing_callbacks,
    if(s.messages = 0, 'none', s.recording) AS recording,
    transform(s.recording, ['none', 'some', 'all'], [
        'No send was recorded: callbacks that never came cannot be seen.',
        'Some sends were not recorded: of these, callbacks that never came cannot be seen.',
        'Every callback belongs to a recorded send.'], 'No message is known.') AS note,
    transform(s.recording, ['none', 'some', 'all'], [
        '没有登记任何群发，未到达的回调无法发现。',
        '部分群发没有登记，这部分未到达的回调无法发现。',
        '收到的回调都对应已登记的群发。'], '没有任何消息。') AS note_zh,
    s.last_submitted_at AS last_submitted_at,
    s.last_callback_at AS last_callback_at
FROM
(
    SELECT
        m.appid AS appid,
        count() AS messages,
        countIf(m.submissions > 0) AS recorded,
        countIf(m.finals > 0) AS callbacks,
        countIf(m.finals > 0 AND m.submissions = 0) AS callbacks_unrecorded,
        if(callbacks = 0, NULL, callbacks_unrecorded / callbacks) AS unrecorded_share,
        countIf(m.submissions > 0 AND m.finals = 0 AND (m.outcome != 'pending' OR m.submitted_at < now64(3, 'UTC') - INTERVAL 45 MINUTE)) AS overdue,
        if(recorded = 0, NULL, overdue) AS missing_callbacks,
        multiIf(recorded = 0, 'none', callbacks_unrecorded = 0, 'all', 'some') AS recording,
        max(m.submitted_at) AS last_submitted_at,
        max(m.received_at) AS last_callback_at
    FROM `qunfa`.message_rows AS m FINAL
    GROUP BY appid
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
GLOBAL FULL JOIN (SELECT appid, name, original_id FROM `qunfa`.account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'One row per account, with how far its sends are recorded. Missing callbacks cannot be seen for sends that nobody recorded. Figures are of all time; recording_daily has them by day.';

-- One row per article of a message: its link, and what the originality check said.
CREATE OR REPLACE VIEW `qunfa`.articles ON CLUSTER `main`
(
    day                   Date                   COMMENT 'Date of the message; see messages. Filter by it: it is fast.',
    appid                 String                 COMMENT 'The account.',
    account               String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id                Int64                  COMMENT 'The message, with appid.',
    label                 String                 COMMENT 'What a person calls the message.',
    campaign              String                 COMMENT 'What a person calls one send of several messages.',
    outcome               LowCardinality(String) COMMENT 'What became of the message.',
    article_idx           Int64                  COMMENT 'Position of the article in the message, from 1.',
    url                   String                 COMMENT 'Where it can be read; empty if WeChat did not say.',
    deleted               Bool                   COMMENT 'Whether this article, or the whole message, was deleted through the API.',
    checked               Bool                   COMMENT 'Whether the originality check reported on it; what follows is NULL or empty otherwise.',
    audit                 LowCardinality(String) COMMENT 'Result of the originality check: passed, not passed, checking or not checked; empty if not reported.',
    audit_state           Nullable(Int64)        COMMENT 'The same as WeChat wrote it: 0 not checked, 1 checking, 11 passed, others not passed.',
    user_declare_state    Nullable(Int64)        COMMENT 'What the sender declared: 0 nothing, 1 original, 2 reprint.',
    original_article_url  String                 COMMENT 'The similar article that is taken for the original.',
    original_article_type Nullable(Int64)        COMMENT 'What that is: 1 original, 2 earlier but not original, 3 news, 4 blacklisted.',
    can_reprint           Nullable(Int64)        COMMENT '1: reprinting is allowed.',
    need_replace_content  Nullable(Int64)        COMMENT '1: WeChat must replace the content by that of the original.',
    need_show_reprint_source Nullable(Int64)     COMMENT '1: the source must be shown.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT
    m.day AS day,
    m.appid AS appid,
    if(a.name = '', m.appid, a.name) AS account,
    m.msg_id AS msg_id,
    m.label AS label,
    m.campaign AS campaign,
    m.outcome AS outcome,
    idx AS article_idx,
    link AS url,
    hasAny(m.deleted_articles, [0, idx])::Bool AS deleted,
    was_checked AS checked,
    multiIf(state IS NULL, '', state = 11, 'passed', state = 1, 'checking', state = 0, 'not checked', 'not passed') AS audit,
    state AS audit_state,
    declared AS user_declare_state,
    original AS original_article_url,
    original_type AS original_article_type,
    reprint AS can_reprint,
    replace AS need_replace_content,
    source AS need_show_reprint_source
FROM `qunfa`.message_rows AS m FINAL
ARRAY JOIN
    m.`articles.idx` AS idx,
    m.`articles.url` AS link,
    m.`articles.checked` AS was_checked,
    m.`articles.user_declare_state` AS declared,
    m.`articles.audit_state` AS state,
    m.`articles.original_article_url` AS original,
    m.`articles.original_article_type` AS original_type,
    m.`articles.can_reprint` AS reprint,
    m.`articles.need_replace_content` AS replace,
    m.`articles.need_show_reprint_source` AS source
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = m.appid
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row per article that a callback named: its link, and what the originality check said about it.';

-- The messages that review, the originality check or the administrator rejected.
CREATE OR REPLACE VIEW `qunfa`.audit_failures ON CLUSTER `main`
(
    day          Date                   COMMENT 'Date of the message; see messages. Filter by it: it is fast.',
    appid        String                 COMMENT 'The account.',
    account      String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id       Int64                  COMMENT 'The message, with appid.',
    label        String                 COMMENT 'What a person calls the message.',
    campaign     String                 COMMENT 'What a person calls one send of several messages.',
    err_code     Int64                  COMMENT 'num of the status err(num).',
    category     LowCardinality(String) COMMENT 'Who rejected it: review, originality, admin, or unknown for a code that is not documented.',
    reason_zh    String                 COMMENT 'Why, in Chinese.',
    reason_en    String                 COMMENT 'Why, in English.',
    documented   Bool                   COMMENT 'Whether WeChat documents the code. The list is open: others happen.',
    status       LowCardinality(String) COMMENT 'The status as WeChat wrote it.',
    submitted_at Nullable(DateTime('Asia/Shanghai')) COMMENT 'When WeChat had accepted the send, as recorded.',
    finished_at  DateTime('Asia/Shanghai') COMMENT 'CreateTime of the callback.',
    received_at  DateTime('Asia/Shanghai') COMMENT 'When the callback reached us.',
    audience     LowCardinality(String) COMMENT 'To whom: all, tag or openids; empty if not recorded.',
    audience_size Nullable(Int64)       COMMENT 'People addressed, as the sender recorded it. WeChat reports zeros with err(num).',
    check_state  Nullable(Int64)        COMMENT 'Verdict of the originality check; see messages, and articles for each article.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT
    m.day AS day,
    m.appid AS appid,
    if(a.name = '', m.appid, a.name) AS account,
    m.msg_id AS msg_id,
    m.label AS label,
    m.campaign AS campaign,
    assumeNotNull(m.err_code) AS err_code,
    if(e.category = '', 'unknown', e.category) AS category,
    if(e.reason_zh = '', '未公开的错误码（官方文档没有说明）', e.reason_zh) AS reason_zh,
    if(e.reason_en = '', 'undocumented code', e.reason_en) AS reason_en,
    e.documented AS documented,
    m.status AS status,
    m.submitted_at AS submitted_at,
    assumeNotNull(m.finished_at) AS finished_at,
    assumeNotNull(m.received_at) AS received_at,
    m.audience_kind AS audience,
    m.audience_size AS audience_size,
    m.check_state AS check_state
FROM `qunfa`.message_rows AS m FINAL
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = m.appid
GLOBAL LEFT ANY JOIN (SELECT code, reason_zh, reason_en, category, documented FROM `qunfa`.error_code_rows FINAL) AS e ON e.code = m.err_code
WHERE m.outcome = 'rejected' AND m.err_code IS NOT NULL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row per rejected message, with the reason in Chinese and English.';

-- What became of a send that took several messages, such as a list of more than 10,000 openids.
CREATE OR REPLACE VIEW `qunfa`.campaigns ON CLUSTER `main`
(
    appid               String            COMMENT 'The account.',
    account             String            COMMENT 'Name of the account; its appid if the configuration does not name it.',
    campaign            String            COMMENT 'What a person calls the send, as recorded.',
    day                 Date              COMMENT 'Date of the first message.',
    last_day            Date              COMMENT 'Date of the last message.',
    messages            Int64             COMMENT 'Messages of the campaign.',
    messages_sent       Int64             COMMENT 'Of these, with outcome sent.',
    messages_failed     Int64             COMMENT 'With outcome failed.',
    messages_rejected   Int64             COMMENT 'With outcome rejected.',
    messages_pending    Int64             COMMENT 'Of which nobody knows yet.',
    messages_missing    Int64             COMMENT 'Of which nobody could find out.',
    messages_other      Int64             COMMENT 'With outcome deleted or unknown.',
    audience_size       Nullable(Int64)   COMMENT 'People addressed, as the sender recorded it, summed where known.',
    total               Nullable(Int64)   COMMENT 'People addressed, summed over the messages where WeChat said it.',
    eligible            Nullable(Int64)   COMMENT 'People left after filtering, summed in the same way.',
    filtered            Nullable(Int64)   COMMENT 'People filtered out, summed in the same way.',
    sent                Nullable(Int64)   COMMENT 'People reached, summed in the same way.',
    errors              Nullable(Int64)   COMMENT 'Eligible people not reached, summed in the same way.',
    messages_without_sent Int64           COMMENT 'Messages whose sent and errors are unknown and not in the sums.',
    first_submitted_at  Nullable(DateTime('Asia/Shanghai')) COMMENT 'First submission.',
    last_submitted_at   Nullable(DateTime('Asia/Shanghai')) COMMENT 'Last submission.',
    last_finished_at    Nullable(DateTime('Asia/Shanghai')) COMMENT 'Last callback, by its CreateTime.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT s.*, if(a.name = '', s.appid, a.name) AS account
FROM
(
    SELECT
        m.appid AS appid,
        m.campaign AS campaign,
        min(m.day) AS day,
        max(m.day) AS last_day,
        count() AS messages,
        countIf(outcome = 'sent') AS messages_sent,
        countIf(outcome = 'failed') AS messages_failed,
        countIf(outcome = 'rejected') AS messages_rejected,
        countIf(outcome = 'pending') AS messages_pending,
        countIf(outcome = 'missing') AS messages_missing,
        countIf(outcome IN ('deleted', 'unknown')) AS messages_other,
        sum(m.audience_size) AS audience_size,
        sum(m.total) AS total,
        sum(m.eligible) AS eligible,
        sum(m.filtered) AS filtered,
        sum(m.sent) AS sent,
        sum(m.errors) AS errors,
        countIf(m.sent IS NULL) AS messages_without_sent,
        min(m.submitted_at) AS first_submitted_at,
        max(m.submitted_at) AS last_submitted_at,
        max(m.finished_at) AS last_finished_at
    FROM `qunfa`.message_rows AS m FINAL
    WHERE m.campaign != ''
    GROUP BY appid, campaign
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'Per account and campaign: its messages by outcome and the people they reached. Sums hold only what is known.';

-- Which accounts a limited user sees. The row policies of such users read it.
CREATE OR REPLACE VIEW `qunfa`.client_accounts ON CLUSTER `main`
(
    client String COMMENT 'The database user, as clickhouse.clients names it.',
    appid  String COMMENT 'An account that it sees.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT client, appid
FROM `qunfa`.client_rows FINAL
WHERE NOT removed
COMMENT 'The accounts of each client: a database user who sees these accounts and no others. A client sees its own rows here, too.';

-- How many people the messages of an account reached, by day.
CREATE OR REPLACE VIEW `qunfa`.delivery_daily ON CLUSTER `main`
(
    day                 Date              COMMENT 'Date of the messages in the time zone of the database. Filter by it: it is fast.',
    appid               String            COMMENT 'The account.',
    account             String            COMMENT 'Name of the account; its appid if the configuration does not name it.',
    messages            Int64             COMMENT 'Messages, whatever became of them.',
    messages_sent       Int64             COMMENT 'Messages with outcome sent.',
    messages_failed     Int64             COMMENT 'Messages with outcome failed.',
    messages_rejected   Int64             COMMENT 'Messages with outcome rejected: review, originality check, administrator.',
    messages_pending    Int64             COMMENT 'Messages of which nobody knows yet.',
    messages_missing    Int64             COMMENT 'Messages of which nobody could find out.',
    messages_deleted    Int64             COMMENT 'Messages of which only the deletion is known.',
    messages_unknown    Int64             COMMENT 'Messages with a final status that we do not know.',
    total               Nullable(Int64)   COMMENT 'People addressed, summed over the messages where it is known; NULL if it is known of none.',
    eligible            Nullable(Int64)   COMMENT 'People left after filtering, summed in the same way.',
    filtered            Nullable(Int64)   COMMENT 'People filtered out, summed in the same way.',
    sent                Nullable(Int64)   COMMENT 'People reached, summed in the same way.',
    errors              Nullable(Int64)   COMMENT 'Eligible people not reached, summed in the same way.',
    messages_without_total Int64          COMMENT 'Messages whose total is unknown and not in the sum. A rejected message has no total.',
    messages_without_sent  Int64          COMMENT 'Messages whose sent and errors are unknown and not in the sums: no callback yet, or found by polling, which tells no counts.',
    sent_ratio          Nullable(Float64) COMMENT 'sent / total, 0 to 1, over the messages where both are known.',
    median_delivery_seconds Nullable(Float64) COMMENT 'Median of the seconds from submission to callback, where both are known.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT s.*, if(a.name = '', s.appid, a.name) AS account
FROM
(
    SELECT
        m.day AS day,
        appid,
        count() AS messages,
        countIf(outcome = 'sent') AS messages_sent,
        countIf(outcome = 'failed') AS messages_failed,
        countIf(outcome = 'rejected') AS messages_rejected,
        countIf(outcome = 'pending') AS messages_pending,
        countIf(outcome = 'missing') AS messages_missing,
        countIf(outcome = 'deleted') AS messages_deleted,
        countIf(outcome = 'unknown') AS messages_unknown,
        sum(m.total) AS total,
        sum(m.eligible) AS eligible,
        sum(m.filtered) AS filtered,
        sum(m.sent) AS sent,
        sum(m.errors) AS errors,
        countIf(m.total IS NULL) AS messages_without_total,
        countIf(m.sent IS NULL) AS messages_without_sent,
        sumIf(m.sent, m.total IS NOT NULL) / nullIf(sumIf(m.total, m.sent IS NOT NULL), 0) AS sent_ratio,
        medianIf((toUnixTimestamp64Milli(m.finished_at) - toUnixTimestamp64Milli(m.submitted_at)) / 1000, m.finished_at >= m.submitted_at) AS median_delivery_seconds
    FROM `qunfa`.message_rows AS m FINAL
    GROUP BY ALL
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'Per day and account: messages by outcome and the people they reached. Sums hold only what is known; messages_without_… say what is not.';

-- The same as delivery_daily, by hour.
CREATE OR REPLACE VIEW `qunfa`.delivery_hourly ON CLUSTER `main`
(
    day                 Date              COMMENT 'Date of the messages in the time zone of the database. Filter by it: it is fast.',
    hour                DateTime('Asia/Shanghai') COMMENT 'Start of the hour of the messages: of their submission, else of their callback, else of their last poll.',
    appid               String            COMMENT 'The account.',
    account             String            COMMENT 'Name of the account; its appid if the configuration does not name it.',
    messages            Int64             COMMENT 'Messages, whatever became of them.',
    messages_sent       Int64             COMMENT 'Messages with outcome sent.',
    messages_failed     Int64             COMMENT 'Messages with outcome failed.',
    messages_rejected   Int64             COMMENT 'Messages with outcome rejected: review, originality check, administrator.',
    messages_pending    Int64             COMMENT 'Messages of which nobody knows yet.',
    messages_missing    Int64             COMMENT 'Messages of which nobody could find out.',
    messages_deleted    Int64             COMMENT 'Messages of which only the deletion is known.',
    messages_unknown    Int64             COMMENT 'Messages with a final status that we do not know.',
    total               Nullable(Int64)   COMMENT 'People addressed, summed over the messages where it is known; NULL if it is known of none.',
    eligible            Nullable(Int64)   COMMENT 'People left after filtering, summed in the same way.',
    filtered            Nullable(Int64)   COMMENT 'People filtered out, summed in the same way.',
    sent                Nullable(Int64)   COMMENT 'People reached, summed in the same way.',
    errors              Nullable(Int64)   COMMENT 'Eligible people not reached, summed in the same way.',
    messages_without_total Int64          COMMENT 'Messages whose total is unknown and not in the sum. A rejected message has no total.',
    messages_without_sent  Int64          COMMENT 'Messages whose sent and errors are unknown and not in the sums: no callback yet, or found by polling, which tells no counts.',
    sent_ratio          Nullable(Float64) COMMENT 'sent / total, 0 to 1, over the messages where both are known.',
    median_delivery_seconds Nullable(Float64) COMMENT 'Median of the seconds from submission to callback, where both are known.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT s.*, if(a.name = '', s.appid, a.name) AS account
FROM
(
    SELECT
        m.day AS day,
        toStartOfHour(toDateTime(coalesce(m.submitted_at, m.finished_at, m.last_poll_at, m.deleted_at, m.abandoned_at, toDateTime64(m.day, 3)), 'Asia/Shanghai')) AS hour,
        appid,
        count() AS messages,
        countIf(outcome = 'sent') AS messages_sent,
        countIf(outcome = 'failed') AS messages_failed,
        countIf(outcome = 'rejected') AS messages_rejected,
        countIf(outcome = 'pending') AS messages_pending,
        countIf(outcome = 'missing') AS messages_missing,
        countIf(outcome = 'deleted') AS messages_deleted,
        countIf(outcome = 'unknown') AS messages_unknown,
        sum(m.total) AS total,
        sum(m.eligible) AS eligible,
        sum(m.filtered) AS filtered,
        sum(m.sent) AS sent,
        sum(m.errors) AS errors,
        countIf(m.total IS NULL) AS messages_without_total,
        countIf(m.sent IS NULL) AS messages_without_sent,
        sumIf(m.sent, m.total IS NOT NULL) / nullIf(sumIf(m.total, m.sent IS NOT NULL), 0) AS sent_ratio,
        medianIf((toUnixTimestamp64Milli(m.finished_at) - toUnixTimestamp64Milli(m.submitted_at)) / 1000, m.finished_at >= m.submitted_at) AS median_delivery_seconds
    FROM `qunfa`.message_rows AS m FINAL
    GROUP BY ALL
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'Per hour and account: messages by outcome and the people they reached. Sums hold only what is known; messages_without_… say what is not.';

-- What the codes of err(num) mean.
CREATE OR REPLACE VIEW `qunfa`.error_codes ON CLUSTER `main`
(
    code       Int64                  COMMENT 'num of the status err(num). Not an API errcode: err(40001) is the administrator''s refusal.',
    category   LowCardinality(String) COMMENT 'Who rejects with it: review, originality, admin, or unknown.',
    reason_zh  String                 COMMENT 'The reason in Chinese.',
    reason_en  String                 COMMENT 'The reason in English.',
    documented Bool                   COMMENT 'Whether WeChat documents the code.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT code, category, reason_zh, reason_en, documented
FROM `qunfa`.error_code_rows FINAL
ORDER BY code
COMMENT 'The codes of err(num) that are known. WeChat''s list is open: audit_failures shows any other code, with category unknown.';

-- The log of everything that happened, each event once.
CREATE OR REPLACE VIEW `qunfa`.events ON CLUSTER `main`
(
    appid       String                           COMMENT 'The account. Filter by appid and msg_id: it is fast.',
    account     String                           COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id      Int64                            COMMENT 'The message, with appid.',
    at          DateTime64(3, 'Asia/Shanghai')   COMMENT 'When it happened: CreateTime of a callback, time of the send or of the poll.',
    received_at DateTime64(3, 'Asia/Shanghai')   COMMENT 'When we learned of it: the time of the Kafka record.',
    type        LowCardinality(String)           COMMENT 'qunfa.mass.submitted.v1 (a send), .finished.v1 (the callback), .polled.v1 (an answer of mass/get), .deleted.v1 or .abandoned.v1 (polling ended without an answer).',
    data        String                           COMMENT 'What happened, as JSON; see schemas/events. JSONExtractString(data, ''status'') reads a member.',
    raw         String                           COMMENT 'The callback as WeChat sent it, decrypted; empty for other events. It may hold one openid.',
    event_id    String                           COMMENT 'Identity of the event, 32 hexadecimal digits: the same occurrence always has the same.',
    source      LowCardinality(String)           COMMENT 'Which service observed it.',
    topic       LowCardinality(String)           COMMENT 'Where it stands in Kafka: the topic,',
    partition   Int32                            COMMENT 'the partition',
    offset      Int64                            COMMENT 'and the offset of its first copy.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT
    e.appid AS appid,
    if(a.name = '', e.appid, a.name) AS account,
    e.msg_id AS msg_id,
    toTimeZone(e.at, 'Asia/Shanghai') AS at,
    toTimeZone(e.received_at, 'Asia/Shanghai') AS received_at,
    e.type AS type,
    e.data AS data,
    e.raw AS raw,
    lower(hex(e.event_id)) AS event_id,
    e.source AS source,
    e.topic AS topic,
    e.partition AS partition,
    e.offset AS offset
FROM `qunfa`.event_rows AS e FINAL
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = e.appid
COMMENT 'Everything that happened to the messages, as JSON, each event once. Order by at for the history of a message.';

-- One row per message, whatever is known of it. NULL is unknown, which is not zero.
CREATE OR REPLACE VIEW `qunfa`.messages ON CLUSTER `main`
(
    day              Date                      COMMENT 'Date of the message in the time zone of the database: of its first submission, else of its first callback, else of its first poll. Filter by it: it is fast.',
    appid            String                    COMMENT 'The account.',
    account          String                    COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id           Int64                     COMMENT 'Number of the message. WeChat counts per account: only appid and msg_id together identify a message.',
    label            String                    COMMENT 'What a person calls this message, as recorded; empty if not recorded.',
    campaign         String                    COMMENT 'What a person calls one send of several messages, as recorded; empty if not recorded.',
    audience         LowCardinality(String)    COMMENT 'To whom: all, tag or openids (a list); empty if not recorded.',
    tag_id           Nullable(Int64)           COMMENT 'Which tag, for audience tag.',
    audience_size    Nullable(Int64)           COMMENT 'People addressed, as the sender recorded it; total is what WeChat says.',
    msg_type         LowCardinality(String)    COMMENT 'mpnews, text, voice, images, mpvideo or wxcard; empty if not recorded.',
    outcome          LowCardinality(String)    COMMENT 'What became of it: pending (nobody knows yet), sent, failed, rejected (by review, the originality check or the administrator: see err_code), unknown (a final status that we do not know), deleted (all that is known), missing (nobody could find out).',
    decided_by       LowCardinality(String)    COMMENT 'What the outcome rests on: callback, poll, abandoned (polling ended without an answer), deleted, or empty while pending.',
    status           LowCardinality(String)    COMMENT 'Status as WeChat wrote it, in the callback or the poll that decided.',
    err_code         Nullable(Int64)           COMMENT 'num of the status err(num); NULL unless rejected. Not an API errcode.',
    err_category     LowCardinality(String)    COMMENT 'Who rejected it: review, originality, admin, or unknown for a code that is not documented; empty unless rejected.',
    err_reason_zh    String                    COMMENT 'Why it was rejected, in Chinese; empty unless rejected.',
    err_reason_en    String                    COMMENT 'Why it was rejected, in English; empty unless rejected.',
    total            Nullable(Int64)           COMMENT 'People addressed (TotalCount). NULL: unknown, as after err(num), where WeChat reports zeros, or when only a poll is known.',
    eligible         Nullable(Int64)           COMMENT 'People left after filtering (FilterCount is what remains, not what was removed).',
    filtered         Nullable(Int64)           COMMENT 'total - eligible: people who were not sent to (region or sex, refused messages, had four this month).',
    sent             Nullable(Int64)           COMMENT 'Eligible people reached (SentCount).',
    errors           Nullable(Int64)           COMMENT 'Eligible people not reached (ErrorCount).',
    submitted_at     Nullable(DateTime('Asia/Shanghai')) COMMENT 'When WeChat accepted the send, as recorded; NULL if nobody recorded it.',
    finished_at      Nullable(DateTime('Asia/Shanghai')) COMMENT 'CreateTime of the callback that decided.',
    received_at      Nullable(DateTime('Asia/Shanghai')) COMMENT 'When that callback reached us.',
    delivery_seconds Nullable(Float64)         COMMENT 'Seconds from submitted_at to finished_at; NULL if either is unknown, or if the recorded time of the send lies after the callback.',
    callback_received Bool                     COMMENT 'Whether the callback has come.',
    recorded         Bool                      COMMENT 'Whether the send was recorded. A send that was not is known by its callback alone.',
    callbacks        Int64                     COMMENT 'Distinct callbacks; the latest decides. Redeliveries of one do not count.',
    polls            Int64                     COMMENT 'How often WeChat was asked (mass/get).',
    last_poll_at     Nullable(DateTime('Asia/Shanghai')) COMMENT 'When WeChat was asked last.',
    last_poll_status LowCardinality(String)    COMMENT 'What it answered: SEND_SUCCESS, SENDING, SEND_FAIL or DELETE; empty after an error. SEND_FAIL may hide a rejection.',
    last_poll_error  Nullable(Int64)           COMMENT 'errcode of the API, if asking failed; 0 if WeChat could not be asked at all.',
    chased           Bool                      COMMENT 'Whether WeChat is asked when the callback stays away. Imported history is not.',
    abandoned_at     Nullable(DateTime('Asia/Shanghai')) COMMENT 'When we stopped asking without having an answer.',
    abandoned_reason LowCardinality(String)    COMMENT 'Why: no_answer, never_polled, no_credentials or not_chased (imported history).',
    abandoned_detail String                    COMMENT 'The same in words.',
    deleted_at       Nullable(DateTime('Asia/Shanghai')) COMMENT 'When the message, or the first of its articles, was deleted.',
    deleted_articles Array(Int64)              COMMENT 'Numbers of the deleted articles, from 1; 0 is the whole message.',
    check_state      Nullable(Int64)           COMMENT 'Verdict of the originality check: 1 no reprint, 2 a reprint that may be sent, 3 a reprint that may not; 0 is common and not documented.',
    articles         Array(Tuple(article_idx Int64, url String)) COMMENT 'The articles with their links; more about each in the view articles.',
    msg_data_id      Nullable(Int64)           COMMENT 'Links to the article statistics of WeChat (datacube); only the answer to the send has it.',
    clientmsgid      String                    COMMENT 'Idempotency key of the send, as recorded.',
    recorder         LowCardinality(String)    COMMENT 'Who recorded the send.',
    events           Int64                     COMMENT 'Distinct events known of the message; see the view events.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT
    m.day AS day,
    m.appid AS appid,
    if(a.name = '', m.appid, a.name) AS account,
    m.msg_id AS msg_id,
    m.label AS label,
    m.campaign AS campaign,
    m.audience_kind AS audience,
    m.tag_id AS tag_id,
    m.audience_size AS audience_size,
    m.msg_type AS msg_type,
    m.outcome AS outcome,
    m.decided_by AS decided_by,
    m.status AS status,
    m.err_code AS err_code,
    multiIf(m.err_code IS NULL, '', e.category = '', 'unknown', e.category) AS err_category,
    multiIf(m.err_code IS NULL, '', e.reason_zh = '', '未公开的错误码（官方文档没有说明）', e.reason_zh) AS err_reason_zh,
    multiIf(m.err_code IS NULL, '', e.reason_en = '', 'undocumented code', e.reason_en) AS err_reason_en,
    m.total AS total,
    m.eligible AS eligible,
    m.filtered AS filtered,
    m.sent AS sent,
    m.errors AS errors,
    m.submitted_at AS submitted_at,
    m.finished_at AS finished_at,
    m.received_at AS received_at,
    if(m.finished_at >= m.submitted_at, (toUnixTimestamp64Milli(m.finished_at) - toUnixTimestamp64Milli(m.submitted_at)) / 1000, NULL) AS delivery_seconds,
    (m.finals > 0)::Bool AS callback_received,
    (m.submissions > 0)::Bool AS recorded,
    m.finals AS callbacks,
    m.polls AS polls,
    m.last_poll_at AS last_poll_at,
    m.last_poll_status AS last_poll_status,
    m.last_poll_error AS last_poll_error,
    m.chase AS chased,
    m.abandoned_at AS abandoned_at,
    m.abandoned_reason AS abandoned_reason,
    m.abandoned_detail AS abandoned_detail,
    m.deleted_at AS deleted_at,
    m.deleted_articles AS deleted_articles,
    m.check_state AS check_state,
    arrayZip(m.`articles.idx`, m.`articles.url`) AS articles,
    m.msg_data_id AS msg_data_id,
    m.clientmsgid AS clientmsgid,
    m.recorder AS recorder,
    bitAnd(m.version, 0xFFFFFFFF) AS events
FROM `qunfa`.message_rows AS m FINAL
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = m.appid
GLOBAL LEFT ANY JOIN (SELECT code, reason_zh, reason_en, category FROM `qunfa`.error_code_rows FINAL) AS e ON e.code = m.err_code
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row per mass message: what was sent, what became of it, and how many people it reached. NULL is unknown, which is not zero.';

-- The recorded messages whose callback has not come. WeChat may hold a message for 30 minutes until the administrator
-- confirms it, so a callback counts as overdue only after 45.
CREATE OR REPLACE VIEW `qunfa`.missing_callbacks ON CLUSTER `main`
(
    day              Date                   COMMENT 'Date of the message; see messages. Filter by it: it is fast.',
    appid            String                 COMMENT 'The account.',
    account          String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id           Int64                  COMMENT 'The message, with appid.',
    label            String                 COMMENT 'What a person calls the message.',
    campaign         String                 COMMENT 'What a person calls one send of several messages.',
    state            LowCardinality(String) COMMENT 'pending (more than 45 minutes after submission, nobody knows yet), found by poll (the outcome is known, the counts are not), deleted, missing (nobody could find out), or not chased (imported history: nobody asked).',
    outcome          LowCardinality(String) COMMENT 'What became of the message, as far as is known.',
    submitted_at     DateTime('Asia/Shanghai') COMMENT 'When WeChat accepted the send, as recorded.',
    age_seconds      Int64                  COMMENT 'Seconds since then.',
    audience         LowCardinality(String) COMMENT 'To whom: all, tag or openids; empty if not recorded.',
    audience_size    Nullable(Int64)        COMMENT 'People addressed, as the sender recorded it.',
    polls            Int64                  COMMENT 'How often WeChat was asked.',
    last_poll_at     Nullable(DateTime('Asia/Shanghai')) COMMENT 'When WeChat was asked last.',
    last_poll_status LowCardinality(String) COMMENT 'What it answered; empty after an error. SEND_FAIL may hide a rejection.',
    last_poll_error  Nullable(Int64)        COMMENT 'errcode of the API, if asking failed; 0 if WeChat could not be asked at all.',
    abandoned_reason LowCardinality(String) COMMENT 'Why nobody asks any more: no_answer, never_polled, no_credentials or not_chased.',
    abandoned_detail String                 COMMENT 'The same in words.',
    account_unrecorded_share Nullable(Float64) COMMENT 'Of all callbacks of the account, the share whose send nobody recorded, 0 to 1; NULL if no callback has come.',
    account_note     String                 COMMENT 'What that means: of sends that nobody recorded, callbacks that never came cannot be seen.',
    account_note_zh  String                 COMMENT 'The same in Chinese.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT
    m.day AS day,
    m.appid AS appid,
    if(a.name = '', m.appid, a.name) AS account,
    m.msg_id AS msg_id,
    m.label AS label,
    m.campaign AS campaign,
    multiIf(NOT m.chase AND m.polls = 0, 'not chased', m.outcome IN ('pending', 'missing', 'deleted'), m.outcome, 'found by poll') AS state,
    m.outcome AS outcome,
    assumeNotNull(m.submitted_at) AS submitted_at,
    dateDiff('second', assumeNotNull(m.submitted_at), now64(3, 'UTC')) AS age_seconds,
    m.audience_kind AS audience,
    m.audience_size AS audience_size,
    m.polls AS polls,
    m.last_poll_at AS last_poll_at,
    m.last_poll_status AS last_poll_status,
    m.last_poll_error AS last_poll_error,
    m.abandoned_reason AS abandoned_reason,
    m.abandoned_detail AS abandoned_detail,
    r.unrecorded_share AS account_unrecorded_share,
    r.note AS account_note,
    r.note_zh AS account_note_zh
FROM `qunfa`.message_rows AS m FINAL
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = m.appid
GLOBAL LEFT ANY JOIN (SELECT appid, unrecorded_share, note, note_zh FROM `qunfa`.accounts) AS r ON r.appid = m.appid
WHERE m.submissions > 0 AND m.finals = 0 AND (m.outcome != 'pending' OR m.submitted_at < now64(3, 'UTC') - INTERVAL 45 MINUTE)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Recorded messages whose callback has not come, 45 minutes or more after submission. A send that nobody recorded cannot be missed: see recording_daily and accounts for the accounts of which that is so. An empty answer does not mean that nothing is missing.';

-- Whether the sends of an account are recorded at all: only of these can a missing callback be seen.
CREATE OR REPLACE VIEW `qunfa`.recording_daily ON CLUSTER `main`
(
    day                  Date                   COMMENT 'Date of the messages; see messages. Filter by it: it is fast.',
    appid                String                 COMMENT 'The account.',
    account              String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    messages             Int64                  COMMENT 'Messages known, by their recorded send or by their callback.',
    recorded             Int64                  COMMENT 'Of these, those whose send was recorded.',
    callbacks            Int64                  COMMENT 'Of these, those whose callback has come.',
    callbacks_unrecorded Int64                  COMMENT 'Callbacks of sends that nobody recorded: made in the console of WeChat, or by software that does not tell us.',
    unrecorded_share     Nullable(Float64)      COMMENT 'callbacks_unrecorded / callbacks, 0 to 1; NULL if no callback has come.',
    missing_callbacks    Nullable(Int64)        COMMENT 'Recorded messages whose callback has not come, as in the view missing_callbacks. NULL if no send was recorded: then nobody can know.',
    recording            LowCardinality(String) COMMENT 'Which sends are recorded, judged by the callbacks: all, some or none.',
    note                 String                 COMMENT 'What that means for missing_callbacks.',
    note_zh              String                 COMMENT 'The same in Chinese.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT
    s.* EXCEPT overdue,
    if(a.name = '', s.appid, a.name) AS account,
    transform(s.recording, ['none', 'some', 'all'], [
        'No send was recorded: callbacks that never came cannot be seen.',
        'Some sends were not recorded: of these, callbacks that never came cannot be seen.',
        'Every callback belongs to a recorded send.'], 'No message is known.') AS note,
    transform(s.recording, ['none', 'some', 'all'], [
        '没有登记任何群发，未到达的回调无法发现。',
        '部分群发没有登记，这部分未到达的回调无法发现。',
        '收到的回调都对应已登记的群发。'], '没有任何消息。') AS note_zh
FROM
(
    SELECT
        m.day AS day,
        m.appid AS appid,
        count() AS messages,
        countIf(m.submissions > 0) AS recorded,
        countIf(m.finals > 0) AS callbacks,
        countIf(m.finals > 0 AND m.submissions = 0) AS callbacks_unrecorded,
        if(callbacks = 0, NULL, callbacks_unrecorded / callbacks) AS unrecorded_share,
        countIf(m.submissions > 0 AND m.finals = 0 AND (m.outcome != 'pending' OR m.submitted_at < now64(3, 'UTC') - INTERVAL 45 MINUTE)) AS overdue,
        if(recorded = 0, NULL, overdue) AS missing_callbacks,
        multiIf(recorded = 0, 'none', callbacks_unrecorded = 0, 'all', 'some') AS recording
    FROM `qunfa`.message_rows AS m FINAL
    GROUP BY day, appid
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
GLOBAL LEFT ANY JOIN (SELECT appid, name FROM `qunfa`.account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'Per day and account: how many callbacks belong to recorded sends, and how many recorded sends lack their callback. Missing callbacks cannot be seen for sends that nobody recorded.';

-- What was decided once for this database.
CREATE OR REPLACE VIEW `qunfa`.settings ON CLUSTER `main`
(
    name  LowCardinality(String) COMMENT 'time_zone: whose calendar days messages fall on, and in which the views show times.',
    value String                 COMMENT 'Its value.'
)
DEFINER = `owner` SQL SECURITY DEFINER AS
SELECT name, argMin(value, (set_at, value)) AS value
FROM `qunfa`.setting_rows
WHERE name NOT IN ('expired_before', 'raw_expired_before')
GROUP BY name
COMMENT 'What was decided once for this database.';
