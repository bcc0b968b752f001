-- The recorded messages whose callback has not come. WeChat may hold a message for 30 minutes until the administrator
-- confirms it, so a callback counts as overdue only after 45.
CREATE OR REPLACE VIEW missing_callbacks
(
    day              Date                   COMMENT 'Date of the message; see messages. Filter by it: it is fast.',
    appid            String                 COMMENT 'The account.',
    account          String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id           Int64                  COMMENT 'The message, with appid.',
    label            String                 COMMENT 'What a person calls the message.',
    campaign         String                 COMMENT 'What a person calls one send of several messages.',
    state            LowCardinality(String) COMMENT 'pending (more than 45 minutes after submission, nobody knows yet), found by poll (the outcome is known, the counts are not), deleted, missing (nobody could find out), or not chased (imported history: nobody asked).',
    outcome          LowCardinality(String) COMMENT 'What became of the message, as far as is known.',
    submitted_at     DateTime('{{time_zone}}') COMMENT 'When WeChat accepted the send, as recorded.',
    age_seconds      Int64                  COMMENT 'Seconds since then.',
    audience         LowCardinality(String) COMMENT 'To whom: all, tag or openids; empty if not recorded.',
    audience_size    Nullable(Int64)        COMMENT 'People addressed, as the sender recorded it.',
    polls            Int64                  COMMENT 'How often WeChat was asked.',
    last_poll_at     Nullable(DateTime('{{time_zone}}')) COMMENT 'When WeChat was asked last.',
    last_poll_status LowCardinality(String) COMMENT 'What it answered; empty after an error. SEND_FAIL may hide a rejection.',
    last_poll_error  Nullable(Int64)        COMMENT 'errcode of the API, if asking failed; 0 if WeChat could not be asked at all.',
    abandoned_reason LowCardinality(String) COMMENT 'Why nobody asks any more: no_answer, never_polled, no_credentials or not_chased.',
    abandoned_detail String                 COMMENT 'The same in words.',
    account_unrecorded_share Nullable(Float64) COMMENT 'Of all callbacks of the account, the share whose send nobody recorded, 0 to 1; NULL if no callback has come.',
    account_note     String                 COMMENT 'What that means: of sends that nobody recorded, callbacks that never came cannot be seen.',
    account_note_zh  String                 COMMENT 'The same in Chinese.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    m.day AS day,
    m.appid AS appid,
    if(a.name = '', m.appid, a.name) AS account,
    m.msg_id AS msg_id,
    m.label AS label,
    m.campaign AS campaign,
    multiIf(NOT m.chase AND m.polls = 0, 'not chased', m.outcome IN ('pending', 'missing', 'deleted'), m.outcome, 'found by poll') AS state,
    m.outcome AS outcome,
    assumeNotNull(m.submitted_at) AS submitted_at,
    dateDiff('second', assumeNotNull(m.submitted_at), now64(3, 'UTC')) AS age_seconds,
    m.audience_kind AS audience,
    m.audience_size AS audience_size,
    m.polls AS polls,
    m.last_poll_at AS last_poll_at,
    m.last_poll_status AS last_poll_status,
    m.last_poll_error AS last_poll_error,
    m.abandoned_reason AS abandoned_reason,
    m.abandoned_detail AS abandoned_detail,
    r.unrecorded_share AS account_unrecorded_share,
    r.note AS account_note,
    r.note_zh AS account_note_zh
FROM message_rows AS m FINAL
LEFT ANY JOIN (SELECT appid, name FROM account_rows FINAL) AS a ON a.appid = m.appid
LEFT ANY JOIN (SELECT appid, unrecorded_share, note, note_zh FROM accounts) AS r ON r.appid = m.appid
WHERE m.submissions > 0 AND m.finals = 0 AND (m.outcome != 'pending' OR m.submitted_at < now64(3, 'UTC') - INTERVAL 45 MINUTE)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Recorded messages whose callback has not come, 45 minutes or more after submission. A send that nobody recorded cannot be missed: see recording_daily and accounts for the accounts of which that is so. An empty answer does not mean that nothing is missing.';
