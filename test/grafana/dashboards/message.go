package dashboards

// theMessage is the message chosen: its appid and msg_id with a stroke between
// them, for msg_id alone is not unique. What is no number finds nothing.
const theMessage = "m.appid = splitByChar('/', ${msg:singlequote})[1] AND m.msg_id = toInt64OrZero(arrayElement(splitByChar('/', ${msg:singlequote}), -1))"

func message() *Dashboard {
	d := fromViews("qunfa-message", "Message 消息", "Everything about one mass message: what became of it, how many people it reached, its articles, what happened when, and the callback as WeChat wrote it. "+
		"The list offers the messages of the time range; a link to any message works whatever the time range is.",
		account(), theMessages())
	chosen := where(theMessage)
	d.line(4, messageTiles(chosen)...)
	d.line(4, messageCounts(chosen)...)
	d.line(10, timeline(chosen).wide(15), details(chosen).wide(9))
	d.line(8, articlesOf(chosen))
	d.row("As it was written 原文")
	d.line(10,
		logs("Callbacks as WeChat wrote them 回调原文", "The MASSSENDJOBFINISH pushes, decrypted. They may hold one openid. Empty: no callback has come.",
			from("events", "m.received_at AS timestamp, m.raw AS body, 'info' AS level", chosen+"\n  AND m.raw != ''\nORDER BY timestamp\nLIMIT 100")),
		logs("Events as JSON 事件", "What qunfa keeps of each event, as in the Kafka topic; the schemas are in schemas/events.",
			from("events", "m.at AS timestamp, concat(m.type, ' ', m.data) AS body, 'info' AS level", chosen+"\nORDER BY timestamp\nLIMIT 1000")))
	return d
}

func theMessages() Variable {
	v := choice("msg", "Message 消息", "One message, by appid/msg_id. The list holds the newest 2,000 of the time range.",
		zone+`SELECT concat(m.appid, '/', toString(m.msg_id)) AS value,
    concat(toString(m.day), ' · ', m.account, ' · ', if(m.label = '', toString(m.msg_id), m.label), ' · ', m.outcome) AS label
FROM messages AS m
`+where(inDays, ofAccounts)+`
ORDER BY m.day DESC, coalesce(m.submitted_at, m.finished_at, m.last_poll_at) DESC, m.msg_id DESC
LIMIT 2000`)
	v.Multi, v.IncludeAll, v.Current = false, false, object{}
	return v
}

const noSuch = "no such message 没有此消息"

func messageTiles(chosen string) []*Panel {
	return []*Panel{
		tile("Outcome 结果", "What became of it. pending: nobody knows yet. missing: nobody could find out. unknown: a final status that qunfa does not know.", "string", noSuch, blue,
			from("messages", "toString(m.outcome) AS outcome", chosen)).spoken(outcomes),
		tile("Decided by 依据", "What the outcome rests on: the callback, a poll of mass/get, the end of polling, or the deletion.", "string", noSuch, gray,
			from("messages", "m.decided_by AS decided_by", chosen)).spoken([]outcome{{"callback", "callback 回调", green}, {"poll", "poll 查询", blue},
			{"abandoned", "gave up asking 放弃查询", purple}, {"deleted", "deletion 删除", gray}, {"", "nothing yet 暂无", gray}}),
		tile("Reason 原因", "Why it was rejected, in WeChat's words, or the status that it wrote.", "string", noSuch, orange,
			from("messages", "multiIf(m.err_code IS NOT NULL, concat('err(', toString(m.err_code), ') ', m.err_reason_zh, ' / ', m.err_reason_en), m.status != '', m.status, 'none yet 暂无') AS reason", chosen)).text().wide(8),
		tile("Took 用时", "From the recorded send to the CreateTime of the callback. Unknown if the send was not recorded, or the callback has not come.", "s", unknown, blue,
			from("messages", "m.delivery_seconds AS seconds", chosen)),
		tile("Asked WeChat 查询次数", "Polls of mass/get while the callback stayed away.", "none", noSuch, gray,
			from("messages", "m.polls AS polls", chosen)),
	}
}

func messageCounts(chosen string) []*Panel {
	count := func(title, description, color, column string) *Panel {
		return tile(title, description+" 'unknown' if WeChat has not said it.", "locale", unknown, color, from("messages", "m."+column+" AS people", chosen))
	}
	return []*Panel{
		count("Addressed 目标人数", "total: people addressed (TotalCount).", blue, "total"),
		count("Eligible 过滤后人数", "eligible: people left after filtering (FilterCount is what remains).", blue, "eligible"),
		count("Filtered 被过滤", "filtered = total - eligible: region or sex, refused messages, had four this month.", orange, "filtered"),
		count("Reached 送达人数", "sent: eligible people reached (SentCount).", green, "sent"),
		count("Errors 发送失败", "errors: eligible people not reached (ErrorCount).", red, "errors"),
		tile("Reach rate 送达率", "sent / total.", "percentunit", unknown, green, from("messages", "m.sent / nullIf(m.total, 0) AS rate", chosen)).decimals(1),
	}
}

func timeline(chosen string) *Panel {
	return table("Timeline 时间线", "What happened, in order, and when qunfa learned of it. A redelivered callback is one event.", noSuch,
		from("events", `m.at AS "At 时间", m.received_at AS "Known since 得知时间", toString(m.type) AS "Event 事件",
    multiIf(m.type LIKE '%.submitted.%', concat(JSONExtractString(m.data, 'label'), ' (', JSONExtractString(m.data, 'recorder'), ')'),
        m.type LIKE '%.polled.%' AND JSONHas(m.data, 'error'), concat('errcode ', JSONExtractRaw(m.data, 'error', 'errcode'), ' ', JSONExtractString(m.data, 'error', 'errmsg')),
        m.type LIKE '%.abandoned.%', concat(JSONExtractString(m.data, 'reason'), ': ', JSONExtractString(m.data, 'detail')),
        m.type LIKE '%.deleted.%', if(JSONExtractInt(m.data, 'article_idx') = 0, 'whole message 整条', concat('article 文章 ', JSONExtractRaw(m.data, 'article_idx'))),
        JSONExtractString(m.data, 'status')) AS "What 内容",
    toString(m.source) AS "Seen by 来源", concat(m.topic, '/', toString(m.partition), '/', toString(m.offset)) AS "In Kafka 位置"`, chosen+"\nORDER BY m.at, m.received_at\nLIMIT 1000"),
		col("At 时间", 160), col("Known since 得知时间", 160), words("Event 事件", 170, []outcome{
			{"qunfa.mass.submitted.v1", "submitted 提交", blue}, {"qunfa.mass.finished.v1", "callback 回调", green}, {"qunfa.mass.polled.v1", "polled 查询", gray},
			{"qunfa.mass.deleted.v1", "deleted 删除", orange}, {"qunfa.mass.abandoned.v1", "gave up 放弃查询", purple},
		}), col("What 内容", 0), col("Seen by 来源", 140), col("In Kafka 位置", 150))
}

func details(chosen string) *Panel {
	return table("Details 详情", "What else is known of it.", noSuch, from("messages", `tupleElement(field, 1) AS "Field 字段", tupleElement(field, 2) AS "Value 值"`,
		`ARRAY JOIN [
    ('Account 账号', m.account), ('appid', m.appid), ('msg_id', toString(m.msg_id)), ('Label 名称', m.label), ('Campaign 活动', m.campaign),
    ('Day 日期', toString(m.day)), ('Submitted 提交时间', ifNull(toString(m.submitted_at), 'not recorded 未登记')),
    ('Callback 回调时间', ifNull(toString(m.finished_at), 'none 没有')), ('Callback reached us 收到回调', ifNull(toString(m.received_at), 'none 没有')),
    ('Audience 发送对象', if(m.audience = '', 'not recorded 未登记', concat(m.audience, ifNull(concat(' ', toString(m.tag_id)), '')))),
    ('Audience size 登记人数', ifNull(toString(m.audience_size), 'not recorded 未登记')), ('Type 类型', if(m.msg_type = '', 'not recorded 未登记', toString(m.msg_type))),
    ('Different callbacks 不同回调', toString(m.callbacks)), ('Last poll 最近查询', ifNull(toString(m.last_poll_at), 'none 没有')),
    ('Last answer 最近答复', multiIf(m.last_poll_error IS NOT NULL, concat('errcode ', toString(m.last_poll_error)), m.last_poll_status != '', toString(m.last_poll_status), 'none 没有')),
    ('Gave up 放弃查询', if(m.abandoned_at IS NULL, 'no 否', concat(toString(m.abandoned_at), ' ', m.abandoned_detail))),
    ('Deleted 删除', if(m.deleted_at IS NULL, 'no 否', concat(toString(m.deleted_at), ' ', toString(m.deleted_articles)))),
    ('Originality check 原创校验', multiIf(m.check_state IS NULL, 'none 没有', m.check_state = 1, 'no reprint 非转载', m.check_state = 2, 'a reprint that may be sent 转载可群发',
        m.check_state = 3, 'a reprint that may not be sent 转载不可群发', toString(m.check_state))),
    ('msg_data_id', ifNull(toString(m.msg_data_id), '`+unknown+`')), ('clientmsgid', m.clientmsgid), ('Recorder 登记者', m.recorder)] AS field
`+chosen),
		col("Field 字段", 190), col("Value 值", 0))
}

func articlesOf(chosen string) *Panel {
	return table("Articles 文章", "The articles that the callback named: their links, and what the originality check said.", "no article is known 没有文章信息",
		from("articles", `m.article_idx AS "Article 序号", m.url AS "Link 链接", if(m.audit = '', 'not reported 未报告', toString(m.audit)) AS "Originality 原创校验",
    multiIf(m.user_declare_state IS NULL, 'not reported 未报告', m.user_declare_state = 0, 'nothing 未声明', m.user_declare_state = 1, 'original 原创', m.user_declare_state = 2, 'reprint 转载', toString(m.user_declare_state)) AS "Declared 声明",
    m.original_article_url AS "Original 原文", multiIf(m.can_reprint IS NULL, 'not reported 未报告', m.can_reprint = 1, 'yes 是', 'no 否') AS "May be reprinted 可转载",
    if(m.deleted, 'yes 是', 'no 否') AS "Deleted 已删除"`, chosen+"\nORDER BY m.article_idx"),
		number("Article 序号", "none", 100), col("Link 链接", 0).linked("Open 打开", "${__value.raw}"), words("Originality 原创校验", 160, []outcome{
			{"passed", "passed 通过", green}, {"not passed", "not passed 未通过", red}, {"checking", "checking 校验中", blue}, {"not checked", "not checked 未校验", gray},
		}), col("Declared 声明", 140), col("Original 原文", 0).linked("Open 打开", "${__value.raw}"), col("May be reprinted 可转载", 160), col("Deleted 已删除", 120))
}
