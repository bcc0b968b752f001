-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS error_code_rows
(
    code       Int64                      COMMENT 'num of err(num).',
    reason_zh  String                     COMMENT 'The reason in Chinese.',
    reason_en  String                     COMMENT 'The reason in English.',
    category   LowCardinality(String)     COMMENT 'review, originality, admin or unknown.',
    documented Bool                       COMMENT 'Whether WeChat documents the code.',
    updated_at DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC') COMMENT 'The latest row of a code wins.'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY code
COMMENT 'What the codes of err(num) mean. Filled by migrate. Read the view error_codes instead.';
