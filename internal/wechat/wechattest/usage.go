package wechattest

import "time"

// Paths of the API, as quota/get names them.
const (
	pathSendAll = "/cgi-bin/message/mass/sendall"
	pathSend    = "/cgi-bin/message/mass/send"
	pathGet     = "/cgi-bin/message/mass/get"
	pathDelete  = "/cgi-bin/message/mass/delete"
	pathPreview = "/cgi-bin/message/mass/preview"
	pathToken   = "/cgi-bin/token"
	pathStable  = "/cgi-bin/stable_token"
	pathQuota   = "/cgi-bin/openapi/quota/get"
	pathClear   = "/cgi-bin/clear_quota"
	pathCheck   = "/cgi-bin/callback/check"
	pathIPs     = "/cgi-bin/getcallbackip"
	pathSpeed   = "/cgi-bin/message/mass/speed/get"
)

// beijing is the zone in which WeChat's days begin. It has had no daylight
// saving time since 1991, and a fixed zone needs no time zone database.
var beijing = time.FixedZone("Asia/Shanghai", 8*60*60)

// usage counts an account's calls. Guarded by the simulator's lock.
type usage struct {
	day    string           // the day of used
	used   map[string]int64 // calls of the day, by path
	minute time.Time        // the minute of recent
	recent int64            // calls of the mass endpoints in that minute
	forced int64            // forced refreshes of the day
	month  string           // the month of cleared
	clears int64            // clear_quota calls of the month
}

// at turns the windows over.
func (u *usage) at(now time.Time) {
	if day := now.In(beijing).Format(time.DateOnly); day != u.day {
		u.day, u.used, u.forced = day, make(map[string]int64), 0
	}
	if month := now.In(beijing).Format("2006-01"); month != u.month {
		u.month, u.clears = month, 0
	}
	if minute := now.Truncate(time.Minute); !minute.Equal(u.minute) {
		u.minute, u.recent = minute, 0
	}
}

// daily is the limit of a path per day, false if it has none here.
func (l Limits) daily(path string) (limit int64, ok bool) {
	switch path {
	case pathSendAll, pathSend:
		return l.SendPerDay, true
	case pathGet:
		return l.GetPerDay, true
	case pathDelete:
		return l.Delete, true
	case pathPreview:
		return l.Preview, true
	case pathToken:
		return l.Token, true
	}
	return 0, false
}

// massPath tells the endpoints that share the limit per minute.
func massPath(path string) bool {
	switch path {
	case pathSendAll, pathSend, pathGet, pathDelete, pathPreview:
		return true
	}
	return false
}

// charge counts a call, or refuses it. A refused call costs nothing.
func (a *account) charge(l Limits, path string, now time.Time) *APIError {
	a.usage.at(now)
	if massPath(path) && a.usage.recent >= l.PerMinute {
		return refusal(45011)
	}
	if limit, ok := l.daily(path); ok && a.usage.used[path] >= limit {
		return refusal(45009)
	}
	a.usage.used[path]++
	if massPath(path) {
		a.usage.recent++
	}
	return nil
}
