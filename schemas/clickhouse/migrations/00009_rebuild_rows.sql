-- +goose NO TRANSACTION
-- +goose Up
-- Who rebuilds message_rows, so that two do not at once, and whether its tables are being swapped, when figures made of
-- several queries would be of two tables.
CREATE TABLE IF NOT EXISTS rebuild_rows
(
    id         String                          COMMENT 'The rebuild.',
    seq        UInt64                          COMMENT 'Counts the rows of a rebuild; the last one is how it stands.',
    phase      LowCardinality(String)          COMMENT 'building, swapping, swapped, or ended without a swap.',
    who        String                          COMMENT 'Host and process.',
    started_at DateTime64(3, 'UTC')            COMMENT 'When it began.',
    seen_at    DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it last said that it lives.',
    since      String                          COMMENT 'For phase swapping: as JSON, up to where the log is in the new table for certain.'
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY id
COMMENT 'Rebuilds of message_rows, one row each.';
