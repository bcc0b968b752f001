package wechattest

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// historyDays is how far back the demo's history reaches.
const historyDays = 30

// Demo is the scenario of the demo: five accounts, one for each way to receive
// pushes, 30 days of history and a live part in which everything happens that
// can. The live sends take 16 minutes of WeChat's time, the last callback comes
// about 100 minutes after the start; both are scaled.
func Demo(seed uint64) Scenario {
	accounts := demoAccounts(seed)
	return Scenario{
		Accounts: accounts,
		History:  demoHistory(seed, accounts),
		Live:     demoLive(accounts),
	}
}

func demoAccounts(seed uint64) []Account {
	accounts := []Account{
		{Name: "晨光日报", Mode: Plain, Format: XML, Subscription: true, Fans: 128_406},
		{Name: "山城美食地图", Mode: Compatible, Format: XML, Fans: 56_230},
		{Name: "木棉读书会", Mode: Safe, Format: XML, Fans: 18_745},
		{Name: "蓝鲸出行服务", Mode: Safe, Format: JSON, Fans: 243_118},
		{Name: "小满育儿", Mode: Plain, Format: JSON, Fans: 77_902},
	}
	for i := range accounts {
		a := accounts[i].complete(seed, i)
		a.Tags[8] = 8 // a handful of testers
		accounts[i] = a
	}
	return accounts
}

// demoHistory is one to three sends a day for every account.
func demoHistory(seed uint64, accounts []Account) []Past {
	labels := []string{"早间要闻", "本周精选", "会员福利", "周末去哪儿", "新品上架", "读者来信", "节气提醒", "活动回顾"}
	var all []Past
	for i, a := range accounts {
		weights := DefaultWeights()
		weights.Never, weights.Twice = 0.02, 0.01
		mix := Mix{Seed: seed, Weights: weights}
		for day := historyDays; day >= 1; day-- {
			d := draw(seed, "history", a.AppID, day)
			for n := range demoSends(d, a) {
				send := Send{Audience: demoAudience(d, a), MsgType: "mpnews", Label: pick(d, labels)}
				p := mix.Plan(Call{AppID: a.AppID, Ordinal: int64(day)*10 + n}).Told(History)
				// One account's operator does not record everything.
				if i == 1 && d.IntN(6) == 0 {
					p = p.Told(Unrecorded)
				}
				at := time.Duration(8+5*n)*time.Hour + time.Duration(d.between(0, int64(4*time.Hour)))
				all = append(all, Past{AppID: a.AppID, DaysAgo: day, Time: at.Truncate(time.Second), Send: send, Plan: p})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Past) int {
		return cmp.Or(cmp.Compare(b.DaysAgo, a.DaysAgo), cmp.Compare(a.Time, b.Time))
	})
	return all
}

func demoSends(d drawer, a Account) int64 {
	n := d.between(1, 3)
	if a.Subscription {
		return 1
	}
	return n
}

func demoAudience(d drawer, a Account) Audience {
	kind, tag, size := d.IntN(3), pick(d, []int64{2, 100, 101}), d.between(200, 10_000)
	switch {
	case a.Subscription || kind == 0:
		return All()
	case kind == 1:
		return Tag(tag)
	}
	return OpenIDs(size)
}

// demoLive lists what happens, minute by minute.
func demoLive(accounts []Account) []Step {
	news, food, books, travel, kids := accounts[0].AppID, accounts[1].AppID, accounts[2].AppID, accounts[3].AppID, accounts[4].AppID
	var steps []Step
	at := func(minute int, appid string, to Audience, label string, p Plan) {
		send := Send{Audience: to, MsgType: "mpnews", Label: label, ClientMsgID: fmt.Sprintf("demo-%d", len(steps)+1)}
		steps = append(steps, Step{At: time.Duration(minute) * time.Minute, AppID: appid, Send: send, Plan: p})
	}
	push := func(minute int, appid, kind string) {
		steps = append(steps, Step{At: time.Duration(minute) * time.Minute, AppID: appid, Push: kind})
	}

	at(0, news, All(), "今日早报", Success().Redelivered(1))
	at(0, food, Tag(100), "火锅季开锅", Success())
	at(1, books, All(), "本月书单", Partial())
	steps = append(steps, demoCampaign(travel)...)
	at(2, kids, Tag(2), "疫苗接种提醒", Success().Twice())
	push(2, kids, "text")
	at(3, food, All(), "限时秒杀", Rejected(10001))
	at(3, books, Tag(101), "历史专题", Rejected(20001))
	at(3, travel, Tag(2), "出行快讯", Rejected(20431).As("undocumented code"))
	at(4, kids, Tag(100), "早教课堂", Rejected(29999).As("undocumented code"))
	at(4, food, Tag(2), "老字号探店", Originality(30003))
	at(4, books, Tag(2), "读书笔记", Originality(30002).OldForm())
	at(5, kids, All(), "亲子嘉年华", Admin(40001))
	at(5, books, All(), "签名版预售", Admin(40002))
	push(5, travel, "template")
	at(6, travel, Tag(101), "优惠券到账", Rejected(20008).Redelivered(2))
	at(6, food, Tag(101), "好友互荐", Rejected(22000))
	at(7, food, OpenIDs(320), "试吃邀请", Fail())
	at(7, travel, Tag(8), "内部测试", DeletedAfterSuccess())
	at(8, kids, OpenIDs(2_400), "满月礼", Success().Never())
	at(8, books, Tag(100), "作家访谈", Success().Never())
	at(8, food, Tag(100), "夜市地图", Fail().Never())
	at(9, travel, Tag(100), "自驾路线", Rejected(20004).Never())
	at(9, kids, Tag(101), "撤回的通知", Success().Never().Deleted(time.Minute))
	at(9, kids, Tag(2), "石沉大海", Success().Lost("40059"))
	at(10, food, OpenIDs(1_500), "一直在发", Success().Lost(PollSending))
	at(10, books, Tag(101), "迟到的书评", Success().Late(90*time.Minute))
	at(10, travel, Tag(2), "迟到的审核", Rejected(20006).Late(80*time.Minute))
	at(11, kids, All(), "儿童体检", Filtered())
	at(11, food, Tag(2), "老格式", Success().OldForm())
	push(11, books, "publish")
	at(12, travel, Tag(101), "重复提交", Refused(45065))
	at(12, books, Tag(2), "前所未见", Odd("send partial"))
	at(13, kids, Tag(100), "断线重连", Success().HungUp(1))
	at(13, food, OpenIDs(500), "多出三人", Success().As("more left than addressed").With(Counts{Total: 500, Filter: 503, Sent: 503}))
	at(14, news, All(), "后台手工群发", Success().Told(Unrecorded).As("console, unrecorded"))
	steps[len(steps)-1].Send.Console = true
	at(15, books, Tag(100), "无人知晓", Success().Never().Told(Unrecorded).As("unrecorded, no callback"))
	at(16, travel, Tag(100), "版权图集", Rejected(20013))
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return steps
}

// demoCampaign sends one message to a list of 46,412 people: five submissions,
// one of which is refused at first.
func demoCampaign(appid string) []Step {
	plans := []Plan{Success(), Success().Redelivered(1), Refused(42010), Success(), Partial(), Success().Ending(4 * time.Minute)}
	var steps []Step
	part := 1
	for i, p := range plans {
		size := int64(10_000)
		if i == len(plans)-1 {
			size = 6_412
		}
		steps = append(steps, Step{
			At: time.Minute + time.Duration(i)*30*time.Second, AppID: appid, Plan: p,
			Send: Send{
				Audience: OpenIDs(size), MsgType: "mpnews", Campaign: "会员日",
				Label: fmt.Sprintf("会员日 第 %d 批", part), ClientMsgID: fmt.Sprintf("member-day-%d", part),
			},
		})
		if p.Submit == 0 {
			part++
		}
	}
	return steps
}
