-- One row per article of a message: its link, and what the originality check said.
CREATE OR REPLACE VIEW articles
(
    day                   Date                   COMMENT 'Date of the message; see messages. Filter by it: it is fast.',
    appid                 String                 COMMENT 'The account.',
    account               String                 COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id                Int64                  COMMENT 'The message, with appid.',
    label                 String                 COMMENT 'What a person calls the message.',
    campaign              String                 COMMENT 'What a person calls one send of several messages.',
    outcome               LowCardinality(String) COMMENT 'What became of the message.',
    article_idx           Int64                  COMMENT 'Position of the article in the message, from 1.',
    url                   String                 COMMENT 'Where it can be read; empty if WeChat did not say.',
    deleted               Bool                   COMMENT 'Whether this article, or the whole message, was deleted through the API.',
    checked               Bool                   COMMENT 'Whether the originality check reported on it; what follows is NULL or empty otherwise.',
    audit                 LowCardinality(String) COMMENT 'Result of the originality check: passed, not passed, checking or not checked; empty if not reported.',
    audit_state           Nullable(Int64)        COMMENT 'The same as WeChat wrote it: 0 not checked, 1 checking, 11 passed, others not passed.',
    user_declare_state    Nullable(Int64)        COMMENT 'What the sender declared: 0 nothing, 1 original, 2 reprint.',
    original_article_url  String                 COMMENT 'The similar article that is taken for the original.',
    original_article_type Nullable(Int64)        COMMENT 'What that is: 1 original, 2 earlier but not original, 3 news, 4 blacklisted.',
    can_reprint           Nullable(Int64)        COMMENT '1: reprinting is allowed.',
    need_replace_content  Nullable(Int64)        COMMENT '1: WeChat must replace the content by that of the original.',
    need_show_reprint_source Nullable(Int64)     COMMENT '1: the source must be shown.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    m.day AS day,
    m.appid AS appid,
    if(a.name = '', m.appid, a.name) AS account,
    m.msg_id AS msg_id,
    m.label AS label,
    m.campaign AS campaign,
    m.outcome AS outcome,
    idx AS article_idx,
    link AS url,
    hasAny(m.deleted_articles, [0, idx])::Bool AS deleted,
    was_checked AS checked,
    multiIf(state IS NULL, '', state = 11, 'passed', state = 1, 'checking', state = 0, 'not checked', 'not passed') AS audit,
    state AS audit_state,
    declared AS user_declare_state,
    original AS original_article_url,
    original_type AS original_article_type,
    reprint AS can_reprint,
    replace AS need_replace_content,
    source AS need_show_reprint_source
FROM message_rows AS m FINAL
ARRAY JOIN
    m.`articles.idx` AS idx,
    m.`articles.url` AS link,
    m.`articles.checked` AS was_checked,
    m.`articles.user_declare_state` AS declared,
    m.`articles.audit_state` AS state,
    m.`articles.original_article_url` AS original,
    m.`articles.original_article_type` AS original_type,
    m.`articles.can_reprint` AS reprint,
    m.`articles.need_replace_content` AS replace,
    m.`articles.need_show_reprint_source` AS source
LEFT ANY JOIN (SELECT appid, name FROM account_rows FINAL) AS a ON a.appid = m.appid
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row per article that a callback named: its link, and what the originality check said about it.';
