-- +goose NO TRANSACTION
-- +goose Up
-- A replay with a newer decoder may read more in raw than was known when the event came. It writes the event again under
-- its id, with the next revision and the highest ver there is: so the first record of an event still wins over its
-- copies, and a revision wins over all of these, also over copies that come after it.
ALTER TABLE event_rows ADD COLUMN IF NOT EXISTS revision UInt32 DEFAULT 0
    COMMENT 'How often raw was read anew; 0: data is as it was when the event came.';
