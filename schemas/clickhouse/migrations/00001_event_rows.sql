-- +goose NO TRANSACTION
-- +goose Up
-- Two copies of one event (a redelivery, a retry, a replay) have the same appid, msg_id and event_id, whatever else
-- differs, and collapse into the copy with the lowest offset. So no other column may join the sorting key, and there is
-- no partition key. A message's events are read by key, a few at a time: hence the small granules.
CREATE TABLE IF NOT EXISTS event_rows
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
ENGINE = ReplacingMergeTree(ver)
ORDER BY (appid, msg_id, event_id)
SETTINGS index_granularity = 256, min_compress_block_size = 4096
COMMENT 'Every event of every message, once. Read the view events instead.';
