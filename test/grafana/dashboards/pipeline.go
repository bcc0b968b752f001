package dashboards

import "strings"

// prometheus is the data source of the one dashboard about the services
// themselves. Its variable has a name of its own: links carry variables along,
// and a ClickHouse data source cannot answer PromQL.
var prometheus = DataSource{"prometheus", "${prometheus_datasource}"}

// chosenSeries is what every selector must have.
const chosenSeries = `job=~"$job",instance=~"$instance"`

func prom(refID, legend, expr string) Target {
	return Target{RefID: refID, Expr: promExpr(expr), LegendFormat: legend, Format: "time_series", Range: true}
}

func promNow(expr string) Target {
	return Target{RefID: "A", Expr: promExpr(expr), Format: "time_series", Instant: true}
}

// promExpr writes out two shorthands: {@} chooses the series of the dashboard,
// [@] is the range for rates.
func promExpr(expr string) string {
	expr = strings.ReplaceAll(expr, "{@,", "{"+chosenSeries+",")
	expr = strings.ReplaceAll(expr, "{@}", "{"+chosenSeries+"}")
	return strings.ReplaceAll(expr, "[@]", "[$__rate_interval]")
}

// quantiles are two targets over a histogram.
func quantiles(metric string) []Target {
	expr := func(q string) string {
		return "histogram_quantile(" + q + ", sum by (le) (rate(" + metric + "_bucket{@}[@])))"
	}
	return []Target{prom("A", "median 中位数", expr("0.5")), prom("B", "p99", expr("0.99"))}
}

func pipeline() *Dashboard {
	d := &Dashboard{
		UID: "qunfa-pipeline", Title: "Pipeline 管道", Description: "How the services are: callbacks from WeChat, the log in Kafka, the sink into ClickHouse, and the polls of WeChat, in the order in which data flows. " +
			"Every figure of messages and people is on the other dashboards.",
		Tags: []string{Tag, "prometheus"}, SchemaVersion: SchemaVersion, Version: 1, GraphTooltip: 1,
		Time: TimeRange{"now-6h", "now"}, TimeZone: "browser", WeekStart: "monday", Refresh: "1m",
		Links: links(), Annotations: list{[]Annotation{builtIn()}}, Panels: []*Panel{}, source: prometheus,
	}
	d.Templating.List = []Variable{
		{Name: "prometheus_datasource", Label: "Data source", Type: "datasource", Query: prometheus.Type, Refresh: 1, Current: object{}},
		promChoice("job", "Job", `label_values({__name__=~"qunfa_build_info|qunfa_messages"}, job)`),
		promChoice("instance", "Instance", `label_values({__name__=~"qunfa_build_info|qunfa_messages",job=~"$job"}, instance)`),
	}
	d.annotate(
		promAnnotation("Audit failures 审核未通过", red, `sum by (err_code) (increase(qunfa_audit_failures_total{@}[5m])) > 0`, "err({{err_code}})"),
		promAnnotation("Restarts 重启", blue, `changes(process_start_time_seconds{@}[1m]) > 0`, "{{job}} {{instance}}"),
	)
	d.line(4, pipelineTiles()...)
	d.row("Callbacks 回调 (ingest)")
	d.line(8, callbackPanels()...)
	d.line(8, ingestPanels()...)
	d.line(8, spoolPanels()...)
	d.row("Log 日志 (Kafka)")
	d.lines(8, 3, kafkaPanels()...)
	d.row("Sink 写入 (ClickHouse)")
	d.lines(8, 3, sinkPanels()...)
	d.line(8, clickHousePanels()...)
	d.row("Polls 查询 (reconcile)")
	d.line(8, reconcilePanels()...)
	d.lines(8, 3, weChatPanels()...)
	d.row("Delivery as Prometheus sees it 告警所依据的送达数据")
	d.line(8, alertPanels()...)
	return d
}

func promChoice(name, label, query string) Variable {
	return Variable{
		Name: name, Label: label, Type: "query", DataSource: &prometheus, Query: query, Definition: query, Refresh: 2, Sort: 1,
		Multi: true, IncludeAll: true, AllValue: ".+", Current: object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
	}
}

func promAnnotation(name, color, expr, title string) Annotation {
	return Annotation{Name: name, Enable: true, IconColor: color, DataSource: prometheus, Expr: promExpr(expr), Step: "60s", TitleFormat: title}
}

const nothing = "no data: is it scraped? 没有数据：是否已抓取？"

// promTile is a tile with the present value.
func promTile(title, description, unit string, expr string) *Panel {
	p := tile(title, description, unit, nothing, blue, "")
	p.Targets = []Target{promNow(expr)}
	return p
}

func promSeries(title, description, unit string, targets ...Target) *Panel {
	return series(lines, title, description, unit, nothing, targets)
}

// promCounts draws what happens per second, by a label, stacked.
func promCounts(title, description, metric, label string) *Panel {
	p := promSeries(title, description, "cps", prom("A", "{{"+label+"}}", "sum by ("+label+") (rate("+metric+"{@}[@]))"))
	custom := p.FieldConfig.Defaults["custom"].(object)
	custom["fillOpacity"], custom["stacking"] = 30, object{"mode": "normal", "group": "A"}
	return p
}

func pipelineTiles() []*Panel {
	return []*Panel{
		promTile("Processes down 停止的进程", "Scrape targets of the jobs chosen that did not answer. It should be 0.", "none", `count(up{@} == 0) or 0 * count(up{@})`).alarm(1),
		promTile("Acknowledged in (p99) 应答用时", "99 of 100 MASSSENDJOBFINISH pushes were durable within this. WeChat hangs up after 5 s. No value: none came just now.", "s",
			`histogram_quantile(0.99, sum by (le) (rate(qunfa_callback_ack_seconds_bucket{@}[@])))`).alarm(3),
		promTile("Lag of the sink 写入延迟", "Age of the oldest event that is not in ClickHouse yet. Seconds are normal, minutes are not.", "s", `max(qunfa_kafka_lag_seconds{@,service="sink"})`).alarm(300),
		promTile("Sinks paused 暂停的写入", "Sinks that wait for somebody to repair something: their logs and /readyz say what.", "none", `sum(qunfa_sink_paused{@})`).alarm(1),
		promTile("Dead letters 死信", "Records set aside within the time range. `qunfa dead list` shows them.", "none", `sum(increase(qunfa_sink_dead_letters_total{@}[$__range]))`).alarm(1).decimals(0),
		promTile("Spooled records 暂存的记录", "Events that wait on the disk of ingest because Kafka cannot take them. They were acknowledged, and drain by themselves.", "locale", `sum(qunfa_spool_records{@})`).
			without(noSpool).alarm(1),
	}
}

func callbackPanels() []*Panel {
	return []*Panel{
		promCounts("Callbacks 回调", "Requests to the callback URLs, by what became of them. finished and passed are normal; unavailable and overload are repeated by WeChat, up to 3 times.", "qunfa_callbacks_total", "result"),
		promSeries("Time to acknowledge 应答用时", "From the receipt of a MASSSENDJOBFINISH push until it is durable. WeChat hangs up after 5 s and repeats.", "s", quantiles("qunfa_callback_ack_seconds")...).limit(5),
		promSeries("Signs of wrong keys or clocks 密钥或时钟异常", "Requests refused for their signature or decryption, and pushes that were accepted although a clock is off, the original id differs, or the previous token or key was used.", "cps",
			prom("A", "refused {{result}}", `sum by (result) (rate(qunfa_callbacks_total{@,result!~"url_verified|finished|passed|dead_letter|overload|unavailable"}[@]))`),
			prom("B", "clock off 时钟偏差", `sum(rate(qunfa_callback_clock_skewed_total{@}[@]))`),
			prom("C", "another original id 原始ID不符", `sum(rate(qunfa_callback_original_id_mismatches_total{@}[@]))`),
			prom("D", "previous {{kind}} 旧密钥", `sum by (kind) (rate(qunfa_callback_previous_secrets_total{@}[@]))`)),
	}
}

func ingestPanels() []*Panel {
	return []*Panel{
		promSeries("Callbacks in flight 处理中的回调", "Requests being read, checked or written to the log, and copies that wait to be passed on to upstream applications.", "none",
			prom("A", "in flight 处理中", `sum(qunfa_callbacks_in_flight{@})`), prom("B", "waiting for upstream 等待转发", `sum(qunfa_upstream_queue_length{@})`)),
		promSeries("Passed on to upstream 转发", "Pushes passed on to the applications that had the URLs before. After an error WeChat gets success all the same.", "cps",
			prom("A", "{{kind}} {{result}}", `sum by (kind, result) (rate(qunfa_upstream_requests_total{@}[@]))`)),
		promSeries("Time of upstream 转发用时", "How long upstream applications took to answer, or until they were given up (4 s).", "s", quantiles("qunfa_upstream_seconds")...),
		promCounts("Records of sends 登记", "Sends recorded through the record API, by what became of them.", "qunfa_submissions_total", "result"),
	}
}

const noSpool = "no spool is set up 未设置暂存"

func spoolPanels() []*Panel {
	return []*Panel{
		promSeries("Spool 本地暂存", "Bytes of events on the disk of ingest, and how much it takes; beyond, WeChat gets 503.", "bytes",
			prom("A", "on disk 已暂存 {{instance}}", `max by (instance) (qunfa_spool_bytes{@})`), prom("B", "room 上限 {{instance}}", `max by (instance) (qunfa_spool_max_bytes{@})`)).without(noSpool),
		promSeries("Age of the spool 暂存时长", "Age of the oldest event that waits on the disk. No line: none waits.", "s",
			prom("A", "{{instance}}", `time() - max by (instance) (qunfa_spool_oldest_timestamp_seconds{@} > 0)`)).without("nothing waits 没有暂存"),
		promSeries("Spooled and drained 暂存与回放", "Records made durable on the disk, and those of them that Kafka has taken since.", "cps",
			prom("A", "spooled 暂存", `sum(rate(qunfa_spool_written_total{@}[@]))`), prom("B", "drained 回放", `sum(rate(qunfa_spool_drained_total{@}[@]))`)).without(noSpool),
		promSeries("Trouble of the spool 暂存异常", "Failures by what the spool was doing, records set aside, records taken over from a damaged file, and damaged files that lie there. All should be 0.", "none",
			prom("A", "{{op}}", `sum by (op) (rate(qunfa_spool_errors_total{@}[@]))`),
			prom("B", "set aside 搁置", `sum(qunfa_spool_set_aside_records{@})`),
			prom("C", "set aside per second 每秒搁置", `sum(rate(qunfa_spool_set_aside_total{@}[@]))`),
			prom("D", "salvaged 抢救", `sum(rate(qunfa_spool_salvaged_total{@}[@]))`),
			prom("E", "damaged files 损坏文件", `sum(qunfa_spool_damaged_files{@})`)).without(noSpool),
	}
}

func kafkaPanels() []*Panel {
	return []*Panel{
		promSeries("Produced 写入 Kafka", "Records that the broker acknowledged with acks=all, by service.", "cps", prom("A", "{{service}}", `sum by (service) (rate(qunfa_kafka_produce_records_total{@}[@]))`)),
		promSeries("Time to produce 写入用时", "Time until the broker answered one produce request. An answer to WeChat waits for it.", "s", quantiles("qunfa_kafka_produce_seconds")...),
		promSeries("Produce failures 写入失败", "Failed produce requests by class, and partitions whose last request failed. Both should be 0.", "none",
			prom("A", "{{service}} {{class}}", `sum by (service, class) (rate(qunfa_kafka_produce_errors_total{@}[@]))`),
			prom("B", "{{service}} partitions failing 失败分区", `sum by (service) (qunfa_kafka_produce_failing_lanes{@})`)),
		promSeries("Lag 延迟", "Records that a service has not committed yet. The sink should be near 0; reconcile reads to know which accounts are its own.", "none",
			prom("A", "{{service}} records 条", `sum by (service) (qunfa_kafka_lag_records{@})`)),
		promSeries("Lag in time 延迟时间", "Age of the oldest record that a service has not committed yet; 0 if there is none.", "s", prom("A", "{{service}}", `max by (service) (qunfa_kafka_lag_seconds{@})`)),
		promSeries("Reading and committing 读取与提交", "Failures by class, and generations of the consumer groups: each is a rebalance. Trimmed records were deleted from the topic before they were read.", "cps",
			prom("A", "{{service}} fetch {{class}}", `sum by (service, class) (rate(qunfa_kafka_fetch_errors_total{@}[@]))`),
			prom("B", "{{service}} commit {{class}}", `sum by (service, class) (rate(qunfa_kafka_commit_errors_total{@}[@]))`),
			prom("C", "{{service}} join {{class}}", `sum by (service, class) (rate(qunfa_kafka_join_errors_total{@}[@]))`),
			prom("D", "{{service}} rebalances 再均衡", `sum by (service) (rate(qunfa_kafka_generations_total{@}[@]))`),
			prom("E", "{{service}} trimmed 已被清除", `sum by (service) (rate(qunfa_kafka_trimmed_records_total{@}[@]))`)),
	}
}

func sinkPanels() []*Panel {
	return []*Panel{
		promCounts("Events written 写入的事件", "Events written to ClickHouse by type. Repeated ones count again: queries count each once.", "qunfa_sink_events_total", "type"),
		promSeries("Time of a batch 批次用时", "From the start of a batch to its commit: insert, read back, fold, insert, commit.", "s", quantiles("qunfa_sink_batch_seconds")...),
		promSeries("Records in a batch 批次大小", "At most 10,000; few are normal when little happens.", "none", quantiles("qunfa_sink_batch_records")...),
		promSeries("Failures of the sink 写入失败", "Failed attempts to write a batch, by step and class. retry heals by itself; pause needs somebody; row leads to a dead letter.", "cps",
			prom("A", "{{step}} {{class}}", `sum by (step, class) (rate(qunfa_sink_failures_total{@}[@]))`)),
		promSeries("Set aside or strange 死信与异常", "Dead letters by reason, records that are not events of qunfa, offsets gone before they were read, rewinds, and callbacks with more eligible people than addressed.", "cps",
			prom("A", "dead letter 死信 {{reason}}", `sum by (reason) (rate(qunfa_sink_dead_letters_total{@}[@]))`),
			prom("B", "foreign 外来", `sum(rate(qunfa_sink_foreign_records_total{@}[@]))`),
			prom("C", "trimmed 已被清除", `sum(rate(qunfa_sink_trimmed_records_total{@}[@]))`),
			prom("D", "rewinds 回退", `sum(rate(qunfa_sink_rewinds_total{@}[@]))`),
			prom("E", "count drift 人数不符", `sum(rate(qunfa_sink_count_drift_total{@}[@]))`)),
		promSeries("Since the last commit 距上次提交", "Seconds since each sink last committed a batch. It grows when nothing happens; together with lag it means trouble.", "s",
			prom("A", "{{instance}}", `time() - (qunfa_sink_last_commit_timestamp_seconds{@} > 0)`)),
	}
}

func clickHousePanels() []*Panel {
	return []*Panel{
		promCounts("Rows inserted 插入行数", "Rows that ClickHouse acknowledged, by operation; repeated inserts count again.", "qunfa_clickhouse_inserted_rows_total", "operation"),
		promSeries("Time of ClickHouse (p99) 用时", "99 of 100 operations took less, failures included.", "s",
			prom("A", "{{operation}}", `histogram_quantile(0.99, sum by (le, operation) (rate(qunfa_clickhouse_operation_seconds_bucket{@}[@])))`)),
		promSeries("Errors of ClickHouse 错误", "Failed operations by what can be done about it: auth, missing and schema need somebody.", "cps",
			prom("A", "{{operation}} {{class}}", `sum by (operation, class) (rate(qunfa_clickhouse_errors_total{@}[@]))`)),
	}
}

func reconcilePanels() []*Panel {
	return []*Panel{
		promCounts("Polls 查询", "Polls of mass/get by what came back.", "qunfa_polls_total", "result"),
		promCounts("Rounds 轮次", "Rounds by how they ended. Rounds that ended with sink_behind, log_failed or store_failed polled and gave up nothing.", "qunfa_reconcile_rounds_total", "result"),
		promSeries("Waiting messages 等待中的消息", "Pending messages of which the last round knew, those due for a poll, and all there are by ClickHouse.", "none",
			prom("A", "pending 等待", `sum(qunfa_reconcile_pending_messages{@})`), prom("B", "due 到期", `sum(qunfa_reconcile_due_messages{@})`), prom("C", "all 全部", `max(qunfa_pending_messages{@})`)),
		promSeries("Longest wait 最长等待", "For how long the message that waits longest had been due, the age of the oldest pending message, and the time since the last round that ended well.", "s",
			prom("A", "overdue 超期", `max(qunfa_reconcile_overdue_seconds{@})`),
			prom("B", "oldest pending 最早等待", `time() - max(qunfa_oldest_pending_submission_timestamp_seconds{@})`),
			prom("C", "since the last round 距上一轮", `time() - max(qunfa_reconcile_last_ok_timestamp_seconds{@} > 0)`),
			prom("D", "waited for the sink (p99) 等待写入", `histogram_quantile(0.99, sum by (le) (rate(qunfa_reconcile_barrier_wait_seconds_bucket{@}[@])))`)),
	}
}

func weChatPanels() []*Panel {
	return []*Panel{
		promSeries("Calls of WeChat 调用微信", "Requests to WeChat's APIs and to token servers, by API and result.", "cps", prom("A", "{{api}} {{result}}", `sum by (api, result) (rate(qunfa_wechat_requests_total{@}[@]))`)),
		promSeries("Time of WeChat (p99) 微信用时", "99 of 100 requests took less, whatever their result.", "s",
			prom("A", "{{api}}", `histogram_quantile(0.99, sum by (le, api) (rate(qunfa_wechat_request_duration_seconds_bucket{@}[@])))`)),
		promSeries("Accounts held back 暂停查询的账号", "Accounts that are not polled after an error, by its class. config and account need people; accounts asked about lately for comparison.", "none",
			prom("A", "{{class}}", `sum by (class) (qunfa_reconcile_account_blocked{@})`), prom("B", "asked about 已查询", `sum(qunfa_reconcile_accounts{@})`)),
		promSeries("Quota left 剩余额度", "The ten accounts with the fewest calls of mass/get left today, as WeChat last said.", "none", prom("A", "{{appid}}", `bottomk(10, min by (appid) (qunfa_quota_remaining{@}))`)),
		promSeries("Given up and odd 放弃与异常", "Messages given up by reason, rows that did not show our events, events that could not be made, failed readings of the quota, and access tokens obtained by why.", "cps",
			prom("A", "given up 放弃 {{reason}}", `sum by (reason) (rate(qunfa_abandoned_total{@}[@]))`),
			prom("B", "stale rows 过期数据", `sum(rate(qunfa_reconcile_stale_rows_total{@}[@]))`),
			prom("C", "event errors 事件错误", `sum(rate(qunfa_reconcile_event_errors_total{@}[@]))`),
			prom("D", "quota read 读额度 {{result}}", `sum by (result) (rate(qunfa_quota_reads_total{@,result!="ok"}[@]))`),
			prom("E", "token 令牌 {{why}}", `sum by (why) (rate(qunfa_wechat_token_refreshes_total{@}[@]))`)),
	}
}

func alertPanels() []*Panel {
	return []*Panel{
		promSeries("Messages of 30 days by outcome 近30天消息", "What /metrics/delivery says, from which alerts are made. While ClickHouse is far behind the log the page says nothing.", "locale",
			prom("A", "{{outcome}}", `max by (outcome) (qunfa_messages{@})`)),
		promSeries("People per second by result 每秒人数", "From the first callback of each message, if it was in time.", "cps", prom("A", "{{result}}", `sum by (result) (rate(qunfa_recipients_total{@}[@]))`)),
		promSeries("Rejections by code 按错误码的未通过", "Rejected messages in the last minutes, by code; codes that WeChat does not document are 'other'.", "none",
			prom("A", "err({{err_code}})", `sum by (err_code) (increase(qunfa_audit_failures_total{@}[@])) > 0`)),
	}
}
