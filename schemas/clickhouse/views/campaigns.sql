-- What became of a send that took several messages, such as a list of more than 10,000 openids.
CREATE OR REPLACE VIEW campaigns
(
    appid               String            COMMENT 'The account.',
    account             String            COMMENT 'Name of the account; its appid if the configuration does not name it.',
    campaign            String            COMMENT 'What a person calls the send, as recorded.',
    day                 Date              COMMENT 'Date of the first message.',
    last_day            Date              COMMENT 'Date of the last message.',
    messages            Int64             COMMENT 'Messages of the campaign.',
    messages_sent       Int64             COMMENT 'Of these, with outcome sent.',
    messages_failed     Int64             COMMENT 'With outcome failed.',
    messages_rejected   Int64             COMMENT 'With outcome rejected.',
    messages_pending    Int64             COMMENT 'Of which nobody knows yet.',
    messages_missing    Int64             COMMENT 'Of which nobody could find out.',
    messages_other      Int64             COMMENT 'With outcome deleted or unknown.',
    audience_size       Nullable(Int64)   COMMENT 'People addressed, as the sender recorded it, summed where known.',
    total               Nullable(Int64)   COMMENT 'People addressed, summed over the messages where WeChat said it.',
    eligible            Nullable(Int64)   COMMENT 'People left after filtering, summed in the same way.',
    filtered            Nullable(Int64)   COMMENT 'People filtered out, summed in the same way.',
    sent                Nullable(Int64)   COMMENT 'People reached, summed in the same way.',
    errors              Nullable(Int64)   COMMENT 'Eligible people not reached, summed in the same way.',
    messages_without_sent Int64           COMMENT 'Messages whose sent and errors are unknown and not in the sums.',
    first_submitted_at  Nullable(DateTime('{{time_zone}}')) COMMENT 'First submission.',
    last_submitted_at   Nullable(DateTime('{{time_zone}}')) COMMENT 'Last submission.',
    last_finished_at    Nullable(DateTime('{{time_zone}}')) COMMENT 'Last callback, by its CreateTime.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT s.*, if(a.name = '', s.appid, a.name) AS account
FROM
(
    SELECT
        m.appid AS appid,
        m.campaign AS campaign,
        min(m.day) AS day,
        max(m.day) AS last_day,
        count() AS messages,
        countIf(outcome = 'sent') AS messages_sent,
        countIf(outcome = 'failed') AS messages_failed,
        countIf(outcome = 'rejected') AS messages_rejected,
        countIf(outcome = 'pending') AS messages_pending,
        countIf(outcome = 'missing') AS messages_missing,
        countIf(outcome IN ('deleted', 'unknown')) AS messages_other,
        sum(m.audience_size) AS audience_size,
        sum(m.total) AS total,
        sum(m.eligible) AS eligible,
        sum(m.filtered) AS filtered,
        sum(m.sent) AS sent,
        sum(m.errors) AS errors,
        countIf(m.sent IS NULL) AS messages_without_sent,
        min(m.submitted_at) AS first_submitted_at,
        max(m.submitted_at) AS last_submitted_at,
        max(m.finished_at) AS last_finished_at
    FROM message_rows AS m FINAL
    WHERE m.campaign != ''
    GROUP BY appid, campaign
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
LEFT ANY JOIN (SELECT appid, name FROM account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'Per account and campaign: its messages by outcome and the people they reached. Sums hold only what is known.';
