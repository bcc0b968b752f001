-- +goose NO TRANSACTION
-- +goose Up
-- Migration 8 did not always hold these statements, so there are databases in which it was applied without them.
ALTER TABLE event_rows MODIFY COLUMN ver UInt64 MATERIALIZED bitNot(toUInt64(offset) + 1);
ALTER TABLE message_rows COMMENT COLUMN version
    'Number of distinct events folded into this row, in the low 32 bits; above them, how often they were read anew.';
