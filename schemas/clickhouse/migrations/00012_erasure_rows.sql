-- +goose NO TRANSACTION
-- +goose Up
-- What must not come back: the topic, a backup or a late copy may still have it.
CREATE TABLE IF NOT EXISTS erasure_rows
(
    appid  String                 COMMENT 'The account.',
    scope  LowCardinality(String) COMMENT 'all: its events; raw: the openids in them, raw and from_user.',
    before DateTime64(3, 'UTC')   COMMENT 'What happened, or came, before is erased. The latest time holds.',
    who    String                 COMMENT 'Who erased: host and process.',
    at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this was noted.'
)
ENGINE = ReplacingMergeTree(before)
ORDER BY (appid, scope)
COMMENT 'The erasure list: accounts whose data were erased, and up to when.';
-- That an event was erased or has expired is never forgotten in favour of what became of its record before.
ALTER TABLE record_rows MODIFY COLUMN ver UInt8
    MATERIALIZED multiIf(kind = 'trimmed', 0, kind IN ('erased', 'expired'), 2, 1)
    COMMENT 'Makes a handled record win over a trimmed one, and one that was taken out over both.';
