-- +goose NO TRANSACTION
-- +goose Up
-- Whom the row policies let see an account. The version is counted, not a time: a clock that goes backwards must not give
-- back what was taken away.
CREATE TABLE IF NOT EXISTS client_rows
(
    client  String COMMENT 'The database user.',
    appid   String COMMENT 'An account that it may see.',
    removed Bool   COMMENT 'Whether it may not any more.',
    version UInt64 COMMENT 'Counts the changes of the pair; the last one holds.'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (client, appid)
COMMENT 'Which accounts the clients of clickhouse.clients see. Read the view client_accounts instead.';
