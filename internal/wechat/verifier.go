package wechat

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Modes of a push: what an account's owner chose in WeChat's console.
const (
	ModePlain      = "plain"      // 明文: signed without the body
	ModeCompatible = "compatible" // 兼容: encrypted, with the same fields in clear beside
	ModeSafe       = "safe"       // 安全: encrypted
)

// Reason says why a push was refused. It is a closed set, fit for a metric label.
type Reason string

// The reasons.
const (
	// ReasonSignature: no token makes the signature that was sent.
	ReasonSignature Reason = "signature"
	// ReasonMissingParameter: a query parameter is missing or has a value that
	// WeChat never sends.
	ReasonMissingParameter Reason = "missing_parameter"
	// ReasonBadBody: the body is empty, too large, or not what an encrypted push looks like.
	ReasonBadBody Reason = "bad_body"
	// ReasonDecrypt: signed by WeChat, but no EncodingAESKey opens it.
	ReasonDecrypt Reason = "decrypt"
	// ReasonAppID: opened, but made for another account or component.
	ReasonAppID Reason = "appid"
	// ReasonPlainRefused: not encrypted, although the account has keys.
	ReasonPlainRefused Reason = "plain_refused"
	// ReasonTimestamp: too far from our clock. [Verifier] has no clock and never
	// gives this reason; it is for callers that compare [Push.Timestamp].
	ReasonTimestamp Reason = "timestamp"
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{ReasonSignature, ReasonMissingParameter, ReasonBadBody, ReasonDecrypt,
		ReasonAppID, ReasonPlainRefused, ReasonTimestamp}
}

// VerifyError says that a push was refused. It holds nothing secret.
type VerifyError struct {
	Reason Reason
	Err    error // in words
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("callback refused (%s): %v", e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) error {
	return &VerifyError{Reason: r, Err: fmt.Errorf(format, args...)}
}

// Keys are what an account, or a third-party platform, shares with WeChat.
type Keys struct {
	// AppID is what must stand at the end of an encrypted push: the account's
	// appid, or for a third-party platform the component's.
	AppID string
	// Tokens are the token in force and, during a rotation, others. At least one.
	Tokens []string
	// AESKeys are EncodingAESKeys of 43 characters, the current one first. WeChat
	// asks receivers to keep the previous one, as a change takes time to reach all its servers.
	AESKeys []string
	// AllowPlain accepts unencrypted pushes although there are AESKeys. The
	// signature of an unencrypted push does not cover its body, and it can be read
	// off the URL of any push: whoever sees one URL can forge a body. Use it
	// only while an account moves from plain to safe mode.
	AllowPlain bool
}

// Verifier tells the pushes of one account or platform from forgeries. It may be
// used by many goroutines at once.
type Verifier struct {
	appid      string
	tokens     []string
	keys       []key
	allowPlain bool
}

// NewVerifier checks keys. Its error lists every fault, naming tokens and keys
// by their position from 0 and never by their value.
func NewVerifier(k Keys) (*Verifier, error) {
	v := &Verifier{
		appid:      k.AppID,
		tokens:     append([]string(nil), k.Tokens...),
		allowPlain: k.AllowPlain || len(k.AESKeys) == 0,
	}
	errs := checkTokens(k.Tokens)
	for i, encoded := range k.AESKeys {
		parsed, err := parseKey(encoded)
		if err != nil {
			errs = append(errs, fmt.Errorf("aes_keys[%d]: %w", i, err))
		}
		v.keys = append(v.keys, parsed)
	}
	if len(k.AESKeys) > 0 && k.AppID == "" {
		errs = append(errs, errors.New("appid is missing: encrypted pushes cannot be checked without it"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return v, nil
}

// checkTokens refuses what would let anybody sign (an empty token), and what is
// surely a slip of copying (white space; WeChat allows letters and digits).
func checkTokens(tokens []string) []error {
	if len(tokens) == 0 {
		return []error{errors.New("tokens: at least one is needed")}
	}
	var errs []error
	for i, t := range tokens {
		switch {
		case t == "":
			errs = append(errs, fmt.Errorf("tokens[%d] is empty", i))
		case strings.ContainsFunc(t, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
			errs = append(errs, fmt.Errorf("tokens[%d] has white space in it", i))
		}
	}
	return errs
}

// VerifyURL answers the GET request with which WeChat checks a callback URL when it is
// configured: echo must be sent back byte for byte. The error is a *[VerifyError].
func (v *Verifier) VerifyURL(q url.Values) (echo string, err error) {
	p, err := signedParams(q)
	if err != nil {
		return "", err
	}
	if echo = q.Get("echostr"); echo == "" {
		return "", refuse(ReasonMissingParameter, "query parameter echostr is missing")
	}
	if _, err := v.checkSignature("signature", q.Get("signature"), p); err != nil {
		return "", err
	}
	return echo, nil
}

// Push is a push that comes from WeChat.
type Push struct {
	Mode   string // one of the Mode constants
	Format string // FormatXML or FormatJSON, of Body
	// Body is the push as WeChat wrote it, decrypted if it was encrypted. In
	// plain mode it is the slice that was given to Open, and anybody who
	// has seen one URL of WeChat's can have written it.
	Body []byte
	// Timestamp is when WeChat sent it, by WeChat's clock, in whole seconds. The signature covers it. UTC.
	Timestamp time.Time
	// TokenIndex and KeyIndex say which of Keys.Tokens and Keys.AESKeys matched, so
	// that it can be seen when a previous one is no longer in use. KeyIndex is -1 in plain mode.
	TokenIndex, KeyIndex int
}

// Open checks the POST request that carries a push: q is its query, body at most
// [MaxBody] bytes. The format is seen from the body; contentType counts only where
// the body does not tell. The error is a *[VerifyError].
//
// In compatible mode only the encrypted part is used: its copy in clear is not signed.
func (v *Verifier) Open(q url.Values, contentType string, body []byte) (Push, error) {
	p, err := signedParams(q)
	if err != nil {
		return Push{}, err
	}
	switch n := len(skipBlank(body)); {
	case n == 0:
		return Push{}, refuse(ReasonBadBody, "body is empty")
	case len(body) > MaxBody:
		return Push{}, refuse(ReasonBadBody, "body is larger than %d bytes", MaxBody)
	}
	switch kind := q.Get("encrypt_type"); {
	case kind == "" || strings.EqualFold(kind, "raw"):
		return v.openPlain(q, p, contentType, body)
	case strings.EqualFold(kind, "aes"):
		return v.openEncrypted(q, p, contentType, body)
	default:
		return Push{}, refuse(ReasonMissingParameter, "encrypt_type is %q: want aes, raw or none", clip(kind))
	}
}

func (v *Verifier) openPlain(q url.Values, p params, contentType string, body []byte) (Push, error) {
	if !v.allowPlain {
		return Push{}, refuse(ReasonPlainRefused, "push is not encrypted, but the account has an EncodingAESKey: "+
			"choose safe mode in WeChat's console, or set allow_plain while changing over")
	}
	token, err := v.checkSignature("signature", q.Get("signature"), p)
	if err != nil {
		return Push{}, err
	}
	return Push{Mode: ModePlain, Format: formatOf(body, contentType), Body: body, Timestamp: p.at,
		TokenIndex: token, KeyIndex: -1}, nil
}

func (v *Verifier) openEncrypted(q url.Values, p params, contentType string, body []byte) (Push, error) {
	signature := q.Get("msg_signature")
	if signature == "" {
		return Push{}, refuse(ReasonMissingParameter, "query parameter msg_signature is missing")
	}
	encrypted, mode, err := findEncrypted(body)
	if err != nil {
		return Push{}, err
	}
	token, err := v.checkSignature("msg_signature", signature, p, encrypted)
	if err != nil {
		return Push{}, err
	}
	msg, keyIndex, err := v.decrypt(encrypted)
	if err != nil {
		return Push{}, err
	}
	return Push{Mode: mode, Format: formatOf(msg, contentType), Body: msg, Timestamp: p.at,
		TokenIndex: token, KeyIndex: keyIndex}, nil
}

// findEncrypted returns the member Encrypt of the body, and whether it came alone (safe
// mode) or with the message in clear beside it.
func findEncrypted(body []byte) (encrypted, mode string, err error) {
	format := sniff(body)
	if format == "" {
		return "", "", refuse(ReasonBadBody, "body is neither XML nor a JSON object")
	}
	doc, err := parseDocument(format, body)
	if err != nil {
		return "", "", refuse(ReasonBadBody, "%w", err)
	}
	if encrypted = doc.word("Encrypt"); encrypted == "" {
		return "", "", refuse(ReasonBadBody, "body has no element Encrypt, although encrypt_type is aes")
	}
	for _, clear := range []string{"FromUserName", "CreateTime", "MsgType", "InfoType"} {
		if doc.child(clear) != nil {
			return encrypted, ModeCompatible, nil
		}
	}
	return encrypted, ModeSafe, nil
}

// decrypt tries every key: during a rotation WeChat's servers do not change over
// at the same moment.
func (v *Verifier) decrypt(encrypted string) (msg []byte, index int, err error) {
	if len(v.keys) == 0 {
		return nil, 0, refuse(ReasonDecrypt, "push is encrypted, but no EncodingAESKey is configured")
	}
	for i, k := range v.keys {
		msg, appid, kerr := k.decrypt(encrypted)
		switch {
		case kerr != nil && err == nil:
			err = refuse(ReasonDecrypt, "none of %d keys opens the push: with aes_keys[%d]: %w", len(v.keys), i, kerr)
		case kerr != nil:
		case subtle.ConstantTimeCompare([]byte(appid), []byte(v.appid)) == 1:
			return msg, i, nil
		default:
			// The key was right; this says more than that another was not.
			return nil, 0, refuse(ReasonAppID, "push was made for appid %q, want %q", clip(appid), v.appid)
		}
	}
	return nil, 0, err
}

// params are the query parameters that every signature covers.
type params struct {
	timestamp, nonce string
	at               time.Time
}

func signedParams(q url.Values) (params, error) {
	p := params{timestamp: q.Get("timestamp"), nonce: q.Get("nonce")}
	if p.timestamp == "" || p.nonce == "" {
		return p, refuse(ReasonMissingParameter, "query parameters timestamp and nonce are needed")
	}
	const year9999 = 253402300799
	seconds, err := strconv.ParseInt(p.timestamp, 10, 64)
	if err != nil || seconds < 0 || seconds > year9999 {
		return p, refuse(ReasonMissingParameter, "timestamp is %q: want seconds since 1970", clip(p.timestamp))
	}
	p.at = time.Unix(seconds, 0).UTC()
	return p, nil
}

// checkSignature returns the index of the token that made the signature in the query
// parameter called name.
func (v *Verifier) checkSignature(name, got string, p params, encrypt ...string) (int, error) {
	if got == "" {
		return 0, refuse(ReasonMissingParameter, "query parameter %s is missing", name)
	}
	for i, token := range v.tokens {
		if sameSignature(Sign(token, p.timestamp, p.nonce, encrypt...), got) {
			return i, nil
		}
	}
	return 0, refuse(ReasonSignature, "%s fits none of %d tokens", name, len(v.tokens))
}

// formatOf returns the format of body, by the content type where body does not tell.
func formatOf(body []byte, contentType string) string {
	if f := sniff(body); f != "" {
		return f
	}
	if strings.Contains(strings.ToLower(contentType), "json") {
		return FormatJSON
	}
	return FormatXML
}
