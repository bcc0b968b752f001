-- +goose NO TRANSACTION
-- +goose Up
-- A row of kind trimmed stands for a run of offsets, and only its end is in the sorting key. Without the start, every
-- offset before the end would look as if it had been passed over. Rows from before this column say it in their reason.
ALTER TABLE record_rows ADD COLUMN IF NOT EXISTS from_offset Int64
    DEFAULT if(kind = 'trimmed', least(ifNull(toInt64OrNull(extract(reason, '^offsets (\\d+) to ')), offset), offset), offset)
    COMMENT 'First offset that the row stands for: offset itself, but for kind trimmed.'
    AFTER offset;
