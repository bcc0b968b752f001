-- The messages that review, the originality check or the administrator rejected.
CREATE OR REPLACE VIEW audit_failures
(
    day          Date                   COMMENT 'Date of the message; see messages. Filter by it: it is fast.',
    appid        String                 COMMENT 'The account.',
    account      String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id       Int64                  COMMENT 'The message, with appid.',
    label        String                 COMMENT 'What a person calls the message.',
    campaign     String                 COMMENT 'What a person calls one send of several messages.',
    err_code     Int64                  COMMENT 'num of the status err(num).',
    category     LowCardinality(String) COMMENT 'Who rejected it: review, originality, admin, or unknown for a code that is not documented.',
    reason_zh    String                 COMMENT 'Why, in Chinese.',
    reason_en    String                 COMMENT 'Why, in English.',
    documented   Bool                   COMMENT 'Whether WeChat documents the code. The list is open: others happen.',
    status       LowCardinality(String) COMMENT 'The status as WeChat wrote it.',
    submitted_at Nullable(DateTime('{{time_zone}}')) COMMENT 'When WeChat had accepted the send, as recorded.',
    finished_at  DateTime('{{time_zone}}') COMMENT 'CreateTime of the callback.',
    received_at  DateTime('{{time_zone}}') COMMENT 'When the callback reached us.',
    audience     LowCardinality(String) COMMENT 'To whom: all, tag or openids; empty if not recorded.',
    audience_size Nullable(Int64)       COMMENT 'People addressed, as the sender recorded it. WeChat reports zeros with err(num).',
    check_state  Nullable(Int64)        COMMENT 'Verdict of the originality check; see messages, and articles for each article.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    m.day AS day,
    m.appid AS appid,
    if(a.name = '', m.appid, a.name) AS account,
    m.msg_id AS msg_id,
    m.label AS label,
    m.campaign AS campaign,
    assumeNotNull(m.err_code) AS err_code,
    if(e.category = '', 'unknown', e.category) AS category,
    if(e.reason_zh = '', '未公开的错误码（官方文档没有说明）', e.reason_zh) AS reason_zh,
    if(e.reason_en = '', 'undocumented code', e.reason_en) AS reason_en,
    e.documented AS documented,
    m.status AS status,
    m.submitted_at AS submitted_at,
    assumeNotNull(m.finished_at) AS finished_at,
    assumeNotNull(m.received_at) AS received_at,
    m.audience_kind AS audience,
    m.audience_size AS audience_size,
    m.check_state AS check_state
FROM message_rows AS m FINAL
LEFT ANY JOIN (SELECT appid, name FROM account_rows FINAL) AS a ON a.appid = m.appid
LEFT ANY JOIN (SELECT code, reason_zh, reason_en, category, documented FROM error_code_rows FINAL) AS e ON e.code = m.err_code
WHERE m.outcome = 'rejected' AND m.err_code IS NOT NULL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row per rejected message, with the reason in Chinese and English.';
