package dashboards

// Reach over those messages of which both numbers are known: one without the
// other would bend the ratio.
const (
	reach    = "sumIf(m.sent, m.total IS NOT NULL) / nullIf(sumIf(m.total, m.sent IS NOT NULL), 0)"
	filter   = "sumIf(m.filtered, m.total IS NOT NULL) / nullIf(sumIf(m.total, m.filtered IS NOT NULL), 0)"
	failures = "sumIf(m.errors, m.eligible IS NOT NULL) / nullIf(sumIf(m.eligible, m.errors IS NOT NULL), 0)"
)

const rateHelp = "sent / total, over the messages of which WeChat has said both. Messages that were rejected, or found by polling alone, are not in it."

func delivery() *Dashboard {
	d := fromViews("qunfa-delivery", "Delivery 送达", "How many people mass messages (群发) reached, and how that changes. total = people addressed; eligible = those left after "+
		"WeChat's filtering (its FilterCount is what remains); filtered = total - eligible; sent and errors = what became of the eligible. Unknown is not zero.",
		account(),
		fixed("audience", "Audience 发送对象", "To whom: everybody, one tag, or a list of openids.", []outcome{
			{value: "all", title: "all 全部用户"}, {value: "tag", title: "tag 标签"}, {value: "openids", title: "openids 列表"},
			{value: "not recorded", title: "not recorded 未登记"},
		}),
		choice("campaign", "Campaign 活动", "What people call one send of several messages, as recorded.",
			`SELECT m.campaign AS campaign FROM campaigns AS m
WHERE `+ofAccounts+`
GROUP BY campaign ORDER BY max(m.last_day) DESC, campaign LIMIT 2000`),
	)
	d.annotate(rejections(ofAccounts))
	chosen := where(inDays, ofAccounts, ofAudiences, ofCampaigns)
	d.line(4, deliveryTiles(chosen)...)
	d.row("Trends 趋势")
	d.line(9, deliveryTrends(chosen)...)
	d.line(9, messageTrends(chosen)...)
	d.row("By account, audience and campaign 按账号、发送对象和活动")
	d.line(10, byAccount(chosen)...)
	d.line(9, byAudience(chosen), byCampaign(chosen))
	d.row("Messages 消息")
	d.line(14, latest(chosen))
	return d
}

func deliveryTiles(chosen string) []*Panel {
	return []*Panel{
		tile("Messages 消息数", "Mass messages of the time range, whatever became of them. Those that nobody recorded are known by their callback alone.", "locale", noMessages, blue,
			from("messages", "nullIf(count(), 0) AS messages", chosen)),
		tile("People reached 送达人数", "People that got a message, counted once for each message (SentCount). Messages whose counts are unknown are not in the sum.", "locale", notKnown, green,
			from("messages", "sum(m.sent) AS people", chosen)),
		tile("Reach rate 送达率", rateHelp, "percentunit", notKnown, green, from("messages", reach+" AS rate", chosen)).decimals(1),
		tile("Filtered 过滤率", "filtered / total: people whom WeChat did not send to because of region or sex, because they refuse messages, or because they had their four of this month.",
			"percentunit", notKnown, orange, from("messages", filter+" AS rate", chosen)).decimals(1),
		tile("Rejected 审核未通过", "Messages that review, the originality check or the administrator rejected. Nobody got them.", "locale", noMessages, red,
			from("messages", "if(count() = 0, NULL, countIf(m.outcome = 'rejected')) AS messages", chosen)).alarm(1).
			link("Audit failures 审核未通过", "/d/qunfa-audit-failures?${app:queryparam}"+keep),
		tile("Counts unknown 人数未知", "Messages of which WeChat has not said how many people they reached: no callback yet, or found by polling, which tells no counts. They are in no sum of people.",
			"locale", noMessages, purple, from("messages", "if(count() = 0, NULL, countIf(m.sent IS NULL)) AS messages", chosen)).
			link("Missing callbacks 未到达的回调", "/d/qunfa-missing-callbacks?${app:queryparam}"+keep),
	}
}

func deliveryTrends(chosen string) []*Panel {
	return []*Panel{
		daily(bars, "People by day 每日人数", "People addressed by the messages of a day: reached, not reached though eligible, and filtered out. Sums of what is known.",
			"short", notKnown, byEveryDay("messages", `sum(m.sent) AS "sent 已送达", sum(m.errors) AS "errors 发送失败", sum(m.filtered) AS "filtered 被过滤"`, chosen),
			colored([]outcome{{title: "sent 已送达", color: green}, {title: "errors 发送失败", color: red}, {title: "filtered 被过滤", color: orange}})...),
		daily(lines, "Rates by day 每日比率", "reach = sent / total; filtered = filtered / total; failed = errors / eligible. Each over the messages of which both numbers are known; a day without any has no point.",
			"percentunit", notKnown, byDay("messages", reach+` AS "reach 送达率",
        `+filter+` AS "filtered 过滤率",
        `+failures+` AS "failed 失败率"`, chosen),
			colored([]outcome{{title: "reach 送达率", color: green}, {title: "filtered 过滤率", color: orange}, {title: "failed 失败率", color: red}})...).ratio(),
	}
}

func messageTrends(chosen string) []*Panel {
	return []*Panel{
		daily(bars, "Messages by day and outcome 每日消息数", "What became of the messages of a day. pending: nobody knows yet. missing: nobody could find out. unknown: a final status that qunfa does not know.",
			"short", noMessages, byEveryDay("messages", countIfs("m.outcome", outcomes), chosen), colored(outcomes)...),
		daily(lines, "Time to the result 出结果用时", "Seconds from the recorded send to the callback (its CreateTime): half of the messages were quicker than the median, nine of ten than p90. "+
			"Messages whose send nobody recorded are not in it.", "s", notKnown,
			byDay("messages", `quantile(0.5)(m.delivery_seconds) AS "median 中位数", quantile(0.9)(m.delivery_seconds) AS "p90"`,
				chosen+"\n  AND m.delivery_seconds IS NOT NULL"),
			colored([]outcome{{title: "median 中位数", color: blue}, {title: "p90", color: orange}})...),
	}
}

func byAccount(chosen string) []*Panel {
	return []*Panel{
		daily(lines, "Reach rate by account 各账号送达率", rateHelp+" The ten accounts that addressed the most people in the time range.", "percentunit", notKnown,
			zone+`SELECT toDateTime(m.day, tz) AS time, if(any(m.account) = m.appid, m.appid, concat(any(m.account), ' · ', m.appid)) AS label, `+reach+` AS rate
FROM messages AS m
`+chosen+`
  AND m.appid IN (SELECT m.appid FROM messages AS m `+chosen+` GROUP BY m.appid ORDER BY sum(m.total) DESC NULLS LAST LIMIT 10)
GROUP BY m.day, m.appid
HAVING rate IS NOT NULL
ORDER BY time, label`).ratio().named("label"),
		table("Accounts 账号", "The messages of each account in the time range. The columns of people are sums of what is known; 'counts unknown' says how many messages are not in them.", noMessages,
			from("messages", `any(m.account) AS "Account 账号", m.appid AS appid, count() AS "Messages 消息",
    sum(m.total) AS "Addressed 目标人数", sum(m.sent) AS "Reached 送达人数",
    `+reach+` AS "Reach 送达率",
    countIf(m.outcome = 'rejected') AS "Rejected 未通过", countIf(m.sent IS NULL) AS "Counts unknown 人数未知"`,
				chosen+"\nGROUP BY m.appid\nORDER BY \"Addressed 目标人数\" DESC NULLS LAST, appid\nLIMIT 500"),
			col("Account 账号", 160).linked("This account alone 只看此账号", toDelivery), col("appid", 170), number("Messages 消息", "locale", 90), people("Addressed 目标人数"), people("Reached 送达人数"),
			ratio("Reach 送达率"), number("Rejected 未通过", "locale", 110).linked("Audit failures 审核未通过", toAudit),
			number("Counts unknown 人数未知", "locale", 130).linked("Missing callbacks 未到达的回调", toMissing)),
	}
}

func byAudience(chosen string) *Panel {
	return table("Audience 发送对象", "Messages to everybody, to a tag, and to lists of openids. 'not recorded': nobody told qunfa of the send.", noMessages,
		from("messages", `if(m.audience = '', 'not recorded 未登记', toString(m.audience)) AS "Audience 发送对象", count() AS "Messages 消息",
    sum(m.total) AS "Addressed 目标人数", sum(m.sent) AS "Reached 送达人数", `+reach+` AS "Reach 送达率",
    `+filter+` AS "Filtered 过滤率"`, chosen+"\nGROUP BY \"Audience 发送对象\"\nORDER BY \"Messages 消息\" DESC"),
		col("Audience 发送对象", 150), number("Messages 消息", "locale", 90), people("Addressed 目标人数"), people("Reached 送达人数"), ratio("Reach 送达率"), ratio("Filtered 过滤率")).wide(10)
}

func byCampaign(chosen string) *Panel {
	return table("Campaigns 活动", "Campaigns with messages in the time range, as recorded: one send to a long list is one campaign of many messages. 'counts unknown': messages that are not in the columns of people.",
		"no campaign was recorded 没有登记活动",
		from("messages", `m.campaign AS "Campaign 活动", any(m.account) AS "Account 账号", m.appid AS appid, count() AS "Messages 消息",
    sum(m.total) AS "Addressed 目标人数", sum(m.sent) AS "Reached 送达人数", `+reach+` AS "Reach 送达率",
    countIf(m.outcome = 'rejected') AS "Rejected 未通过", countIf(m.sent IS NULL) AS "Counts unknown 人数未知"`,
			chosen+"\n  AND m.campaign != ''\nGROUP BY m.campaign, m.appid\nORDER BY max(m.day) DESC, \"Campaign 活动\", appid\nLIMIT 200"),
		col("Campaign 活动", 150).linked("This campaign alone 只看此活动",
			"/d/qunfa-delivery?var-app=${__data.fields.appid:percentencode}&var-campaign=${__value.raw:percentencode}"+keep),
		col("Account 账号", 130), hidden("appid"), number("Messages 消息", "locale", 90), people("Addressed 目标人数"), people("Reached 送达人数"),
		ratio("Reach 送达率"), number("Rejected 未通过", "locale", 100), number("Counts unknown 人数未知", "locale", 120)).wide(14)
}

func latest(chosen string) *Panel {
	return table("Latest messages 最新消息", "The newest messages of the time range; the label leads to everything about one. A count that WeChat has not said is shown as unknown, never as 0.", noMessages,
		from("messages", `coalesce(m.submitted_at, m.finished_at, m.last_poll_at, m.deleted_at) AS "Time 时间", m.account AS "Account 账号",
    if(m.label = '', toString(m.msg_id), m.label) AS "Message 消息", m.campaign AS "Campaign 活动",
    if(m.audience = '', 'not recorded 未登记', toString(m.audience)) AS "Audience 发送对象", toString(m.outcome) AS "Outcome 结果",
    if(m.err_code IS NULL, toString(m.status), concat(m.status, ' ', m.err_reason_zh)) AS "Status 状态",
    m.total AS "Addressed 目标人数", m.filtered AS "Filtered 被过滤", m.sent AS "Reached 送达人数", m.errors AS "Errors 发送失败",
    m.sent / nullIf(m.total, 0) AS "Reach 送达率", m.delivery_seconds AS "Took 用时", m.appid AS appid, toString(m.msg_id) AS msg_id`,
			chosen+"\nORDER BY \"Time 时间\" DESC, m.appid, m.msg_id DESC\nLIMIT 200"),
		col("Time 时间", 160), col("Account 账号", 130).linked("This account alone 只看此账号", toDelivery), col("Message 消息", 150).linked("This message 此消息", toMessage),
		col("Campaign 活动", 120), col("Audience 发送对象", 130), words("Outcome 结果", 140, outcomes), col("Status 状态", 0),
		people("Addressed 目标人数"), people("Filtered 被过滤"), people("Reached 送达人数"), people("Errors 发送失败"), ratio("Reach 送达率"),
		number("Took 用时", "s", 90), hidden("appid"), col("msg_id", 110))
}
