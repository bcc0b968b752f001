-- Whether the sends of an account are recorded at all: only of these can a missing callback be seen.
CREATE OR REPLACE VIEW recording_daily
(
    day                  Date                   COMMENT 'Date of the messages; see messages. Filter by it: it is fast.',
    appid                String                 COMMENT 'The account.',
    account              String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    messages             Int64                  COMMENT 'Messages known, by their recorded send or by their callback.',
    recorded             Int64                  COMMENT 'Of these, those whose send was recorded.',
    callbacks            Int64                  COMMENT 'Of these, those whose callback has come.',
    callbacks_unrecorded Int64                  COMMENT 'Callbacks of sends that nobody recorded: made in the console of WeChat, or by software that does not tell us.',
    unrecorded_share     Nullable(Float64)      COMMENT 'callbacks_unrecorded / callbacks, 0 to 1; NULL if no callback has come.',
    missing_callbacks    Nullable(Int64)        COMMENT 'Recorded messages whose callback has not come, as in the view missing_callbacks. NULL if no send was recorded: then nobody can know.',
    recording            LowCardinality(String) COMMENT 'Which sends are recorded, judged by the callbacks: all, some or none.',
    note                 String                 COMMENT 'What that means for missing_callbacks.',
    note_zh              String                 COMMENT 'The same in Chinese.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    s.* EXCEPT overdue,
    if(a.name = '', s.appid, a.name) AS account,
    transform(s.recording, ['none', 'some', 'all'], [
        'No send was recorded: callbacks that never came cannot be seen.',
        'Some sends were not recorded: of these, callbacks that never came cannot be seen.',
        'Every callback belongs to a recorded send.'], 'No message is known.') AS note,
    transform(s.recording, ['none', 'some', 'all'], [
        '没有登记任何群发，未到达的回调无法发现。',
        '部分群发没有登记，这部分未到达的回调无法发现。',
        '收到的回调都对应已登记的群发。'], '没有任何消息。') AS note_zh
FROM
(
    SELECT
        m.day AS day,
        m.appid AS appid,
        count() AS messages,
        countIf(m.submissions > 0) AS recorded,
        countIf(m.finals > 0) AS callbacks,
        countIf(m.finals > 0 AND m.submissions = 0) AS callbacks_unrecorded,
        if(callbacks = 0, NULL, callbacks_unrecorded / callbacks) AS unrecorded_share,
        countIf(m.submissions > 0 AND m.finals = 0 AND (m.outcome != 'pending' OR m.submitted_at < now64(3, 'UTC') - INTERVAL 45 MINUTE)) AS overdue,
        if(recorded = 0, NULL, overdue) AS missing_callbacks,
        multiIf(recorded = 0, 'none', callbacks_unrecorded = 0, 'all', 'some') AS recording
    FROM message_rows AS m FINAL
    GROUP BY day, appid
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS s
LEFT ANY JOIN (SELECT appid, name FROM account_rows FINAL) AS a ON a.appid = s.appid
COMMENT 'Per day and account: how many callbacks belong to recorded sends, and how many recorded sends lack their callback. Missing callbacks cannot be seen for sends that nobody recorded.';
