-- The log of everything that happened, each event once.
CREATE OR REPLACE VIEW events
(
    appid       String                           COMMENT 'The account. Filter by appid and msg_id: it is fast.',
    account     String                           COMMENT 'Name of the account; its appid if the configuration does not name it.',
    msg_id      Int64                            COMMENT 'The message, with appid.',
    at          DateTime64(3, '{{time_zone}}')   COMMENT 'When it happened: CreateTime of a callback, time of the send or of the poll.',
    received_at DateTime64(3, '{{time_zone}}')   COMMENT 'When we learned of it: the time of the Kafka record.',
    type        LowCardinality(String)           COMMENT 'qunfa.mass.submitted.v1 (a send), .finished.v1 (the callback), .polled.v1 (an answer of mass/get), .deleted.v1 or .abandoned.v1 (polling ended without an answer).',
    data        String                           COMMENT 'What happened, as JSON; see schemas/events. JSONExtractString(data, ''status'') reads a member.',
    raw         String                           COMMENT 'The callback as WeChat sent it, decrypted; empty for other events. It may hold one openid.',
    event_id    String                           COMMENT 'Identity of the event, 32 hexadecimal digits: the same occurrence always has the same.',
    source      LowCardinality(String)           COMMENT 'Which service observed it.',
    topic       LowCardinality(String)           COMMENT 'Where it stands in Kafka: the topic,',
    partition   Int32                            COMMENT 'the partition',
    offset      Int64                            COMMENT 'and the offset of its first copy.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    e.appid AS appid,
    if(a.name = '', e.appid, a.name) AS account,
    e.msg_id AS msg_id,
    toTimeZone(e.at, '{{time_zone}}') AS at,
    toTimeZone(e.received_at, '{{time_zone}}') AS received_at,
    e.type AS type,
    e.data AS data,
    e.raw AS raw,
    lower(hex(e.event_id)) AS event_id,
    e.source AS source,
    e.topic AS topic,
    e.partition AS partition,
    e.offset AS offset
FROM event_rows AS e FINAL
LEFT ANY JOIN (SELECT appid, name FROM account_rows FINAL) AS a ON a.appid = e.appid
COMMENT 'Everything that happened to the messages, as JSON, each event once. Order by at for the history of a message.';
