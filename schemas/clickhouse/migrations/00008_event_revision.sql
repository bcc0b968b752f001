-- +goose NO TRANSACTION
-- +goose Up
-- A replay with a newer decoder may read more in raw than was known when the event came. It writes the event again under
-- its id, with the next revision and the highest ver there is: so the first record of an event still wins over its
-- copies, and a revision wins over all of these, also over copies that come after it.
ALTER TABLE event_rows ADD COLUMN IF NOT EXISTS revision UInt32 DEFAULT 0
    COMMENT 'How often raw was read anew; 0: data is as it was when the event came.';
-- The highest ver is for revisions alone, so that a copy of offset 0, which had it too, cannot win over one that is older.
ALTER TABLE event_rows MODIFY COLUMN ver UInt64 MATERIALIZED bitNot(toUInt64(offset) + 1);
ALTER TABLE message_rows COMMENT COLUMN version
    'Number of distinct events folded into this row, in the low 32 bits; above them, how often they were read anew.';
