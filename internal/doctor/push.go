package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"

	"qunfa/internal/wechat"
)

// maxRefusals bounds the requests of one run that ingest refuses and counts:
// from the third in ten minutes on an alert tells people of forgeries.
const maxRefusals = 2

// nobody is an appid that no account has. A push that is encrypted for it is
// opened with the account's key, and then refused: neither stored nor passed on.
const nobody = "qunfa-doctor"

// checkEncryption sends a push that says nothing, encrypted as WeChat does it.
// Where there is no application behind ingest it ends there. Where there is one
// it must not get it, so the push is made for nobody: it is refused for that if
// the key fits, and for its encryption if it does not.
func (d *Doctor) checkEncryption(ctx context.Context, r Result, v receiver) {
	for i, key := range v.aesKeys {
		owner, good := v.owner, "success"
		if v.upstream {
			if d.refusals.Add(1) > maxRefusals {
				r.Unchecked("look at it with --account "+v.appid, "ingest counts such requests as forgeries, so only %d are sent at a time", maxRefusals)
				return
			}
			owner, good = nobody, string(wechat.ReasonAppID)
		}
		a, err := d.push(ctx, v, owner, key)
		switch {
		case err != nil:
			r.Unchecked("see config.accounts", "aes_keys[%d] cannot be used", i)
			return
		case a.err != nil:
			r.Unchecked("see callback.verification", "no answer")
			return
		case a.body != good:
			explainPush(r, i, a)
			return
		}
	}
	r.OK("understood, with %s", plural(len(v.aesKeys), "key"))
}

// push sends an event that no part of WeChat has.
func (d *Doctor) push(ctx context.Context, v receiver, owner, key string) (answer, error) {
	body := fmt.Sprintf("<xml><ToUserName><![CDATA[gh_000000000000]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[QUNFA_DOCTOR]]></Event></xml>", nobody, d.cfg.Clock().Unix())
	var random [16]byte
	rand.Read(random[:]) // never fails
	encrypted, err := wechat.Encrypt(key, owner, random, []byte(body))
	if err != nil {
		return answer{}, err
	}
	query := d.signed(v.tokens[0])
	query.Set("encrypt_type", "aes")
	query.Set("msg_signature", wechat.Sign(v.tokens[0], query.Get("timestamp"), query.Get("nonce"), encrypted))
	return d.send(ctx, http.MethodPost, v.url, query,
		"<xml><ToUserName><![CDATA[gh_000000000000]]></ToUserName><Encrypt><![CDATA["+encrypted+"]]></Encrypt></xml>"), nil
}

func explainPush(r Result, key int, a answer) {
	switch a.body {
	case string(wechat.ReasonDecrypt):
		r.Fail("compare it with the EncodingAESKey in WeChat's console, and let ingest run with this configuration", "ingest cannot open what is encrypted with aes_keys[%d]", key)
	case string(wechat.ReasonAppID):
		r.Fail("let ingest run with this configuration: it knows the key for another appid", "ingest opens what is encrypted with aes_keys[%d], and expects another appid in it", key)
	case string(wechat.ReasonSignature):
		r.Unchecked("see callback.verification", "ingest refuses the signature")
	default:
		if a.status == http.StatusOK {
			r.Fail("enter the URL of ingest in WeChat's console", "a push is answered with something else than ingest's success (%d bytes)", len(a.body))
			return
		}
		r.Fail("let the reverse proxy pass POST requests on with their body unchanged", "a push is answered with status %d", a.status)
	}
}
