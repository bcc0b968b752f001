-- +goose NO TRANSACTION
-- +goose Up
-- Duplicates collapse in event_rows and dead letters never reach it, so only this table can prove that no offset was
-- passed over. That an offset was handled is never forgotten in favour of "trimmed away before we read it".
CREATE TABLE IF NOT EXISTS record_rows
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
ENGINE = ReplacingMergeTree(ver)
ORDER BY (topic, partition, offset)
COMMENT 'What became of every offset of the log; completeness is proved here.';
