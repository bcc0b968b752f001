-- The accounts that are configured or of which anything is known.
CREATE OR REPLACE VIEW accounts
(
    appid                String                 COMMENT 'The account.',
    account              String                 COMMENT 'Its name; its appid if the configuration does not name it.',
    original_id          String                 COMMENT 'Its original id, gh_…; empty if not configured.',
    configured           Bool                   COMMENT 'Whether the configuration has, or once had, the account.',
    messages             Int64                  COMMENT 'Messages known, by their recorded send or by their callback.',
    recorded             Int64                  COMMENT 'Of these, those whose send was recorded.',
    callbacks            Int64                  COMMENT 'Of these, those whose callback has come.',
    callbacks_unrecorded Int64                  COMMENT 'Callbacks of sends that nobody recorded: made in the console of WeChat, or by software that does not tell us.',
    unrecorded_share     Nullable(Float64)      COMMENT 'callbacks_unrecorded / callbacks, 0 to 1; NULL if no callback has come.',
    missing_callbacks    Nullable(Int64)        COMMENT 'Recorded messages whose callback has not come, as in the view missing_callbacks. NULL if no send was recorded: then nobody can know.',
    recording            LowCardinality(String) COMMENT 'Which sends are recorded, judged by the callbacks: all, some or none.',
    note                 String                 COMMENT 'What that means for missing_callbacks.',
    note_zh              String                 COMMENT 'The same in Chinese.',
    last_submitted_at    Nullable(DateTime('{{time_zone}}')) COMMENT 'Latest recorded send.',
    last_callback_at     Nullable(DateTime('{{time_zone}}')) COMMENT 'When the latest callback reached us.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    if(s.appid = '', a.appid, s.appid) AS appid,
    if(a.name = '', appid, a.name) AS account,
    a.original_id AS original_id,
    (a.appid != '')::Bool AS configured,
    s.messages AS messages,
    s.recorded AS recorded,
    s.callbacks AS callbacks,
    s.callbacks_unrecorded AS callbacks_unrecorded,
    s.unrecorded_share AS unrecorded_share,
    s.missing_callbacks AS missing_callbacks,
    if(s.messages = 0, 'none', s.recording) AS recording,
    transform(s.recording, ['none', 'some', 'all'], [
        'No send was recorded: callbacks that never came cannot be seen.',
        'Some sends were not recorded: of these, callbacks that never came cannot be seen.',
        'Every callback belongs to a recorded send.'], 'No message is known.') AS note,
    transform(s.recording, ['none', 'some', 'all'], [
        '没有登记任何群发，未到达的回调无法发现。',
        '部分群发没有登记，这部分未到达的回调无法发现。',
        '收到的回调都对应已登记的群发。'], '没有任何消息。') AS note_zh,
    s.last_submitted_at AS last_submitted_at,
    s.last_callback_at AS last_callback_at
FROM
(
    SELECT
        m.appid AS appid,
        count() AS messages,
        countIf(m.submissions > 0) AS recorded,
        countIf(m.finals > 0) AS callbacks,
        countIf(m.finals > 0 AND m.submissions = 0) AS callbacks_unrecorded,
        if(callbacks = 0, NULL, callbacks_unrecorded / callbacks) AS unrecorded_share,
        countIf(m.submissions > 0 AND m.finals = 0 AND (m.outcome != 'pending' OR m.submitted_at < now64(3, 'UTC') - INTERVAL 45 MINUTE)) AS overdue,
        if(recorded = 0, NULL, overdue) AS missing_callbacks,
        multiIf(recorded = 0, 'none', callbacks_unrecorded = 0, 'all', 'some') AS recording,
        max(m.submitted_at) AS last_submitted_at,
        max(m.received_at) AS last_callback_at
    FROM message_rows AS m FINAL
    GROUP BY appid
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
FULL JOIN (SELECT appid, name, original_id FROM account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'One row per account, with how far its sends are recorded. Missing callbacks cannot be seen for sends that nobody recorded. Figures are of all time; recording_daily has them by day.';
