package ingest

import (
	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// finished turns a callback into the data of an event. Every field goes over,
// also those whose values we do not know.
//
// Raw is the decrypted body. An event is JSON, whose strings are Unicode, so bytes
// that are not UTF-8 become U+FFFD in it; WeChat sends UTF-8.
func finished(appid string, p wechat.Push, m wechat.MassSendJobFinish) *events.Finished {
	kind, code := events.ParseStatus(m.Status)
	return &events.Finished{
		AppID:       appid,
		MsgID:       m.MsgID,
		OriginalID:  m.ToUserName,
		FromUser:    m.FromUserName,
		CreateTime:  m.CreateTime,
		Status:      m.Status,
		StatusKind:  kind,
		ErrCode:     code,
		TotalCount:  m.TotalCount,
		FilterCount: m.FilterCount,
		SentCount:   m.SentCount,
		ErrorCount:  m.ErrorCount,
		Copyright:   copyright(m.CopyrightCheckResult),
		ArticleURLs: links(m.ArticleURLResult),
		Mode:        p.Mode,
		Format:      p.Format,
		Raw:         string(p.Body),
	}
}

func copyright(c *wechat.CopyrightCheckResult) *events.Copyright {
	if c == nil {
		return nil
	}
	out := &events.Copyright{Count: c.Count, CheckState: c.CheckState}
	for i, item := range c.ResultList {
		out.Articles = append(out.Articles, events.ArticleCheck{
			Index:                 articleIndex(item.ArticleIdx, i),
			UserDeclareState:      item.UserDeclareState,
			AuditState:            item.AuditState,
			OriginalArticleURL:    item.OriginalArticleURL,
			OriginalArticleType:   item.OriginalArticleType,
			CanReprint:            item.CanReprint,
			NeedReplaceContent:    item.NeedReplaceContent,
			NeedShowReprintSource: item.NeedShowReprintSource,
		})
	}
	return out
}

func links(a *wechat.ArticleURLResult) []events.Link {
	if a == nil {
		return nil
	}
	var out []events.Link
	for i, item := range a.ResultList {
		out = append(out, events.Link{Index: articleIndex(item.ArticleIdx, i), URL: item.ArticleURL})
	}
	return out
}

// articleIndex is what WeChat says, or else the place in its list; articles count from 1.
func articleIndex(given *int64, i int) int64 {
	if given != nil {
		return *given
	}
	return int64(i) + 1
}
