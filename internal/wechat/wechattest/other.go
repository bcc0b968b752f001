package wechattest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// PushText pushes an ordinary text message of a fan. Its receiver may answer
// with a message of its own.
func (s *Simulator) PushText(appid, content string) error {
	return s.pushOther(appid, "text", true, func(p *push, d drawer) []field {
		p.msgID = 24_000_000_000_000_000 + d.between(0, 1<<40)
		return []field{
			text("MsgType", "text"),
			text("Content", content),
			// Ordinary messages write MsgId, mass events MsgID.
			number("MsgId", p.msgID),
		}
	})
}

// PushTemplateResult pushes the end of a template message: status is success,
// "failed:user block" or "failed: system failed". Its MsgID exceeds 2^53.
func (s *Simulator) PushTemplateResult(appid, status string) error {
	return s.pushOther(appid, "TEMPLATESENDJOBFINISH", false, func(p *push, d drawer) []field {
		p.msgID = 3_487_542_469_355_618_313 + d.between(0, 1<<40)
		return []field{
			text("MsgType", "event"),
			text("Event", "TEMPLATESENDJOBFINISH"),
			number("MsgID", p.msgID),
			text("Status", status),
		}
	})
}

// PushPublishResult pushes the end of a publication (freepublish): 0 published,
// 2 failed the originality check, 3 failed, 4 rejected by review.
func (s *Simulator) PushPublishResult(appid string, status int64) error {
	return s.pushOther(appid, "PUBLISHJOBFINISH", false, func(p *push, d drawer) []field {
		p.msgID = 2_247_503_000 + d.between(0, 1<<20)
		info := []field{number("publish_id", p.msgID), number("publish_status", status)}
		if status == 0 {
			info = append(info,
				text("article_id", d.from(urlSafe, 64)),
				group("article_detail",
					number("count", 1),
					field{name: "item", kind: repeatField, fields: []field{
						group("item", number("idx", 1), text("article_url", "http://mp.weixin.qq.com/s/"+d.from(urlSafe, 22))),
					}},
				))
		} else {
			info = append(info, field{name: "fail_idx", kind: repeatField, fields: []field{
				number("fail_idx", 1), number("fail_idx", 2),
			}})
		}
		return []field{text("MsgType", "event"), text("Event", "PUBLISHJOBFINISH"), group("PublishEventInfo", info...)}
	})
}

// pushOther pushes a document that reports no mass send.
func (s *Simulator) pushOther(appid, kind string, passive bool, fields func(*push, drawer) []field) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return err
	}
	d := draw(s.cfg.Seed, "other", appid, a.pushed)
	p := &push{kind: kind, passive: passive, openid: d.openID(), component: a.targets(false)[0]}
	style := drawStyle(d, a.Format)
	all := append([]field{
		text("ToUserName", a.OriginalID), text("FromUserName", p.openid), number("CreateTime", s.cfg.Clock().Unix()),
	}, fields(p, d)...)
	p.document = func(f Format) []byte { return writeDocument(f, style, all) }
	s.enqueue(a, p, 0)
	return nil
}

// PushTicket pushes a component_verify_ticket notice to a platform, as WeChat
// does every ten minutes. It names the platform by AppId and has no ToUserName.
func (s *Simulator) PushTicket(component string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.components[component]
	if !ok {
		return fmt.Errorf("wechattest: no component %s", component)
	}
	var a *account
	for _, appid := range s.order {
		if s.accounts[appid].Component == component {
			a = s.accounts[appid]
		}
	}
	if a == nil || c.TicketURL == "" {
		return fmt.Errorf("wechattest: component %s has no ticket URL or no account", component)
	}
	d := draw(s.cfg.Seed, "ticket", component, a.pushed)
	fields := []field{
		text("AppId", component),
		number("CreateTime", s.cfg.Clock().Unix()),
		text("InfoType", "component_verify_ticket"),
		text("ComponentVerifyTicket", "ticket@@@"+d.from(urlSafe, 80)),
	}
	s.enqueue(a, &push{kind: "component_verify_ticket", ticket: true, component: component, document: func(f Format) []byte {
		return writeDocument(f, Style{Compact: true}, fields)
	}}, 0)
	return nil
}

// errEcho says that a callback URL did not prove itself.
var errEcho = errors.New("the answer is not the echostr, byte for byte")

// VerifyURL does what the console does before it accepts an account's callback
// URL: a GET that must be answered with its echostr. An account without a URL
// of its own is verified at its platform's.
func (s *Simulator) VerifyURL(ctx context.Context, appid string) error {
	target, echo, err := s.verification(appid)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AttemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("wechattest: verify the URL of %s: %w", appid, withoutURL(err))
	}
	response, err := s.delivery.client.Do(request)
	if err != nil {
		return fmt.Errorf("wechattest: verify the URL of %s: %w", appid, withoutURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("wechattest: verify the URL of %s: %w", appid, err)
	}
	if response.StatusCode != http.StatusOK || string(body) != echo {
		return fmt.Errorf("wechattest: verify the URL of %s: HTTP %d: %w", appid, response.StatusCode, errEcho)
	}
	return nil
}

func (s *Simulator) verification(appid string) (target, echo string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return "", "", err
	}
	r := s.recipient(a, a.targets(false)[0])
	if r.url == "" {
		return "", "", fmt.Errorf("wechattest: account %s has no callback URL", appid)
	}
	a.verified++
	d := draw(s.cfg.Seed, "echo", appid, a.verified)
	echo = d.from(digits, 19)
	timestamp, nonce := strconv.FormatInt(s.cfg.Clock().Unix(), 10), d.from(digits, 10)
	return withQuery(r.url, url.Values{
		"signature": {sign(r.token, timestamp, nonce)}, "timestamp": {timestamp}, "nonce": {nonce}, "echostr": {echo},
	}), echo, nil
}
