-- +goose NO TRANSACTION
-- +goose Up
-- A merge of ClickHouse 26.7 that runs out of disk replaces the parts that it merged by one of empty files, and says
-- nothing: rows that were acknowledged are gone. So inserts leave the last 128 MiB of a disk to the merges. They are refused
-- there with code 243, for which the sink waits.
ALTER TABLE event_rows MODIFY SETTING min_free_disk_bytes_to_perform_insert = 134217728;
ALTER TABLE record_rows MODIFY SETTING min_free_disk_bytes_to_perform_insert = 134217728;
ALTER TABLE message_rows MODIFY SETTING min_free_disk_bytes_to_perform_insert = 134217728;
