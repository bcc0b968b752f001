-- +goose NO TRANSACTION
-- +goose Up
-- A setting is written once: the first row wins, and everybody who reads after writing sees which that is.
CREATE TABLE IF NOT EXISTS setting_rows
(
    name   LowCardinality(String)        COMMENT 'Which setting.',
    value  String                        COMMENT 'Its value.',
    set_at DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC') COMMENT 'When it was set.'
)
ENGINE = MergeTree
ORDER BY (name, set_at)
COMMENT 'What was decided once for this database: time_zone.';
