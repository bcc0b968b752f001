package dashboards

// found limits a view, called m, to the accounts that the words typed find.
const found = "$__conditionalAll(m.appid IN (SELECT a.appid FROM accounts AS a WHERE positionCaseInsensitiveUTF8(concat(a.account, ' ', a.appid, ' ', a.original_id), ${q:singlequote}) > 0), $q)"

func accounts() *Dashboard {
	q := Variable{Name: "q", Label: "Search 搜索", Description: "Part of a name, an appid or an original id (gh_…). Empty: all accounts.", Type: "textbox", Current: object{"selected": true, "text": "", "value": ""}}
	d := fromViews("qunfa-accounts", "Accounts 账号总览", "A platform's view over many accounts: which of them send, which reach fewer people than before, which are rejected, which have fallen silent, and which do not record their sends.", q)
	d.annotate(rejections(found))
	chosen := where(inDays, found)
	d.line(4, accountTiles(chosen)...)
	d.row("Trends 趋势")
	d.line(9, accountTrends(chosen)...)
	d.row("Which accounts 哪些账号")
	d.line(13, largest(chosen))
	d.line(11, falling(chosen).wide(12), rejectedMost(chosen).wide(12))
	d.line(11, silent().wide(12), recording().wide(12))
	return d
}

func accountTiles(chosen string) []*Panel {
	known := where(found)
	return []*Panel{
		tile("Accounts 账号数", "Accounts that are configured, or of which any message is known.", "locale", "no accounts 没有账号", blue, from("accounts", "nullIf(count(), 0) AS accounts", known)),
		tile("Accounts that sent 有群发的账号", "Accounts with a message in the time range.", "locale", noMessages, green, from("messages", "nullIf(uniqExact(m.appid), 0) AS accounts", chosen)),
		tile("Messages 消息数", "Messages of the time range, whatever became of them.", "locale", noMessages, blue, from("messages", "nullIf(count(), 0) AS messages", chosen)),
		tile("Reach rate 送达率", rateHelp, "percentunit", notKnown, green, from("messages", reach+" AS rate", chosen)).decimals(1),
		tile("Accounts with rejections 有未通过的账号", "Accounts of which a message was rejected in the time range.", "locale", noMessages, red,
			from("messages", "if(count() = 0, NULL, uniqExactIf(m.appid, m.outcome = 'rejected')) AS accounts", chosen)).alarm(1),
		tile("Never heard of 从未收到回调", "Configured accounts of which no callback has ever come: is their callback URL set?", "locale", "none is configured 没有配置账号", orange,
			from("accounts", "if(countIf(m.configured) = 0, NULL, countIf(m.configured AND m.callbacks = 0)) AS accounts", known)).alarm(1),
	}
}

func accountTrends(chosen string) []*Panel {
	return []*Panel{
		daily(bars, "Messages by day and outcome 每日消息数", "What became of the messages of a day, over all accounts found.", "short", noMessages,
			byEveryDay("messages", countIfs("m.outcome", outcomes), chosen), colored(outcomes)...),
		daily(lines, "Accounts by day 每日账号数", "Accounts that sent something on a day, and accounts of which something was rejected.", "short", noMessages,
			byEveryDay("messages", `uniqExact(m.appid) AS "sent 有群发", uniqExactIf(m.appid, m.outcome = 'rejected') AS "rejected 有未通过"`, chosen),
			colored([]outcome{{title: "sent 有群发", color: green}, {title: "rejected 有未通过", color: red}})...),
		daily(lines, "Reach rate over the accounts 各账号送达率分布", "The reach rates that the accounts had on a day: one in ten accounts lies below p10, half below the median. One large account cannot hide many small ones here.", "percentunit", notKnown,
			zone+`SELECT toDateTime(day, tz) AS time, quantile(0.1)(rate) AS "p10", quantile(0.5)(rate) AS "median 中位数", quantile(0.9)(rate) AS "p90"
FROM
(
    SELECT m.day AS day, `+reach+` AS rate
    FROM messages AS m
    `+indent(chosen)+`
    GROUP BY m.day, m.appid
    HAVING rate IS NOT NULL
)
GROUP BY day
ORDER BY time`, colored([]outcome{{title: "p10", color: orange}, {title: "median 中位数", color: green}, {title: "p90", color: blue}})...).ratio(),
	}
}

func largest(chosen string) *Panel {
	return table("Accounts 账号", "The accounts that addressed the most people in the time range. The columns of people are sums of what is known; 'missing' is unknown for accounts without a recorded send.", noMessages,
		zone+`SELECT d.account AS "Account 账号", d.appid AS appid, d.messages AS "Messages 消息", d.total AS "Addressed 目标人数", d.sent AS "Reached 送达人数", d.rate AS "Reach 送达率",
    d.rejected AS "Rejected 未通过", d.unknown AS "Counts unknown 人数未知", r.missing AS "Missing 未到达", r.recording AS "Recorded 登记", d.last_callback AS "Last callback 最近回调"
FROM
(
    SELECT m.appid AS appid, any(m.account) AS account, count() AS messages, sum(m.total) AS total, sum(m.sent) AS sent, `+reach+` AS rate,
        countIf(m.outcome = 'rejected') AS rejected, countIf(m.sent IS NULL) AS unknown, max(m.received_at) AS last_callback
    FROM messages AS m
    `+indent(chosen)+`
    GROUP BY m.appid
    ORDER BY sum(m.total) DESC NULLS LAST, appid
    LIMIT 300
) AS d
LEFT JOIN
(
    SELECT m.appid AS appid, if(sum(m.recorded) = 0, NULL, sum(m.missing_callbacks)) AS missing,
        multiIf(sum(m.recorded) = 0, 'none', sum(m.callbacks_unrecorded) = 0, 'all', 'some') AS recording
    FROM recording_daily AS m
    `+indent(chosen)+`
    GROUP BY m.appid
) AS r ON r.appid = d.appid
ORDER BY d.total DESC NULLS LAST, d.appid`,
		col("Account 账号", 160).linked("Delivery 送达", toDelivery), col("appid", 170), number("Messages 消息", "locale", 100), people("Addressed 目标人数"), people("Reached 送达人数"), ratio("Reach 送达率"),
		number("Rejected 未通过", "locale", 110).linked("Audit failures 审核未通过", toAudit), number("Counts unknown 人数未知", "locale", 130),
		number("Missing 未到达", "locale", 120).linked("Missing callbacks 未到达的回调", toMissing), words("Recorded 登记", 130, recordings), col("Last callback 最近回调", 160))
}

func falling(chosen string) *Panel {
	const middle = "toDate($__fromTime, tz) + intDiv(toUInt16(toDate($__toTime, tz) - toDate($__fromTime, tz)) + 1, 2)"
	half := func(comparison string) string {
		c := "m.day " + comparison + " " + middle
		return "sumIf(m.sent, " + c + " AND m.total IS NOT NULL) / nullIf(sumIf(m.total, " + c + " AND m.sent IS NOT NULL), 0)"
	}
	return table("Falling reach 送达率下降", "Accounts whose reach rate in the second half of the time range is lower than in the first, the largest fall first. Accounts without known counts in both halves are left out.", "none 没有",
		from("messages", `any(m.account) AS "Account 账号", m.appid AS appid, `+half("<")+` AS "Before 前半段",
    `+half(">=")+` AS "Now 后半段", "Now 后半段" - "Before 前半段" AS "Change 变化", sum(m.total) AS "Addressed 目标人数"`,
			chosen+"\nGROUP BY m.appid\nHAVING \"Change 变化\" < 0\nORDER BY \"Change 变化\", appid\nLIMIT 100"),
		col("Account 账号", 160).linked("Delivery 送达", toDelivery), col("appid", 170), ratio("Before 前半段"), ratio("Now 后半段"), ratio("Change 变化"), people("Addressed 目标人数"))
}

func rejectedMost(chosen string) *Panel {
	return table("Most rejected 未通过最多", "Accounts by rejected messages in the time range.", "none 没有",
		from("messages", `any(m.account) AS "Account 账号", m.appid AS appid, countIf(m.outcome = 'rejected') AS "Rejected 未通过", count() AS "Messages 消息",
    "Rejected 未通过" / nullIf("Messages 消息", 0) AS "Share 占比", topKIf(1)(m.err_reason_zh, m.outcome = 'rejected')[1] AS "Mostly 主要原因"`,
			chosen+"\nGROUP BY m.appid\nHAVING \"Rejected 未通过\" > 0\nORDER BY \"Rejected 未通过\" DESC, \"Share 占比\" DESC, appid\nLIMIT 100"),
		col("Account 账号", 160).linked("Audit failures 审核未通过", toAudit), col("appid", 170), number("Rejected 未通过", "locale", 110).bar(red), number("Messages 消息", "locale", 100), ratio("Share 占比"), col("Mostly 主要原因", 0))
}

func silent() *Panel {
	return table("Silent accounts 沉默的账号", "Accounts whose latest callback came before the time range, or never, the latest first. Nothing may be wrong: but if they do send, their callbacks do not reach us.", "none 没有",
		from("accounts", `m.account AS "Account 账号", m.appid AS appid, if(m.configured, 'yes 是', 'no 否') AS "Configured 已配置", m.last_callback_at AS "Last callback 最近回调",
    m.last_submitted_at AS "Last recorded send 最近登记", m.callbacks AS "Callbacks 回调"`,
			where(found)+"\n  AND (m.last_callback_at IS NULL OR m.last_callback_at < $__fromTime)\nORDER BY m.last_callback_at DESC NULLS LAST, m.appid\nLIMIT 300"),
		col("Account 账号", 160).linked("Delivery 送达", toDelivery), col("appid", 170), col("Configured 已配置", 130), col("Last callback 最近回调", 170), col("Last recorded send 最近登记", 190), number("Callbacks 回调", "locale", 100))
}

func recording() *Panel {
	return table("Accounts whose sends are not all recorded 未完全登记的账号", "Of all time. Callbacks of unrecorded sends that never came cannot be seen, so for these accounts 'nothing is missing' proves nothing.", "none 没有",
		from("accounts", `m.account AS "Account 账号", m.appid AS appid, toString(m.recording) AS "Recorded 登记", m.callbacks AS "Callbacks 回调", m.callbacks_unrecorded AS "Unrecorded 未登记",
    m.unrecorded_share AS "Share 占比", m.missing_callbacks AS "Missing 未到达", m.note_zh AS "说明", m.note AS "Note"`,
			where(found)+"\n  AND m.recording != 'all' AND m.messages > 0\nORDER BY m.callbacks_unrecorded DESC, m.appid\nLIMIT 300"),
		col("Account 账号", 160).linked("Missing callbacks 未到达的回调", toMissing), col("appid", 170), words("Recorded 登记", 130, recordings), number("Callbacks 回调", "locale", 100),
		number("Unrecorded 未登记", "locale", 120), ratio("Share 占比"), number("Missing 未到达", "locale", 120), col("说明", 0), col("Note", 0))
}
