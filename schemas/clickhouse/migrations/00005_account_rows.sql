-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS account_rows
(
    appid       String                    COMMENT 'The account.',
    original_id String                    COMMENT 'Its original id, gh_…, by which the callback body names it.',
    name        String                    COMMENT 'What people call it.',
    updated_at  DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC') COMMENT 'The latest row of an account wins.'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY appid
COMMENT 'The accounts of the configuration, also those that are no longer in it. Read the view accounts instead.';
