package dashboards

const ofStates = "$__conditionalAll(m.state IN (${state:singlequote}), $state)"

// notRecorded is shown instead of a number of missing callbacks where nobody can
// know it: a send that nobody recorded cannot be missed.
const notRecorded = "unknown: no send was recorded 未知：没有登记群发"

func missingCallbacks() *Dashboard {
	d := fromViews("qunfa-missing-callbacks", "Missing callbacks and reconciliation 未到达的回调与核对", "Recorded sends whose callback has not come 45 minutes or more after the send, and what asking WeChat (mass/get) found out about them. "+
		"Only recorded sends can be missed: the table of accounts says for which accounts sends are recorded at all.",
		account(), fixed("state", "State 状态", "How far qunfa got with a message whose callback has not come.", states))
	d.annotate(rejections(ofAccounts))
	all, chosen := where(inDays, ofAccounts), where(inDays, ofAccounts, ofStates)
	d.line(5, missingTiles(all)...)
	d.row("Which sends are recorded 哪些群发有登记")
	d.line(10, recordedAccounts(all).wide(14), recordedShare(all).wide(10))
	d.row("Missing callbacks 未到达的回调")
	d.line(9, missingTrends(all, chosen)...)
	d.line(13, missingMessages(chosen))
	d.row("Reconciliation 核对")
	d.line(9, reconciled(all)...)
	return d
}

// ofRecorded counts in the view missing_callbacks, and is NULL where no send of
// the accounts and days chosen was recorded.
func ofRecorded(all, condition string) string {
	return zone + `SELECT if((SELECT sum(m.recorded) FROM recording_daily AS m ` + all + `) > 0, countIf(` + condition + `), NULL) AS messages
FROM missing_callbacks AS m
` + all
}

func missingTiles(all string) []*Panel {
	const only = " Of recorded sends alone: if none is recorded, nobody can know."
	return []*Panel{
		tile("Missing callbacks 未到达的回调", "Recorded messages of the time range whose callback has not come 45 minutes after the send. Imported history is not counted."+only, "locale", notRecorded, red,
			ofRecorded(all, "m.state != 'not chased'")).alarm(1),
		tile("Nobody knows yet 尚无结果", "Of these, those that are still being asked about."+only, "locale", notRecorded, blue, ofRecorded(all, "m.state = 'pending'")),
		tile("Found by asking 查询得知", "Of these, those whose outcome a poll told. Polls tell no counts of people."+only, "locale", notRecorded, green, ofRecorded(all, "m.state = 'found by poll'")),
		tile("Nobody could find out 结果未知", "Of these, those that were given up."+only, "locale", notRecorded, purple, ofRecorded(all, "m.state = 'missing'")).alarm(1),
		tile("Callbacks of unrecorded sends 未登记的群发", "Callbacks whose send nobody recorded, of all callbacks. Had one of these stayed away, nobody would have noticed.", "percentunit", "no callbacks 没有回调", orange,
			from("recording_daily", "sum(m.callbacks_unrecorded) / nullIf(sum(m.callbacks), 0) AS share", all)).decimals(1),
		tile("Accounts not fully recorded 未完全登记的账号", "Accounts with messages in the time range, some or all of whose sends nobody recorded: their missing callbacks cannot all be seen.", "locale", noMessages, orange,
			zone+`SELECT if(count() = 0, NULL, countIf(unrecorded > 0 OR recorded = 0)) AS accounts
FROM (SELECT sum(m.callbacks_unrecorded) AS unrecorded, sum(m.recorded) AS recorded FROM recording_daily AS m `+all+` GROUP BY m.appid)`).alarm(1),
	}
}

func recordedAccounts(all string) *Panel {
	return table("Which accounts record their sends 各账号的登记情况", "For every account with messages in the time range: whether its sends are recorded at all, judged by the callbacks. "+
		"'missing' is unknown, not 0, for an account without a recorded send.", noMessages,
		zone+`SELECT any(m.account) AS "Account 账号", m.appid AS appid,
    multiIf(sum(m.recorded) = 0, 'none', sum(m.callbacks_unrecorded) = 0, 'all', 'some') AS "Recorded 登记",
    sum(m.callbacks) AS "Callbacks 回调", sum(m.callbacks_unrecorded) AS "Unrecorded 未登记",
    sum(m.callbacks_unrecorded) / nullIf(sum(m.callbacks), 0) AS "Share 未登记占比",
    if(sum(m.recorded) = 0, NULL, sum(m.missing_callbacks)) AS "Missing 未到达",
    if(sum(m.recorded) = 0, 'callbacks that never came cannot be seen 无法发现未到达的回调',
        if(sum(m.callbacks_unrecorded) = 0, '', 'some could not be seen 部分未到达的回调无法发现')) AS "Note 说明"
FROM recording_daily AS m
`+all+`
GROUP BY m.appid
ORDER BY "Share 未登记占比" DESC NULLS LAST, appid
LIMIT 500`,
		col("Account 账号", 150).linked("This account alone 只看此账号", toMissing).linked("Delivery 送达", toDelivery), col("appid", 170), words("Recorded 登记", 140, recordings),
		number("Callbacks 回调", "locale", 100), number("Unrecorded 未登记", "locale", 120), ratio("Share 未登记占比"), number("Missing 未到达", "locale", 120), col("Note 说明", 0))
}

func recordedShare(all string) *Panel {
	return daily(lines, "Callbacks of unrecorded sends by day 每日未登记占比", "The share of a day's callbacks whose send nobody recorded. It should be 0; a day without callbacks has no point.", "percentunit", "no callbacks 没有回调",
		byDay("recording_daily", `sum(m.callbacks_unrecorded) / nullIf(sum(m.callbacks), 0) AS "unrecorded 未登记"`, all),
		colored([]outcome{{title: "unrecorded 未登记", color: orange}})...).ratio()
}

func missingTrends(all, chosen string) []*Panel {
	return []*Panel{
		daily(bars, "Missing callbacks by day and state 每日未到达的回调", "By the day of the send. Only recorded sends are counted; a day with none has no bar, which does not mean that nothing is missing.", "short", notRecorded,
			byDay("missing_callbacks", countIfs("m.state", states), chosen), colored(states)...),
		daily(lines, "Share missing by day 每日未到达率", "Recorded sends of a day whose callback has not come. A day without a recorded send has no point.", "percentunit", notRecorded,
			byDay("recording_daily", `sum(m.missing_callbacks) / nullIf(sum(m.recorded), 0) AS "missing 未到达"`, all),
			colored([]outcome{{title: "missing 未到达", color: purple}})...).ratio(),
	}
}

func missingMessages(chosen string) *Panel {
	return table("Messages without a callback 没有回调的消息", "Recorded messages whose callback has not come, the longest waiting first; the label leads to everything about one. An empty table does not mean that nothing is missing: "+
		"see which sends are recorded. SEND_FAIL may hide a rejection.", "none of the recorded sends 登记的群发中没有",
		from("missing_callbacks", `m.submitted_at AS "Sent at 提交时间", m.age_seconds AS "Since 已过", m.account AS "Account 账号", if(m.label = '', toString(m.msg_id), m.label) AS "Message 消息",
    m.campaign AS "Campaign 活动", toString(m.state) AS "State 状态", toString(m.outcome) AS "Outcome 结果", m.audience_size AS "People 登记人数", m.polls AS "Polls 查询次数", m.last_poll_at AS "Last poll 最近查询",
    multiIf(m.last_poll_error IS NOT NULL, concat('errcode ', toString(m.last_poll_error)), m.last_poll_status != '', toString(m.last_poll_status), 'none 没有') AS "Answer 答复",
    m.abandoned_detail AS "Why given up 放弃原因", m.appid AS appid, toString(m.msg_id) AS msg_id`, chosen+"\nORDER BY m.submitted_at, m.appid, m.msg_id\nLIMIT 500"),
		col("Sent at 提交时间", 160), number("Since 已过", "dtdurations", 140), col("Account 账号", 130).linked("This account alone 只看此账号", toMissing), col("Message 消息", 150).linked("This message 此消息", toMessage),
		col("Campaign 活动", 120), words("State 状态", 160, states), words("Outcome 结果", 140, outcomes), number("People 登记人数", "locale", 120), number("Polls 查询次数", "locale", 110), col("Last poll 最近查询", 160),
		col("Answer 答复", 130), col("Why given up 放弃原因", 0), hidden("appid"), col("msg_id", 110))
}

func reconciled(all string) []*Panel {
	decided := []outcome{{"callback", "callback 回调", green}, {"poll", "poll 查询", blue}, {"abandoned", "gave up 放弃查询", purple}, {"deleted", "deletion 删除", gray}, {"", "nobody knows yet 尚无结果", yellow}}
	return []*Panel{
		daily(bars, "What outcomes rest on 结果的依据", "Messages of a day by what decided their outcome. It should be callbacks; polls step in where they stay away.", "short", noMessages,
			byEveryDay("messages", countIfs("m.decided_by", decided), all), colored(decided)...),
		daily(lines, "Callbacks on their way 回调延迟", "Seconds from a callback's CreateTime until it reached us, by day. WeChat repeats a callback that was not answered within 5 s, so a high p95 means that ours could not be reached.", "s", "no callbacks 没有回调",
			byDay("messages", `quantile(0.5)(toUnixTimestamp(m.received_at) - toUnixTimestamp(m.finished_at)) AS "median 中位数",
        quantile(0.95)(toUnixTimestamp(m.received_at) - toUnixTimestamp(m.finished_at)) AS "p95"`, all+"\n  AND m.callback_received AND m.chased"),
			colored([]outcome{{title: "median 中位数", color: blue}, {title: "p95", color: orange}})...),
		table("Why asking ended without an answer 放弃原因", "Messages that were given up, by account and reason. no_credentials: the configuration has no app secret for the account. not_chased: imported history.", "none 没有",
			from("messages", `any(m.account) AS "Account 账号", m.appid AS appid, toString(m.abandoned_reason) AS "Reason 原因", count() AS "Messages 消息", any(m.abandoned_detail) AS "For example 例如"`,
				all+"\n  AND m.outcome = 'missing'\nGROUP BY m.appid, m.abandoned_reason\nORDER BY \"Messages 消息\" DESC, appid, m.abandoned_reason\nLIMIT 200"),
			col("Account 账号", 130).linked("This account alone 只看此账号", toMissing), hidden("appid"), words("Reason 原因", 180, []outcome{
				{"no_answer", "no answer 没有答案", purple}, {"never_polled", "never polled 未能查询", red}, {"no_credentials", "no credentials 没有凭证", orange}, {"not_chased", "not chased 未查询（导入的历史）", gray},
			}), number("Messages 消息", "locale", 100), col("For example 例如", 0)),
	}
}
