-- The same as delivery_daily, by hour.
CREATE OR REPLACE VIEW delivery_hourly
(
    day                 Date              COMMENT 'Date of the messages in the time zone of the database. Filter by it: it is fast.',
    hour                DateTime('{{time_zone}}') COMMENT 'Start of the hour of the messages: of their submission, else of their callback, else of their last poll.',
    appid               String            COMMENT 'The account.',
    account             String            COMMENT 'Name of the account; its appid if the configuration does not name it.',
    messages            Int64             COMMENT 'Messages, whatever became of them.',
    messages_sent       Int64             COMMENT 'Messages with outcome sent.',
    messages_failed     Int64             COMMENT 'Messages with outcome failed.',
    messages_rejected   Int64             COMMENT 'Messages with outcome rejected: review, originality check, administrator.',
    messages_pending    Int64             COMMENT 'Messages of which nobody knows yet.',
    messages_missing    Int64             COMMENT 'Messages of which nobody could find out.',
    messages_deleted    Int64             COMMENT 'Messages of which only the deletion is known.',
    messages_unknown    Int64             COMMENT 'Messages with a final status that we do not know.',
    total               Nullable(Int64)   COMMENT 'People addressed, summed over the messages where it is known; NULL if it is known of none.',
    eligible            Nullable(Int64)   COMMENT 'People left after filtering, summed in the same way.',
    filtered            Nullable(Int64)   COMMENT 'People filtered out, summed in the same way.',
    sent                Nullable(Int64)   COMMENT 'People reached, summed in the same way.',
    errors              Nullable(Int64)   COMMENT 'Eligible people not reached, summed in the same way.',
    messages_without_total Int64          COMMENT 'Messages whose total is unknown and not in the sum. A rejected message has no total.',
    messages_without_sent  Int64          COMMENT 'Messages whose sent and errors are unknown and not in the sums: no callback yet, or found by polling, which tells no counts.',
    sent_ratio          Nullable(Float64) COMMENT 'sent / total, 0 to 1, over the messages where both are known.',
    median_delivery_seconds Nullable(Float64) COMMENT 'Median of the seconds from submission to callback, where both are known.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT s.*, if(a.name = '', s.appid, a.name) AS account
FROM
(
    SELECT
        m.day AS day,
        toStartOfHour(toDateTime(coalesce(m.submitted_at, m.finished_at, m.last_poll_at, m.deleted_at, m.abandoned_at, toDateTime64(m.day, 3)), '{{time_zone}}')) AS hour,
        appid,
        count() AS messages,
        countIf(outcome = 'sent') AS messages_sent,
        countIf(outcome = 'failed') AS messages_failed,
        countIf(outcome = 'rejected') AS messages_rejected,
        countIf(outcome = 'pending') AS messages_pending,
        countIf(outcome = 'missing') AS messages_missing,
        countIf(outcome = 'deleted') AS messages_deleted,
        countIf(outcome = 'unknown') AS messages_unknown,
        sum(m.total) AS total,
        sum(m.eligible) AS eligible,
        sum(m.filtered) AS filtered,
        sum(m.sent) AS sent,
        sum(m.errors) AS errors,
        countIf(m.total IS NULL) AS messages_without_total,
        countIf(m.sent IS NULL) AS messages_without_sent,
        sumIf(m.sent, m.total IS NOT NULL) / nullIf(sumIf(m.total, m.sent IS NOT NULL), 0) AS sent_ratio,
        medianIf((toUnixTimestamp64Milli(m.finished_at) - toUnixTimestamp64Milli(m.submitted_at)) / 1000, m.finished_at >= m.submitted_at) AS median_delivery_seconds
    FROM message_rows AS m FINAL
    GROUP BY ALL
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
LEFT ANY JOIN (SELECT appid, name FROM account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'Per hour and account: messages by outcome and the people they reached. Sums hold only what is known; messages_without_… say what is not.';
