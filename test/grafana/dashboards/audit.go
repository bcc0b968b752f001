package dashboards

// Conditions on the view audit_failures.
const (
	ofCategories = "$__conditionalAll(m.category IN (${category:singlequote}), $category)"
	ofCodes      = "$__conditionalAll(toString(m.err_code) IN (${code:singlequote}), $code)"
)

func auditFailures() *Dashboard {
	d := fromViews("qunfa-audit-failures", "Audit failures 审核未通过", "Mass messages that content review, the originality check or the administrator rejected: err(num), with the reasons in Chinese and English. "+
		"WeChat's list of codes is open; codes that it does not document are shown as such.",
		account(),
		fixed("category", "Rejected by 未通过类别", "Who rejected it. unknown: a code that WeChat does not document.", categories),
		choice("code", "Code 错误码", "num of the status err(num).",
			`SELECT toString(m.err_code) AS code, concat('err(', code, ') ', any(m.reason_zh)) AS label FROM audit_failures AS m
WHERE `+ofAccounts+`
GROUP BY m.err_code ORDER BY m.err_code LIMIT 1000`),
	)
	d.annotate(rejections(ofAccounts + " AND " + ofCategories + " AND " + ofCodes))
	chosen := where(inDays, ofAccounts, ofCategories, ofCodes)
	d.line(4, auditTiles(chosen)...)
	d.row("Over time 趋势")
	d.line(9, auditTrends(chosen)...)
	d.row("By code and account 按错误码和账号")
	d.line(11, auditCodes(chosen).wide(14), auditAccounts(chosen).wide(10))
	d.row("Rejected messages 未通过的消息")
	d.line(13, auditMessages(chosen))
	d.line(9, reprints())
	return d
}

func auditTiles(chosen string) []*Panel {
	messages := where(inDays, ofAccounts)
	return []*Panel{
		tile("Rejected messages 未通过的消息", "Messages rejected in the time range, after the choices above.", "locale", "none 没有", red,
			from("audit_failures", "count() AS messages", chosen)).alarm(1),
		tile("Share of messages 未通过率", "Rejected messages of all messages of the accounts chosen, whoever rejected them.", "percentunit", noMessages, orange,
			from("messages", "countIf(m.outcome = 'rejected') / nullIf(count(), 0) AS share", messages)).decimals(1),
		tile("Accounts affected 涉及账号", "Accounts with a rejected message.", "locale", "none 没有", orange,
			from("audit_failures", "uniqExact(m.appid) AS accounts", chosen)),
		tile("Undocumented codes 未公开的错误码", "Different codes that WeChat does not document. They happen; look at them, and tell the account's people.", "locale", "none 没有", yellow,
			from("audit_failures", "uniqExactIf(m.err_code, NOT m.documented) AS codes", chosen)).alarm(1),
		tile("People not reached 未送达人数", "People whom the rejected messages were for, as the senders recorded. WeChat does not tell; messages without a recorded size are not in the sum.", "locale", unknown, red,
			from("audit_failures", "sum(m.audience_size) AS people", chosen)),
		tile("Latest rejection 最近一次", "When the callback of the latest rejection of the time range reached us.", "dateTimeFromNow", "none 没有", blue,
			from("audit_failures", "if(count() = 0, NULL, toUnixTimestamp(max(m.received_at)) * 1000) AS at", chosen)),
	}
}

func auditTrends(chosen string) []*Panel {
	return []*Panel{
		daily(bars, "Rejections by day and category 每日未通过（按类别）", "Rejected messages of a day, by who rejected them.", "short", noMessages,
			byEveryDay("audit_failures", countIfs("m.category", categories), chosen), colored(categories)...),
		daily(bars, "Rejections by day and code 每日未通过（按错误码）", "The ten most frequent codes of the time range; all others are 'other'.", "short", "none 没有",
			zone+`, (SELECT groupArray(err_code) FROM (SELECT m.err_code AS err_code FROM audit_failures AS m `+chosen+` GROUP BY err_code ORDER BY count() DESC, err_code LIMIT 10)) AS top
SELECT toDateTime(m.day, tz) AS time,
    if(has(top, m.err_code), concat('err(', toString(m.err_code), ') ', m.reason_zh), 'other 其他') AS code, count() AS rejections
FROM audit_failures AS m
`+chosen+`
GROUP BY time, code
ORDER BY time, code`).named("code"),
		daily(lines, "Share rejected by day 每日未通过率", "Rejected messages of all messages of a day, for the accounts chosen, whoever rejected them. A day without messages has no point.", "percentunit", noMessages,
			byDay("messages", `countIf(m.outcome = 'rejected') / nullIf(count(), 0) AS "rejected 未通过"`, where(inDays, ofAccounts)),
			colored([]outcome{{title: "rejected 未通过", color: red}})...).ratio(),
	}
}

func auditCodes(chosen string) *Panel {
	return table("Reasons 原因", "Codes by how often they happened. People: whom the messages were for, as recorded; WeChat does not tell.", "none 没有",
		from("audit_failures", `toString(m.err_code) AS "Code 错误码", any(m.reason_zh) AS "原因", any(m.reason_en) AS "Reason", any(toString(m.category)) AS "By 类别",
    if(any(m.documented), 'yes 是', 'no 否') AS "Documented 已公开", count() AS "Messages 消息", uniqExact(m.appid) AS "Accounts 账号",
    sum(m.audience_size) AS "People 人数", toString(max(m.day)) AS "Last day 最近"`, chosen+"\nGROUP BY m.err_code\nORDER BY \"Messages 消息\" DESC, m.err_code\nLIMIT 200"),
		col("Code 错误码", 90).linked("This code alone 只看此错误码", "/d/qunfa-audit-failures?${app:queryparam}&var-code=${__value.raw:percentencode}"+keep),
		col("原因", 0), col("Reason", 0), words("By 类别", 140, categories), col("Documented 已公开", 130),
		number("Messages 消息", "locale", 110).bar(red), number("Accounts 账号", "locale", 100), people("People 人数"), col("Last day 最近", 110))
}

func auditAccounts(chosen string) *Panel {
	return table("Accounts 账号", "Accounts by rejected messages, after the choices above, and the code that they met most.", "none 没有",
		from("audit_failures", `any(m.account) AS "Account 账号", m.appid AS appid, count() AS "Rejected 未通过",
    concat('err(', toString(topK(1)(m.err_code)[1]), ') ', topK(1)(m.reason_zh)[1]) AS "Mostly 主要原因", max(m.received_at) AS "Latest 最近"`,
			chosen+"\nGROUP BY m.appid\nORDER BY \"Rejected 未通过\" DESC, appid\nLIMIT 200"),
		col("Account 账号", 150).linked("This account alone 只看此账号", toAudit).linked("Delivery 送达", toDelivery), hidden("appid"), number("Rejected 未通过", "locale", 110).bar(red),
		col("Mostly 主要原因", 0), col("Latest 最近", 160))
}

func auditMessages(chosen string) *Panel {
	return table("Rejected messages 未通过的消息", "The newest first; the label leads to everything about one message. The size of the audience is what the sender recorded.", "none 没有",
		from("audit_failures", `m.received_at AS "Callback 回调时间", m.account AS "Account 账号", if(m.label = '', toString(m.msg_id), m.label) AS "Message 消息", m.campaign AS "Campaign 活动",
    concat('err(', toString(m.err_code), ')') AS "Code 错误码", m.reason_zh AS "原因", m.reason_en AS "Reason", toString(m.category) AS "By 类别",
    if(m.audience = '', 'not recorded 未登记', toString(m.audience)) AS "Audience 发送对象", m.audience_size AS "People 人数", m.submitted_at AS "Sent at 提交时间",
    m.appid AS appid, toString(m.msg_id) AS msg_id`, chosen+"\nORDER BY m.received_at DESC, m.appid, m.msg_id DESC\nLIMIT 500"),
		col("Callback 回调时间", 160), col("Account 账号", 130).linked("This account alone 只看此账号", toAudit), col("Message 消息", 150).linked("This message 此消息", toMessage),
		col("Campaign 活动", 120), col("Code 错误码", 100), col("原因", 0), col("Reason", 0), words("By 类别", 140, categories),
		col("Audience 发送对象", 130), people("People 人数"), col("Sent at 提交时间", 160), hidden("appid"), col("msg_id", 110))
}

func reprints() *Panel {
	return table("Articles that failed the originality check 原创校验未通过的文章", "Articles that WeChat takes for copies, with what it takes for the original. The message may have been sent all the same.", "none 没有",
		from("articles", `toString(m.day) AS "Day 日期", m.account AS "Account 账号", if(m.label = '', toString(m.msg_id), m.label) AS "Message 消息", toString(m.outcome) AS "Outcome 结果",
    m.article_idx AS "Article 序号", m.url AS "Link 链接", m.original_article_url AS "Original 原文",
    multiIf(m.can_reprint IS NULL, '`+unknown+`', m.can_reprint = 1, 'yes 是', 'no 否') AS "May be reprinted 可转载", m.appid AS appid, toString(m.msg_id) AS msg_id`,
			where(inDays, ofAccounts)+"\n  AND m.audit = 'not passed'\nORDER BY m.day DESC, m.appid, m.msg_id DESC, m.article_idx\nLIMIT 200"),
		col("Day 日期", 110), col("Account 账号", 130).linked("This account alone 只看此账号", toAudit), col("Message 消息", 150).linked("This message 此消息", toMessage),
		words("Outcome 结果", 140, outcomes), number("Article 序号", "none", 100), col("Link 链接", 0).linked("Open 打开", "${__value.raw}"), col("Original 原文", 0).linked("Open 打开", "${__value.raw}"),
		col("May be reprinted 可转载", 150), hidden("appid"), hidden("msg_id"))
}
